"""A record to and from Confluent's wire format: magic byte 0, schema id in four bytes big-endian, Avro binary.

Both classes are confluent-kafka's `Serializer` and `Deserializer`, so they fit its `SerializingProducer` and
`DeserializingConsumer` too. The subject is `<topic>-value` or `<topic>-key`, by the topic name strategy.
"""

from __future__ import annotations

import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.serialization import Deserializer, SerializationContext, Serializer

from contract import lookups
from contract.errors import Reason, Refused, Unreadable
from contract.records import R

if TYPE_CHECKING:
    from contract.avro_schema import Type

ASK_AGAIN_SECONDS = 1.0
"""How long an id that is no good counts as no good: many messages of it are not to be many questions."""
_FRAME = struct.Struct(">bI")
_MAGIC = 0
NOT_PLAIN = (ValueError, IndexError, OverflowError, TypeError, struct.error)
"""What a generated encoder or decoder may raise for values and bytes that fastavro is to judge."""
_NOT_PLAINLY = (*NOT_PLAIN, KeyError)  # the latter for a frame that is not known yet


@dataclass(frozen=True, slots=True)
class _Writers:
    """By the frame of its messages, each writer of a subject: its schema, and the fast way to read what it wrote."""

    schemas: dict[bytes, Type] = field(default_factory=dict)
    decoders: dict[bytes, Callable[[bytes, int], Any]] = field(default_factory=dict)


class RecordSerializer(Serializer, Generic[R]):
    """Writes records of one version; the id of its schema is looked up once a subject, never registered."""

    def __init__(self, record: type[R], registry: SchemaRegistryClient) -> None:
        self.record = record
        self._registry = registry
        self._frames: dict[str, bytes] = {}

    def __call__(self, value: R | None, ctx: SerializationContext | None = None) -> bytes | None:
        """Give the framed bytes of a record, or None for None.

        Raises Refused for a record that breaks its contract, NotRegistered when the subject lacks this version.
        """
        return None if value is None else self.serialize(value, self.frame(subject_of(ctx)))

    def serialize(self, record: R, frame: bytes) -> bytes:
        """Give a subject's frame and behind it the bytes of a record; raises Refused as a call does."""
        if type(record) is not self.record:
            raise Refused(f"a {type(record).__name__} is no {self.record.__name__}")
        return encode(record, frame)

    def serialize_all(self, records: Sequence[R], frame: bytes) -> list[bytes]:
        """Give the framed bytes of each record; raises as `serialize` does for each, in a fraction of the time."""
        known = self.record
        try:
            values = [record.encode_fast(frame) for record in records if type(record) is known]
        except NOT_PLAIN:
            values = []
        if all(values) and len(values) == len(records):
            return values  # type: ignore[return-value]  # asked in the line above
        return [self.serialize(record, frame) for record in records]

    def frame(self, subject: str) -> bytes:
        """Give the five bytes before every record of this version in a subject."""
        frame = self._frames.get(subject)
        if frame is None:
            known = lookups.require(self._registry, subject, self.record.SCHEMA, self.record.VERSION)
            frame = self._frames[subject] = _FRAME.pack(_MAGIC, known.id)
        return frame


