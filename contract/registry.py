"""The released schemas and a schema registry: what it lacks, and what it gets.

Nothing registers by itself: only `apply` changes a registry, and it does what `plan` said.
Every function raises NotRegistered, Forbidden or Unavailable for what a registry answers or fails to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contract import lookups
from contract.avro_schema import Type
from contract.canonical import is_same
from contract.compatibility import Level, compare, required_reads
from contract.errors import ContractError, NotRegistered, Unavailable, Unreadable
from contract.gate import Finding, check_versions, finding_in, is_compatible
from contract.lookups import Registered, answers, is_absent, unless_absent
from contract.rules import compare_limits
from contract.subjects import SchemaFile, Subject

_READ_ONLY = {"READONLY", "READONLY_OVERRIDE"}
_SAYS_NO_MODE = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
# Never permanently: what was written with it could then be read by nobody.
_ACCEPT = "release it here too, or delete it there softly, which leaves what was written with it readable"


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
    """What the gate says to the versions that are missing, and what the registry would say to them."""
    ids: Mapping[int, int] = field(default_factory=dict)
    """By each id under which the registry holds a released version, as with other metadata or rules: its number."""

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

    A released version is looked up by its text, so the registry itself decides what is the same schema; what it does
    not find so is compared with the versions that it holds otherwise. Deleted versions count as present: what they
    wrote is in the topic, and a registry that is given them again may number them anew.
    """
    level = _level(registry, subject.name)
    if level is None and subject.compatibility == Level.NONE:
        # Some registries keep no level of its own for a subject whose level is NONE.
        level = _level(registry, None)
    held = _held(subject, registry)
    present: dict[int, Registered] = {}
    for file in subject.released:
        same = [one for one in held if one.file is file] or [one for one in held if one.says(file)]
        if same:
            present[file.number or 0] = max(same, key=lambda one: one.worth).registered
    missing = tuple(file for file in subject.released if file.number not in present)
    differences = tuple(_differences(subject, present, [one for one in held if one.file is None]))
    refused = check_versions(subject, missing)
    if is_compatible((*differences, *refused)):
        refused += (*_order(subject, held, missing), *_mode(subject, registry, missing, level))
    ids = {one.registered.id: one.file.number or 0 for one in held if one.file is not None}
    return Plan(subject, level, present, missing, differences, refused, ids)


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
    references = schema.references if schema else None
    return None if schema is None else lookups.find(registry, subject, file.text, references or (), file.parsed)


def _set_level(registry: SchemaRegistryClient, subject: Subject) -> bool:
    """Set a subject's level; False where a registry takes none for a subject that it does not hold yet."""
    config = ServerConfig(compatibility=ConfigCompatibilityLevel(subject.compatibility))
    with answers(f"/config/{subject.name}"):
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
    config = unless_absent(f"/config/{subject}" if subject else "/config", lambda: registry.get_config(subject))
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
        with answers(f"/subjects/{subject}/versions"):
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
    with answers(f"/compatibility/subjects/{subject.name}"):
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


@dataclass(frozen=True)
class _Held:
    """A version that the registry holds, and the released file that says the same."""

    registered: Registered
    schema: Type | None
    file: SchemaFile | None
    by_text: bool = False
    why: str = ""
    """Why it is no schema for us."""

    @property
    def worth(self) -> tuple[bool, bool, int]:
        """Of several that say the same, the greatest is the one to write with."""
        return self.by_text, not self.registered.deleted, self.registered.version

    def says(self, file: SchemaFile) -> bool:
        """Whether it is what a file says."""
        return self.schema is not None and is_same(file.parsed, self.schema)


def _held(subject: Subject, registry: SchemaRegistryClient) -> list[_Held]:
    """Return the versions of a subject, deleted ones too, oldest first; those are fetched that no text has found."""
    by_text: dict[int, _Held] = {}
    for file in subject.released:
        schema = _schema(registry, file)
        found = schema and lookups.lookup(registry, subject.name, file.text, schema.references or ())
        if found:
            by_text[found.version] = _Held(found, file.parsed, file, by_text=True)
    numbers = {*lookups.versions(registry, subject.name), *by_text}
    live = {*lookups.versions(registry, subject.name, deleted=False)} if numbers else set[int]()
    held = []
    for number in sorted(numbers):
        one = by_text.get(number) or _fetch(subject, registry, number)
        if one is not None:
            held.append(replace(one, registered=replace(one.registered, deleted=number not in live)))
    return held


