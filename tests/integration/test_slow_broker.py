"""A broker whose answers take their time, within REQUEST_TIMEOUT: it is waited for, and nobody begins anew."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from confluent_kafka.cimpl import NewTopic

from consumers.source import Source
from runtime.clients import admin_client, cluster_metadata
from runtime.settings import Settings
from stack.local import HOME, Kafka, free_port
from tests.restaurant import wait_until
from tests.servers import running

pytestmark = pytest.mark.integration

DELAY = 1.2


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass bytes on so many seconds after they have come, however many come meanwhile."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(65_536):
        loop.call_later(delay, writer.write, data)
    loop.call_later(delay, writer.close)


def _serve(port: int, kafka: int, ready: threading.Event) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_kafka, to_kafka = await asyncio.open_connection("127.0.0.1", kafka)
        except OSError:  # it has been stopped
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, to_kafka, 0), _pass_on(from_kafka, writer, DELAY))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", port)
        ready.set()
        await server.serve_forever()

    asyncio.run(serve())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker that clients reach only through a proxy which holds each answer back."""
    port, ready = free_port(), threading.Event()
    with running(
        Kafka(tmp_path_factory.mktemp("kafka"), 0, HOME, {"advertised.listeners": f"PLAINTEXT://localhost:{port}"})
    ) as kafka:
        threading.Thread(target=_serve, args=(port, kafka.port, ready), daemon=True).start()
        assert ready.wait(10)
        yield Settings(kafka_bootstrap_servers=f"localhost:{port}")


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
