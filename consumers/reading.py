"""Turns polled messages into batches; what cannot be read, or a handler refuses, goes to the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Generic

from confluent_kafka import Message
from confluent_kafka.serialization import MessageField, SerializationContext

from consumers.batches import Batch, Polled
from consumers.letters import DeadLetters, check_origin, headers_of
from consumers.source import Source
from contract.codec import RecordDeserializer
from contract.errors import QUOTING, Reason, Rejected, TopicError, Unreadable, UserError
from contract.records import R
from contract.subjects import Subject
from runtime.metrics import ConsumerMetrics
from runtime.topics import Topic

log = logging.getLogger(__name__)


class BatchReader(Generic[R]):
    """Decodes what one consumer is given."""

    def __init__(
        self,
        subject: Subject,
        deserializer: RecordDeserializer[R],
        letters: DeadLetters,
        metrics: ConsumerMetrics,
        most_in_row: int,
        topic: Topic,
    ) -> None:
        """After `most_in_row` messages in a row that cannot be read, `read` raises UserError.

        `topic` is the one that a replay's place must be in.
        """
        self._topic = topic
        self._deserializer = deserializer
        self._identity = subject.identity or ""
        self._letters = letters
        self._metrics = metrics
        self._most_in_row = most_in_row
        self._in_row = 0
        self._subject = subject.name
        self._context = SerializationContext(subject.topic, MessageField.VALUE)

    def take(self, source: Source, messages: Sequence[Message]) -> Batch[R] | Polled:
        """Decode what a poll gave if all of it is plainly valid, else give it without the errors in it, to be read.

        Raises what Source.is_message raises.
        """
        # A lone message comes after a pause, to cold code, where to make a map takes microseconds.
        data = [messages[0].value()] if len(messages) == 1 else list(map(Message.value, messages))
        plain = self._deserializer.plainly(data, self._subject)
        if all(plain) and not source.is_replays:
            self._in_row = 0  # though what came before may still wait to be read: then a row may seem longer or shorter
            values: Sequence[R] = plain  # type: ignore[assignment]  # asked two lines above
            return Batch(source, messages, values, messages)
        # An error has its sentence for a value, which is no valid record: where all are, there is none to look for.
        return Polled(source, list(filter(source.is_message, messages)))

    def read(self, taken: Polled) -> Batch[R]:
        """Decode messages, and return once those that cannot be read are safe in the dead letters.

        Gives only what comes before a long row of such, or before a letter that can never be written, to be handled
        first; the rest is for another call. Raises Unavailable and NotRegistered when it is the servers that do not
        answer or lack something, UserError when everything seems unreadable, and TopicError for such a letter.
        """
        source, fetched = taken.source, taken.fetched
        read: list[tuple[R, Message]] = []
        letters: list[tuple[Message, Unreadable]] = []
        in_row = self._in_row
        plain = self._deserializer.plainly([message.value() for message in fetched], self._subject)
        for index, (message, known) in enumerate(zip(fetched, plain, strict=True)):
            try:
                read.append((self._read_one(source, message, known), message))
                in_row = 0
            except Unreadable as unreadable:
                letters.append((message, unreadable.alone()))
                in_row += not source.is_replays  # what is replayed was bad before, whatever the servers are
                if in_row >= self._most_in_row:
                    if not read:
                        raise _too_many(in_row, message, unreadable) from None
                    fetched = fetched[: index + 1 - in_row]
                    letters, in_row = letters[:-in_row], 0
                    break
        batch = self._send(source, fetched, read, letters)
        if len(batch.fetched) == len(fetched):
            self._in_row = in_row
        return batch

    def refuse(self, batch: Batch[R], rejected: Rejected) -> Batch[R]:
        """Send what the handler refuses to the dead letters and return the batch without it.

        Or only what comes before a letter that can never be written, as `read` does; the rest is for another call.
        """
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
        return self._send(batch.source, batch.fetched, kept, letters)

    def _read_one(self, source: Source, message: Message, known: R | None) -> R:
        if source.is_replays:
            check_origin(message, self._topic)
        if known is not None:
            return known
        if (error := message.error()) is not None:
            raise Unreadable(Reason.COMPRESSION, error.str())
        self._context.headers = headers_of(message)
        return self._deserializer(message.value(), self._context)

    def _send(
        self,
        source: Source,
        fetched: Sequence[Message],
        read: Sequence[tuple[R, Message]],
        letters: Sequence[tuple[Message, Unreadable]],
    ) -> Batch[R]:
        """Return what is read of the fetched once the letters are written, or what comes before the first of them."""
        try:
            self._write(letters)
        except TopicError as error:
            bad, _ = letters[0]
            fetched = fetched[: fetched.index(bad)]
            if not fetched:
                raise TopicError(f"{error}; {source.how_to_pass(bad)}") from None
            before = set(map(id, fetched))
            read = [pair for pair in read if id(pair[1]) in before]
        return Batch(source, fetched, [value for value, _ in read], [message for _, message in read])

    def _write(self, letters: Sequence[tuple[Message, Unreadable]]) -> None:
        if not letters:
            return
        self._letters.write(letters)
        self._metrics.has_dead_letters(why.reason for _, why in letters)
        for message, why in letters:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            told = {"reason": why.reason, "schema_id": why.schema_id, "record_id": why.record_id}
            sentence = "%s partition %s offset %s goes to the dead letters of %s: %s"
            log.warning(sentence, *place.values(), self._metrics.group, _without_values(why), extra=place | told)


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
