"""The properties that promises rest on, and the first contact: how long it is waited for, what an error becomes."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from contract.errors import ClientFailed, Forbidden, NotRegistered, PipelineError, SettingError, Unavailable
from runtime.aside import Aside
from runtime.clients import (
    LEAVE_SECONDS,
    NOT_JOINED,
    broker_error,
    consumer_properties,
    leave,
    make_client,
    producer_properties,
    registry_client,
    wait_until_available,
)
from runtime.settings import Settings

SOON = Settings(startup_timeout=0.5)


class TestProperties:
    """Each value that a promise rests on, written out."""

    def test_the_producers(self) -> None:
        properties = producer_properties(Settings(delivery_timeout=12.5))
        assert properties["acks"] == "all"
        assert properties["enable.idempotence"] is True
        assert properties["partitioner"] == "murmur2_random"
        assert properties["delivery.timeout.ms"] == 12_500
        assert properties["linger.ms"] == 0
        assert properties["delivery.report.only.error"] is False
        in_bulk = producer_properties(Settings(delivery_timeout=12.5), bulk=True)
        assert in_bulk == properties | {"linger.ms": 1, "delivery.report.only.error": True}

    def test_the_consumers(self) -> None:
        properties = consumer_properties(Settings(), "cook")
        assert properties["group.id"] == "cook"
        assert properties["enable.auto.commit"] is False
        assert properties["enable.auto.offset.store"] is False
        assert properties["auto.offset.reset"] == "earliest"
        assert properties["partition.assignment.strategy"] == "cooperative-sticky"
        assert properties["allow.auto.create.topics"] is False
        assert properties["fetch.queue.backoff.ms"] == 5

    def test_a_killed_consumer_is_replaced_within_15_seconds(self) -> None:
        properties = consumer_properties(Settings(), "cook")
        assert properties["session.timeout.ms"] + properties["heartbeat.interval.ms"] < 15_000

    def test_memory_is_bounded(self) -> None:
        assert producer_properties(Settings())["queue.buffering.max.kbytes"] <= 64 * 1024
        assert consumer_properties(Settings(), "cook")["queued.max.messages.kbytes"] <= 64 * 1024

    def test_every_request_has_a_timeout(self) -> None:
        settings = Settings(request_timeout=2.5)
        assert producer_properties(settings)["socket.timeout.ms"] == 2_500
        assert consumer_properties(settings, "cook")["socket.timeout.ms"] == 2_500
        assert registry_client(settings)._rest_client.session.timeout.read == 2.5  # noqa: SLF001 - its only door

    def test_a_property_of_the_user_wins_where_no_promise_rests_on_it(self) -> None:
        settings = Settings(kafka={"linger.ms": "20", "queued.min.messages": "1"})
        assert producer_properties(settings)["linger.ms"] == "20"
        assert consumer_properties(settings, "cook")["queued.min.messages"] == "1"

    @pytest.mark.parametrize("kind", [Producer, AdminClient])
    def test_librdkafka_takes_them(self, kind: Callable[[dict[str, Any]], object]) -> None:
        """Without a broker's address no client tries to connect."""
        properties = producer_properties(Settings(kafka_bootstrap_servers=""))
        if kind is AdminClient:
            properties = {name: properties[name] for name in ("bootstrap.servers", "socket.timeout.ms", "logger")}
        make_client(kind, properties)

    def test_librdkafka_takes_the_consumers(self) -> None:
        make_client(Consumer, consumer_properties(Settings(kafka_bootstrap_servers=""), "cook")).close()


