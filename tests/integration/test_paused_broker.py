"""A broker that is paused and comes back: who has lost it goes on, whether or not a client lets itself be closed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from consumers import source
from consumers.source import Source
from runtime import clients
from runtime.clients import admin_client, cluster_metadata
from runtime.settings import Settings
from stack.local import HOME, Kafka
from tests.restaurant import wait_until
from tests.servers import running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that nobody else has."""
    with running(Kafka(tmp_path_factory.mktemp("kafka"), 0, HOME, {})) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def settings(kafka: Kafka) -> Settings:
    """Of clients that soon notice that it does not answer."""
    return Settings(kafka_bootstrap_servers=f"localhost:{kafka.port}", request_timeout=1)


@pytest.fixture
def topic(settings: Settings, request: pytest.FixtureRequest) -> str:
    """A topic of this test."""
    admin, name = admin_client(settings), f"topic-{abs(hash(request.node.name))}"
    admin.create_topics([NewTopic(name, 1, 1)], request_timeout=20)[name].result()
    wait_until(lambda: name in cluster_metadata(admin, settings).topics)
    return name


@contextmanager
def paused(kafka: Kafka) -> Iterator[None]:
    """Pause the broker, as a suspended machine is."""
    assert kafka.pid
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


def publish(settings: Settings, topic: str) -> None:
    """Publish a message."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    producer.produce(topic, b"x")
    assert producer.flush(20) == 0


def assign(reading: Source, partitions: list[TopicPartition]) -> None:
    """Read from the beginning."""
    reading.assign(reading.starts({}, [one.partition for one in partitions]))


class Stuck(Consumer):
    """A client that does not close until it is let go."""

    let_go, is_closed = Event(), Event()

    def close(self) -> None:
        """Wait, then close."""
        self.let_go.wait(60)
        super().close()
        self.is_closed.set()


def test_a_member_whose_old_client_does_not_close_goes_on_with_another(
    kafka: Kafka, settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the old one, and when it closes after all, nothing of that is about the new one."""
    monkeypatch.setattr(clients, "LEAVE_SECONDS", 0.5)
    monkeypatch.setattr(source, "Consumer", Stuck)
    reading, given_back = Source(settings, "cook", topic), Event()
    reading.subscribe(on_assign=assign, on_revoke=lambda *_: given_back.set(), on_lost=lambda *_: given_back.set())
    wait_until(lambda: reading.receive(0.05) or reading.owned, what="its partition")
    first = reading.client

    def has_begun_anew() -> bool:
        reading.owned.clear()  # as when its session has lapsed
        reading._ask_at = 0  # noqa: SLF001 - now
        reading.receive(0.05)
        return reading.client is not first

    with paused(kafka):
        wait_until(has_begun_anew, what="another client")
    Stuck.let_go.set()
    assert Stuck.is_closed.wait(60)
    publish(settings, topic)
    wait_until(lambda: [one for one in reading.receive(0.05) if one.error() is None], what="the message")
    assert (reading.owned, given_back.is_set()) == ({0}, False)
    monkeypatch.undo()
    reading.close()


def test_an_observer_is_not_held_up_by_a_client_that_does_not_close(
    kafka: Kafka, settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no group, so that nobody waits for it to leave."""
    monkeypatch.setattr(clients, "LEAVE_SECONDS", 0)
    reading = Source(settings, "board", topic)
    reading.read_alone({}, 0)
    with paused(kafka):
        reading.close()
