"""Connections to broker and registry: every librdkafka property that we set, with its reason, and the first contact.

No call here waits for ever: `settings.request_timeout` bounds one, `settings.startup_timeout` all of them at start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx2
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient

from contract.errors import ClientFailed, Forbidden, SettingError, Unavailable, UserError
from runtime.aside import Aside
from runtime.bounded import BoundedRegistryClient
from runtime.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

_PORTS = range(2**16)
_TELL_AT_TRY = 2
_FIRST_TRY_SECONDS = 1.0
FETCH_BYTES = 4 * 1024
"""What a broker answers at once, beside one batch that is larger: of zstd, 120 MB may be in it."""
BATCH_BYTES = 1_000_000
"""librdkafka's own default of what it sends at once."""
LEAVE_SECONDS = 12.0
"""A consumer that cannot reach its broker takes 5 s to leave its group; containers are killed 30 s after SIGTERM."""

_TLS_SIGNS = {
    "certificate verify failed": (
        "the broker's certificate is not to be trusted: it has expired, or its name is not the one in "
        "KAFKA_BOOTSTRAP_SERVERS, or KAFKA_SSL_CA_LOCATION does not hold its CA"
    ),
    "wrong version number": "the broker speaks no TLS at that port, check KAFKA_SECURITY_PROTOCOL",
    " alert ": "the broker does not take our certificate, check KAFKA_SSL_CERTIFICATE_LOCATION and …KEY_LOCATION",
}
"""What librdkafka says in passing, and what it means."""

NOT_JOINED: Mapping[int, str] = {
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "another client of the group has another partition.assignment.strategy than "
        "cooperative-sticky: stop it, or give it a group of its own"
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "a session is 10 s here: set group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers so"
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: "the group has as many members as group.max.size of the brokers lets in",
}
"""What keeps a consumer out of its group until a person has done something, and what to do."""

_FATAL_ADVICE = "start it again; if KAFKA_GROUP_INSTANCE_ID is set, each member of the group needs one of its own"

DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the client's own name for it
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)


def producer_properties(settings: Settings, *, bulk: bool = False, batch_bytes: int = BATCH_BYTES) -> dict[str, Any]:
    """Properties of an idempotent producer whose every record is acknowledged or reported; in bulk only the latter.

    `batch_bytes` is the most that the topic takes at once.
    """
    return common_properties(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        # Java's; librdkafka's own default sends a key to another partition than every other client does.
        "partitioner": "murmur2_random",
        "delivery.timeout.ms": int(settings.delivery_timeout * 1000),
        # In bulk, what is published within a millisecond travels together; a few records wait for no company.
        "linger.ms": int(bulk),
        # A broker that has just come up may say for a moment that our topic does not exist. By default it is believed
        # once we have known the topic for 30 s, and all that is queued fails; librdkafka reckons up to 2,147 s.
        "topic.metadata.propagation.max.ms": 2_000_000,
        # To report each record of a bulk that went well would take a third of the time.
        "delivery.report.only.error": bulk,
        # The queue is the bound on memory; a full one is back-pressure.
        "batch.size": min(batch_bytes, BATCH_BYTES),
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 32 * 1024,
        **settings.kafka,
    }


def consumer_properties(settings: Settings, group: str) -> dict[str, Any]:
    """Properties of a group member that commits by hand, after handling."""
    return {
        "group.id": group,
        "client.id": group,  # what brokers and the board call a member
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "allow.auto.create.topics": False,
        # A broker that has just come up may not know our topic yet, and then the group has nothing to read until it is
        # asked again: after five minutes by default.
        "topic.metadata.refresh.interval.ms": 10_000,
        # A killed member's partitions are taken over within 15 s.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 2_000,
    } | reading_properties(settings)


