"""Publishes records: checked against the contract, keyed, and counted only once the broker has acknowledged them."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from threading import Event
from typing import Any, Generic

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.access import to_write
from contract.codec import RecordSerializer, decode, schema_id_of
from contract.errors import NotDelivered
from contract.records import R
from contract.subjects import Subject
from runtime.clients import cluster_metadata, kafka_error, make_client, producer_properties, wait_until_available
from runtime.topics import Servers

log = logging.getLogger(__name__)

_NO_PLACES = "a producer for bulk does not say where a record is"


@dataclass(frozen=True)
class Delivery:
    """Where an acknowledged record is."""

    partition: int
    offset: int


class RecordProducer(Generic[R]):
    """Publishes records of one version to their subject's topic.

    Making one waits for broker and registry, makes sure that the topic exists, and raises NotRegistered when the
    registry lacks this version, TopicError when the topic would lose what it is given. One for `bulk` is told of
    failures only, and does not say where a record is. One for a `lone` record does not ask how a topic was made that
    exists, for the two connections which that takes are a sixth of the time of such a command.
    """

    def __init__(
        self, servers: Servers, subject: Subject, record: type[R], *, bulk: bool = False, lone: bool = False
    ) -> None:
        self.topic = subject.topic
        self._bulk = bulk
        self._timeout = servers.settings.delivery_timeout
        self._serializer = RecordSerializer(record, servers.registry)
        self._key = None if subject.key is None else attrgetter(subject.key)
        # Made first: it connects in the background while the registry is asked.
        self._producer = make_client(
            Producer, producer_properties(servers.settings, bulk=bulk, batch_bytes=subject.max_message_bytes)
        )
        self._frame = wait_until_available(lambda: self._serializer.frame(subject.name), servers.settings)
        schema_id, version = schema_id_of(self._frame), record.VERSION
        extra = {"topic": self.topic, "schema_id": schema_id}
        log.info("publishing to %s with version %d (schema id %d)", self.topic, version, schema_id, extra=extra)
        self._tell_metrics: Callable[[str], Callable[..., None]] = lambda _topic: lambda *_totals: None
        if servers.settings.metrics_port is not None:
            from runtime import metrics  # noqa: PLC0415 - a lone record need not wait for the import

            metrics.serve(servers.settings)
            metrics.SCHEMA.labels("producer", subject.name, str(version), str(schema_id)).set(1)
            self._tell_metrics = lambda topic: metrics.ProducerMetrics(topic).tell
        # By this client, not by one that would have to connect first: an idempotent producer without a connection would
        # wait half a second for its producer id.
        metadata = wait_until_available(lambda: cluster_metadata(self._producer, servers.settings), servers.settings)
        # On a locked cluster a topic that is there may still be one that we may not write.
        if not lone or self.topic not in metadata.topics or "security.protocol" in servers.settings.kafka:
            servers.ensure_topics(subject, needs=to_write(subject))

    def publish(self, record: R) -> Delivery:
        """Publish one record and wait for its acknowledgement.

        Raises Refused when it breaks the contract, NotDelivered when it is not acknowledged in time, or when the client
        has no room for it.
        """
        if self._bulk:
            raise ValueError(_NO_PLACES)
        reports: list[Delivery | str] = []

        def on_report(error: KafkaError | None, message: Message) -> None:
            reports.append(error.str() if error is not None else _place_of(message))

        messages = self._messages([record])
        if not self._producer.produce_batch(self.topic, messages, on_delivery=on_report):
            reports.append(messages[0]["_error"].str())
        # The report comes within a millisecond; to flush at once would wake every broker's thread up meanwhile.
        self._serve(self._producer.poll, 0.1)
        self._flush()
        [report] = reports
        delivered = isinstance(report, Delivery)
        self._tell_metrics(self.topic)(1, delivered, not delivered)
        if not isinstance(report, Delivery):
            raise NotDelivered(f"not delivered to {self.topic}: {report}")
        return report

    def publish_all(
        self,
        chunks: Iterable[Sequence[R]],
        on_failure: Callable[[R, str], object],
        on_delivery: Callable[[Delivery], object] | None = None,
        stop: Event | None = None,
    ) -> int:
        """Publish records in order, a chunk at a time, and give the number that were acknowledged.

        `on_failure` gets every other one with the reason: after the first failure, or when `stop` is set, nothing more
        is sent. `on_delivery` gets the place of each, unless this producer is for bulk. A full queue holds this call
        up, so memory stays bounded. Raises Refused for a record that breaks the contract, and whatever `chunks` raises,
        when all that was sent by then is acknowledged or given to `on_failure`.
        """
        if self._bulk and on_delivery:
            raise ValueError(_NO_PLACES)
        published, failed = 0, 0
        failure = ""
        tell = self._tell_metrics(self.topic)

        def fail(value: bytes | None, error: KafkaError) -> None:
            nonlocal failure, failed
            failure = error.str()
            failed += 1
            on_failure(decode(value or b"", self._serializer.record), failure)

        def on_report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                fail(message.value(), error)
            elif on_delivery is not None:
                on_delivery(_place_of(message))

        try:
            for chunk in chunks:
                waiting = self._messages(chunk)
                while waiting and not (failure or (stop and stop.is_set())):
                    queued = self._producer.produce_batch(self.topic, waiting, on_delivery=on_report)
                    waiting = [] if queued == len(waiting) else self._refused(waiting, fail)
                    self._serve(self._producer.poll, 0.1 if waiting else 0)
                for record in chunk[len(chunk) - len(waiting) :]:
                    on_failure(record, failure or "stopped before it was sent")
                published, failed = published + len(chunk), failed + len(waiting)
                tell(published, published - failed - len(self._producer), failed)
        finally:
            self._flush(stop)
            tell(published, published - failed, failed)
        # librdkafka has reported on every record, or _flush has raised: what has not failed is acknowledged.
        return published - failed

    def _refused(
        self, messages: list[dict[str, Any]], fail: Callable[[bytes | None, KafkaError], None]
    ) -> list[dict[str, Any]]:
        """Give the messages for which there was no room: librdkafka refuses a suffix, so order is kept."""
        refused = [(message, message.pop("_error")) for message in messages if "_error" in message]
        waiting = [message for message, error in refused if error.code() == KafkaError._QUEUE_FULL]  # noqa: SLF001
        for message, error in refused:
            if error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001
                fail(message["value"], error)
        return waiting

    def _messages(self, records: Sequence[R]) -> list[dict[str, Any]]:
        if len(records) == 1:  # it comes after a pause, to cold code: there, each step that follows takes microseconds
            message: dict[str, Any] = {"value": self._serializer.serialize(records[0], self._frame)}
            if self._key is not None:
                message["key"] = str(self._key(records[0]))
            return [message]
        values = self._serializer.serialize_all(records, self._frame)
        if self._key is None:
            return [{"value": value} for value in values]
        keys = map(str, map(self._key, records))
        return [{"value": value, "key": key} for value, key in zip(values, keys, strict=True)]

    def _flush(self, stop: Event | None = None) -> None:
        """Wait until every queued record is acknowledged or failed, which librdkafka does in `delivery_timeout`."""
        deadline = time.monotonic() + self._timeout + 5
        while len(self._producer):
            self._serve(self._producer.flush, 0.2)
            if stop and stop.is_set():
                self._producer.purge()
            if time.monotonic() > deadline:
                raise NotDelivered(
                    f"librdkafka did not report on {len(self._producer)} records of {self.topic} in time"
                )

    def _serve(self, call: Callable[[float], object], seconds: float) -> None:
        """Let the client report; one that can do no more, as without permission, reports that on each record, too."""
        try:
            call(seconds)
        except (KafkaException, SystemError) as error:
            if kafka_error(error) is None:
                raise


def print_delivery(delivery: Delivery) -> None:
    """Print the workshop's line for an acknowledged record."""
    print(f"message published on partition {delivery.partition} with offset {delivery.offset}")


def new_identity() -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7): it begins with the time, so identities grow and indexes stay fast."""
    time_and_random = (time.time_ns() // 1_000_000 << 80) | (uuid.uuid4().int & (1 << 80) - 1)
    version = time_and_random & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=version & ~(0x3 << 62) | 0x2 << 62))


def _place_of(message: Message) -> Delivery:
    return Delivery(message.partition() or 0, message.offset() or 0)
