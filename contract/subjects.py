"""Reads `schemas/`: which subjects there are, what their schema is now, and what it has ever been.

`schemas/<name>.avsc` is edited by hand; `schemas/released/<name>.v1.avsc`, `.v2.avsc`, ... are immutable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from contract.avro_schema import SchemaError, Type, parse
from contract.canonical import is_same
from contract.compatibility import Level
from contract.errors import ContractError
from contract.positions import place, place_of, why_no_json
from contract.rules import AgreedRule, Severity

T = TypeVar("T")

SCHEMAS = Path(__file__).parent.parent / "schemas"
_LONGEST_TOPIC = 249
MOST = 10_000
"""Partitions of a topic, which a KRaft controller makes in one request, and replicas, which librdkafka asks for."""


@dataclass(frozen=True)
class SchemaFile:
    """One schema as a file holds it: `number` is its released version, None for the one that is edited."""

    path: Path
    number: int | None
    text: str
    """Compact JSON with the file's key order: the one form in which a schema is sent to a registry."""
    source: str = field(default="", compare=False)
    """The file as it was written."""
    references: tuple[Reference, ...] = ()
    """The schemas whose named types this one uses by their names."""

    @cached_property
    def schema(self) -> Any:
        """The schema as JSON values."""
        return json.loads(self.text)

    @cached_property
    def parsed(self) -> Type:
        """The schema with its names resolved; raises SchemaError."""
        return _parse(self)

    def place(self, pointer: str) -> tuple[Path, int, int]:
        """Give file, line and column of what a pointer of the parsed schema points to."""
        name, _, pointer = pointer.rpartition("#")
        file = self.bundle.get(name, self)
        return (file.path, *place(file.source or file.text, pointer))

    @cached_property
    def bundle(self) -> Mapping[str, SchemaFile]:
        """All other schemas that this one needs, by the names of their files, each after those that it needs itself."""
        found: dict[str, SchemaFile] = {}
        for reference in self.references:
            found.update(reference.schema.bundle)
            found[reference.schema.path.name] = reference.schema
        return found

    def says_as(self, other: SchemaFile) -> bool:
        """Whether both are the same to a registry, however they are written, with the schemas that they refer to."""
        ours, theirs = ((file, *file.bundle.values()) for file in (self, other))
        return len(ours) == len(theirs) and all(
            one.text == another.text or is_same(one.parsed, another.parsed)
            for one, another in zip(ours, theirs, strict=True)
        )


@dataclass(frozen=True)
class Reference:
    """A schema of another subject, in the version whose types are used."""

    subject: str
    schema: SchemaFile


@dataclass(frozen=True)
class Subject:
    """One subject of the registry, with the topic whose values it describes (topic name strategy)."""

    name: str
    compatibility: Level
    current: SchemaFile
    released: tuple[SchemaFile, ...]
    partitions: int
    replication: int
    max_message_bytes: int
    """The largest batch that the topic takes, as it is sent, compressed (max.message.bytes)."""
    key: str | None
    identity: str | None
    readers: Mapping[str, int]
    rules: Mapping[AgreedRule, Severity]

    @property
    def topic(self) -> str:
        """The topic, by Confluent's topic name strategy: the subject's name without `-value` or `-key`."""
        return self.name.rpartition("-")[0]

    def dead_letters(self, group: str) -> str:
        """Name the topic that keeps what a consumer group could not read."""
        return f"{self.topic}.{group}.dead-letters"

    def replays(self, group: str) -> str:
        """Name the topic of what a consumer group is to read again; its group there is of the same ending."""
        return f"{self.topic}.{group}.replays"

    @property
    def topics_beside(self) -> list[str]:
        """Name every topic that a consumer group has beside this one."""
        return [topic(group) for group in self.readers for topic in (self.dead_letters, self.replays)]

    @property
    def newest(self) -> SchemaFile:
        """The newest released version; raises ContractError when there is none."""
        return self.version(self.next_number - 1 or 1)

    @cached_property
    def next_number(self) -> int:
        """The version that will be released next."""
        return max((version.number or 0 for version in self.released), default=0) + 1

    @cached_property
    def is_released(self) -> bool:
        """Whether the edited schema, with those that it refers to, is the newest released version."""
        return bool(self.released) and self.current.says_as(self.newest)

    def version(self, number: int) -> SchemaFile:
        """Give one released version; raises ContractError when it is not there."""
        for version in self.released:
            if version.number == number:
                return version
        raise ContractError(
            f"{self.name} has no released version {number} in {self.current.path.parent / 'released'}; "
            f"to release {self.current.path.name}, run: python scripts/release_schema.py {self.stem}"
        )

    def check_reader(self, group: str, number: int) -> None:
        """Raise ContractError when `readers` gives a group another version than the one that it is built to read."""
        if self.readers.get(group) != number:
            raise ContractError(
                f"{group} is built to read version {number} of {self.name}, "
                f"subjects.yaml says {self.readers.get(group, 'nothing of it')}"
            )

    @property
    def stem(self) -> str:
        """What the schema's files and its generated module are called, `order` for `order.avsc`."""
        return self.current.path.stem


