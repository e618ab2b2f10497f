"""How long the gate takes: this repository's own contract, and 200 released versions of a record of 50 fields."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract.gate import check
from contract.golden import write_golden
from contract.released import FOLDER, record_files
from contract.subjects import load_contract

ROUNDS = 5
VERSIONS, FIELDS, READERS = 200, 50, (1, 50, 100, 150, 200)
TYPES: tuple[tuple[Any, Any], ...] = (
    ("string", ""),
    ("int", 0),
    (["null", "long"], None),
    ({"type": "array", "items": "string"}, []),
    ("double", 0.5),
)


def main() -> None:
    """Print the best of some rounds, in seconds; processes with their start, the large contract with its reading."""
    command = [sys.executable, str(Path(__file__).parent.parent / "scripts" / "check_compatibility.py")]
    own = min(_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(ROUNDS))  # noqa: S603 - our own
    print(f"the repository's own gate, as a process            {own:.2f} s")
    with tempfile.TemporaryDirectory() as directory:
        _write(Path(directory))
        large = min(_seconds(lambda: check(load_contract(Path(directory)))) for _ in range(ROUNDS))
    print(f"{VERSIONS} versions x {FIELDS} fields, transitive, {len(READERS)} readers   {large:.2f} s")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _write(directory: Path) -> None:
    """Write a contract in which each version has one field of its own."""
    (directory / FOLDER).mkdir()
    schema = ""
    for version in range(1, VERSIONS + 1):
        fields = [
            {"name": f"f{n}" if n != version % FIELDS else f"g{version}", "type": type_, "default": default, "doc": "."}
            for n in range(FIELDS)
            for type_, default in [TYPES[n % len(TYPES)]]
        ]
        record = {"type": "record", "name": "Large", "doc": f"Version {version}.", "fields": fields}
        schema = json.dumps(record, indent=2)
        (directory / FOLDER / f"large.v{version}.avsc").write_text(schema, "utf-8")
    (directory / "large.avsc").write_text(schema, "utf-8")
    readers = {f"reader{version}": version for version in READERS}
    subjects = {"large-value": {"schema": "large.avsc", "compatibility": "FULL_TRANSITIVE", "readers": readers}}
    (directory / "subjects.yaml").write_text(json.dumps({"subjects": subjects}), "utf-8")
    for released in load_contract(directory).subject("large").released:
        write_golden(released)
    record_files(directory, (directory / FOLDER).iterdir())


if __name__ == "__main__":
    main()
