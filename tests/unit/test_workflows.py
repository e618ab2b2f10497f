"""The hosted workflow: a check that could not look fails."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.fixture
def audit() -> dict[str, Any]:
    """The job that looks for known holes in the locks."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text("utf-8"))
    job: dict[str, Any] = workflow["jobs"]["audit"]
    return job


def test_what_cannot_be_audited_fails(audit: dict[str, Any]) -> None:
    """Without --strict pip-audit passes over a package that it does not find, and ends with 0."""
    (command,) = (step["run"] for step in audit["steps"] if "pip-audit" in step.get("run", ""))
    words = shlex.split(command)
    assert words[:2] == ["pipx", "run"]
    assert "--strict" in words
    assert not {"||", ";", "|", "--ignore-vuln", "--skip-editable"} & set(words)
    assert not any("continue-on-error" in part for part in (audit, *audit["steps"]))


def test_every_lock_is_audited_whole(audit: dict[str, Any], tmp_path: Path) -> None:
    """Also what a marker keeps for another system: pip-audit would leave it out, so the markers are taken off first."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    prepared, command = (step["run"] for step in audit["steps"] if "run" in step)
    subprocess.run(["bash", "-ec", prepared], cwd=tmp_path, check=True)
    words = shlex.split(command)
    named = [ROOT / word for option, word in pairwise(words) if option == "-r"]
    assert sorted(named) == LOCKS
    for lock in LOCKS:
        audited = (tmp_path / lock.relative_to(ROOT)).read_text("utf-8")
        assert re.findall(r"^(\S+==\S+) \\$", audited, re.MULTILINE) == re.findall(
            r"^\S+==\S+", lock.read_text("utf-8"), re.MULTILINE
        )