def _fetch(subject: Subject, registry: SchemaRegistryClient, number: int) -> _Held | None:
    """Fetch a version, with those that it refers to; None when it is gone since its number was asked for."""
    theirs = lookups.version(registry, subject.name, number)
    if theirs is None:
        return None
    found = _Held(lookups.registered_as(subject.name, theirs), None, None)
    try:
        found = replace(found, schema=lookups.parse_registered(registry, theirs.schema))
    except Unreadable as error:
        return replace(found, why=str(error))
    return replace(found, file=next((file for file in reversed(subject.released) if found.says(file)), None))


def _differences(
    subject: Subject, present: Mapping[int, Registered], foreign: Iterable[_Held]
) -> Iterator[Finding]:  # fmt: skip
    """Find what the registry holds otherwise than the files; that files are missing from it is none."""
    newest = max((registered.version for registered in present.values()), default=0)
    for one in foreign:
        number = one.registered.version
        if one.registered.deleted or (len(present) == len(subject.released) and number > newest):
            yield from _ahead(subject, one)
        else:
            message = f"{subject.name}: version {number} in the registry has another text than every released file"
            yield finding_in(subject.current, "REGISTRY_DRIFT", message, f"find out who registered it, then {_ACCEPT}")


def _ahead(subject: Subject, one: _Held) -> Iterator[Finding]:
    """A registry ahead of the files, as after a rollback of the code, is fine while every reader here reads it.

    What is deleted there hinders nothing, for nobody writes with it any more; but its records may be in the topic.
    """
    blocked = [f"anyone: {one.why}"]
    if (ahead := one.schema) is not None:
        blocked = [
            f"{group} (version {version}): {found.message}"
            for group, version in subject.readers.items()
            for reader in [subject.version(version).parsed]
            for found in (*compare(reader, ahead), *compare_limits(reader, ahead))
        ]
    number, deleted = one.registered.version, one.registered.deleted
    if deleted and not blocked:
        return
    what = f"version {number}, deleted in the registry," if deleted else f"the registry is ahead, its version {number}"
    reads = f" and cannot be read by {'; '.join(blocked)}" if blocked else "; every reader here can read it"
    message = f"{subject.name}: {what} is not among the released files{reads}"
    fix = "release it here too, with readers that read it, if the topic holds records of it" if deleted else _ACCEPT
    found = finding_in(subject.current, "REGISTRY_AHEAD", message, fix)
    yield found if blocked and not deleted else replace(found, severity="warning")


def _order(subject: Subject, held: Iterable[_Held], missing: Iterable[SchemaFile]) -> Iterator[Finding]:
    """Find what a registry would refuse because it has the released versions in another order than the files.

    It judges by the versions that are not deleted, in its own order: by all of them only at a transitive level.
    """
    history = [one.file for one in held if one.file is not None and not one.registered.deleted]
    for file in missing:
        for reader, writer in required_reads(subject.compatibility, history, file):
            for broken in compare(reader.parsed, writer.parsed)[:1]:
                other = (writer if reader is file else reader).number
                message = (
                    f"{subject.name}: the registry would take version {file.number} for newer than version {other}, "
                    f"and refuse it at {subject.compatibility}: {broken.message}"
                )
                fix = (
                    f"register {file.path.name} there by hand while the subject's level is NONE, for every reader here "
                    f"can read it, then run this again, which sets {subject.compatibility}"
                )
                yield finding_in(file, "REGISTRY_ORDER", message, fix)
        history.append(file)


def _mode(
    subject: Subject, registry: SchemaRegistryClient, missing: Collection[SchemaFile], level: str | None
) -> Iterator[Finding]:  # fmt: skip
    """Find that a registry is in a mode in which it does not take what is to be done.

    In READONLY it takes nothing, in IMPORT versions only with their ids (Confluent's API, "Modes"). READONLY_OVERRIDE
    for all subjects is above a subject's own mode, any other is below it.
    """
    if not missing and level == subject.compatibility:
        return
    mode = _ask_mode(registry.get_global_mode)
    if mode != "READONLY_OVERRIDE":
        mode = _ask_mode(lambda: registry.get_mode(subject.name)) or mode
    if mode in _READ_ONLY or (missing and mode not in {None, "READWRITE"}):
        message = (
            f"{subject.name}: the registry is in the mode {mode} for this subject, and does not take what it lacks"
        )
        fix = "let whoever has set that mode set READWRITE, then run this again"
        yield finding_in(subject.current, "REGISTRY_MODE", message, fix)


def _ask_mode(ask: Callable[[], str | None]) -> str | None:
    """Return a mode; None where there is none, as of a subject without its own, or where a registry does not say."""
    with answers("/mode"):
        try:
            return ask()
        except SchemaRegistryError as error:
            if error.http_status_code not in _SAYS_NO_MODE:
                raise
        except TypeError:  # of an answer without content: there are registries that know no modes
            pass
    return None
