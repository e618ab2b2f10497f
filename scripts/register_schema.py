"""Brings a schema registry to what schemas/released/ says: sets each subject's level, registers what it lacks."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient
from report import report

from contract.changes import describe_changes
from contract.lookups import Registered
from contract.registry import Plan, apply, plan
from contract.subjects import Contract, SchemaFile, load_contract
from runtime.clients import registry_client, wait_until_available
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 when the gate or the registry stands against it, and then nothing is changed."""
    parser = create_parser("register_schema", __doc__ or "", "python scripts/register_schema.py --plan")
    parser.add_argument("--plan", action="store_true", help="show what would be done, and change nothing")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how a plan is shown")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Plan or apply against the registry that the settings name."""
    contract, registry = load_contract(settings.schemas_dir), registry_client(settings)
    if flags.plan and flags.format == "json":
        plans = _plan(contract, registry, settings)
        print(json.dumps([_as_json(planned) for planned in plans], indent=2))
        return _exit_code(plans)
    return register(contract, registry, settings, plan_only=flags.plan)


def register(contract: Contract, registry: SchemaRegistryClient, settings: Settings, *, plan_only: bool) -> int:
    """Plan every subject; apply all of the plans or, when one is refused, none."""
    plans = _plan(contract, registry, settings)
    refused = _exit_code(plans) == FAILED
    _tell(plans)
    if refused:
        print("nothing was changed", file=sys.stderr)
    for planned in plans if plan_only or not refused else ():
        for line in describe(planned, "would be" if refused else "to be") if plan_only else _apply(planned, registry):
            print(line)
    if not plan_only and not refused and any(planned.missing for planned in plans):
        # Others may have registered something else at the same time, and no registry takes only what was planned.
        plans = [planned for planned in _plan(contract, registry, settings) if planned.is_refused]
        _tell(plans)
    return _exit_code(plans)


def describe(planned: Plan, to_be: str = "to be") -> list[str]:
    """Say, a line a step, what applying this plan does."""
    name, level = planned.subject.name, planned.subject.compatibility
    lines = [f"{name} level {level} {to_be} set, now {planned.level_now or 'default'}"] if planned.sets_level else []
    lines += [_line(registered) for registered in planned.present.values()]
    for file in planned.missing:
        changes = "; ".join(_changes(planned, file))
        lines.append(f"{name} version {file.number} {to_be} registered, from {file.path.name}: {changes}")
    return lines


def _plan(contract: Contract, registry: SchemaRegistryClient, settings: Settings) -> list[Plan]:
    return [
        wait_until_available(lambda subject=subject: plan(subject, registry), settings)  # type: ignore[misc]
        for subject in contract.subjects.values()
    ]


def _exit_code(plans: Sequence[Plan]) -> int:
    return FAILED if any(planned.is_refused for planned in plans) else OK


def _tell(plans: Sequence[Plan]) -> None:
    report([finding for planned in plans for finding in planned.findings], "text", sys.stderr)


def _apply(planned: Plan, registry: SchemaRegistryClient) -> Iterator[str]:
    lines = [_line(registered) for registered in apply(planned, registry)]
    if planned.sets_level:  # only now it is sure: some registries take no level before there is a version
        yield f"{planned.subject.name} level {planned.subject.compatibility} set"
    yield from lines


def _line(registered: Registered) -> str:
    state = "was there already" if registered.already else "registered"
    state += ", deleted there" if registered.deleted else ""
    return f"{registered.subject} version {registered.version} id {registered.id} {state}"


def _changes(planned: Plan, file: SchemaFile) -> tuple[str, ...]:
    before = [one.parsed for one in planned.subject.released if (one.number or 0) < (file.number or 0)]
    return describe_changes(before[-1] if before else None, file.parsed)


def _as_json(planned: Plan) -> dict[str, Any]:
    missing = [
        {"version": file.number, "file": file.path.name, "changes": _changes(planned, file)}
        for file in planned.missing
    ]  # fmt: skip
    return {
        "subject": planned.subject.name,
        "level": {"now": planned.level_now, "planned": planned.subject.compatibility},
        "present": [asdict(registered) for registered in planned.present.values()],
        "missing": missing,
        "refused": planned.is_refused,
        "findings": [asdict(finding) for finding in planned.findings],
    }


if __name__ == "__main__":
    sys.exit(main())
