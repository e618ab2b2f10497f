"""The loop that every consumer runs: poll, decode, handle, commit, on the one thread that owns the consumer.

Bad messages go to the dead letters, what fails for the moment is tried again while the partitions are paused, and the
thread goes on polling, so that the consumer stays in its group.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Generic

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.serialization import MessageField, SerializationContext

from consumers.batches import Batch, ReceivedRecords, ends_of, place_of
from consumers.letters import DeadLetters, headers_of, origin_of_replay
from consumers.source import BATCH, LostOffset, Resume, Source
from contract import lookups
from contract.access import to_consume
from contract.codec import RecordDeserializer, schema_id_of
from contract.errors import (
    QUOTING,
    ContractError,
    NotRegistered,
    Overtaken,
    Reason,
    Rejected,
    TopicError,
    Unavailable,
    Unreadable,
    UserError,
)
from contract.records import R
from contract.subjects import Subject
from runtime.clients import DENIED, broker_error, cluster_metadata, wait_until_available
from runtime.metrics import SCHEMA, ConsumerMetrics
from runtime.telemetry import StatusLine
from runtime.topics import Servers

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
REVOKE_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 15.0
GONE_SECONDS = 5.0
LOOK_BACK = 1_000


class RecordConsumer(Generic[R]):
    """A member of a consumer group that reads a subject's topic, and what is replayed to this group, as one version."""

    def __init__(
        self,
        servers: Servers,
        subject: Subject,
        record: type[R],
        group: str,
        lost_offset: LostOffset = "earliest",
        batch: int = BATCH,
    ) -> None:
        """Wait for broker and registry, make sure that the topics exist and that the registry holds this version."""
        self.group = group
        self.settings = servers.settings
        self.metrics = ConsumerMetrics(self.settings, group, subject.topic)
        self.deserializer = RecordDeserializer(record, servers.registry)
        self.identity = subject.identity
        self.context = SerializationContext(subject.topic, MessageField.VALUE)
        known = wait_until_available(
            lambda: lookups.require(servers.registry, subject.name, record.SCHEMA, record.VERSION), servers.settings
        )
        self.dead_letters = DeadLetters(servers.settings, subject, group)
        beside = self.dead_letters.topic, self.dead_letters.replays
        self.topic = servers.ensure_topics(subject, *beside, needs=to_consume(subject, group))
        self.source = Source(self.settings, group, self.topic.name, lost_offset, batch, self.metrics.take_statistics)
        # In a group of its own: in the same one, replays would count when the topic's partitions are shared out.
        self.replays = Source(self.settings, f"{group}.replays", self.dead_letters.replays)
        SCHEMA.labels(group, subject.name, str(record.VERSION), str(known.id)).set(1)
        extra = {"topic": subject.topic, "schema_id": known.id}
        log.info(
            "%s reads %s with version %d (schema id %d)", group, subject.topic, record.VERSION, known.id, extra=extra
        )


def create_consumer(
    servers: Servers,
    subject: Subject,
    record: type[R],
    group: str,
    lost_offset: LostOffset = "earliest",
    batch: int = BATCH,
) -> RecordConsumer[R]:
    """Make a member of a group.

    `lost_offset` says what to do when the topic no longer has the offset to go on from: begin at the earliest, or end
    with an error that names what is lost. `batch` is the most records that are handled at once. Raises ContractError
    when `readers` gives the group another version.
    """
    _check_reader(subject, record, group)
    return RecordConsumer(servers, subject, record, group, lost_offset, batch)


def _check_reader(subject: Subject, record: type[R], group: str) -> None:
    if subject.readers.get(group) != record.VERSION:
        raise ContractError(
            f"{group} is built to read version {record.VERSION} of {subject.name}, "
            f"subjects.yaml says {subject.readers.get(group, 'nothing of it')}"
        )


def consume_messages(
    consumer: RecordConsumer[R],
    handle: Callable[[Batch[R]], object],
    stop: Event,
    resume: Resume | None = None,
    mark: str = "",
    *,
    status: bool = True,
) -> None:
    """Feed batches to `handle` until `stop` is set, committing their offsets only after it has returned.

    `resume` gives the next offset of each partition that is assigned, for whom the group's own offsets are not the
    truth; partitions that it leaves out start at the beginning. `mark` is left in the committed offsets' metadata.
    `status` shows a line of numbers on standard error where that is a terminal.

    `handle` raises Rejected for records that it refuses for good (they become dead letters), Unavailable for what may
    work later (the same batch is handled again), Overtaken when somebody else has handled it (the loop starts again
    from `resume`). Whatever else it raises ends the loop, and the batch in hand is not committed.
    """
    loop = _Loop(consumer, handle, resume, mark)
    metrics, line = consumer.metrics, StatusLine(wanted=status)
    try:
        loop.subscribe()
        while not stop.is_set():
            loop.turn()
            metrics.has_turned()
            line.tell(metrics.group, metrics.handled, metrics.letters)
    except BaseException as error:
        loop.abandon()
        if not isinstance(error, KafkaException):
            raise
        raise broker_error(error, f"reading {consumer.topic.name}") from None
    finally:
        # Leaves the groups, through on_revoke, so that the others need not wait for the session to lapse.
        consumer.source.client.close()
        consumer.replays.client.close()
        consumer.dead_letters.close()
        metrics.close()
        line.close()