def reading_properties(settings: Settings) -> dict[str, Any]:
    """Properties of whoever fetches messages: a bound on memory, though gzip alone compresses a thousandfold.

    librdkafka decompresses all that one answer brings, and asks for no more while enough waits to be handled.
    """
    return common_properties(settings) | {
        # A broker gives one batch, whatever its size, and others only within this.
        "fetch.message.max.bytes": FETCH_BYTES,
        "fetch.max.bytes": FETCH_BYTES,
        # More than any topic of ours takes at once. Of zstd it is all that librdkafka decompresses of a batch.
        "receive.message.max.bytes": 32 * 1024 * 1024,
        # As much as the fastest consumer reads in twice the time until the fetcher looks again whether there is room,
        # which is a second by default.
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 15_000,
        "queued.max.messages.kbytes": 2 * 1024,
        **settings.kafka,
        # A producer's; what a consumer fetches would be raised to it.
        "message.max.bytes": FETCH_BYTES,
    }


def make_client(kind: Callable[[dict[str, Any]], T], properties: dict[str, Any]) -> T:
    """Make a librdkafka client; raises SettingError when it does not take a property's value."""
    try:
        return kind(properties)
    except KafkaException as error:
        raise SettingError(f"KAFKA_… is not usable: {error.args[0].str()}") from None


def admin_client(settings: Settings) -> AdminClient:
    """Make a client that asks the brokers and changes what they keep; raises SettingError as `make_client` does."""
    return make_client(AdminClient, common_properties(settings))


def registry_client(settings: Settings) -> SchemaRegistryClient:
    """Make a registry client whose every question is bounded by REQUEST_TIMEOUT; contacts nobody yet."""
    properties: dict[str, Any] = {
        "url": settings.schema_registry_url,
        "retries.wait.ms": 100,
        "retries.max.wait.ms": 500,
        **settings.registry,
    }
    urls = settings.schema_registry_url.split(",")
    if not settings.registry and all(url.startswith("http://") for url in urls):
        # Nothing here speaks TLS: reading all certification authorities would take a tenth of a lone record's time.
        properties["ssl.ca.location"] = False
    try:
        if settings.schema_registry_url.startswith("mock://"):
            return SchemaRegistryClient.new_client(properties)
        for url in urls:
            parsed = httpx2.URL(url.strip())
            if parsed.scheme not in {"http", "https"} or not parsed.host or (parsed.port or 0) not in _PORTS:
                raise ValueError(f"{url} is no URL of a server, http://… or https://…")  # noqa: TRY301 - as every other one
        return BoundedRegistryClient(properties, settings.request_timeout)
    # ImportError: a SOCKS proxy, which the environment may name too, needs a package of its own.
    except (ValueError, TypeError, OSError, ImportError, httpx2.InvalidURL) as error:
        raise SettingError(f"SCHEMA_REGISTRY_URL or another SCHEMA_REGISTRY_… is not usable: {error}") from None


def wait_until_available(call: Callable[[], T], settings: Settings) -> T:
    """Call until it no longer raises Unavailable, with backoff and jitter.

    The last call begins `startup_timeout` seconds after the first one at the latest.
    """
    deadline = time.monotonic() + settings.startup_timeout
    try:
        return call()
    except Unavailable:
        import tenacity  # noqa: PLC0415 - only who has to wait pays for the import

    def tell(state: tenacity.RetryCallState) -> None:
        # A passing hitch, such as a topic that was made a moment ago, is not worth a line.
        if state.attempt_number == _TELL_AT_TRY and state.outcome is not None:
            log.warning("%s; trying again for %g s", state.outcome.exception(), settings.startup_timeout)

    backoff = tenacity.wait_random_exponential(multiplier=0.1, max=3)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=lambda state: min(backoff(state), max(0.0, deadline - time.monotonic())),
        stop=lambda _: time.monotonic() >= deadline,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(call)


def leave(step: Callable[[], object], name: str) -> None:
    """Take a step by which a client leaves, its last commit or its close; raises ClientFailed after LEAVE_SECONDS.

    librdkafka has been seen to wait for an answer of its own for ever (its issues 4527 and 4884), where partitions had
    just been given: who waits with it looks alive and does nothing.
    """
    leaving = Aside(step)
    leaving.join(LEAVE_SECONDS)
    if leaving.is_alive():
        raise ClientFailed(
            f"{name} does not end: its Kafka client does not close within {LEAVE_SECONDS:g} s; start it again"
        )
    leaving.result()


