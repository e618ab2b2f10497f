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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Generic

from confluent_kafka import KafkaException, Message, TopicPartition

from consumers.batches import Batch, Lost, Polled
from consumers.letters import DeadLetters
from consumers.reading import BatchReader
from consumers.source import COMMIT_SECONDS, POLL_SECONDS, Mark, Resume, Source, topic_mark
from contract import lookups
from contract.access import to_consume
from contract.codec import RecordDeserializer
from contract.errors import ClientFailed, Forbidden, NotRegistered, Overtaken, Rejected, TopicError, Unavailable
from contract.records import R
from contract.subjects import Subject
from runtime.bounded import waiting_until
from runtime.clients import broker_error, leave, wait_until_available
from runtime.groups import BATCH, is_not_decompressed
from runtime.metrics import SCHEMA, ConsumerMetrics
from runtime.settings import Settings
from runtime.telemetry import StatusLine
from runtime.topics import Servers, Topic, TopicWatch

log = logging.getLogger(__name__)

REVOKE_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 15.0
ANSWER_SECONDS = 0.2
"""How long a batch in hand waits for the brokers to say what its topic is, before it is tried again later."""


@dataclass(frozen=True)
class RecordConsumer(Generic[R]):
    """A member of a consumer group that reads a subject's topic, and what is replayed to this group, as one version."""

    group: str
    topic: Topic
    settings: Settings
    source: Source
    replays: Source
    reader: BatchReader[R]
    metrics: ConsumerMetrics
    watch: TopicWatch


def create_consumer(
    servers: Servers,
    subject: Subject,
    record: type[R],
    group: str,
    batch: int = BATCH,
) -> RecordConsumer[R]:
    """Make a member of a group; waits for broker and registry, and makes sure of topics and permissions.

    `batch` is the most records that are handled at once. Raises ContractError when `readers` gives the group another
    version, NotRegistered when the registry lacks this one.
    """
    subject.check_reader(group, record.VERSION)
    settings = servers.settings
    metrics = ConsumerMetrics(settings, group, subject.topic)
    known = wait_until_available(
        lambda: lookups.require(servers.registry, subject.name, record.SCHEMA, record.VERSION), settings
    )
    beside = subject.dead_letters(group), subject.replays(group)
    topic, _, replayed = servers.ensure_topics(subject, *beside, needs=to_consume(subject, group))
    source = Source(settings, group, topic.name, batch, on_statistics=metrics.take_statistics)
    # In a group of its own: in the same one, replays would count when the topic's partitions are shared out.
    replays = Source(settings, f"{group}.replays", replayed.name, is_replays=True)
    watch = TopicWatch(servers, [topic, replayed])
    for one, read in ((source, topic), (replays, replayed)):
        one.topic_mark, one.watch = topic_mark(read), watch
    deserializer = RecordDeserializer(record, servers.registry)
    letters = DeadLetters(settings, subject, group, topic)
    reader = BatchReader(subject, deserializer, letters, metrics, settings.dead_letter_limit, topic)
    SCHEMA.labels(group, subject.name, str(record.VERSION), str(known.id)).set(1)
    extra = {"topic": subject.topic, "schema_id": known.id}
    log.info("%s reads %s with version %d (schema id %d)", group, subject.topic, record.VERSION, known.id, extra=extra)
    return RecordConsumer(group, topic, settings, source, replays, reader, metrics, watch)