class RecordDeserializer(Deserializer, Generic[R]):
    """Reads records as one version, whichever version wrote them."""

    def __init__(self, record: type[R], registry: SchemaRegistryClient) -> None:
        self.record = record
        self._registry = registry
        self._writers = defaultdict[str, _Writers](_Writers)
        self._refused: dict[tuple[str, int], Unreadable] = {}
        self._ask_again_at = 0.0

    def __call__(self, data: bytes | None, ctx: SerializationContext | None = None) -> R:
        """Give the record in a message's bytes.

        Raises Unreadable with its reason for a message that can never be read, and Unavailable or NotRegistered
        when it is the registry that does not answer or lacks the subject: those are not the message's fault.
        """
        if data is None:
            raise Unreadable(Reason.TOMBSTONE, "it has no value (a tombstone)")
        # Confluent's newer framing keeps the id in a header, of another name for keys, and leaves the bytes unframed.
        if ctx is not None and ctx.headers and _has_header(ctx.headers, f"__{ctx.field}_schema_id"):
            raise Unreadable(Reason.ID_IN_HEADERS, "its schema id is in the headers, this reader wants it in the value")
        subject = subject_of(ctx)
        writers, frame = self._writers[subject], data[: _FRAME.size]
        if frame not in writers.schemas:
            self._meet_writer(data, subject)
        record: R | None = _read_fast(writers, data)
        if record is not None:
            return record
        from contract import binary  # noqa: PLC0415 - few messages need it

        try:
            return binary.decode(data, self.record, writers.schemas[frame], start=_FRAME.size)
        except Unreadable as error:
            error.schema_id = schema_id_of(data)
            raise

    def plainly(self, values: Sequence[bytes | None], subject: str) -> list[R | None]:
        """Give a record for each message's bytes that are plainly valid, and None for all that need a closer look.

        Does not look at headers: bytes that begin with a known frame and are valid to the last one are what they say.
        """
        writers = self._writers[subject]
        if len(values) == 1:  # it has come after a pause, to cold code: each step that follows would take microseconds
            return [_read_fast(writers, values[0])]
        try:
            # What lies between the least and the greatest begins as both do: one comparison instead of a slice each.
            frame = min(values)[:5]  # type: ignore[type-var,index]
            if max(values)[:5] == frame:  # type: ignore[type-var,index]
                read = writers.decoders[frame]
                return [read(data, 5) for data in values]  # type: ignore[arg-type]
        except _NOT_PLAINLY:  # few batches hold any such message
            pass
        return [_read_fast(writers, data) for data in values]

    def _meet_writer(self, data: bytes, subject: str) -> None:
        """Find the writer that a message's frame names, and remember it."""
        if len(data) < _FRAME.size:
            raise Unreadable(Reason.TOO_SHORT, f"it has {len(data)} bytes, magic byte and schema id need {_FRAME.size}")
        magic, schema_id = _FRAME.unpack_from(data)
        if magic != _MAGIC:
            raise Unreadable(Reason.NOT_FRAMED, f"its first byte is {magic & 0xFF:#04x}, not the magic byte 0")
        writer, frame = self._writer(subject, schema_id), data[: _FRAME.size]
        self._writers[subject].schemas[frame] = writer
        self._writers[subject].decoders[frame] = self._fast_way(writer)

    def _fast_way(self, writer: Type) -> Callable[[bytes, int], Any]:
        """Return the generated decoder for what a writer writes: it rests on names and layout alone."""
        from contract.binary import parse_writer  # noqa: PLC0415 - who only writes need not wait for it
        from contract.canonical import is_laid_out_alike  # noqa: PLC0415

        known = ((parse_writer(text), read) for text, read in self.record.DECODERS.items())
        return next((read for schema, read in known if is_laid_out_alike(schema, writer)), _no_fast_way)

    def _writer(self, subject: str, schema_id: int) -> Type:
        """Return the schema behind an id, which counts only when it is one of this subject's."""
        if time.monotonic() >= self._ask_again_at:
            self._refused.clear()
        if refused := self._refused.get((subject, schema_id)):
            raise Unreadable(refused.reason, str(refused), schema_id)
        schema = lookups.schema_of(self._registry, schema_id)
        if schema is not None and lookups.is_of_subject(self._registry, schema_id, subject):
            try:
                return lookups.parse_registered(self._registry, schema)
            except Unreadable as error:
                raise self._refuse(subject, Unreadable(error.reason, str(error), schema_id)) from None
        if not self._refused:
            # An emptied or foreign registry knows no id of ours: that is an outage, not a bad message. Its client would
            # answer what it once was told.
            self._registry.clear_caches()  # type: ignore[no-untyped-call]  # confluent-kafka gives it no types
            lookups.require(self._registry, subject, self.record.SCHEMA, self.record.VERSION)
        why = (Reason.UNKNOWN_ID, f"the registry knows no schema of id {schema_id}")
        if schema is not None:
            why = (Reason.FOREIGN_SCHEMA, f"schema id {schema_id} does not belong to the subject {subject}")
        raise self._refuse(subject, Unreadable(*why, schema_id))

    def _refuse(self, subject: str, error: Unreadable) -> Unreadable:
        """Remember that an id is no good, for a while, and return the error."""
        if not self._refused:
            self._ask_again_at = time.monotonic() + ASK_AGAIN_SECONDS
        self._refused[subject, error.schema_id or 0] = error.alone()
        return error


def encode(value: R, frame: bytes = b"") -> bytes:
    """Give a frame and behind it the Avro binary of a record; raises Refused when it breaks its contract."""
    try:  # not by suppress, which a lone record would wait for
        if (framed := value.encode_fast(frame)) is not None:
            return framed
    except NOT_PLAIN:
        pass
    from contract import binary  # noqa: PLC0415 - few records need it, and one alone would wait for its import

    return frame + binary.encode(value)


def decode(data: bytes, record: type[R]) -> R:
    """Give the record in framed bytes that a serializer of its own version wrote; asks no registry."""
    from contract import binary  # noqa: PLC0415 - only what was not delivered is read again

    return binary.decode(data, record, record.SCHEMA, start=_FRAME.size)


def schema_id_of(frame: bytes) -> int:
    """Give the schema id in a frame, or in a framed message."""
    return int(_FRAME.unpack_from(frame)[1])


def subject_of(ctx: SerializationContext | None) -> str:
    """Name the subject of a message by the topic name strategy."""
    if ctx is None:
        raise TypeError("a SerializationContext is needed: its topic names the subject")
    return ctx.topic + "-" + ctx.field


def _read_fast(writers: _Writers, data: bytes | None) -> Any:
    try:
        return writers.decoders[data[: _FRAME.size]](data, _FRAME.size)  # type: ignore[index,arg-type]
    except _NOT_PLAINLY:
        return None


def _no_fast_way(_data: bytes, _start: int) -> None:
    return None


def _has_header(headers: Mapping[str, Any] | Iterable[tuple[str, Any]], wanted: str) -> bool:
    return wanted in (headers if isinstance(headers, Mapping) else (name for name, _ in headers))
