"""Writes `contract/<name>.py` from the released schemas, or says which of them is out of date."""

from __future__ import annotations

import argparse
import sys

from contract.codegen import NoPythonTypeError, generate, module_path
from contract.errors import PipelineError
from contract.subjects import load_contract


def main() -> int:
    """Exit 0 when the types are current or have been written, 1 when `--check` found one that is not."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python scripts/generate_types.py --check")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a type is out of date")
    arguments = parser.parse_args()
    stale = 0
    for subject in load_contract().subjects.values():
        path = module_path(subject)
        try:
            source = generate(subject)
        except NoPythonTypeError as error:
            print(f"{subject.name} has no Python type: {error}", file=sys.stderr)
            continue
        if path.exists() and path.read_text("utf-8") == source:
            continue
        stale += 1
        if arguments.check:
            print(f"contract/{path.name} is out of date; run: python scripts/generate_types.py", file=sys.stderr)
        else:
            path.write_text(source, "utf-8")
            print(f"wrote contract/{path.name}")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PipelineError as error:
        sys.exit(f"generate_types: {error}")
