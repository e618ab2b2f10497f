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
from contract.subjects import Contract, Reference, SchemaFile, Subject, load_contract, references_path
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
    version = _next_version(contract, subject)
    types, said = _types(replace(subject, released=(*subject.released, version)))
    try:
        written = _write(contract, subject, version, types)
    except OSError as error:
        what = f"{error.filename or version.path} cannot be written: {error.strerror}"
        raise ContractError(f"{what}; mend that, and run this again") from None
    print(f"released version {version.number}: {', '.join([*(path.name for path in written), said])}")
    print("next: commit them, deploy readers, then run: python scripts/register_schema.py")
    return OK


def _write(contract: Contract, subject: Subject, version: SchemaFile, types: str) -> list[Path]:
    """Write all that belongs to a version, and give its files."""
    version.path.parent.mkdir(exist_ok=True)
    written = [version.path, write_golden(version)]
    if version.references:
        pinned = {contract.subjects[one.subject].current.path.name: one.schema.number for one in version.references}
        written.append(references_path(version.path))
        written[-1].write_text(json.dumps(pinned) + "\n", "utf-8")
    else:
        references_path(version.path).unlink(missing_ok=True)  # of a try that failed
    if types:
        module_path(subject).write_text(types, "utf-8")
    # The last one, and whole or not at all, for it makes the version: the rest would be written anew.
    new = version.path.with_suffix(".new")
    new.write_bytes(subject.current.path.read_bytes())
    new.replace(version.path)
    record_files(contract.directory, written)
    return written


def _next_version(contract: Contract, subject: Subject) -> SchemaFile:
    """Give the edited schema as it will be released, with the newest versions of the others that it uses."""
    current, references = subject.current, list[Reference]()
    for used in current.references:
        other = contract.subjects[used.subject]
        if not other.is_released:
            raise ContractError(f"{current.path.name} refers to {used.schema.path.name}, which must be released first")
        references.append(replace(used, schema=other.newest))
    path = contract.directory / FOLDER / f"{subject.stem}.v{subject.next_number}.avsc"
    return replace(current, path=path, number=subject.next_number, references=tuple(references))


def _types(subject: Subject) -> tuple[str, str]:
    """Give the generated types' source and their module's name; no source where there is none, and why."""
    module = module_path(subject)
    try:
        return generate(subject), f"contract/{module.name}"
    except NoPythonTypeError as error:
        if module.exists():  # somebody here reads or writes with a type that this version would leave behind
            raise
        return "", f"no Python type ({error})"


if __name__ == "__main__":
    sys.exit(main())