class _Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    partitions: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 1
    replication: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 1
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**24)] = 1_048_588  # Kafka's own default


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    compatibility: Level
    topic: _Topic = _Topic()
    key: str | None = None
    identity: str | None = None
    readers: dict[str, int] = {}
    references: list[str] = []


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subjects: Annotated[dict[str, _Entry], msgspec.Meta(min_length=1)]
    rules: dict[AgreedRule, Severity | bool] = {}

    def severities(self) -> dict[AgreedRule, Severity]:
        """Give the rules' severities, where YAML reads `off` as false and `on` as true."""
        words: dict[bool, Severity] = {False: "off", True: "error"}
        return {rule: words[said] if isinstance(said, bool) else said for rule, said in self.rules.items()}


@dataclass(frozen=True)
class Contract:
    """All that `schemas/` says; a subject comes after those that its schema refers to."""

    directory: Path
    subjects: Mapping[str, Subject]

    def subject(self, stem: str) -> Subject:
        """Give the one subject whose schema is `<stem>.avsc`, or raise ContractError."""
        found = [subject for subject in self.subjects.values() if subject.stem == stem]
        if len(found) != 1:
            raise ContractError(
                f"{self.directory / 'subjects.yaml'} has {len(found) or 'no'} subjects whose schema is {stem}.avsc, "
                "and one is needed"
            )
        return found[0]


def load_contract(directory: Path = SCHEMAS) -> Contract:
    """Read `subjects.yaml` and every schema file that it names.

    Raises ContractError, which names the file and what is wrong with it.
    """
    path = directory / "subjects.yaml"
    document = read_yaml(path, _Document, "a list of subjects")
    uses = {entry.schema: entry.references for entry in document.subjects.values()}
    subjects: dict[str, Subject] = {}
    known: dict[str, Subject] = {}
    try:
        order = [*TopologicalSorter(uses).static_order()]
    except CycleError as error:
        raise ContractError(f"{path}: schemas refer to each other in a circle: {', '.join(error.args[1])}") from None
    for file in order:
        if file not in uses:
            raise ContractError(f"{path}: references name {file}, which is no subject's schema")
        for name, entry in document.subjects.items():
            if entry.schema == file:
                subjects[name] = known[file] = _subject(directory, name, entry, known, document.severities())
    return Contract(directory, subjects)


