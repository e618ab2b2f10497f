"""The servers that a service works with, and the topics that it makes sure of instead of relying on the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AdminClient,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient

from contract.access import Permission
from contract.errors import Forbidden, TopicError, Unavailable
from contract.subjects import Subject
from runtime.acls import require
from runtime.aside import Aside
from runtime.clients import DENIED, admin_client, broker_error, cluster_metadata, registry_client, wait_until_available
from runtime.settings import Settings

log = logging.getLogger(__name__)

GONE_SECONDS = 5.0
SIZE = "max.message.bytes"
# A topic that is compacted keeps one record of each key, whatever the cluster's default is.
RECORDS = {"cleanup.policy": "delete"}
# For ever, and with room for a message of any usual size and the headers that are added to it.
LARGEST_KEPT = 16 * 1024 * 1024
KEPT = RECORDS | {"retention.ms": "-1", "retention.bytes": "-1", SIZE: str(LARGEST_KEPT)}


@dataclass(frozen=True)
class Topic:
    """A topic as the cluster knows it; a deleted topic made again has another id."""

    name: str
    id: str
    cluster_id: str
    partitions: int

    def is_same(self, other: Topic) -> bool:
        """Return whether offsets of this topic mean the same in another."""
        return (self.name, self.id, self.cluster_id) == (other.name, other.id, other.cluster_id)

    def __str__(self) -> str:
        return f"{self.name} ({self.id}) of cluster {self.cluster_id}"


Answer: TypeAlias = Callable[[float], Mapping[str, Topic] | None]
"""Waits so many seconds for what the brokers answer: the topics that exist, by name, or None while they have not.