@dataclass(frozen=True, slots=True)
class Observed(Generic[R]):
    """A message as an observer has it: its place, the schema id that it names, and its record or why there is none."""

    partition: int
    offset: int
    timestamp: int
    schema_id: int | None
    record: R | Unreadable


def observe_messages(
    servers: Servers,
    subject: Subject,
    record: type[R],
    group: str,
    *,
    observe: Callable[[Sequence[Observed[R]]], object],
    resume: Resume,
    stop: Event,
) -> None:
    """Show what comes to `observe`, poll by poll, empty ones too, until `stop` is set; leaves nothing on the servers.

    It joins no group, so each observer has all partitions; it commits, makes and writes nothing. `resume` gives offsets
    to begin at; partitions that it leaves out begin `LOOK_BACK` before their end. Raises Unavailable and NotRegistered,
    after which the caller may begin again, TopicError when there is no such topic, and what `observe` raises.
    """
    _check_reader(subject, record, group)
    source = Source(servers.settings, group, subject.topic)
    deserializer = RecordDeserializer(record, servers.registry)
    context = SerializationContext(subject.topic, MessageField.VALUE)
    try:
        source.read_alone(resume, LOOK_BACK)
        while not stop.is_set():
            messages = source.receive(POLL_SECONDS)
            for error in filter(None, (message.error() for message in messages)):
                if error.fatal() or error.code() in {*DENIED, KafkaError.UNKNOWN_TOPIC_OR_PART}:
                    raise KafkaException(error)  # noqa: TRY301 - to be told as every other one
            observe([_observed(one, deserializer, context) for one in messages if one.error() is None])
    except KafkaException as error:
        raise broker_error(error, f"reading {subject.topic}") from None
    finally:
        source.client.close()


def _observed(message: Message, deserializer: RecordDeserializer[R], context: SerializationContext) -> Observed[R]:
    try:
        context.headers = headers_of(message)
        record = deserializer(message.value(), context)
    except Unreadable as unreadable:
        return Observed(*place_of(message), unreadable.schema_id, unreadable)
    return Observed(*place_of(message), schema_id_of(message.value() or b""), record)


@dataclass
class _Work(Generic[R]):
    """What one poll gave of one topic, until it has been handled."""

    source: Source
    messages: list[Message]
    batch: Batch[R] | None = None
    """The messages decoded, once those that could not be are safe in the dead letters."""
    next_offsets: dict[int, int] = field(default_factory=dict)


