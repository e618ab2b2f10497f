"""The gate: checks offline, from schemas/, that no change of a schema breaks a reader; exit 1 when one does.

With --level, --old and --new it judges any schema files instead, by Avro's rules and the limits in them.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from report import FORMATS, report

from contract.compatibility import Level
from contract.errors import SettingError
from contract.gate import Finding, check, check_schemas, is_compatible
from contract.released import FOLDER
from contract.subjects import Contract, Subject, load_contract, read_schema
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every finding and give the exit code."""
    parser = create_parser("check_compatibility", __doc__ or "", "python scripts/check_compatibility.py")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how findings are printed")
    parser.add_argument("--against", metavar="REF", help="git reference whose released files must still be as they are")
    parser.add_argument("--live", action="store_true", help="ask the registry too")
    any_files = parser.add_argument_group("any schema files")
    any_files.add_argument("--level", choices=[level.value for level in Level], help="the level to judge at")
    any_files.add_argument("--old", type=Path, nargs="+", action="extend", default=[], help="released, oldest first")
    any_files.add_argument("--new", type=Path, help="the schema to judge")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Check the whole contract, or the files that the flags name."""
    if flags.level or flags.old or flags.new:
        if flags.level is None or flags.new is None or flags.live or flags.against:
            raise SettingError("--level and --new go together, with an --old for each released schema and nothing else")
        old, new = [read_schema(path) for path in flags.old], read_schema(flags.new)
        findings = check_schemas(Level(flags.level), old, new)
        return show(findings, [f"compatible at {flags.level}"], flags.format)
    contract = load_contract(settings.schemas_dir)
    baseline = _released_at(flags.against, settings.schemas_dir) if flags.against else None
    findings = check(contract, baseline) + (_ask_registry(contract, settings, baseline) if flags.live else ())
    return show(findings, map(summary, contract.subjects.values()), flags.format)


def show(findings: Sequence[Finding], said: Iterable[str], form: str = "text") -> int:
    """Print findings, or what is to be said where nothing is wrong, and give the exit code."""
    report(findings, form)
    if form == "text" and is_compatible(findings):
        print(*said, sep="\n")
    return OK if is_compatible(findings) else FAILED


def summary(subject: Subject) -> str:
    """Say how many versions a subject has, and who reads them."""
    readers = ", ".join(f"{group} (version {version})" for group, version in subject.readers.items())
    reads = f"every version can be read by {readers}" if readers else "nobody reads it yet"
    return f"{subject.name}: {len(subject.released)} released versions, {subject.compatibility}; {reads}"


def _released_at(reference: str, directory: Path) -> Mapping[str, bytes]:
    """Give the released files as a git reference has them, by name; raises SettingError when there is none such."""
    listing = _git(directory, "ls-tree", "-r", "--name-only", "-z", f"{reference}:./{FOLDER}/", reference=reference)
    names = filter(None, listing.decode().split("\0"))
    return {name: _git(directory, "show", f"{reference}:./{FOLDER}/{name}", reference=reference) for name in names}


def _git(directory: Path, *arguments: str, reference: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, check=False)  # noqa: S603, S607 - as the user runs it
    except OSError as error:
        raise SettingError(f"--against needs git: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SettingError(f"--against {reference} cannot be read here: {said[0] if said else 'git failed'}")
    return done.stdout


def _ask_registry(contract: Contract, settings: Settings, baseline: Mapping[str, bytes] | None) -> tuple[Finding, ...]:
    # Only who asks a registry pays for the import of its client.
    from contract.registry import check_live  # noqa: PLC0415
    from runtime.clients import registry_client, wait_until_available  # noqa: PLC0415

    registry = registry_client(settings)
    return tuple(
        finding
        for subject in contract.subjects.values()
        for finding in wait_until_available(lambda: check_live(subject, registry, baseline), settings)  # noqa: B023 - called at once
    )


if __name__ == "__main__":
    sys.exit(main())