def consume_messages(
    consumer: RecordConsumer[R],
    handle: Callable[[Batch[R]], object],
    stop: Event,
    resume: Resume | None = None,
    mark: Mark | None = None,
    *,
    status: bool = True,
) -> None:
    """Feed batches to `handle` until `stop` is set, committing their offsets only after it has returned.

    `resume` gives the next offset of each partition that is assigned, for whom the group's own offsets are not the
    truth. Where the topic no longer has such an offset the loop ends with a TopicError that names what is lost; without
    `resume` it says so and goes on at the first offset that is there. `mark` is the ledger whose id is left in the
    committed offsets' metadata. `status` shows a line of numbers on standard error where that is a terminal.

    `handle` raises Rejected for records that it refuses for good (they become dead letters), Unavailable for what may
    work later (the same batch is handled again), Overtaken when somebody else has handled it (the loop starts again
    from `resume`). Whatever else it raises ends the loop, and the batch in hand is not committed.
    """
    consumer.source.resume_from, consumer.source.mark = resume, mark
    loop = _Loop(consumer, handle, stop)
    metrics, line = consumer.metrics, StatusLine(wanted=status)
    try:
        loop.subscribe()
        while not stop.is_set():
            loop.turn()
            metrics.has_turned()
            line.tell(metrics.group, metrics.handled, metrics.letters)
        loop.rest()
    except BaseException as error:
        failure = broker_error(error, f"reading {consumer.topic.name}") if isinstance(error, KafkaException) else error
        metrics.has_failed_for_good(str(failure) or type(failure).__name__)
        loop.works.clear()  # so that only what has been handled is committed
        try:
            loop.close()
        except ClientFailed as stuck:
            log.error("%s", stuck)  # noqa: TRY400 - a sentence, beside the one that is raised
        if failure is error:
            raise
        raise failure from None
    else:
        loop.close()
    finally:
        metrics.close()
        line.close()


