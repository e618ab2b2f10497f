"""What topics hold, how far consumer groups have come, and who is in them; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contract.access import ONLOOKERS
from contract.errors import TopicError, Unavailable
from runtime.clients import (
    admin_client,
    broker_error,
    cluster_metadata,
    consumer_properties,
    leave,
    make_client,
    reading_properties,
)
from runtime.settings import Settings

BATCH = 500
"""Messages that one poll gives at most: with more of them in hand each one costs more, by the processor's cache."""


@dataclass(frozen=True)
class Member:
    """A member of a group, and the partitions that it has."""

    client: str
    host: str
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """A group's state in Kafka's words and its members; both None where the brokers cannot tell."""

    name: str
    state: str | None
    members: tuple[Member, ...] | None
    committed: Mapping[int, int]
    """The next offset of each partition that has one."""


class Groups:
    """Asks about some groups on one topic.

    Each group's offsets are asked for by a consumer that never joins it: the admin client's own call ends the process
    where the group's coordinator answers with an error, as it does after a start (librdkafka 2.16).
    """

    def __init__(self, settings: Settings, topic: str, names: Sequence[str]) -> None:
        self._settings = settings
        self._topic = topic
        self._clients = {name: asking_client(settings, name) for name in names}
        self._admin = admin_client(settings)

    def ask(self, partitions: Sequence[int]) -> list[Group]:
        """Give each group; one that nobody has joined yet has no member.

        Raises Unavailable when the brokers do not answer, Forbidden when we may not ask.
        """
        limit = self._settings.request_timeout
        described = self._admin.describe_consumer_groups([*self._clients], request_timeout=limit)
        places = [TopicPartition(self._topic, number) for number in partitions]
        try:
            committed = {name: client.committed(places, timeout=limit) for name, client in self._clients.items()}
            return [
                Group(
                    name,
                    *self._members(described[name]),
                    {one.partition: one.offset for one in committed[name] if one.offset >= 0},
                )
                for name in self._clients
            ]
        except KafkaException as error:
            raise broker_error(error, f"asking for the groups {', '.join(self._clients)}") from None

    def _members(self, described: Any) -> tuple[str | None, tuple[Member, ...] | None]:
        try:
            known = described.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNSUPPORTED_FEATURE:  # noqa: SLF001 - librdkafka's name for it
                raise
            return None, None
        members = tuple(
            Member(one.client_id, one.host.lstrip("/"), self._partitions(one))
            for one in sorted(known.members, key=lambda one: str(one.member_id))
        )
        return known.state.name.replace("_", " ").lower(), members

    def _partitions(self, member: Any) -> tuple[int, ...]:
        places = member.assignment.topic_partitions
        return tuple(sorted(one.partition for one in places if one.topic == self._topic))


def asking_client(settings: Settings, group: str) -> Consumer:
    """Make a consumer that is asked and never reads, so it joins no group."""
    return make_client(Consumer, consumer_properties(settings, group))


def topic_ends(client: Consumer, settings: Settings, topic: str) -> Mapping[int, tuple[int, int]]:
    """Give the first offset and the one behind the last of each partition.

    Raises TopicError when there is no such topic, Unavailable when no broker answers, Forbidden when we may not ask.
    """
    found = cluster_metadata(client, settings).topics.get(topic)
    if found is None or not found.partitions:
        raise TopicError(f"there is no topic {topic} yet; whoever publishes to it first makes it")
    return partition_ends(client, settings, topic, sorted(found.partitions))


def partition_ends(
    client: Consumer, settings: Settings, topic: str, partitions: Sequence[int]
) -> Mapping[int, tuple[int, int]]:
    """Return the first offset and the one behind the last of some partitions; raises Unavailable or Forbidden."""
    limit = settings.request_timeout
    try:
        return {
            number: client.get_watermark_offsets(TopicPartition(topic, number), timeout=limit) for number in partitions
        }
    except KafkaException as error:
        raise broker_error(error, f"asking for the ends of {topic}") from None


@contextmanager
def reading_client(settings: Settings, group: str = ONLOOKERS) -> Iterator[Consumer]:
    """Give a consumer that is assigned partitions by hand and commits nothing by itself."""
    properties = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    client = make_client(Consumer, reading_properties(settings) | properties)
    try:
        yield client
    except KafkaException as error:
        raise broker_error(error, "reading a topic") from None
    finally:
        leave(client.close, group)


def read_to_end(client: Consumer, settings: Settings, place: TopicPartition) -> Iterator[list[Message]]:
    """Give the messages that a partition has now, from the place's offset on, some at a time.

    Raises Unavailable when the broker stops answering, KafkaException for what it answers instead of messages.
    """
    first, end = client.get_watermark_offsets(place, timeout=settings.request_timeout)
    first = max(first, place.offset)
    client.assign([TopicPartition(place.topic, place.partition, first)])
    deadline = time.monotonic() + settings.request_timeout
    while first < end:
        found = client.consume(BATCH, 0) or client.consume(1, 0.1)  # not all that comes in that time
        messages = [one for one in found if one.error() is None]
        if messages:
            first = (messages[-1].offset() or 0) + 1
            deadline = time.monotonic() + settings.request_timeout
            yield messages
        if bad := next((one for one in found if one.error() is not None), None):
            first = behind_batch(settings, bad)
            client.assign([TopicPartition(place.topic, place.partition, first)])
        elif client.position([place])[0].offset >= end:
            return  # what is left are a transaction's markers
        elif time.monotonic() > deadline:
            raise Unavailable(f"the broker does not answer, reading {place.topic} at offset {first}")


def is_not_decompressed(message: Message) -> bool:
    """Return whether this is in the place of a batch that the client cannot decompress, and asks for again for ever."""
    error = message.error()
    return error is not None and error.code() == KafkaError._BAD_COMPRESSION  # noqa: SLF001 - librdkafka's name for it


def behind_batch(settings: Settings, bad: Message) -> int:
    """Return the offset behind a batch that cannot be decompressed; the client knows only where the batch begins.

    Asks the broker for a few offsets behind it: those in the batch are answered with the batch again. Raises
    KafkaException for any other error than that of such a batch, Unavailable when the broker does not answer.
    """
    if not is_not_decompressed(bad):
        raise KafkaException(bad.error())
    topic, partition, start = bad.topic() or "", bad.partition() or 0, bad.offset() or 0
    with reading_client(settings) as client:
        place = TopicPartition(topic, partition)
        _, end = client.get_watermark_offsets(place, timeout=settings.request_timeout)
        inside, behind, step = start, end, 1
        while behind - inside > 1:
            asked = inside + min(step, (behind - inside) // 2)  # most of them are short
            if _is_in_batch(client, settings, TopicPartition(topic, partition, asked), start):
                inside, step = asked, 4 * step
            else:
                behind, step = asked, behind
        return behind


def _is_in_batch(client: Consumer, settings: Settings, place: TopicPartition, start: int) -> bool:
    client.assign([place])
    deadline = time.monotonic() + settings.request_timeout
    while time.monotonic() < deadline:
        message = client.poll(0.1)
        if message is not None and message.error() is None:
            return False
        if message is not None and is_not_decompressed(message):
            return (message.offset() or 0) <= start
        if message is not None:
            raise KafkaException(message.error())
    raise Unavailable(f"the broker does not answer, reading {place.topic} at offset {place.offset}")
