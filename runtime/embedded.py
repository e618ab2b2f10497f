"""Broker and registry inside this process, for the demo: librdkafka's mock cluster and confluent-kafka's `mock://`.

The mock cluster has no way to make a topic but to be asked for it, and drops old messages beyond some tens of
thousands: it shows the pipeline, it does not prove a delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
from confluent_kafka.schema_registry.common.schema_registry_client import SchemaVersion

from runtime.clients import cluster_metadata
from runtime.settings import Settings
from runtime.topics import AskTopics, Servers, Topic


class EmbeddedRegistry(MockSchemaRegistryClient):
    """confluent-kafka's `mock://`, with answers to what it would ask a server: its bases do so by HTTP."""

    def get_schema_versions(self, schema_id: int, *_: Any, **__: Any) -> list[SchemaVersion]:
        """Return the subject and version that has an id."""
        held = (
            self.get_version(subject, number)
            for subject in self.get_subjects()
            for number in self.get_versions(subject)
        )  # fmt: skip
        return [SchemaVersion(one.subject, one.version) for one in held if one.schema_id == schema_id]

    def get_mode(self, subject_name: str) -> str:
        """Return that everything may be registered, of each subject."""
        del subject_name
        return self.get_global_mode()

    def get_global_mode(self) -> str:
        """Return that everything may be registered."""
        return "READWRITE"


@contextmanager
def embedded_servers(settings: Settings) -> Iterator[Servers]:
    """Start a broker and a registry that live as long as the context."""
    cluster = Producer(
        {"bootstrap.servers": "", "test.mock.num.brokers": 1, "logger": logging.getLogger("librdkafka.mock")}
    )
    metadata = cluster_metadata(cluster, settings)
    brokers = ",".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())

    def find(settings: Settings, name: str) -> Topic:
        one = cluster.list_topics(name, settings.request_timeout).topics[name]
        return Topic(name, "", metadata.cluster_id, len(one.partitions))

    def find_or_make(settings: Settings, topics: Sequence[NewTopic], _needs: object) -> list[Topic]:
        return [find(settings, new.topic) for new in topics]

    def topic_client(settings: Settings) -> AskTopics:
        return lambda names: lambda _: {name: find(settings, name) for name in names}

    yield Servers(
        msgspec.structs.replace(settings, kafka_bootstrap_servers=brokers, schema_registry_url="mock://demo"),
        EmbeddedRegistry({"url": "mock://demo"}),
        find_or_make,
        topic_client,
    )
    cluster.flush(0)
