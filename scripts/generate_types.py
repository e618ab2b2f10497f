"""Writes `contract/<name>.py` from the released schemas, or says which of them is out of date."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from contract.codegen import NoPythonTypeError, generate, module_path
from contract.subjects import load_contract
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 when `--check` found a module that is out of date."""
    parser = create_parser("generate_types", __doc__ or "", "python scripts/generate_types.py --check")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a type is out of date")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Write the module of each subject, or only look at it."""
    stale = 0
    for subject in load_contract(settings.schemas_dir).subjects.values():
        path = module_path(subject)
        try:
            source = generate(subject)
        except NoPythonTypeError as error:
            print(f"{subject.name} has no Python type: {error}", file=sys.stderr)
            continue
        if path.exists() and path.read_text("utf-8") == source:
            continue
        stale += 1
        if flags.check:
            print(f"contract/{path.name} is out of date; run: python scripts/generate_types.py", file=sys.stderr)
        else:
            path.write_text(source, "utf-8")
            print(f"wrote contract/{path.name}")
    return FAILED if flags.check and stale else OK


if __name__ == "__main__":
    sys.exit(main())