def read_yaml(path: Path, form: type[T], what: str) -> T:
    """Read a file of YAML, which is to be `what`; raises ContractError, which names the file."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=form)
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}; SCHEMAS_DIR names its directory") from None
    except msgspec.MsgspecError as error:
        raise ContractError(f"{path} is not {what}: {error}") from None


def read_schema(
    path: Path, number: int | None = None, references: tuple[Reference, ...] = (), *, check_defaults: bool = False
) -> SchemaFile:  # fmt: skip
    """Read one schema file; raises ContractError with the place where it is no JSON or no Avro schema."""
    try:
        source = path.read_text("utf-8")
        schema = json.loads(source)
        text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}; restore it, or name another schema") from None
    except json.JSONDecodeError as error:
        raise ContractError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise ContractError(f"{path} is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting that Python does not take
        raise ContractError(f"{path} cannot be read as JSON: {error}") from None
    if check_defaults and (found := why_no_json(source)):
        line, column = place_of(source, found[0])
        raise ContractError(f"{path}:{line}:{column}: not JSON: {found[1]}")
    file = SchemaFile(path, number, text, source, references)
    vars(file)["schema"] = schema  # what the properties would read and parse once more
    try:
        vars(file)["parsed"] = _parse(file, check_defaults=check_defaults)
    except SchemaError as error:
        where = ":".join(map(str, file.place(error.path)))
        raise ContractError(f"{where}: no Avro schema: {error}") from None
    return file


def references_path(version: Path) -> Path:
    """Where it is kept which versions of other schemas a released one uses; there is no file where it uses none."""
    return version.with_suffix(".references.json")


def _subject(
    directory: Path, name: str, entry: _Entry, known: Mapping[str, Subject], rules: Mapping[AgreedRule, Severity]
) -> Subject:  # fmt: skip
    where = f"{directory / 'subjects.yaml'}: {name}"
    if name.startswith(":."):
        raise ContractError(
            f"{where} is a subject of a context, and no topic can have that name; "
            "name it without the context, which SCHEMA_REGISTRY_URL may end with (…/contexts/.name)"
        )
    if not re.fullmatch(r".+-(value|key)", name, re.DOTALL):
        raise ContractError(f"{where} must end with -value or -key, as the topic name strategy has it")
    references = tuple(Reference(known[file].name, known[file].current) for file in entry.references)
    current = read_schema(directory / entry.schema, None, references, check_defaults=True)
    subject = Subject(
        name=name,
        compatibility=entry.compatibility,
        current=current,
        released=_released(directory, current.path.stem, known),
        partitions=entry.topic.partitions,
        replication=entry.topic.replication,
        max_message_bytes=entry.topic.max_message_bytes,
        key=entry.key,
        identity=entry.identity,
        readers=entry.readers,
        rules=rules,
    )
    for topic in (subject.topic, *subject.topics_beside):
        # Kafka's own rule (org.apache.kafka.common.internals.Topic).
        if not re.fullmatch(r"[a-zA-Z0-9._-]+", topic) or len(topic) > _LONGEST_TOPIC or topic in {".", ".."}:
            raise ContractError(
                f"{where} needs a topic that Kafka cannot have, {topic!r}: letters, digits, `.`, `_` and `-`, "
                f"at most {_LONGEST_TOPIC} of them; give the subject or the reader another name"
            )
    return subject


def _released(directory: Path, stem: str, known: Mapping[str, Subject]) -> tuple[SchemaFile, ...]:
    """Read the released versions by their numbers, which the gate judges."""
    numbered = {
        int(match[1]): path
        for path in (directory / "released").glob(f"{stem}.v*.avsc")
        if (match := re.fullmatch(rf"{re.escape(stem)}\.v([1-9]\d*)\.avsc", path.name))
    }
    return tuple(_version(numbered[number], number, known) for number in sorted(numbered))


def _version(path: Path, number: int, known: Mapping[str, Subject]) -> SchemaFile:
    uses = references_path(path)
    try:
        pinned = msgspec.json.decode(uses.read_bytes(), type=dict[str, int]) if uses.exists() else {}
        found = [(known[file], pin) for file, pin in pinned.items()]
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        raise ContractError(f"{uses} does not name versions of other subjects' schemas: {error}; restore it") from None
    return read_schema(path, number, tuple(Reference(used.name, used.version(pin)) for used, pin in found))


def _parse(file: SchemaFile, *, check_defaults: bool = False) -> Type:
    references = {name: used.schema for name, used in file.bundle.items()}
    return parse(file.schema, references, check_defaults=check_defaults)
