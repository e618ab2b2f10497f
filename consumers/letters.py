"""Dead letters: what a consumer cannot read, kept with its reason in a topic of that consumer's own, and its replay.

A letter is the message unchanged, key, value and headers, with further headers: where it was and why it is here. What
is larger than the topic takes leaves only these, with its size and digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from contract.access import Permission
from contract.errors import PipelineError, Reason, TopicError, Unavailable, Unreadable
from contract.subjects import Subject
from runtime.acls import require
from runtime.clients import (
    DENIED,
    admin_client,
    broker_error,
    cluster_metadata,
    kafka_error,
    make_client,
    producer_properties,
)
from runtime.groups import read_to_end, reading_client
from runtime.settings import Settings
from runtime.topics import LARGEST_KEPT, Topic, is_gone

Headers: TypeAlias = list[tuple[str, bytes | str | None]]

LARGE = 1024 * 1024
"""Bytes of a message, uncompressed, that is kept whole however little its topic takes at once, compressed."""

_LETTER = "dead-letter."
_REPLAY = "replay."
_NO_TEXT = ("\ufffd", None)
_PLACE = ("topic", "partition", "offset", "timestamp")
_IDS = ("topic-id", "cluster-id")
"""Which topic of that name it was: in one that was deleted and made again the same place is another message's."""


class DeadLetters:
    """Writes one consumer's dead letters; their topic must exist."""

    def __init__(self, settings: Settings, subject: Subject, group: str, origin: Topic) -> None:
        """`origin` is the topic whose messages they are."""
        self._origin = (origin.id, origin.cluster_id)
        self._topic = subject.dead_letters(group)
        self._replays = subject.replays(group)
        self._group = group
        self._largest = max(LARGE, subject.max_message_bytes)
        self._settings = settings
        self._publisher: _Publisher | None = None

    def write(self, letters: Iterable[tuple[Message, Unreadable]]) -> None:
        """Write letters, and return when all are acknowledged.

        Raises Unavailable when they are not, but may be later, and TopicError or Forbidden when they never will. One
        that was written may then be written again.
        """
        try:
            self._write(letters)
        except Unavailable:
            # A producer does not believe that its topic is gone (`topic.metadata.propagation.max.ms`).
            if is_gone(admin_client(self._settings), self._settings, self._topic):
                again = "start again to have it made"
                raise TopicError(f"{self._topic} cannot be written: there is no such topic; {again}") from None
            raise

    def _write(self, letters: Iterable[tuple[Message, Unreadable]]) -> None:
        # Made for the first letter: a consumer that has none needs no second connection.
        publisher = self._publisher or _Publisher(self._settings)
        self._publisher = None  # one that fails is not used again: it may have lost sight of the cluster for good
        for message, unreadable in letters:
            headers: Headers = []
            with suppress(Unreadable):  # its headers are lost to any client of this kind; the rest of it is kept
                headers += headers_of(message)
            why = self._why(message, unreadable)
            whole = _Sent(message.key(), message.value(), [*headers, *why])
            stub = partial(_without_message, message, why)
            if whole.size() > self._largest or message.error() is not None:  # an error's value is its sentence
                publisher.send(self._topic, stub())
            else:
                publisher.send(self._topic, whole, stub)
        publisher.finish(self._topic)
        self._publisher = publisher

    def _why(self, message: Message, unreadable: Unreadable) -> Headers:
        place: tuple[object, ...] = (message.topic(), message.partition(), message.offset(), message.timestamp()[1])
        ids = self._origin
        if message.topic() == self._replays:
            place, ids = _read_place(message, _REPLAY) or place, _read_ids(message, _REPLAY)
        told = {
            **dict(zip(_PLACE, place, strict=True)),
            **{name: value for name, value in zip(_IDS, ids, strict=True) if value},
            "consumer": self._group,
            "schema-id": "" if unreadable.schema_id is None else unreadable.schema_id,
            "reason": unreadable.reason,
            "sentence": str(unreadable),
        }
        return [(f"{_LETTER}{name}", str(value).encode()) for name, value in told.items()]


