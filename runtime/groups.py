"""How far consumer groups have come, and who is in them, as the brokers know it; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.errors import TopicError
from runtime.clients import broker_error, cluster_metadata, common_properties, consumer_properties, make_client
from runtime.settings import Settings


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
        self._admin = make_client(AdminClient, common_properties(settings))

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
            # One that has lost its broker finds the topics again, and the groups' coordinator never.
            self._admin = make_client(AdminClient, common_properties(self._settings))
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
    limit = settings.request_timeout
    try:
        return {
            number: client.get_watermark_offsets(TopicPartition(topic, number), timeout=limit)
            for number in sorted(found.partitions)
        }
    except KafkaException as error:
        raise broker_error(error, f"asking for the ends of {topic}") from None
