"""The servers that a service works with, and the topics that it makes sure of instead of relying on the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient

from contract.access import Permission
from contract.errors import Forbidden, TopicError, Unavailable
from contract.subjects import Subject
from runtime.acls import require
from runtime.clients import DENIED, admin_client, broker_error, cluster_metadata, registry_client, wait_until_available
from runtime.settings import Settings

log = logging.getLogger(__name__)

# For ever, and with room for a message of any usual size and the headers that are added to it.
LARGEST_KEPT = 16 * 1024 * 1024
KEPT = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(LARGEST_KEPT)}


@dataclass(frozen=True)
class Topic:
    """A topic as the cluster knows it; a deleted topic made again has another id."""

    name: str
    id: str
    cluster_id: str
    partitions: int


@dataclass(frozen=True)
class Servers:
    """The servers that a service works with; the demo makes one whose servers are in its own process."""

    settings: Settings
    registry: SchemaRegistryClient
    find_or_make: Callable[[Settings, Sequence[NewTopic], Collection[Permission]], list[Topic]]

    def ensure_topics(self, subject: Subject, *others: str, needs: Collection[Permission] = ()) -> Topic:
        """Make sure that a subject's topic exists, and one-partition topics that keep messages for ever beside it.

        What is absent is made with the partitions and replicas that settings and contract say. Raises Forbidden with
        the command that makes a topic, where we may not, or that grants what we lack of `needs`, and Unavailable when
        no broker answers in time.
        """
        settings = self.settings
        replication = settings.topic_replication or subject.replication
        topics = [NewTopic(subject.topic, settings.topic_partitions or subject.partitions, replication)]
        topics += [NewTopic(name, 1, replication, config=KEPT) for name in others]
        return wait_until_available(lambda: self.find_or_make(settings, topics, needs), settings)[0]


def connect(settings: Settings) -> Servers:
    """Give the servers that the settings name; contacts none of them yet."""
    return Servers(settings, registry_client(settings), find_or_make)


def find_or_make(
    settings: Settings, topics: Sequence[NewTopic], needs: Collection[Permission] = ()
) -> list[Topic]:  # fmt: skip
    """Find topics on the broker, making those that are absent, and make sure of our permissions."""
    admin = admin_client(settings)
    metadata = cluster_metadata(admin, settings)
    absent = [new for new in topics if new.topic not in metadata.topics]  # or not to be seen by us
    for new in absent:
        _make(admin, settings, new, needs)
    require(needs, admin, settings)
    names = [new.topic for new in topics]
    try:
        found = admin.describe_topics(TopicCollection(names), request_timeout=settings.request_timeout)
        known = [found[name].result() for name in names]
        return [Topic(one.name, str(one.topic_id), str(metadata.cluster_id), len(one.partitions)) for one in known]
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Unavailable(f"not every broker knows the topics {', '.join(names)} yet") from None
        raise broker_error(error, f"asking for the topics {', '.join(names)}") from None


def _make(admin: AdminClient, settings: Settings, new: NewTopic, needs: Collection[Permission]) -> None:
    partitions, replicas = new.num_partitions, new.replication_factor
    try:
        admin.create_topics([new], request_timeout=settings.request_timeout)[new.topic].result()
        log.info("made the topic %s (partitions: %d, replicas: %d)", new.topic, partitions, replicas)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        config = "".join(f" --config {name}={value}" for name, value in (new.config or {}).items())
        command = (
            f"kafka-topics --bootstrap-server {settings.kafka_bootstrap_servers} --create --topic {new.topic} "
            f"--partitions {partitions} --replication-factor {replicas}{config}"
        )
        if reason.code() in DENIED:
            require(needs, admin, settings)
            raise Forbidden(
                f"we may not make the topic {new.topic}; one who may runs: {command}, or: python scripts/make_topics.py"
            ) from None
        if reason.retriable():
            raise broker_error(error, f"making the topic {new.topic}") from None
        raise TopicError(f"the topic {new.topic} cannot be made: {reason.str()}; tried as {command}") from None
