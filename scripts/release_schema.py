"""Releases schemas/<name>.avsc as the next version: gates it, then writes its file, golden bytes and types."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from report import report

from contract.codegen import NoPythonTypeError, generate, module_path
from contract.errors import ContractError
from contract.gate import check_release, is_compatible
from contract.golden import write_golden
from contract.released import FOLDER, record_files
from contract.subjects import Contract, Subject, load_contract, references_path
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 when the gate refuses the schema, and then nothing is written."""
    parser = create_parser("release_schema", __doc__ or "", "python scripts/release_schema.py order")
    parser.add_argument("name", help="of the schema: order for schemas/order.avsc")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Release one schema."""
    contract = load_contract(settings.schemas_dir)
    subject = contract.subject(flags.name)
    if subject.is_released:
        print(f"{subject.current.path.name} is released already, as version {subject.newest.number}")
        return OK
    findings = check_release(subject)
    report(findings, "text")
    if not is_compatible(findings):
        print("nothing was written", file=sys.stderr)
        return FAILED
    folder = contract.directory / FOLDER
    folder.mkdir(exist_ok=True)
    before = {*folder.iterdir()}
    try:
        _write_version(contract, subject, folder / f"{subject.stem}.v{subject.next_number}.avsc")
        types = _write_types(load_contract(contract.directory).subject(flags.name))
    except BaseException:
        for path in {*folder.iterdir()} - before:
            path.unlink()
        raise
    written = sorted({*folder.iterdir()} - before)
    record_files(contract.directory, written)
    print(f"released version {subject.next_number}: {', '.join([*(path.name for path in written), types])}")
    print("next: commit them, deploy readers, then run: python scripts/register_schema.py")
    return OK


def _write_version(contract: Contract, subject: Subject, path: Path) -> None:
    """Write the schema, the versions of others that it uses, and golden bytes."""
    uses = {used.schema.path.name: contract.subjects[used.subject] for used in subject.current.references}
    for file, used in uses.items():
        if not used.is_released:
            raise ContractError(f"{subject.current.path.name} refers to {file}, which must be released first")
    path.write_bytes(subject.current.path.read_bytes())
    if uses:
        versions = {file: used.newest.number for file, used in uses.items()}
        references_path(path).write_text(json.dumps(versions) + "\n", "utf-8")
    write_golden(replace(subject.current, path=path))


def _write_types(subject: Subject) -> str:
    """Write the generated types and give the module's name, or why there are none."""
    module = module_path(subject)
    try:
        module.write_text(generate(subject), "utf-8")
    except NoPythonTypeError as error:
        if module.exists():  # somebody here reads or writes with a type that this version would leave behind
            raise
        return f"no Python type ({error})"
    return f"contract/{module.name}"


if __name__ == "__main__":
    sys.exit(main())
