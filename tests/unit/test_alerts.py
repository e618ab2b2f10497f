"""The alert rules, the metrics and docs/operations.md belong together: none names what the others do not have."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from runtime import metrics

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
DOCUMENT = (PROJECT / "docs" / "operations.md").read_text("utf-8")
RULES: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text("utf-8"))["groups"][0][
    "rules"
]
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
LANGUAGE = {
    "absent", "and", "by", "count", "deriv", "histogram_quantile", "increase", "or", "rate", "sum",
}  # fmt: skip
OURS = {
    f"{family.name}{ending}"
    for metric in vars(metrics).values()
    if isinstance(metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram)
    for family in metric.describe()
    for ending in ENDINGS[family.type]
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_only_metrics_that_exist(rule: dict[str, Any]) -> None:
    """What is left of its expression, without labels and durations, is a metric of ours or PromQL's own."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", " ", rule["expr"])
    words = set(re.findall(r"[a-z_]+", bare))
    assert words & OURS
    assert words <= OURS | LANGUAGE


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_document_says_what_an_alert_means(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert f"\n### {name}\n" in DOCUMENT
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_the_document_lists_every_metric_and_no_other() -> None:
    listed = re.findall(
        r"^\| `([a-z_]+)` \|", DOCUMENT.partition("## What it tells")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert {f"{name}_bucket" if name.endswith("_seconds") else name for name in listed} == {
        name for name in OURS if not name.endswith(("_count", "_sum"))
    }


@pytest.mark.parametrize(
    "command", [["check", "rules", "prometheus-rules.yaml"], ["test", "rules", "prometheus-rules.test.yaml"]]
)
def test_promtool_agrees(command: list[str]) -> None:
    """Its tests raise every alert with series of their own."""
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is missing: install Debian's package prometheus"
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(["promtool", *command], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_that_raises_it() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus-rules.test.yaml").read_text("utf-8"))["tests"]
    raised = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert raised == {rule["alert"] for rule in RULES}