class TestBadSettings:
    """A property that a client does not take is the user's to mend, not a traceback."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [("security.protocol", "tls"), ("message.max.bytes", "many"), ("ssl.ca.location", "/nonexistent/ca.pem")],
    )
    def test_a_value_that_librdkafka_refuses(self, name: str, value: str) -> None:
        settings = Settings(kafka_bootstrap_servers="", kafka={"security.protocol": "ssl", name: value})
        with pytest.raises(SettingError, match=rf"{name}"):
            make_client(Producer, producer_properties(settings))

    @pytest.mark.parametrize(
        ("url", "properties"),
        [
            ("registry:8081", {}),
            ("ftp://registry", {}),
            ("http://[", {}),
            ("http://", {}),
            ("http://registry:port", {}),
            ("http://registry:65536", {}),
            ("http://registry,http://registry:port", {}),
            ("httpx://registry", {}),
            ("mocking", {}),
            ("http://registry", {"proxy": "socks5://localhost:1080"}),
            ("http://registry", {"proxy": "http://localhost:port"}),
            ("http://registry", {"proxy": "ftp://localhost"}),
            ("http://registry", {"ssl.ca.location": "/nonexistent/ca.pem"}),
            ("http://registry", {"basic.auth.user.info": "no colon"}),
            ("http://registry", {"bearer.auth.credentials.source": "NOWHERE"}),
        ],
    )
    def test_a_registry_that_cannot_be_used(self, url: str, properties: dict[str, str]) -> None:
        with pytest.raises(SettingError, match="SCHEMA_REGISTRY_URL or another SCHEMA_REGISTRY_"):
            registry_client(Settings(schema_registry_url=url, registry=properties))

    def test_a_proxy_of_the_environment_that_cannot_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks5://localhost:1080")
        with pytest.raises(SettingError, match="SOCKS proxy"):
            registry_client(Settings(schema_registry_url="http://registry.invalid"))


class TestWaiting:
    """Start-up waits for its servers, with backoff and up to a limit."""

    def test_what_answers_at_once_is_called_once(self) -> None:
        calls: list[int] = []
        wait_until_available(lambda: calls.append(1), SOON)
        assert calls == [1]

    @pytest.mark.parametrize(("failures", "told"), [(1, []), (4, ["not yet; trying again for 30 s"])])
    def test_it_goes_on_as_soon_as_the_server_answers(
        self, failures: int, told: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A passing hitch is not worth a line, a longer wait is worth one."""
        calls: list[int] = []

        def call() -> str:
            calls.append(1)
            if len(calls) <= failures:
                raise Unavailable("not yet")
            return "here"

        assert wait_until_available(call, Settings(startup_timeout=30)) == "here"
        assert len(calls) == failures + 1
        assert caplog.messages == told

    def test_it_ends_at_the_limit_with_the_last_error(self) -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="never"):
            wait_until_available(_raise(Unavailable("never")), SOON)
        assert 0.4 < time.monotonic() - started < 5

    @pytest.mark.parametrize("error", [Forbidden("no"), NotRegistered("no"), ValueError("no")])
    def test_what_waiting_does_not_mend_is_raised_at_once(self, error: Exception) -> None:
        calls: list[int] = []

        def call() -> None:
            calls.append(1)
            raise error

        with pytest.raises(type(error)):
            wait_until_available(call, SOON)
        assert calls == [1]

    def test_what_waiting_does_not_mend_ends_the_waiting_too(self) -> None:
        """A server that comes up and refuses us."""
        errors = [Forbidden("no"), Unavailable("not yet")]

        def call() -> None:
            raise errors.pop()

        with pytest.raises(Forbidden):
            wait_until_available(call, Settings(startup_timeout=30))


def _raise(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Forbidden),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, Forbidden),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, Forbidden),
        (KafkaError.SASL_AUTHENTICATION_FAILED, Forbidden),
        (KafkaError._AUTHENTICATION, Forbidden),  # noqa: SLF001 - the client's own name for it
        (KafkaError._TRANSPORT, Unavailable),  # noqa: SLF001
        (KafkaError._TIMED_OUT, Unavailable),  # noqa: SLF001
        (KafkaError._ALL_BROKERS_DOWN, Unavailable),  # noqa: SLF001
        (KafkaError.NOT_ENOUGH_REPLICAS, Unavailable),
    ],
)
def test_what_a_broker_reports_becomes_an_error_that_says_who_acts(code: int, kind: type[PipelineError]) -> None:
    error = broker_error(KafkaException(KafkaError(code)), "asking for the topics")
    assert type(error) is kind
    assert "asking for the topics: " in str(error)


class TestLeaving:
    """A client that does not close holds its process for a bounded time."""

    def test_what_closing_raises_is_raised(self) -> None:
        def fail() -> None:
            raise Unavailable("the broker has gone")

        leave(lambda: None, "cook")
        with pytest.raises(Unavailable, match="the broker has gone"):
            leave(fail, "cook")

    def test_a_process_ends_in_a_sentence_while_its_client_still_waits(self) -> None:
        """Within the grace that a container has, for a last commit and a close together."""
        assert 2 * LEAVE_SECONDS < 30
        program = (
            "import threading; from runtime import clients; from runtime.command import create_parser, run_command; "
            "clients.LEAVE_SECONDS = 0.1; waits = lambda *_: clients.leave(threading.Event().wait, 'cook'); "
            "raise SystemExit(run_command(create_parser('cook', '', ''), waits, []))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
        said = "cook: cook does not end: its Kafka client does not close within 0.1 s; start it again\n"
        assert (done.returncode, done.stderr) == (2, said)

    def test_an_answer_is_waited_for_as_long_as_it_takes(self) -> None:
        assert Aside(lambda: 7).result() == 7


def test_a_fatal_error_is_the_clients_end_whoever_reports_it() -> None:
    """A retry would be for ever."""
    said = "Fatal error: Broker: fenced: Fatal consumer error: Broker: fenced"
    error = broker_error(KafkaException(KafkaError(KafkaError._FATAL, said)), "reading t")  # noqa: SLF001 - its only name
    assert isinstance(error, ClientFailed)
    assert str(error).startswith("the Kafka client has failed for good, reading t: Broker: fenced; start it again")


def test_what_is_refused_for_good_is_a_matter_of_permissions() -> None:
    """As to a producer that may write nothing, whose client can then do nothing more."""
    refused = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed", fatal=True)
    error = broker_error(KafkaException(refused), "publishing")
    assert isinstance(error, Forbidden)
    assert str(error) == "the broker refused us, publishing: Broker: Cluster authorization failed"


def test_every_sentence_closes_only_what_it_has_opened() -> None:
    for code in NOT_JOINED:
        said = str(broker_error(KafkaException(KafkaError(code)), "reading t"))
        assert said.count("(") == said.count(")")
