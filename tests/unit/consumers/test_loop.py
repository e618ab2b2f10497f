"""When the loop tries again and commits, and what becomes of the work in hand meanwhile.

Its topics are scripts here, so that a failure and a rebalance come at a chosen moment; a broker's are in
`tests/integration`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from consumers.batches import Batch
from consumers.loop import LONGEST_BACKOFF_SECONDS, RecordConsumer, backoff_seconds, consume_messages
from consumers.source import COMMIT_SECONDS, Source
from contract.errors import ClientFailed, Rejected, TopicError, Unavailable, UserError
from contract.order import OrderV1
from contract.subjects import load_contract
from runtime import clients
from runtime.clients import leave
from runtime.embedded import embedded_servers
from runtime.metrics import ConsumerMetrics
from runtime.settings import Settings
from tests.batches import Topic
from tests.unit.consumers.conftest import BAD, Reading


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 0.2), (5, 3.2), (8, LONGEST_BACKOFF_SECONDS), (100_000, LONGEST_BACKOFF_SECONDS)],
)
def test_the_wait_grows_to_its_limit_however_long_an_outage_lasts(failures: int, longest: float) -> None:
    for _ in range(20):
        assert longest / 2 <= backoff_seconds(failures) <= longest


def test_what_is_handled_is_committed_at_intervals() -> None:
    """On librdkafka's own cluster: this is about when the client is asked to commit, and that nothing is forgotten."""
    with embedded_servers(Settings()) as servers:
        servers.ensure_topics(load_contract().subject("order"))
        source = Source(servers.settings, "cook", "pizza-order")
        for offset in (1, 2):  # the first one has to find the group's coordinator
            began = time.monotonic()
            source.handled = {0: offset}
            source.commit(wait=True)
        source.handled = {0: 3}
        while source.handled:
            source.commit()
            assert time.monotonic() < began + 10
        assert time.monotonic() >= began + COMMIT_SECONDS
        while source.client.committed([TopicPartition("pizza-order", 0)], timeout=5)[0].offset != 3:
            assert time.monotonic() < began + 10
        source.close()


@pytest.mark.parametrize("paused", [True, False])
def test_what_is_assigned_is_fetched_unless_the_source_is_paused(*, paused: bool) -> None:
    """Whatever it was when it was given back: librdkafka keeps a partition paused until it is resumed."""
    with embedded_servers(Settings()) as servers:
        servers.ensure_topics(load_contract().subject("order"))
        producer = Producer({"bootstrap.servers": servers.settings.kafka_bootstrap_servers})
        for _ in range(3):
            producer.produce("pizza-order", b"x", partition=0)
        assert producer.flush(10) == 0
        source, places = Source(servers.settings, "cook", "pizza-order"), [TopicPartition("pizza-order", 0, 1)]
        source.read_alone({0: 3}, 0)
        if not paused:
            source.pause()
        source.client.incremental_unassign(places)
        (source.pause if paused else source.resume)()
        source.assign(places)
        if paused:
            assert [source.receive(0.1) for _ in range(10)] == [[]] * 10
            source.resume()
        assert [message.offset() for message in [*source.receive(10), *source.receive(1)]] == [1, 2]
        source.close()