class _Loop(Generic[R]):
    def __init__(self, consumer: RecordConsumer[R], handle: Callable[[Batch[R]], object], stop: Event) -> None:
        self.works: deque[Batch[R] | Polled] = deque()
        """The work in hand; what is not a batch yet is read when its turn comes."""
        self._consumer = consumer
        self._metrics = consumer.metrics
        self._source = consumer.source
        self._sources = (consumer.source, consumer.replays)
        self._watch = consumer.watch
        self._check_mark = partial(consumer.source.check_mark, consumer.topic.partitions)
        self._handle = handle
        self._stop = stop
        self._failures = 0
        self._retry_at = 0.0
        self._has_begun = False
        """Whether it has been given partitions: from then on it waits for brokers for as long as they are away."""

    def subscribe(self) -> None:
        if self._source.mark:
            wait_until_available(self._check_mark, self._consumer.settings)
        for source in self._sources:
            source.on_quiet = self._on_quiet
            source.subscribe(self._on_assign, self._on_revoke, self._on_lost)

    def turn(self) -> None:
        """Take what has come; do the work in hand, if it is time; commit what is done."""
        # With work in hand the partitions are paused: then this serves the group, and seldom gives a message.
        longest = COMMIT_SECONDS if self._source.handled else POLL_SECONDS
        for source, seconds in ((self._source, longest), (self._consumer.replays, 0.0)):
            messages: Sequence[Message] = source.receive(seconds)
            if messages:
                taken = self._consumer.reader.take(source, messages)
                messages = taken.fetched
                if messages:
                    self.works.append(taken)
                if source.lost:
                    self.works += [_work_behind(source, error) for error in source.lost]
                    source.lost.clear()
            if self.works and (not self._failures or time.monotonic() >= self._retry_at):
                self._work()
            if self._watch.is_certain:
                source.commit()
            self._metrics.has_consumed(len(messages))  # last, for whoever waits for a record waits for all before it

    def rest(self) -> None:
        """Do between two turns what else waits for a moment in which nothing comes."""
        for source in self._sources:
            self._on_quiet(source)

    def close(self) -> None:
        """Finish the work in hand within a limit, commit, and leave the groups: nobody has to wait for our session.

        Raises ClientFailed when a client does not close; all that was handled is committed by then.
        """
        self._finish_within_limit(lambda: bool(self.works))
        self.works.clear()
        self._failures = 0  # nothing is to be resumed of a client that closes, which may fail or wait for itself
        for source in self._sources:
            leave(partial(source.commit, wait=True), source.group)
        for source in self._sources:
            source.close()

    def _work(self) -> None:
        try:
            while self.works:
                if not self._watch.is_certain:
                    self._ask(ANSWER_SECONDS)
                self._finish()
                self.works.popleft()
        except (Unavailable, NotRegistered) as error:
            self._back_off(error)
        except Overtaken as error:
            self._start_over(error)
        else:
            if self._failures:
                log.info("%s goes on after %d failed tries", self._consumer.group, self._failures)
            self._go_on()

    def _ask(self, seconds: float) -> None:
        """Make sure that nothing in hand is of another topic than it was; raises Unavailable while nobody knows."""
        try:
            self._watch.ask(seconds, self._advice)
        except TopicError:
            for source in self._sources:
                source.forget()  # nothing of the one is to be committed for the other
            raise

    def _advice(self, topic: Topic, now: Topic) -> str:
        if topic is self._consumer.topic and self._source.resume_from is not None:
            elsewhere = "" if now.cluster_id == topic.cluster_id else ", or connect to that cluster"
            return f"set DATA_DIR to another directory, for a ledger of the new one{elsewhere}"
        return "start again, to begin with the first message of the new one"

    def _on_quiet(self, source: Source) -> None:
        """Take what a client has passed over for handled, so that nobody counts it as waiting or lost.

        Offsets are no messages: behind the last record there may be a transaction's marker, or an aborted one.
        """
        if self.works:
            return
        with suppress(Unavailable, Forbidden):  # whoever has something in hand must know
            self._ask(0.0)
        if self._watch.is_certain and (passed := source.passed()):
            self.works.append(Batch(source, passed, [], []))

    def _finish(self) -> None:
        work = self.works[0]
        if isinstance(work, Lost):
            work.source.go_on(work.fetched[0])
            return
        batch = work if isinstance(work, Batch) else self._read(work)
        self._put(batch)
        while True:
            started = time.perf_counter()
            try:
                self._handle(batch)
                break
            except Rejected as rejected:
                batch = self._consumer.reader.refuse(batch, rejected)
                self._put(batch)
        seconds = time.perf_counter() - started
        ends = () if batch.is_replays else (*batch.messages[:1], *batch.messages[-1:])  # replays are late on purpose
        self._metrics.has_handled(len(batch.values), seconds, (one.timestamp()[1] for one in ends))
        batch.source.handled |= batch.ends()

    def _put(self, batch: Batch[R]) -> None:
        """Put a batch in the place of the work that it was made of, and what it leaves of that behind it."""
        work, self.works[0] = self.works[0], batch
        if len(batch.fetched) < len(work.fetched):
            self.works.insert(1, Polled(work.source, work.fetched[len(batch.fetched) :]))

    def _read(self, work: Polled) -> Batch[R]:
        with waiting_until(self._stop):
            return self._consumer.reader.read(work)

    def _back_off(self, error: Exception) -> None:
        """Pause, and try again later, ever later; say so at growing intervals."""
        self._failures += 1
        self._metrics.has_failed()
        if self._failures == 1:
            for source in self._sources:
                source.pause()
        self._retry_at = time.monotonic() + backoff_seconds(self._failures)
        self._tell_failed(self._failures, error)

    def _tell_failed(self, failures: int, error: Exception) -> None:
        if failures & (failures - 1) == 0:
            extra = {"topic": self._source.topic, "attempt": failures}
            log.warning("%s waits, try %d failed: %s", self._consumer.group, failures, error, extra=extra)

    def _go_on(self) -> None:
        """Read again: what failed has worked, or is no longer ours to do."""
        if self._failures:
            self._failures, self._retry_at = 0, 0.0
            for source in self._sources:
                source.resume()

    def _start_over(self, error: Overtaken) -> None:
        """Drop the work in hand and read on from where whoever was faster has come to."""
        log.warning("%s starts again from its ledger: %s", self._consumer.group, error)
        self.works = deque(work for work in self.works if work.source is not self._source)
        self._source.handled.clear()
        self._go_on()
        if self._source.owned:
            self._source.go_to(self._offsets(self._source, [*self._source.owned]))

    def _on_assign(self, source: Source, partitions: list[TopicPartition]) -> None:
        _tell(source, "was given", partitions)
        self._watch.doubt()
        numbers = _numbers(partitions)
        source.assign(source.starts(self._offsets(source, numbers), numbers))
        self._has_begun = True

    def _offsets(self, source: Source, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return where to go on: at the ledger's offsets; without a ledger where the group was, if it was anywhere."""
        if not partitions:
            return {}
        claim = source.group_offsets if source.resume_from is None else partial(self._claim, source.resume_from)

        def ask() -> Mapping[int, int]:
            self._ask(self._consumer.settings.request_timeout + 1)  # the request itself ends before
            return claim(partitions)

        if not self._has_begun:
            return wait_until_available(ask, self._consumer.settings)
        failures = 0
        while True:
            try:
                return ask()
            except Unavailable as error:
                failures += 1
                self._tell_failed(failures, error)
                if self._stop.wait(backoff_seconds(failures)):
                    raise

    def _claim(self, resume: Resume, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask where to go on, and leave our mark before anything is recorded: of two that start, one sees the other."""
        offsets = resume(partitions, partial(self._source.first_offsets, self._consumer.topic.partitions))
        if self._source.mark:
            self._check_mark()
            self._source.handled |= offsets
            self._source.commit(wait=True)
            self._check_mark()
        return offsets

    def _on_revoke(self, source: Source, partitions: list[TopicPartition]) -> None:
        """Finish the work in hand within a limit, else drop it uncommitted."""
        _tell(source, "gives back", partitions)
        gone = set(_numbers(partitions))
        # Whoever has such a partition next is told of its lost offset, too; a client that closes answers no question.
        lost = [one for one in self.works if isinstance(one, Lost) and one.source is source]
        self.works = deque(one for one in self.works if one not in lost or one.fetched[0].partition() not in gone)
        self._finish_within_limit(
            lambda: any(
                work.source is source and gone & {one.partition() for one in work.fetched} for work in self.works
            )
        )
        source.commit(wait=True)
        self._drop(source, partitions)

    def _finish_within_limit(self, is_waited_for: Callable[[], bool]) -> None:
        deadline = time.monotonic() + REVOKE_SECONDS
        while is_waited_for() and time.monotonic() < deadline:
            if self._failures and not isinstance(self.works[0], Batch):
                return  # servers that do not answer take longer to say so; it is read anew by who has it next
            self._work()
            if self.works:
                time.sleep(POLL_SECONDS)

    def _on_lost(self, source: Source, partitions: list[TopicPartition]) -> None:
        log.warning("%s lost partitions %s, others have them now", source.group, _numbers(partitions))
        self._drop(source, partitions)

    def _drop(self, source: Source, partitions: Sequence[TopicPartition]) -> None:
        """Forget what is in hand of partitions that are no longer ours."""
        gone = set(_numbers(partitions))
        source.handled = {partition: offset for partition, offset in source.handled.items() if partition not in gone}
        for index, work in enumerate(self.works):
            left = [one for one in work.fetched if one.partition() not in gone]
            if work.source is source and len(left) < len(work.fetched):
                self.works[index] = Polled(source, left)  # read anew: a letter may come twice, which is harmless
        self.works = deque(work for work in self.works if work.fetched)
        source.client.incremental_unassign(list(partitions))
        if not self.works:
            self._go_on()


def backoff_seconds(failures: int) -> float:
    """Give how long to wait after so many failures in a row, with jitter."""
    doubled = 0.1 * (1 << min(failures, 10))  # an outage of hours would outgrow a float
    return min(LONGEST_BACKOFF_SECONDS, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _work_behind(source: Source, error: Message) -> Batch[R] | Lost:
    """Return what is to be done of an error that `source.lost` has, once all that came before it is done."""
    return Batch(source, [error], [], []) if is_not_decompressed(error) else Lost(source, [error])


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return [partition.partition for partition in partitions]


def _tell(source: Source, what: str, partitions: Sequence[TopicPartition]) -> None:
    if partitions:
        log.info("%s %s partitions %s", source.group, what, _numbers(partitions))
