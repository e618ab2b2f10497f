"""Every error that the project raises on purpose, as one small tree; the branch says who acts.

    PipelineError
    ├── UserError           the user: something must be mended before this can run        exit 2
    │   ├── SettingError        an argument or an environment variable
    │   ├── ContractError       a file of schemas/, or a generated type that is out of date
    │   ├── NotRegistered       the registry lacks what scripts/register_schema.py puts there
    │   ├── Forbidden           a server refused our credentials or permissions
    │   ├── RecordFileError     a file of records that cannot be read at all
    │   ├── TopicError          a topic that is absent, or is not the one it was
    │   └── LedgerError         a ledger that is held, foreign or damaged
    ├── Unavailable         a retry: a server or a disk does not answer now               exit 2
    │   └── StorageUnavailable  the same, of a disk or a locked file
    ├── ClientFailed        a supervisor: this process cannot go on, another one can      exit 2
    ├── Refused             the sender: this value breaks the contract                    exit 2
    ├── Rejected            the dead letters: a handler refuses these records for good    (never ends a consumer)
    ├── Overtaken           the loop: somebody else has done this work, it starts again   (never ends a consumer)
    ├── NotDelivered        the sender: not acknowledged, to be sent again                exit 1
    └── Unreadable          the dead letters: this message cannot be read by this reader  (never ends a consumer)

Each is one sentence that says what happened, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class PipelineError(Exception):
    """What a command prints after its name, without a traceback, before it ends with `exit_code`."""

    exit_code = 2


class UserError(PipelineError):
    """Running it again changes nothing until the user has mended something."""


class SettingError(UserError):
    """An argument or environment variable is not usable; the sentence names it."""


class ContractError(UserError):
    """A schema, `subjects.yaml` or a generated type is not what it must be; the sentence names the file."""


class NotRegistered(UserError):  # noqa: N818 - reads as the state that it reports
    """The registry does not hold a released version under the subject."""


class Forbidden(UserError):  # noqa: N818
    """A broker or registry refused who we are or what we may do."""


class RecordFileError(UserError):
    """A file of records is missing, empty, a directory, not UTF-8 or of an unknown kind."""


class TopicError(UserError):
    """A topic is absent and cannot be made, or is no longer the one that it was."""


class LedgerError(UserError):
    """A ledger is held by another process, belongs to another topic, or comes from a newer release."""


class Unavailable(PipelineError):  # noqa: N818
    """A server or a disk does not answer now; the same call may succeed later."""


class StorageUnavailable(Unavailable):
    """A disk is full, or another process holds a file."""


class ClientFailed(PipelineError):  # noqa: N818
    """A Kafka client has failed for good, or does not close: only another process can go on."""


class Refused(PipelineError):  # noqa: N818
    """A value breaks the contract: the sentence names the field, the value and the limit."""


class Rejected(PipelineError):  # noqa: N818
    """A handler refuses records for good: a sentence for each, by partition and offset."""

    def __init__(self, refused: Mapping[tuple[int, int], str]) -> None:
        super().__init__("; ".join(refused.values()))
        self.refused = refused


class Overtaken(PipelineError):  # noqa: N818
    """The offsets that were to be recorded are recorded already, by somebody else."""


class NotDelivered(PipelineError):  # noqa: N818
    """The broker did not acknowledge a record in time."""

    exit_code = 1


class Reason(StrEnum):
    """Why a message cannot be read: the codes under which dead letters are counted."""

    NOT_FRAMED = "not-framed"  # its first byte is not the magic byte
    TOO_SHORT = "too-short"  # no room for magic byte and schema id
    ID_IN_HEADERS = "id-in-headers"  # Confluent's newer framing, which this reader does not take
    UNKNOWN_ID = "unknown-id"  # the registry has no schema of this id
    FOREIGN_SCHEMA = "foreign-schema"  # the id is of another subject's schema
    TRUNCATED = "truncated"  # the bytes end inside the record
    TRAILING_BYTES = "trailing-bytes"  # bytes are left behind the record
    MALFORMED = "malformed"  # bytes that no writer of this schema produces, or that stand for more than they may
    COMPRESSION = "compression"  # its batch cannot be decompressed, or has more in it than the client takes
    NOT_READABLE = "not-readable"  # the writer's schema is none or does not resolve to the reader's; too deep nesting
    BREAKS_LIMIT = "breaks-limit"  # it decodes, and a value breaks a limit of the reader's version or of Python
    TOMBSTONE = "tombstone"  # no value at all
    OTHER_TOPIC = "other-topic"  # a replay whose place is in a topic of this name that was deleted
    HANDLER = "handler"  # it was read, and the consumer's handler refuses it for good


QUOTING = frozenset({Reason.BREAKS_LIMIT, Reason.MALFORMED})
"""Reasons whose sentence may quote a value of the message."""


class Unreadable(PipelineError):  # noqa: N818
    """A message that this reader can never read, with its reason and, where they are known, schema id and identity."""

    def __init__(self, reason: Reason, sentence: str, schema_id: int | None = None, record_id: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.schema_id = schema_id
        self.record_id = record_id

    def alone(self) -> Unreadable:
        """Return the same without the frames that it went through: they would hold the message while it is kept."""
        return Unreadable(self.reason, str(self), self.schema_id, self.record_id)
