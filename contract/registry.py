"""The released schemas and a schema registry: what it lacks, and what it gets.

Nothing registers by itself: only `apply` changes a registry, and it does what `plan` said.
Every function raises NotRegistered, Forbidden or Unavailable for what a registry answers or fails to answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contract.compatibility import Level, compare, required_reads
from contract.errors import ContractError, NotRegistered, Unavailable
from contract.gate import Finding, check_versions, finding_in, is_compatible
from contract.lookups import Registered, answers, is_absent, lookup, unless_absent
from contract.rules import compare_limits
from contract.subjects import SchemaFile, Subject


@dataclass(frozen=True)
class Plan:
    """What a registry lacks of one subject, and what keeps it from being put there."""

    subject: Subject
    level_now: str | None
    """The subject's own level in the registry; None when it only has the registry's default."""
    present: Mapping[int, Registered]
    """By released version."""
    missing: tuple[SchemaFile, ...]
    differences: tuple[Finding, ...]
    """What the registry holds otherwise than the files."""
    refused: tuple[Finding, ...]
    """What the gate says to the versions that are missing."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that was found."""
        return self.differences + self.refused

    @property
    def is_refused(self) -> bool:
        """Whether nothing may be changed; apply refuses such a plan."""
        return not is_compatible(self.findings)

    @property
    def sets_level(self) -> bool:
        """Whether the subject's level is another than the contract's."""
        return self.level_now != self.subject.compatibility


def plan(subject: Subject, registry: SchemaRegistryClient) -> Plan:
    """Compare one subject's released files with a registry; changes nothing.

    A released version is looked up by its text, so the registry itself decides what is the same schema:
    Confluent's stores a canonical form with its own key order, others the text as it was sent.
    """
    level = _level(registry, subject.name)
    if level is None and subject.compatibility == Level.NONE:
        # Some registries keep no level of its own for a subject whose level is NONE.
        level = _level(registry, None)
    numbers = unless_absent(lambda: registry.get_versions(subject.name)) or []
    found = {file.number or 0: find(registry, subject.name, file) for file in subject.released}
    present = {number: registered for number, registered in found.items() if registered is not None}
    missing = tuple(file for file in subject.released if found[file.number or 0] is None)
    differences = _differences(subject, registry, numbers, present)
    return Plan(subject, level, present, missing, tuple(differences), check_versions(subject, missing))


def apply(plan: Plan, registry: SchemaRegistryClient) -> Iterator[Registered]:
    """Do what the plan says: set the level first, then register what is missing, oldest first.

    Gives every released version as it is then, one by one. Others may apply at the same time: what they have
    registered meanwhile is found, and is not registered again. Must not be called with a plan that is refused.
    """
    subject = plan.subject
    if plan.is_refused:
        raise ValueError(f"a plan with findings is not applied: {plan.findings[0].message}")
    is_set = not plan.sets_level or _set_level(registry, subject)
    for file in subject.released:
        yield plan.present[file.number or 0] if file not in plan.missing else _register(registry, subject.name, file)
    if not is_set and not _set_level(registry, subject):
        raise Unavailable(f"the registry does not take the level {subject.compatibility} for {subject.name}")


def check_live(
    subject: Subject, registry: SchemaRegistryClient, baseline: Collection[str] | None
) -> tuple[Finding, ...]:  # fmt: skip
    """Give where a registry and the files differ: versions, level, and the verdict on the edited schema.

    Of the released files only those of `baseline`, where it is given, must be registered: others are being released.
    """
    planned = plan(subject, registry)
    absent = [file for file in planned.missing if baseline is None or file.path.name in baseline]
    found = [*planned.differences]
    fix = "run: python scripts/register_schema.py"
    for file in absent:
        message = f"{subject.name}: the registry does not hold version {file.number}"
        found.append(finding_in(file, "NOT_REGISTERED", message, fix))
    is_new = not planned.present and not absent  # all of its versions are being released
    if planned.sets_level and not is_new:
        message = f"{subject.name}: the registry's level is {planned.level_now or 'its default'}, ours is "
        found.append(finding_in(subject.current, "REGISTRY_LEVEL", message + subject.compatibility, fix))
    if is_compatible(found) and find(registry, subject.name, subject.current) is None:
        found += _verdict(subject, registry)
    return tuple(found)


def find(registry: SchemaRegistryClient, subject: str, file: SchemaFile) -> Registered | None:
    """Find a schema file's version and id in a subject; None when it, or one that it refers to, is not there."""
    schema = _schema(registry, file)
    return None if schema is None else lookup(registry, subject, file.text, schema.references or (), deleted=False)


def _set_level(registry: SchemaRegistryClient, subject: Subject) -> bool:
    """Set a subject's level; False where a registry takes none for a subject that it does not hold yet."""
    config = ServerConfig(compatibility=ConfigCompatibilityLevel(subject.compatibility))
    with answers():
        try:
            registry.set_config(subject.name, config)
        except SchemaRegistryError as error:
            if is_absent(error):
                return False
            if error.http_status_code != HTTPStatus.CONFLICT:
                raise
            # Another machine has just made the setting; now that it is there, it can be set.
            registry.set_config(subject.name, config)
    return True


