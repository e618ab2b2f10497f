"""A broker whose answers take their time, within REQUEST_TIMEOUT: it is waited for, and nobody begins anew."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from consumers.board.state import Board
from consumers.board.watch import Watch
from consumers.source import Source
from contract.subjects import load_contract
from runtime.clients import admin_client, cluster_metadata
from runtime.settings import Settings
from runtime.topics import Servers, connect
from stack.local import HOME, Kafka, free_port
from tests.restaurant import wait_until
from tests.servers import running

pytestmark = pytest.mark.integration

DELAY = 1.2


@dataclass
class Proxy:
    """Passes on what a broker answers, so many seconds later."""

    port: int
    kafka: int
    delay: float = DELAY
    connections: int = 0
    """How many there have been."""
    ready: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve, for as long as the process lives."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.ready.set()
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            from_kafka, to_kafka = await asyncio.open_connection("127.0.0.1", self.kafka)
        except OSError:  # it has been stopped
            writer.close()
            return
        await asyncio.gather(self._pass_on(reader, to_kafka, 0), self._pass_on(from_kafka, writer, self.delay))

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        """Pass bytes on so many seconds after they have come, however many come meanwhile."""
        loop = asyncio.get_running_loop()
        while data := await reader.read(65_536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A broker that clients reach only through a proxy which holds each answer back."""
    port = free_port()
    properties = {"advertised.listeners": f"PLAINTEXT://localhost:{port}"}
    with running(Kafka(tmp_path_factory.mktemp("kafka"), 0, HOME, properties)) as kafka:
        proxy = Proxy(port, kafka.port)
        threading.Thread(target=proxy.run, daemon=True).start()
        assert proxy.ready.wait(10)
        yield proxy


@pytest.fixture(scope="module")
def settings(proxy: Proxy) -> Settings:
    """Of clients of that broker; no registry is there."""
    return Settings(kafka_bootstrap_servers=f"localhost:{proxy.port}", schema_registry_url="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def topic(settings: Settings) -> str:
    """A topic of that broker."""
    admin = admin_client(settings)
    admin.create_topics([NewTopic("slow", 1, 1)], request_timeout=20)["slow"].result()
    wait_until(lambda: "slow" in cluster_metadata(admin, settings).topics)
    return "slow"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time that a source has asked whether its client still knows a broker."""
    asked: list[str] = []
    ask = Source._ask  # noqa: SLF001 - whenever it likes; only what comes of it can be seen

    def noted(reading: Source) -> None:
        ask(reading)
        asked.append(reading.topic)

    monkeypatch.setattr(Source, "_ask", noted)
    return asked


def test_a_member_that_has_nothing_to_read_keeps_its_connection(
    settings: Settings, topic: str, asked: list[str]
) -> None:
    reading = Source(settings, "cook", topic)
    first = reading.client

    def ignore(*_: object) -> None:
        """It is to have no partition."""

    reading.subscribe(on_assign=ignore, on_revoke=ignore, on_lost=ignore)
    wait_until(lambda: reading.receive(0.05) or reading.owned, what="its connection and its group")
    asked.clear()

    def has_asked() -> bool:
        reading.owned.clear()
        reading._ask_at = 0  # noqa: SLF001 - now
        reading.receive(0.05)
        return len(asked) == 3

    wait_until(has_asked, what="three answers")
    assert (len(asked), reading.client) == (3, first)
    reading.close()


def test_an_observer_waits_for_the_answer(settings: Settings, topic: str, asked: list[str]) -> None:
    reading = Source(settings, "board", topic)
    reading.read_alone({}, 0)
    reading._ask_at = 0  # noqa: SLF001 - now
    assert (reading.receive(0.05), len(asked)) == ([], 1)
    reading.close()


def test_a_command_waits_for_the_answer_and_no_longer(settings: Settings) -> None:
    """It looks for what may be wrong meanwhile, and finds nothing."""
    assert cluster_metadata(admin_client(settings), settings).brokers


@contextmanager
def watching(servers: Servers) -> Iterator[Board]:
    """Keep a board up to date."""
    board, stop = Board(), threading.Event()
    jobs = [threading.Thread(target=job) for job in Watch(servers, board, stop).jobs]
    for job in jobs:
        job.start()
    try:
        yield board
    finally:
        stop.set()
        for job in jobs:
            job.join()


def shown(board: Board) -> tuple[set[str], Any, Any]:
    """Return what the board cannot know now, how many orders there are, and the count of the letters."""
    kitchen, letters = (json.loads(board.encode(part)) for part in ("kitchen", "letters"))
    return set(kitchen["problems"]), kitchen["orders"], letters and letters["counts"]


def test_the_board_shows_all_that_there_is_and_keeps_its_connections(settings: Settings, proxy: Proxy) -> None:
    """It asks each second, and a connection takes several answers' time."""
    servers, subject = connect(settings), load_contract().subject("order")
    letters = subject.dead_letters("cook")
    servers.ensure_topics(subject, letters)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    producer.produce(letters, b"noise", headers=[("dead-letter.reason", b"not-framed")])
    assert producer.flush(30) == 0
    there = ({"registry"}, 0, {"cook": [["not-framed", 1]], "manager": []})
    with watching(servers) as board:
        wait_until(lambda: shown(board) == there, what="all of it")
    proxy.delay = 0
    with watching(servers) as board:
        wait_until(lambda: shown(board) == there, what="all of it")
        looks: dict[int, set[float]] = {}

        def has_looked_without_another() -> bool:
            known = looks.setdefault(proxy.connections, set())
            known.add(json.loads(board.encode("kitchen"))["asked"])
            return len(known) > 5

        wait_until(has_looked_without_another, what="five looks over the same connections")