def cluster_metadata(client: AdminClient | Producer | Consumer, settings: Settings) -> Any:
    """Ask for all topics, which unlike asking for one never makes a broker create it."""
    asked = Aside(lambda: client.list_topics(timeout=settings.request_timeout))
    asked.join(_FIRST_TRY_SECONDS)
    hint = connection_hint(settings, asked.is_alive) if asked.is_alive() else ""
    try:
        return asked.result()
    except KafkaException as error:
        raise broker_error(error, f"asking for the topics{hint}") from None


def connection_hint(settings: Settings, wanted: Callable[[], bool]) -> str:
    """Return what may keep a connection from coming about, as long as that is wanted to be known.

    A client tells it only to its error callback, while whoever waits for an answer waits for its time limit. Raises
    Forbidden or SettingError where it is sure.
    """
    errors: list[KafkaError] = []
    quiet = {"error_cb": errors.append, "log_level": 0}
    client = make_client(AdminClient, common_properties(settings) | quiet)
    while not errors and wanted():
        client.poll(0.1)
    codes = {error.code() for error in errors}
    said = "; ".join(error.str() for error in errors[:1])
    if KafkaError._AUTHENTICATION in codes:  # noqa: SLF001 - the client's own name for it
        bearer = settings.kafka.get("sasl.mechanism", settings.kafka.get("sasl.mechanisms")) == "OAUTHBEARER"
        names = (
            ("CLIENT_ID", "CLIENT_SECRET", "TOKEN_ENDPOINT_URL") if bearer else ("MECHANISM", "USERNAME", "PASSWORD")
        )
        prefix = "KAFKA_SASL_OAUTHBEARER_" if bearer else "KAFKA_SASL_"
        check = ", ".join(f"{prefix}{name}" for name in names)
        raise Forbidden(f"the broker does not take who we say we are, check {check}: {said}")
    for sign, sentence in _TLS_SIGNS.items():
        if sign in said:
            raise SettingError(f"{sentence}: {said}")
    if codes == {KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001
        # It takes connections and closes them.
        protocol = settings.kafka.get("security.protocol", "PLAINTEXT")
        return f" (is KAFKA_SECURITY_PROTOCOL, {protocol}, what it speaks at that port?)"
    return ""


def broker_error(error: KafkaException, doing: str) -> Unavailable | UserError | ClientFailed:
    """Turn what a broker or librdkafka reports into this project's errors."""
    reason: KafkaError = error.args[0]
    if advice := NOT_JOINED.get(reason.code()):
        return UserError(f"the broker refused us, {doing}: {reason.str()}; {advice}")
    if reason.code() in DENIED:  # also where it is fatal, as to a producer that may write nothing
        # The broker may add what it was asked, pages of it.
        return Forbidden(f"the broker refused us, {doing}: {KafkaError(reason.code()).str()}")
    if is_fatal(reason):
        said = reason.str().rpartition("Fatal consumer error: ")[2]
        return ClientFailed(f"the Kafka client has failed for good, {doing}: {said}; {_FATAL_ADVICE}")
    return Unavailable(f"the broker does not answer, {doing}: {reason.str()}")


def is_fatal(error: KafkaError) -> bool:
    """Return whether the client that reports this can do nothing any more; a consumer's messages tell by the code."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001 - the client's own name for it


def kafka_error(error: KafkaException | SystemError) -> KafkaError | None:
    """Give what a client has raised, None when it is something else.

    A callback that is on its way when the client raises hides that behind a SystemError.
    """
    cause = error.__cause__ if isinstance(error, SystemError) else error
    reason: KafkaError | None = cause.args[0] if isinstance(cause, KafkaException) else None
    return reason


def common_properties(settings: Settings) -> dict[str, Any]:
    """Properties of every client."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "socket.timeout.ms": max(1_000, int(settings.request_timeout * 1000)),
        # A first connection by the bootstrap address is given up for the broker's own, which waits half of this; the
        # backoff still grows to 10 s.
        "reconnect.backoff.ms": 20,
        "logger": logging.getLogger("librdkafka"),
        **settings.kafka,
    }
