"""Who needs which permission: what each word of `access.yaml` allows, and what a service makes sure of when it starts.

Kafka takes a permission to read or write something for one to describe it, and one to write some topic for one to write
idempotently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from contract.errors import ContractError
from contract.subjects import Contract, Subject, read_yaml

Operation: TypeAlias = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]
Kind: TypeAlias = Literal["topic", "group"]
Role: TypeAlias = Literal["writes", "consumes", "watches", "replays", "releases"]

ONLOOKERS = "onlookers"
"""The consumer group of whoever reads and commits nothing: a client wants one, and a permission to describe it."""


@dataclass(frozen=True, order=True)
class Permission:
    """One operation on one topic or consumer group, or on all whose names begin as one that ends with `*` does."""

    operation: Operation
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on the {self.kind} {self.name}"


@dataclass(frozen=True)
class Access:
    """What `access.yaml` says: the roles of each principal that has a password, and everybody's permissions."""

    path: Path
    roles: Mapping[str, frozenset[Role]]
    permissions: Mapping[str, frozenset[Permission]]


def load_access(contract: Contract) -> Access:
    """Read `access.yaml` beside the contract; raises ContractError, which names the file and what is wrong with it."""
    path = contract.directory / "access.yaml"
    document = read_yaml(path, _Document, "a list of principals")
    permissions: dict[str, frozenset[Permission]] = {}
    for principal, roles in document.principals.items():
        needed: set[Permission] = set()
        for role, names in roles.items():
            for name in names:
                if name not in contract.subjects:
                    raise ContractError(f"{path}: {principal} {role} {name}, which is no subject of subjects.yaml")
                subject = contract.subjects[name]
                if role == "consumes" and principal not in subject.readers:
                    raise ContractError(f"{path}: {principal} is no reader of {name}, by subjects.yaml")
                needed.update(_ROLES[role](subject, principal))
        permissions[principal] = frozenset(needed)
    for principal, store in document.storage.items():
        permissions[principal] = frozenset(store.permissions())
    return Access(path, {name: frozenset(roles) for name, roles in document.principals.items()}, permissions)


def to_write(subject: Subject) -> tuple[Permission, ...]:
    """Give what it takes to publish a subject's records."""
    return (Permission("WRITE", "topic", subject.topic), Permission("DESCRIBE", "topic", subject.topic))


def to_consume(subject: Subject, group: str) -> tuple[Permission, ...]:
    """Give what it takes to be a member of a consumer group of this project."""
    return (
        Permission("READ", "topic", subject.topic),
        Permission("READ", "group", group),
        Permission("READ", "topic", subject.replays(group)),
        Permission("READ", "group", f"{group}.replays"),
        Permission("WRITE", "topic", subject.dead_letters(group)),
        *_to_check(subject.topic, subject.dead_letters(group), subject.replays(group)),
    )


def to_read_letters(subject: Subject, group: str) -> tuple[Permission, ...]:
    """Return what it takes to look into a consumer's dead letters."""
    return (Permission("READ", "topic", subject.dead_letters(group)), Permission("DESCRIBE", "group", ONLOOKERS))


def to_verify(subject: Subject) -> tuple[Permission, ...]:
    """Return what it takes to read the topic beside a ledger, and to find by its id whose ledger it is."""
    groups = [ONLOOKERS, *subject.readers]
    return (
        Permission("READ", "topic", subject.topic),
        *(Permission("DESCRIBE", "group", group) for group in groups),
    )


def _to_check(*topics: str) -> tuple[Permission, ...]:
    """Give what it takes to see that topics keep what they are given."""
    return tuple(Permission("DESCRIBE_CONFIGS", "topic", topic) for topic in topics)


def _to_consume_and_verify(subject: Subject, group: str) -> tuple[Permission, ...]:
    """A consumer's own tools are run as that consumer, which starts without what only they need."""
    return (*to_consume(subject, group), *to_verify(subject), *to_read_letters(subject, group))


def _to_watch(subject: Subject, principal: str) -> tuple[Permission, ...]:
    """Everything to be read; whose group's offsets are somewhere is to be read, too, and nobody's can be moved."""
    topics = [subject.topic, *subject.topics_beside]
    groups = [ONLOOKERS, principal, *subject.readers, *(f"{group}.replays" for group in subject.readers)]
    return (
        *(Permission("READ", "topic", name) for name in topics),
        *(Permission("DESCRIBE", "group", name) for name in groups),
    )


def _to_replay(subject: Subject, principal: str) -> tuple[Permission, ...]:
    return (
        *_to_watch(subject, principal),
        *(Permission("WRITE", "topic", subject.replays(group)) for group in subject.readers),
    )


def _to_release(subject: Subject, _principal: str) -> tuple[Permission, ...]:
    operations: tuple[Operation, ...] = ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")
    topics = [subject.topic, *subject.topics_beside]
    return tuple(Permission(operation, "topic", name) for name in topics for operation in operations)


_ROLES: Mapping[Role, Callable[[Subject, str], tuple[Permission, ...]]] = {
    "writes": lambda subject, _principal: to_write(subject),
    "consumes": _to_consume_and_verify,
    "watches": _to_watch,
    "replays": _to_replay,
    "releases": _to_release,
}


class _Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: str
    groups: str

    def permissions(self) -> tuple[Permission, ...]:
        """Give what it takes to keep something in topics of one's own."""
        operations: tuple[Operation, ...] = ("READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS")
        topics = (Permission(operation, "topic", self.topics) for operation in operations)
        return (*topics, Permission("READ", "group", self.groups))


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    principals: dict[str, dict[Role, list[str]]]
    storage: dict[str, _Store] = {}
