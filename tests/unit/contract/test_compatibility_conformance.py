"""340 verdicts from the test suites of two registries, each checked against Java Avro, where the file with them is.

The file is no part of this repository: `AVRO_COMPATIBILITY_CASES` names it, or it is in a folder beside the checkout.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.compatibility import Level, compare, required_reads

SHARED = Path(__file__).parents[4] / "shared"
PATH = Path(os.environ.get("AVRO_COMPATIBILITY_CASES") or SHARED / "avro-compatibility" / "cases.json")
CASES: list[dict[str, Any]] = json.loads(PATH.read_text("utf-8")) if PATH.is_file() else []


def test_cases() -> None:
    """The cases are there: all of them, and in CI wherever their folder is."""
    if not CASES and not (os.environ.get("CI") and SHARED.is_dir()):
        pytest.skip(f"there is no {PATH}; AVRO_COMPATIBILITY_CASES may name another")
    assert len(CASES) == 340, f"{PATH} is not there or does not have all cases"


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    """Verdict, rules and locations are Java Avro's."""
    versions = {f"history[{number}]": schema for number, schema in enumerate(case["history"])}
    schemas = {**versions, "candidate": case["candidate"]}
    reads = required_reads(Level(case["level"]), list(versions), "candidate")
    found = Counter(
        (f"reader={reader}", broken.rule, broken.path)
        for reader, writer in reads
        for broken in compare(schemas[reader], schemas[writer])
    )
    assert (not found) == case["compatible"]
    java = case["java_avro_1_12_1"]
    if "error" not in java:  # one schema has an enum's default that is no symbol; Java does not parse it
        assert found == Counter(
            (each["direction"], each["type"], each["location"]) for each in java["incompatibilities"]
        )