@dataclass(frozen=True)
class Letter:
    """A dead letter as it is kept; `message` holds the original key and value."""

    offset: int
    topic: str
    partition: int
    original_offset: int
    timestamp: int
    reason: str
    sentence: str
    message: Message
    ids: tuple[str, str] = ("", "")
    """Of the topic and of its cluster; empty in letters from before they were noted."""

    def is_of(self, topic: Topic | None) -> bool:
        """Return whether its place is one of this topic, as far as the letter tells."""
        return _fits(self.ids, topic)

    @property
    def lost(self) -> str:
        """Why the message is not here, as a clause; empty where it is."""
        told = {name: _text(value) for name, value in headers_of(self.message)}
        size, digest = (told.get(f"{_LETTER}{name}") for name in ("size", "sha256"))
        if self.reason == Reason.COMPRESSION:
            return "its batch cannot be decompressed"
        return f"it is too large: {size} bytes, SHA-256 {digest}" if size and digest else ""


def read_letters(settings: Settings, topic: str, start: int = 0) -> Iterator[Letter]:
    """Give every letter that the topic holds now, from offset `start` on, oldest first.

    Raises Unavailable when the broker stops answering, TopicError when there is no such topic.
    """
    with reading_client(settings) as client:
        if topic not in cluster_metadata(client, settings).topics:
            # Or it is there, and not to be seen by us.
            may_read = Permission("READ", "topic", topic)
            require([may_read], admin_client(settings), settings)
            raise TopicError(f"there is no topic {topic}; its consumer makes it when it starts")
        for messages in read_to_end(client, settings, TopicPartition(topic, 0, start)):
            yield from map(_letter, messages)


def replay_letters(settings: Settings, letters: Iterable[Letter], topic: str) -> int:
    """Copy letters to a topic of replays and give their number; returns when all are acknowledged.

    Raises Forbidden before the first, where we may not.
    """
    require([Permission("WRITE", "topic", topic)], admin_client(settings), settings)
    publisher = _Publisher(settings)
    count = 0
    for letter in letters:
        place = (letter.topic, letter.partition, letter.original_offset, letter.timestamp)
        headers = [pair for pair in headers_of(letter.message) if not pair[0].startswith((_LETTER, _REPLAY))]
        told = zip((*_PLACE, *_IDS), (*place, *letter.ids), strict=True)
        headers += [(f"{_REPLAY}{name}", str(value).encode()) for name, value in told if value != ""]
        publisher.send(topic, _Sent(letter.message.key(), letter.message.value(), headers))
        count += 1
    publisher.finish(topic)
    return count


def origin_of_replay(message: Message) -> tuple[int, int, int]:
    """Give the partition, offset and timestamp that a replayed message had first; raises Unreadable without them."""
    place = _read_place(message, _REPLAY)
    if place is None:
        raise Unreadable(Reason.MALFORMED, "it is among the replays without the headers that a replay has")
    _, partition, offset, timestamp = place
    return partition, offset, timestamp


def check_origin(message: Message, topic: Topic) -> None:
    """Raise Unreadable for a replay without its origin's place, or whose origin is no place of this topic."""
    origin_of_replay(message)
    if not _fits(ids := _read_ids(message, _REPLAY), topic):
        raise Unreadable(Reason.OTHER_TOPIC, f"its place is in a topic {topic.name} that is gone ({ids[0]})")