Raises Unavailable or Forbidden when they do not answer or refuse to.
"""
AskTopics: TypeAlias = Callable[[Sequence[str]], Answer]
"""Asks the brokers what some topics are, without waiting for the answer."""


@dataclass(frozen=True)
class Servers:
    """The servers that a service works with; the demo makes one whose servers are in its own process."""

    settings: Settings
    registry: SchemaRegistryClient
    find_or_make: Callable[[Settings, Sequence[NewTopic], Collection[Permission]], list[Topic]]
    topic_client: Callable[[Settings], AskTopics]
    """Makes a client that asks what topics are."""

    def find_topics(self, *names: str) -> Mapping[str, Topic]:
        """Return those of the topics that exist; raises Unavailable or Forbidden."""
        return find_topics(self.settings, self.topic_client(self.settings), names)

    def ensure_topics(self, subject: Subject, *others: str, needs: Collection[Permission] = ()) -> list[Topic]:
        """Make sure that a subject's topic exists, and one-partition topics that keep messages for ever beside it.

        Returns all of them, the subject's first. What is absent is made with the partitions and replicas that settings
        and contract say. Raises Forbidden with the command that makes a topic, where we may not, or that grants what we
        lack of `needs`, TopicError with the command that mends a topic which would lose what it is given, and
        Unavailable when no broker answers in time.
        """
        settings = self.settings
        replication = settings.topic_replication or subject.replication
        config = RECORDS | {SIZE: str(subject.max_message_bytes)}
        topics = [NewTopic(subject.topic, settings.topic_partitions or subject.partitions, replication, config=config)]
        topics += [NewTopic(name, 1, replication, config=KEPT) for name in others]
        return wait_until_available(lambda: self.find_or_make(settings, topics, needs), settings)


def connect(settings: Settings) -> Servers:
    """Give the servers that the settings name; contacts none of them yet."""
    return Servers(settings, registry_client(settings), find_or_make, topic_client)


class TopicWatch:
    """Whether topics are still those that a consumer began to read; the brokers are asked only where that is in doubt.

    In a topic that was deleted and made again the same offsets are other messages, and librdkafka reports no error: it
    reads on in the middle of the new topic.
    """

    def __init__(self, servers: Servers, topics: Sequence[Topic]) -> None:
        self._servers = servers
        self._topics = topics
        self._others: set[str] = set()
        self._answer: Answer | None = None
        self.is_certain = False
        """False from a doubt until the brokers have answered what was asked after it."""

    def doubt(self) -> None:
        """Note that the topics may be others now."""
        self.is_certain, self._answer = False, None

    def hear(self, line: str) -> None:
        """Read a line of librdkafka's log for another id of a topic, which its metadata have brought.

        A client logs it before it fetches by that id (KIP-516), and gives it before the messages of the new topic.
        """
        for topic in self._topics if " changed id from " in line else ():
            if not topic.id or f"Topic {topic.name} changed id" not in line:
                continue
            if line.endswith(f" to {topic.id}"):
                self._others.discard(topic.name)
            else:
                self._others.add(topic.name)
                self.doubt()

    def ask(self, seconds: float, advice: Callable[[Topic, Topic], str]) -> None:
        """Ask what the topics are unless that is certain, and wait so many seconds for the answer.

        Raises TopicError with `advice` on one that is another now, which is asked with both, Forbidden, and Unavailable
        while there is no answer.
        """
        if self.is_certain:
            return
        names = [topic.name for topic in self._topics]
        # By a client of its own, since one that has lost its broker may not find it again.
        answer, self._answer = self._answer or self._servers.topic_client(self._servers.settings)(names), None
        found = answer(seconds)
        if found is None:
            self._answer = answer
            raise Unavailable(f"the broker has not answered yet, asking for the topics {', '.join(names)}")
        for topic in self._topics:
            now = found.get(topic.name)
            if now is None or (topic.is_same(now) and topic.name in self._others):
                raise Unavailable(f"not every broker knows the topic {topic.name}, or which one it is")
            if not topic.is_same(now):
                sentence = f"{topic} is another topic now, {now}, and offsets of the one mean nothing in the other"
                raise TopicError(f"{sentence}; {advice(topic, now)}")
        self.is_certain = True


def find_or_make(
    settings: Settings, topics: Sequence[NewTopic], needs: Collection[Permission] = ()
) -> list[Topic]:  # fmt: skip
    """Find topics on the broker, making those that are absent; make sure of our permissions and their properties."""
    admin = admin_client(settings)
    metadata = cluster_metadata(admin, settings)
    absent = [new for new in topics if new.topic not in metadata.topics]  # or not to be seen by us
    for new in absent:
        _make(admin, settings, new, needs)
    require(needs, admin, settings)
    _check_properties(admin, settings, [new for new in topics if new not in absent])
    names = [new.topic for new in topics]
    known = find_topics(settings, partial(_ask_topics, admin, settings), names)
    if len(known) < len(names):
        raise Unavailable(f"not every broker knows the topics {', '.join(names)} yet")
    return [known[name] for name in names]


def topic_client(settings: Settings) -> AskTopics:
    """Make a client that asks what topics are."""
    return partial(_ask_topics, admin_client(settings), settings)


def _ask_topics(admin: AdminClient, settings: Settings, names: Sequence[str]) -> Answer:
    asked = Aside(partial(_describe_topics, admin, settings, names))

    def answer(seconds: float) -> Mapping[str, Topic] | None:
        asked.join(seconds)
        return None if asked.is_alive() else asked.result()

    return answer


def _describe_topics(admin: AdminClient, settings: Settings, names: Sequence[str]) -> Mapping[str, Topic]:
    """Return those of the topics that exist; raises Unavailable or Forbidden."""
    limit, found = settings.request_timeout, dict[str, Topic]()
    try:
        # A broker that comes back from a pause may name none for a moment. librdkafka 2.16 ends the process where that
        # is the answer to the question below (rd_kafka_admin_response_parse); a question like this one survives it.
        cluster = admin.list_topics(timeout=limit)
        if not cluster.brokers:
            raise Unavailable(f"no broker is at work, asking for the topics {', '.join(names)}")
        described = admin.describe_topics(TopicCollection([*names]), request_timeout=limit)
        for name, future in described.items():
            if not _is_unknown(future.exception()):
                one = future.result()
                found[name] = Topic(name, str(one.topic_id), str(cluster.cluster_id), len(one.partitions))
    except KafkaException as error:
        raise broker_error(error, f"asking for the topics {', '.join(names)}") from None
    return found


def find_topics(settings: Settings, ask: AskTopics, names: Sequence[str]) -> Mapping[str, Topic]:
    """Return those of the topics that exist; raises Unavailable or Forbidden."""
    found = ask(names)(settings.request_timeout + 1)  # the request itself ends before
    if found is None:
        raise Unavailable(f"the broker does not answer, asking for the topics {', '.join(names)}")
    return found


def _is_unknown(error: BaseException | None) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def is_gone(client: AdminClient | Consumer, settings: Settings, topic: str) -> bool:
    """Tell a deleted topic from a new one that a broker of the cluster has not heard of yet: both say the same."""
    deadline = time.monotonic() + GONE_SECONDS
    with suppress(Unavailable):  # then nobody knows
        while time.monotonic() < deadline:
            time.sleep(GONE_SECONDS / 5)  # first of all: a deletion, too, is not known everywhere at once
            if topic in cluster_metadata(client, settings).topics:
                return False
        return True
    return False


def _check_properties(admin: AdminClient, settings: Settings, topics: Sequence[NewTopic]) -> None:
    """Raise TopicError for a topic that was made otherwise than we make it, and would lose what it is given."""
    resources = {new.topic: ConfigResource(ResourceType.TOPIC, new.topic) for new in topics}
    found = admin.describe_configs([*resources.values()], request_timeout=settings.request_timeout) if topics else {}
    for new in topics:
        try:
            has = {name: entry.value for name, entry in found[resources[new.topic]].result().items()}
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                continue  # whoever needs to know may ask: `require` has made sure of it
            raise broker_error(error, f"asking how {new.topic} is made") from None
        wanted = dict(new.config or {})
        largest, limit = int(has[SIZE]), int(wanted.pop(SIZE))
        is_kept = "retention.ms" in wanted
        wrong = {name: value for name, value in wanted.items() if has[name] != value}
        wrong |= {SIZE: str(limit)} if largest < limit and is_kept else {}
        mend = (
            f"kafka-configs --bootstrap-server {settings.kafka_bootstrap_servers} --alter --entity-type topics "
            f"--entity-name {new.topic} --add-config "
        )
        if wrong:
            now = ", ".join(f"{name}={has[name]}" for name in wrong)
            changes = ",".join(f"{name}={value}" for name, value in wrong.items())
            raise TopicError(f"the topic {new.topic} has {now} and would lose what it is given; run: {mend}{changes}")
        if largest > limit and not is_kept:
            log.warning(
                "the topic %s takes %d bytes at once, subjects.yaml says %d: decompressed, they may need more memory "
                "than there is; to mend that: %s%s=%d",
                *(new.topic, largest, limit, mend, SIZE, limit),
            )


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