def _level(registry: SchemaRegistryClient, subject: str | None) -> str | None:
    config = unless_absent(lambda: registry.get_config(subject))
    if config is None:  # also of confluent-kafka's in-process registry, which keeps no configuration
        return None
    level = config.compatibility_level or config.compatibility
    return level.value if level else None


def _schema(registry: SchemaRegistryClient, file: SchemaFile) -> Schema | None:
    """Give a schema as it is sent, with its references as the registry numbers them; None when one is not there."""
    references = []
    for used in file.references:
        known = find(registry, used.subject, used.schema)
        if known is None:
            return None
        references.append(SchemaReference(used.schema.parsed.name, used.subject, known.version))
    return Schema(file.text, "AVRO", references)


def _register(registry: SchemaRegistryClient, subject: str, file: SchemaFile) -> Registered:
    schema = _schema(registry, file)
    if schema is None:
        raise NotRegistered(f"{file.path.name} refers to a schema that the registry does not hold")
    before = find(registry, subject, file)
    if before is not None:
        return before
    try:
        with answers():
            registry.register_schema(subject, schema)
    except (Unavailable, ContractError):
        # Whoever registers the same at the same time may come first, and some registries answer that with an error.
        if find(registry, subject, file) is None:
            raise
    registered = find(registry, subject, file)
    if registered is None:
        raise Unavailable(f"the registry took {file.path.name} for {subject} and does not find it")
    return replace(registered, already=False)


def _verdict(subject: Subject, registry: SchemaRegistryClient) -> Iterator[Finding]:
    """Ask the registry about the edited schema."""
    schema = _schema(registry, subject.current)
    if schema is None:
        message = f"{subject.name}: the registry does not hold the schemas that {subject.current.path.name} refers to"
        yield finding_in(subject.current, "NOT_REGISTERED", message, "register those first")
        return
    with answers():
        # `latest` alone would not do for a transitive level, nor would all for another: not every registry ignores what
        # its level does not ask for.
        transitive = subject.compatibility.endswith("_TRANSITIVE")
        ask = registry.test_compatibility_all_versions if transitive else registry.test_compatibility
        theirs = ask(subject.name, schema)
    reads = required_reads(subject.compatibility, subject.released, subject.current)
    ours = not any(compare(reader.parsed, writer.parsed) for reader, writer in reads)
    if theirs is not ours:
        verdicts = {True: "compatible", False: "incompatible"}
        message = f"{subject.name}: the registry calls the new schema {verdicts[theirs]}, the gate {verdicts[ours]}"
        fix = "compare the versions that each of them holds"
        yield finding_in(subject.current, "REGISTRY_DISAGREES", message, fix)


def _differences(
    subject: Subject, registry: SchemaRegistryClient, numbers: Sequence[int], present: Mapping[int, Registered]
) -> Iterator[Finding]:
    """Find what the registry holds otherwise than the files; that files are missing from it is none."""
    ours = [registered.version for registered in present.values()]
    expected = [version.number for version in subject.released][: len(present)]
    if ours != sorted(ours) or [*present] != expected:
        message = f"{subject.name}: the registry holds the released versions in another order ({ours})"
        yield finding_in(subject.current, "REGISTRY_ORDER", message, "delete them there permanently, the newest first")
    for number in sorted(set(numbers) - set(ours)):
        if len(present) < len(subject.released) or number < max(ours, default=0):
            message = f"{subject.name}: version {number} in the registry has another text than every released file"
            fix = "find out who registered it, then release it here too or delete it there permanently"
            yield finding_in(subject.current, "REGISTRY_DRIFT", message, fix)
        else:
            yield _ahead(subject, registry, number)


def _ahead(subject: Subject, registry: SchemaRegistryClient, number: int) -> Finding:
    """A registry ahead of the files, as after a rollback of the code, is fine while every reader here reads it."""
    with answers():
        text = registry.get_version(subject.name, number).schema.schema_str
    try:
        ahead = SchemaFile(subject.current.path, None, text or "", references=subject.current.references).parsed
        blocked = [
            f"{group} (version {version}): {found.message}"
            for group, version in subject.readers.items()
            for reader in [subject.version(version).parsed]
            for found in (*compare(reader, ahead), *compare_limits(reader, ahead))
        ]
    except ValueError as error:  # Protobuf, say
        blocked = [f"anyone: it is no Avro schema: {error}"]
    what = f"{subject.name}: the registry is ahead, its version {number} is not among the released files"
    reads = f" and cannot be read by {'; '.join(blocked)}" if blocked else "; every reader here can read it"
    found = finding_in(
        subject.current, "REGISTRY_AHEAD", what + reads, "release it here too, or delete it there permanently"
    )
    return found if blocked else replace(found, severity="warning")
