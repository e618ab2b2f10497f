"""Turns polled messages into batches; what cannot be read, or a handler refuses, goes to the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Generic

import msgspec
from confluent_kafka import Message
from confluent_kafka.serialization import MessageField, SerializationContext

from consumers.batches import Batch
from consumers.letters import DeadLetters, headers_of, origin_of_replay
from consumers.source import Source
from contract.codec import RecordDeserializer
from contract.errors import QUOTING, Reason, Rejected, Unreadable, UserError
from contract.records import R
from contract.subjects import Subject
from runtime.metrics import ConsumerMetrics

log = logging.getLogger(__name__)


class Work(msgspec.Struct, Generic[R], eq=False):
    """What one poll gave of one topic, until it has been handled."""

    source: Source
    messages: list[Message]
    batch: Batch[R] | None = None
    """The messages decoded: at once where all of them are plainly valid, else when it is their turn to be handled."""
    failure: UserError | None = None
    """What ends the consumer when this, which came before it, has been handled."""


class BatchReader(Generic[R]):
    """Decodes what one consumer is given."""

    def __init__(
        self,
        subject: Subject,
        deserializer: RecordDeserializer[R],
        letters: DeadLetters,
        metrics: ConsumerMetrics,
        most_in_row: int,
    ) -> None:
        """After `most_in_row` messages in a row that cannot be read, `read` raises UserError."""
        self._deserializer = deserializer
        self._identity = subject.identity or ""
        self._letters = letters
        self._metrics = metrics
        self._most_in_row = most_in_row
        self._in_row = 0
        self._subject = subject.name
        self._context = SerializationContext(subject.topic, MessageField.VALUE)

    def take(self, source: Source, messages: list[Message]) -> Work[R]:
        """Make work of what a poll gave, decoded if all of it is plainly valid, and without the errors in it.

        Raises what Source.is_message raises.
        """
        plain = self._plainly(messages)
        if all(plain) and not source.is_replays:
            self._in_row = 0  # though what came before may still wait to be read: then a row may seem longer or shorter
            values: Sequence[R] = plain  # type: ignore[assignment]  # asked two lines above
            return Work(source, messages, Batch(values, messages, messages, len(source.ever_owned)))
        # An error has its sentence for a value, which is no valid record: where all are, there is none to look for.
        return Work(source, list(filter(source.is_message, messages)))

    def read(self, work: Work[R]) -> Batch[R]:
        """Decode messages, and return once those that cannot be read are safe in the dead letters.

        Raises Unavailable and NotRegistered when it is the servers that do not answer or lack something, and UserError
        when everything seems unreadable.
        """
        fetched, work.failure = work.messages, None
        read: list[tuple[R, Message]] = []
        letters: list[tuple[Message, Unreadable]] = []
        in_row = self._in_row
        for index, (message, known) in enumerate(zip(fetched, self._plainly(fetched), strict=True)):
            try:
                read.append((self._read_one(work.source, message, known), message))
                in_row = 0
            except Unreadable as unreadable:
                letters.append((message, unreadable))
                in_row += not work.source.is_replays  # what is replayed was bad before, whatever the servers are
                if in_row >= self._most_in_row:
                    work.failure = _too_many(in_row, message, unreadable)
                    if not read:
                        raise work.failure from None
                    # What is good before the row is handled first.
                    fetched = work.messages[: index + 1 - in_row]
                    letters, in_row = letters[:-in_row], 0
                    break
        self._send(letters)
        self._in_row = in_row
        return _without_letters(fetched, read, len(work.source.ever_owned), is_replays=work.source.is_replays)

    def refuse(self, batch: Batch[R], rejected: Rejected) -> Batch[R]:
        """Send what the handler refuses to the dead letters and give the batch without it."""
        letters: list[tuple[Message, Unreadable]] = []
        kept: list[tuple[R, Message]] = []
        for value, message, *place, _ in zip(batch.values, batch.messages, *batch.places, strict=True):
            sentence = rejected.refused.get(tuple(place))
            if sentence is None:
                kept.append((value, message))
            else:
                identity = getattr(value, self._identity, "")
                letters.append((message, Unreadable(Reason.HANDLER, sentence, record_id=identity)))
        if not letters:
            raise rejected  # it refuses what it was not given: a defect, not to be tried for ever
        self._send(letters)
        return _without_letters(batch.fetched, kept, batch.partitions, is_replays=batch.is_replays)

    def _plainly(self, messages: Sequence[Message]) -> list[R | None]:
        return self._deserializer.plainly(list(map(Message.value, messages)), self._subject)

    def _read_one(self, source: Source, message: Message, known: R | None) -> R:
        if source.is_replays:
            origin_of_replay(message)
        if known is not None:
            return known
        self._context.headers = headers_of(message)
        return self._deserializer(message.value(), self._context)

    def _send(self, letters: Sequence[tuple[Message, Unreadable]]) -> None:
        if not letters:
            return
        self._letters.write(letters)
        self._metrics.has_dead_letters(why.reason for _, why in letters)
        for message, why in letters:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            told = {"reason": why.reason, "schema_id": why.schema_id, "record_id": why.record_id}
            sentence = "%s partition %s offset %s goes to the dead letters of %s: %s"
            log.warning(sentence, *place.values(), self._metrics.group, _without_values(why), extra=place | told)


def _without_letters(
    fetched: Sequence[Message], read: Sequence[tuple[R, Message]], partitions: int, *, is_replays: bool
) -> Batch[R]:
    values, messages = [value for value, _ in read], [message for _, message in read]
    return Batch(values, messages, fetched, partitions, is_replays)


def _too_many(count: int, message: Message, unreadable: Unreadable) -> UserError:
    return UserError(
        f"{count} messages in a row could not be read, up to {message.topic()} partition {message.partition()} offset "
        f"{message.offset()}: {_without_values(unreadable)}; that looks like wrong servers rather than wrong messages: "
        "check SCHEMA_REGISTRY_URL, or raise DEAD_LETTER_LIMIT if they are really bad"
    )


def _without_values(unreadable: Unreadable) -> str:
    """Say why without quoting the message: logs are read by more people than its topic."""
    sentence = "its letter says which value" if unreadable.reason in QUOTING else str(unreadable)
    return f"{sentence} ({unreadable.reason})"