def hexdump(value: bytes) -> Iterator[str]:
    """Give bytes as lines of sixteen: where they are, hexadecimal, and what of them is printable ASCII."""
    for start in range(0, len(value), 16):
        part = value[start : start + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004 - ASCII that prints
        yield f"{start:08x}    {part.hex(' '):<48}{text}"


@dataclass(frozen=True)
class _Sent:
    """What is written of a message."""

    key: bytes | str | None
    value: bytes | str | None
    headers: Headers

    def size(self) -> int:
        return sum(len(part or b"") for part in (self.key, self.value, *chain.from_iterable(self.headers)))


def _without_message(message: Message, why: Headers) -> _Sent:
    if message.error() is not None:
        return _Sent(None, None, why)
    value = message.value() or b""
    told = {"size": str(len(value)), "sha256": hashlib.sha256(value).hexdigest()}
    return _Sent(None, None, [*why, *((f"{_LETTER}{name}", one.encode()) for name, one in told.items())])


class _Publisher:
    """Publishes a few messages with headers, and tells whether all were acknowledged."""

    def __init__(self, settings: Settings) -> None:
        size = {"message.max.bytes": LARGEST_KEPT, "queue.buffering.max.kbytes": LARGEST_KEPT // 1024}
        self._producer = make_client(Producer, producer_properties(settings) | size | {"compression.type": "gzip"})
        self._limit = settings.delivery_timeout + 5
        self._failure: KafkaError | None = None
        self._too_large: list[tuple[_Sent, Callable[[], _Sent]]] = []

    def send(self, topic: str, sent: _Sent, smaller: Callable[[], _Sent] | None = None) -> None:
        """Send a message, and `smaller` instead of it if the topic does not take it for its size."""

        def report(error: KafkaError | None, _message: Message) -> None:
            if smaller is not None and error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._too_large.append((sent, smaller))
            else:
                self._failure = error or self._failure

        while self._failure is None:
            with _told(topic):
                try:
                    self._producer.produce(topic, sent.value, sent.key, 0, headers=sent.headers, on_delivery=report)
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    return

    def finish(self, topic: str) -> None:
        self._flush(topic)
        together, self._too_large = self._too_large, []
        for sent, smaller in together:  # by itself it may be taken
            self.send(topic, sent, smaller)
            self._flush(topic)
        for _, smaller in self._too_large:
            self.send(topic, smaller())
        self._flush(topic)

    def _flush(self, topic: str) -> None:
        with _told(topic):
            left = self._producer.flush(self._limit)
        if self._failure is not None:
            raise _error_of(topic, self._failure)
        if left:
            raise Unavailable(f"{topic} cannot be written now: {left} messages are not acknowledged")


@contextmanager
def _told(topic: str) -> Iterator[None]:
    """Turn what a producer raises into this project's errors."""
    try:
        yield
    except (KafkaException, SystemError) as error:
        failure = kafka_error(error)
        if failure is None:
            raise
        raise _error_of(topic, failure) from None


def _error_of(topic: str, failure: KafkaError) -> PipelineError:
    if failure.retriable() or failure.code() in _PASSING:
        return Unavailable(f"{topic} cannot be written now: {failure.str()}")
    if failure.code() in DENIED:
        return broker_error(KafkaException(failure), f"writing {topic}")
    return TopicError(f"{topic} cannot be written: {failure.str()}")


_PASSING = frozenset(
    {KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}  # noqa: SLF001
)


def _letter(message: Message) -> Letter:
    told = {name: _text(value) for name, value in headers_of(message)}
    place = _read_place(message, _LETTER) or ("", 0, 0, 0)
    return Letter(
        message.offset() or 0,
        *place,
        told.get(f"{_LETTER}reason", "?"),
        told.get(f"{_LETTER}sentence", ""),
        message,
        _read_ids(message, _LETTER),
    )


def _read_ids(message: Message, prefix: str) -> tuple[str, str]:
    told = {name: _text(value) for name, value in headers_of(message)}
    topic_id, cluster_id = (told.get(f"{prefix}{name}", "") for name in _IDS)
    return topic_id, cluster_id


def _fits(ids: tuple[str, str], topic: Topic | None) -> bool:
    return not any(ids) or (topic is not None and ids == (topic.id, topic.cluster_id))


def _read_place(message: Message, prefix: str) -> tuple[str, int, int, int] | None:
    told = {name: _text(value) for name, value in headers_of(message)}
    try:
        partition, offset, timestamp = (int(told[f"{prefix}{name}"]) for name in _PLACE[1:])
        topic = told[f"{prefix}topic"]
    except (KeyError, ValueError):
        return None
    # A timestamp of -1 says that there is none; no broker counts beyond 63 bits.
    fit = 0 <= partition < 2**31 and 0 <= offset < 2**63 and -1 <= timestamp < 2**63
    return (topic, partition, offset, timestamp) if fit else None


def headers_of(message: Message) -> Headers:
    """Give a message's headers as pairs; raises Unreadable for names that are not UTF-8."""
    try:
        headers = message.headers() or []
    except (SystemError, UnicodeDecodeError):  # the client's own way of saying so
        # It keeps what it has failed at, a tuple with nothing in it, and whoever looked again would end the process.
        headers = [_NO_TEXT]
        message.set_headers(headers)
    if headers == [_NO_TEXT]:
        raise Unreadable(Reason.MALFORMED, "the name of one of its headers is not UTF-8")
    return list(headers.items()) if isinstance(headers, dict) else list(headers)


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