@dataclass
class Script(Topic):
    """A topic whose polls are known beforehand: messages, or what happens instead."""

    polls: Iterator[Sequence[Message] | Callable[[], object]] = field(default_factory=lambda: iter(()))
    handled: dict[int, int] = field(default_factory=dict)
    behind: Sequence[Message] = ()
    silence: int = 0
    is_stuck: bool = False
    commits: int = 0
    on_quiet: Any = None
    group = topic = "cook"
    mark = ""
    resume_from = None
    done: list[str] = field(default_factory=list)
    client = SimpleNamespace(incremental_unassign=lambda _: None)

    def subscribe(self, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Keep what is to be called when partitions are given, given back or lost."""
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost

    def give(self, partition: int) -> None:
        """Let the consumer have a partition."""
        self._on_assign(self, [TopicPartition("cook", partition)])

    def group_offsets(self, partitions: Sequence[int]) -> dict[int, int]:
        """Give where the group was."""
        return dict.fromkeys(partitions, 0)

    def starts(self, offsets: dict[int, int], _partitions: object) -> object:
        """Give where to begin."""
        return offsets

    def assign(self, places: object) -> None:
        """Note where it begins."""
        self.done.append(f"assign {places}")

    def lose(self, partition: int) -> None:
        """Let another have a partition."""
        self._on_lost(self, [TopicPartition("cook", partition)])

    def receive(self, _seconds: float) -> Sequence[Message]:
        """Give the next poll, and for some seconds nothing behind the last."""
        time.sleep(0.001)
        self.silence += 1
        assert self.silence < 5_000, "what the loop is to end with does not come"
        given = next(self.polls, ())
        return given if isinstance(given, Sequence) else given() or ()  # type: ignore[return-value]

    def passed(self) -> Sequence[Message]:
        """Give what is behind the last record, once."""
        behind, self.behind = self.behind, ()
        return behind

    def forget(self) -> None:
        """Forget what is to be committed."""
        self.handled.clear()

    def give_back(self) -> None:
        """Leave as a client does, which asks for its partitions; to resume it then may fail, or wait for itself."""
        self._on_revoke(self, [TopicPartition("cook", 0)])
        self.done.append("close")

    def pause(self) -> None:
        """Whatever is paused, the script goes on."""

    def commit(self, *, wait: bool = False) -> None:
        """Count when something is to be committed, which is to be looked at."""
        self.commits += bool(self.handled)
        if wait:
            self.done.append(f"commit {self.handled}")

    def close(self) -> None:
        """Leave, as all that reads does."""
        self.done.append("close")
        if self.is_stuck:
            leave(Event().wait, self.group)

    resume = check_mark = pause


@dataclass
class Watch:
    """Whether the topic is the one that it was; each question is answered by the next of these errors."""

    errors: list[Exception]

    @property
    def is_certain(self) -> bool:
        """Whether there is no error left."""
        return not self.errors

    def doubt(self) -> None:
        """Doubt only what the errors are for."""

    def ask(self, *_: object) -> None:
        """Raise the next error."""
        if self.errors:
            raise self.errors.pop(0)


@dataclass
class Running:
    """The loop on scripts; its handler fails as often and refuses what it is told to."""

    reading: Reading
    failures: int = 0
    refused: tuple[int, int] = (0, -1)
    handled: list[tuple[int, int]] = field(default_factory=list)
    is_stuck: bool = False
    doubts: list[Exception] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    batches: list[dict[int, int]] = field(default_factory=list)
    """Where each batch that was handled ends."""

    def run(self, *polls: Sequence[Message] | Callable[[], object], until: tuple[int, int] | None = None) -> Script:
        """Give the topic as the loop has left it once the record at `until`, its partition and offset, is handled."""
        self.topic, replays, stop = Script(polls=iter(polls), is_stuck=self.is_stuck), Script(is_replays=True), Event()
        self.stop = stop
        self.metrics, name = ConsumerMetrics(Settings(), "cook", "cook"), SimpleNamespace(name="cook", partitions=2)
        watch = Watch(self.doubts)
        members: list[Any] = [name, self.settings, self.topic, replays, self.reading.reader, self.metrics, watch]

        def handle(batch: Batch[OrderV1]) -> None:
            places = [(one.partition, one.offset) for one in batch.records]
            if self.refused in places:
                raise Rejected({self.refused: "it is not on the menu"})
            if self.failures:
                self.failures -= 1
                raise Unavailable("the kitchen is closed")
            self.handled += places
            self.batches.append(batch.next_offsets)
            if until in self.handled:
                stop.set()

        consume_messages(RecordConsumer("cook", *members), handle, stop, status=False)
        return self.topic

    def messages(self, *values: bytes, partition: int = 0, start: int = 0) -> list[Message]:
        """Make messages, one behind the other in a partition."""
        return [
            Message(topic="cook", partition=partition, offset=offset, value=value, timestamp=(1, 0))
            for offset, value in enumerate(values, start)
        ]


@pytest.fixture
def running(reading: Reading) -> Running:
    """A loop that has not begun."""
    return Running(reading)


@pytest.mark.parametrize("refused", [0, 2])
def test_what_is_read_is_tried_again_and_its_letters_are_not_written_again(running: Running, refused: int) -> None:
    """Though the handler fails twice; what is handled is to be committed, with what became a letter."""
    running.failures, running.refused = 2, (0, refused)  # the bad one at 0 does not come so far
    good = running.reading.good
    topic = running.run(running.messages(BAD, good, good, BAD), until=(0, 1))
    assert (running.handled, topic.handled) == ([(0, one) for one in (1, 2) if one != refused], {0: 4})
    letters = [message.offset() for message, _ in running.reading.letters.written]
    assert (set(letters), len(letters)) == ({0, 3, refused}, len({0, 3, refused}))


def test_a_row_behind_good_messages_ends_the_consumer_when_those_are_handled(running: Running) -> None:
    """It is neither committed nor in a letter, and nothing behind it is handled."""
    running.failures = 1
    good = running.reading.good
    with pytest.raises(UserError, match="3 messages in a row could not be read, up to cook partition 0 offset 4"):
        running.run(running.messages(good, good, BAD, BAD, BAD, good), running.messages(good, start=6))
    assert running.handled == [(0, 0), (0, 1)]
    assert (running.topic.handled, running.reading.letters.written) == ({0: 2}, [])


@pytest.mark.parametrize("refused", [0, 3])
def test_what_comes_before_a_refused_record_without_a_letter_is_handled_and_a_person_told_how_to_pass(
    running: Running, refused: int
) -> None:
    """Also where nothing good is before it; and nothing behind it is handled."""
    running.reading.letters.is_too_small, running.refused = True, (0, refused)
    with pytest.raises(TopicError, match=f"too large; pass over {refused}$"):
        running.run(running.messages(*[running.reading.good] * 6))
    assert running.handled == [(0, offset) for offset in range(refused)]
    assert running.topic.handled == ({0: refused} if refused else {})


def test_work_of_a_lost_partition_is_dropped_and_the_rest_is_done(running: Running) -> None:
    """Whether it was read before, with something else in one poll, or waits behind a failure."""
    good = running.reading.good
    first = [*running.messages(good, good, partition=0), *running.messages(good, partition=1)]
    running.run(first, until=(1, 0))  # their writer is known from here on
    for start in (first, [*running.messages(BAD), *first[1:]]):
        running.handled, running.failures = [], 1
        behind = [*running.messages(good, start=2), *running.messages(good, partition=1, start=1)]
        topic = running.run(start, behind, lambda: running.topic.lose(0), until=(1, 1))
        assert running.handled == [(1, 0), (1, 1)]
        assert topic.handled == {1: 2}


def test_what_a_client_has_passed_over_is_handled_when_nothing_is_in_hand(running: Running) -> None:
    """As a batch without records, so that a ledger advances, too; never before what was read is handled."""
    good = running.reading.good

    def be_quiet() -> None:
        running.topic.behind = running.messages(BAD, start=4)  # where a transaction's marker is
        running.topic.on_quiet(running.topic)

    running.failures = 1  # so that the first is still in hand when the topic is quiet
    running.run(running.messages(good), be_quiet, until=(0, 0))
    assert running.batches == [{0: 1}, {0: 5}]  # at the end, when nothing is in hand any more
    topic = running.run(running.messages(good), be_quiet, running.messages(good, start=5), until=(0, 5))
    assert running.batches == [{0: 1}, {0: 5}, {0: 1}, {0: 5}, {0: 6}]
    assert (running.handled, topic.handled) == ([(0, 0), (0, 0), (0, 5)], {0: 6})


def test_nothing_is_handled_or_committed_while_its_topic_is_in_doubt(running: Running) -> None:
    """And nothing at all when it is another one."""
    good = running.reading.good
    running.doubts = [Unavailable("nobody answers"), TopicError("it is another one")]
    with pytest.raises(TopicError, match="another one"):
        running.run(running.messages(good))
    assert (running.handled, running.topic.handled, running.topic.commits) == ([], {}, 0)


def test_only_at_its_start_a_consumer_ends_for_want_of_an_answer(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is at work waits as long as it takes, or until it is told to stop, when it is given partitions."""
    running.settings = Settings(startup_timeout=0.1)
    absent: list[Exception] = [Unavailable(f"no answer {number}") for number in range(4)]
    running.doubts = absent.copy()
    with pytest.raises(Unavailable):
        running.run(lambda: running.topic.give(0))

    def be_absent() -> None:
        running.doubts += absent
        running.topic.give(1)

    running.doubts.clear()
    topic = running.run(lambda: running.topic.give(0), be_absent, running.messages(running.reading.good), until=(0, 0))
    assert topic.done[:2] == ["assign {0: 0}", "assign {1: 0}"]
    assert "cook waits, try 4 failed: no answer 3" in caplog.text

    def be_told_to_stop() -> None:
        running.stop.set()
        be_absent()

    with pytest.raises(Unavailable, match="no answer 0"):
        running.run(lambda: running.topic.give(0), be_told_to_stop)


def test_offsets_of_a_lost_partition_are_not_committed(running: Running) -> None:
    """Whoever has it now may have come further."""
    good = running.reading.good
    polls = running.messages(good), lambda: running.topic.lose(0), running.messages(good, partition=1)
    assert running.run(*polls, until=(1, 0)).handled == {1: 1}
    assert running.handled == [(0, 0), (1, 0)]


def test_a_row_does_not_go_with_a_lost_partition_that_was_before_it(running: Running) -> None:
    """It is of a partition that is still ours: nothing of that may be passed over."""
    running.failures = 1
    polled = [*running.messages(running.reading.good), *running.messages(BAD, BAD, BAD, partition=1)]
    with pytest.raises(UserError, match="3 messages in a row could not be read, up to cook partition 1 offset 2"):
        running.run(polled, lambda: running.topic.lose(0))
    assert (running.handled, running.topic.handled, running.reading.letters.written) == ([], {}, [])


def test_a_client_that_has_failed_for_good_ends_the_consumer_and_health_says_so(running: Running) -> None:
    """As a message, which is how a consumer is told; what was handled before is committed."""
    fatal = Message(topic="cook", error=KafkaError(KafkaError._FATAL, "fenced"))  # noqa: SLF001 - its only name
    assert not fatal.error().fatal()  # type: ignore[union-attr]  # so that it has to be known by its code
    with pytest.raises(KafkaException):
        Source.is_message(SimpleNamespace(_doubt=lambda: None), fatal)  # type: ignore[arg-type]  # enough of one

    def fail() -> None:
        raise KafkaException(fatal.error())

    with pytest.raises(ClientFailed, match=r"has failed for good, reading cook: .*KAFKA_GROUP_INSTANCE_ID"):
        running.run(running.messages(running.reading.good), fail)
    assert (running.topic.handled, running.topic.done) == ({0: 1}, ["commit {0: 1}", "close"])
    for why in (running.metrics.why_unhealthy(), running.metrics.why_unready()):
        assert why.startswith("cook has failed: the Kafka client has failed for good")


def test_what_is_handled_is_committed_before_a_client_that_does_not_close_ends_the_consumer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LEAVE_SECONDS", 0.2)
    running.is_stuck = True
    with pytest.raises(ClientFailed, match="cook does not end: its Kafka client does not close"):
        running.run(running.messages(running.reading.good), until=(0, 0))
    assert running.topic.done == ["commit {0: 1}", "close"]


def test_what_has_ended_the_consumer_is_said_though_its_client_does_not_close(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients, "LEAVE_SECONDS", 0.2)
    running.is_stuck = True
    with pytest.raises(UserError, match="3 messages in a row could not be read"):
        running.run(running.messages(BAD, BAD, BAD))
    assert "cook does not end" in caplog.text


@pytest.mark.parametrize("handled", [False, True], ids=["dropped", "handled"])
def test_only_who_has_handled_what_failed_says_that_it_goes_on(
    running: Running, caplog: pytest.LogCaptureFixture, *, handled: bool
) -> None:
    """Not who gives it back, as at Ctrl-C, or loses it to another."""
    caplog.set_level("INFO")
    good = running.reading.good
    running.run(running.messages(good), until=(0, 0))  # its writer is known from here on
    running.failures = 1
    polls: list[Any] = [] if handled else [lambda: running.topic.lose(0), running.messages(good, partition=1)]
    running.run(running.messages(good, start=1), *polls, until=(0, 1) if handled else (1, 0))
    assert "waits, try 1 failed" in caplog.text
    assert ("cook goes on after 1 failed tries" in caplog.text) == handled


def test_what_could_not_be_read_is_left_for_the_next_start_once_it_is_told_to_stop(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask the registry again may take as long as a question may take; what was handled is committed."""
    good, asked = running.reading.good, []
    running.run(running.messages(good), until=(0, 0))  # its writer is known from here on

    def fail(taken: object) -> None:
        asked.append(taken)
        running.stop.set()
        raise Unavailable("the schema registry does not answer")

    monkeypatch.setattr(running.reading.reader, "read", fail)
    monkeypatch.setattr(Script, "close", Script.give_back)
    monkeypatch.setattr(Script, "resume", lambda script: script.done.append("resume"))
    topic = running.run(running.messages(good, start=1), running.messages(BAD, good, start=2))
    assert len(asked) == 1
    assert running.handled == [(0, 0), (0, 1)]
    assert topic.done[:1] == ["commit {0: 2}"]
    assert "resume" not in topic.done
