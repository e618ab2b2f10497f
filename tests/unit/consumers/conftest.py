"""A cook's reader without servers, and messages for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Message
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from consumers.batches import Batch, Polled
from consumers.reading import BatchReader
from contract.codec import RecordDeserializer, RecordSerializer
from contract.errors import TopicError, Unavailable, Unreadable
from contract.order import OrderV1, OrderV2
from contract.subjects import Subject
from runtime import topics
from runtime.metrics import ConsumerMetrics
from runtime.settings import Settings
from tests.batches import Topic

MOST_IN_ROW = 3
BAD = b"\x01"
TODAY = topics.Topic("pizza-order", "topic-1", "cluster-1", 1)


@dataclass
class Letters:
    """Takes letters; refuses them as often as it is told to, as a broker that is away does."""

    refusals: int = 0
    is_too_small: bool = False
    """Whether their topic takes none."""
    written: list[tuple[Message, Unreadable]] = field(default_factory=list)

    def write(self, letters: Iterable[tuple[Message, Unreadable]]) -> None:
        """Take them, or raise Unavailable or TopicError."""
        if self.is_too_small:
            raise TopicError("the letters cannot be written: Broker: Message size too large")
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the letters cannot be written now")
        self.written += letters


@dataclass
class Reading:
    """A reader of orders, its letters, and good messages for it."""

    reader: BatchReader[OrderV1]
    letters: Letters
    good: bytes

    def poll(self, *values: bytes, start: int = 0, replays: bool = False, headers: Any = None) -> Polled:
        """Make messages, one behind the other in partition 0."""
        messages = [
            Message(topic="pizza-order", partition=0, offset=offset, value=value, timestamp=(1, 0), headers=headers)
            for offset, value in enumerate(values, start)
        ]
        return Polled(Topic(replays), messages)  # type: ignore[arg-type]  # a source without a connection

    def take(self, messages: Sequence[Message], *, replays: bool = False) -> Batch[OrderV1] | Polled:
        """Take what a poll of the topic gave."""
        return self.reader.take(Topic(replays), list(messages))  # type: ignore[arg-type]  # a source without a connection

    def read(self, polled: Polled) -> Batch[OrderV1]:
        """Read, as the loop does."""
        return self.reader.read(polled)


@pytest.fixture
def reading(subject: Subject, registry: SchemaRegistryClient) -> Reading:
    """A cook's reader."""
    for version in subject.released:
        registry.register_schema(subject.name, Schema(version.text, "AVRO"))
    letters = Letters()
    metrics = ConsumerMetrics(Settings(), "cook", subject.topic)
    deserializer = RecordDeserializer(OrderV1, registry)
    reader = BatchReader(subject, deserializer, letters, metrics, MOST_IN_ROW, TODAY)  # type: ignore[arg-type]
    serializer = RecordSerializer(OrderV2, registry)
    good = serializer.serialize_all([OrderV2("napoli", 3, "x")], serializer.frame(subject.name))
    return Reading(reader, letters, good[0])