class _Loop(Generic[R]):
    def __init__(
        self, consumer: RecordConsumer[R], handle: Callable[[Batch[R]], object], resume: Resume | None, mark: str
    ) -> None:
        self._consumer = consumer
        self._metrics = consumer.metrics
        self._source = consumer.source
        self._sources = (consumer.source, consumer.replays)
        self._handle = handle
        self._resume = resume
        self._mark = mark
        self._identity = consumer.identity or ""
        self._works: deque[_Work[R]] = deque()
        self._letters_in_row = 0
        self._failures = 0
        self._retry_at = 0.0

    def subscribe(self) -> None:
        if self._mark:
            wait_until_available(self._source.list_partitions, self._consumer.settings)
            wait_until_available(lambda: self._source.check_mark(self._mark), self._consumer.settings)
        for source in self._sources:
            source.subscribe(self._on_assign, self._on_revoke, self._on_lost)

    def abandon(self) -> None:
        """Drop the work in hand, so that leaving the group only commits what has been handled."""
        self._works.clear()

    def turn(self) -> None:
        """Take what has come; do the work in hand, if it is time; commit what is done."""
        # With work in hand the partitions are paused: then this serves the group, and seldom gives a message.
        for source, seconds in ((self._source, POLL_SECONDS), (self._consumer.replays, 0.0)):
            messages = source.receive(seconds)
            if any(map(Message.error, messages)):  # a glance at all of them, for there are seldom any
                messages = [message for message in messages if self._is_message(message)]
            if messages:
                self._works.append(_Work(source, messages))
            if self._works and time.monotonic() >= self._retry_at:
                self._work()
            source.commit(self._mark)
            self._metrics.has_consumed(len(messages))  # last, for whoever waits for a record waits for all before it

    def _work(self) -> None:
        try:
            while self._works:
                self._finish(self._works[0])
                self._works.popleft()
        except (Unavailable, NotRegistered) as error:
            self._back_off(error)
        except Overtaken as error:
            self._start_over(error)
        else:
            self._go_on()

    def _finish(self, work: _Work[R]) -> None:
        if work.batch is None:
            work.batch = self._decode(work)
        while True:
            started = time.perf_counter()
            try:
                self._handle(work.batch)
                break
            except Rejected as rejected:
                work.batch = self._refuse(work, work.batch, rejected)
        seconds = time.perf_counter() - started
        self._metrics.has_handled(work.batch.records, seconds, replayed=work.source is not self._source)
        work.source.handled |= work.next_offsets

    def _decode(self, work: _Work[R]) -> Batch[R]:
        """Decode messages, and return once those that cannot be read are safe in the dead letters."""
        replayed = work.source is self._consumer.replays
        messages: Sequence[Message] = work.messages
        work.next_offsets = ends_of(messages, len(work.source.ever_owned))
        plain = self._consumer.deserializer.plainly([one.value() for one in messages], self._consumer.context)
        if not replayed and all(plain):
            values: Sequence[R] = plain  # type: ignore[assignment]  # asked in the line above
            self._letters_in_row = 0
        else:
            messages, values = self._carefully(work, plain, replayed=replayed)
        records = ReceivedRecords(values, messages, origin_of_replay if replayed else place_of)
        return Batch(records, {} if replayed else work.next_offsets)

    def _carefully(
        self, work: _Work[R], plain: Sequence[R | None], *, replayed: bool
    ) -> tuple[Sequence[Message], Sequence[R]]:
        """Decode one by one what is not plainly valid, and send what cannot be read to the dead letters."""
        context = self._consumer.context
        read: list[tuple[Message, R]] = []
        letters: list[tuple[Message, Unreadable]] = []
        in_row = self._letters_in_row
        for index, (message, known) in enumerate(zip(work.messages, plain, strict=True)):
            value = known
            try:
                if replayed:
                    origin_of_replay(message)
                if value is None:
                    context.headers = headers_of(message)
                    value = self._consumer.deserializer(message.value(), context)
                read.append((message, value))
                in_row = 0
            except Unreadable as unreadable:
                letters.append((message, unreadable))
                in_row += 1
                if in_row >= self._consumer.settings.dead_letter_limit:
                    if not read:
                        raise _too_many(in_row, message, unreadable) from None
                    # What is good before the row is handled first; the row is a work of its own, which ends it all.
                    self._split(work, index + 1 - in_row)
                    letters, in_row = letters[:-in_row], 0
                    break
        self._send(letters)
        self._letters_in_row = in_row
        return [message for message, _ in read], [value for _, value in read]

    def _split(self, work: _Work[R], index: int) -> None:
        """Leave the messages from an index on to a work behind this one."""
        self._works.insert(1, _Work(work.source, work.messages[index:]))
        del work.messages[index:]
        work.next_offsets = ends_of(work.messages, len(work.source.ever_owned))

    def _refuse(self, work: _Work[R], batch: Batch[R], rejected: Rejected) -> Batch[R]:
        """Send what the handler refuses to the dead letters and give the batch without it."""
        kept = [one for one in batch.records if (one.partition, one.offset) not in rejected.refused]
        if len(kept) == len(batch.records):
            raise rejected  # it refuses what it was not given: a defect, not to be tried for ever
        replayed = work.source is self._consumer.replays
        ids = {(one.partition, one.offset): getattr(one.value, self._identity, "") for one in batch.records}
        letters = []
        for message in work.messages:
            place = origin_of_replay(message)[:2] if replayed else (message.partition() or 0, message.offset() or 0)
            if place in rejected.refused:
                letters.append((message, Unreadable(Reason.HANDLER, rejected.refused[place], record_id=ids[place])))
        self._send(letters)
        return Batch(kept, batch.next_offsets)

    def _send(self, letters: Sequence[tuple[Message, Unreadable]]) -> None:
        if not letters:
            return
        self._consumer.dead_letters.write(letters)
        self._metrics.has_dead_letters(why.reason for _, why in letters)
        for message, why in letters:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            told = {"reason": why.reason, "schema_id": why.schema_id, "record_id": why.record_id}
            sentence = "%s partition %s offset %s goes to the dead letters of %s: %s"
            log.warning(sentence, *place.values(), self._consumer.group, _without_values(why), extra=place | told)

    def _back_off(self, error: Exception) -> None:
        """Pause, and try again later, ever later; say so at growing intervals."""
        self._failures += 1
        self._metrics.has_failed()
        if self._failures == 1:
            for source in self._sources:
                source.pause()
        delay = min(LONGEST_BACKOFF_SECONDS, 0.1 * 2**self._failures) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self._retry_at = time.monotonic() + delay
        if self._failures & (self._failures - 1) == 0:
            extra = {"topic": self._source.topic, "attempt": self._failures}
            log.warning("%s waits, try %d failed: %s", self._consumer.group, self._failures, error, extra=extra)

    def _go_on(self) -> None:
        if self._failures:
            log.info("%s goes on after %d failed tries", self._consumer.group, self._failures)
            self._failures, self._retry_at = 0, 0.0
            for source in self._sources:
                source.resume()

    def _start_over(self, error: Overtaken) -> None:
        """Drop the work in hand and read on from where whoever was faster has come to."""
        log.warning("%s starts again from its ledger: %s", self._consumer.group, error)
        self._works = deque(work for work in self._works if work.source is not self._source)
        self._source.handled.clear()
        self._go_on()
        for partition in self._positions(self._source.client.assignment()):
            self._source.client.seek(partition)

    def _on_assign(self, source: Source, partitions: list[TopicPartition]) -> None:
        _tell(source, "was given", partitions)
        source.client.incremental_assign(self._positions(partitions) if source is self._source else partitions)
        if self._failures:
            source.client.pause(partitions)

    def _positions(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Set where to begin: at the ledger's offsets or the beginning; without a ledger, where the group was."""
        resume = self._resume
        if resume is None or not partitions:
            return partitions
        offsets = wait_until_available(lambda: self._claim(resume, _numbers(partitions)), self._consumer.settings)
        return [
            TopicPartition(one.topic, one.partition, offsets.get(one.partition, OFFSET_BEGINNING)) for one in partitions
        ]

    def _claim(self, resume: Resume, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask where to go on, and leave our mark before anything is recorded: of two that start, one sees the other."""
        offsets = resume(partitions)
        if self._mark:
            self._source.check_mark(self._mark)
            self._source.handled |= {partition: offsets.get(partition, 0) for partition in partitions}
            self._source.commit(self._mark, wait=True)
            self._source.check_mark(self._mark)
        return offsets

    def _on_revoke(self, source: Source, partitions: list[TopicPartition]) -> None:
        """Finish the work in hand within a limit, else drop it uncommitted."""
        _tell(source, "gives back", partitions)
        deadline = time.monotonic() + REVOKE_SECONDS
        while self._has_work_of(source, partitions) and time.monotonic() < deadline:
            self._work()
            if self._works:
                time.sleep(POLL_SECONDS)
        source.commit(self._mark, wait=True)
        self._drop(source, partitions)

    def _on_lost(self, source: Source, partitions: list[TopicPartition]) -> None:
        log.warning("%s lost partitions %s, others have them now", source.group, _numbers(partitions))
        self._drop(source, partitions)

    def _has_work_of(self, source: Source, partitions: Sequence[TopicPartition]) -> bool:
        ours = set(_numbers(partitions))
        return any(work.source is source and ours & {one.partition() for one in work.messages} for work in self._works)

    def _drop(self, source: Source, partitions: Sequence[TopicPartition]) -> None:
        """Forget what is in hand of partitions that are no longer ours."""
        gone = set(_numbers(partitions))
        source.handled = {partition: offset for partition, offset in source.handled.items() if partition not in gone}
        kept: deque[_Work[R]] = deque()
        for work in self._works:
            left = [one for one in work.messages if work.source is not source or one.partition() not in gone]
            if len(left) == len(work.messages):
                kept.append(work)
            elif left:  # decoded anew: a letter may then be written twice, which is harmless
                kept.append(_Work(work.source, left))
        self._works = kept
        source.client.incremental_unassign(list(partitions))
        if not self._works:
            self._go_on()

    def _is_message(self, message: Message) -> bool:
        """Tell a message from an error; for one that only a person can mend the loop ends."""
        if (error := message.error()) is None:
            return True
        where = f"{message.topic()} partition {message.partition()}"
        if error.code() in DENIED or error.fatal():
            raise KafkaException(error)
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and self._is_gone(message.topic() or ""):
            raise TopicError(f"{where} is gone: {error.str()}; start again to have the topic made")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's name for it
            raise self._source.lost(message, self._resume)
        place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        # The client gets over it by itself.
        log.warning("%s goes on after an error of %s: %s", self._consumer.group, where, error.str(), extra=place)
        return False

    def _is_gone(self, topic: str) -> bool:
        """Tell a deleted topic from a new one that a broker of the cluster has not heard of yet: both say the same."""
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(GONE_SECONDS / 5)  # first of all: a deletion, too, is not known everywhere at once
            if topic in cluster_metadata(self._source.client, self._consumer.settings).topics:
                return False
        return True


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


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return [partition.partition for partition in partitions]


def _tell(source: Source, what: str, partitions: Sequence[TopicPartition]) -> None:
    if partitions:
        log.info("%s %s partitions %s", source.group, what, _numbers(partitions))
