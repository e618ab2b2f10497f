"""How far consumer groups have come, and who is in them, as the brokers know it; asks, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # public by its documentation

from contract.errors import TopicError
from runtime.clients import broker_error, cluster_metadata
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


def topic_ends(admin: AdminClient, settings: Settings, topic: str) -> Mapping[int, tuple[int, int]]:
    """Give the first offset and the one behind the last of each partition.

    Raises TopicError when there is no such topic, Unavailable when no broker answers, Forbidden when we may not ask.
    """
    found = cluster_metadata(admin, settings).topics.get(topic)
    if found is None or not found.partitions:
        raise TopicError(f"there is no topic {topic} yet; whoever publishes to it first makes it")
    places = [TopicPartition(topic, number) for number in sorted(found.partitions)]
    earliest, latest = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no types
    firsts, ends = (
        admin.list_offsets(dict.fromkeys(places, spec), request_timeout=settings.request_timeout)
        for spec in (earliest, latest)
    )
    doing = f"asking for the ends of {topic}"
    return {one.partition: (_answer(firsts[one], doing).offset, _answer(ends[one], doing).offset) for one in places}


def describe_groups(
    admin: AdminClient, settings: Settings, topic: str, partitions: Collection[int], names: Sequence[str]
) -> list[Group]:
    """Give each group as it is on some partitions; one that nobody has joined yet has no member.

    Raises Unavailable when the brokers do not answer, Forbidden when we may not ask.
    """
    limit = settings.request_timeout
    described = admin.describe_consumer_groups(list(names), request_timeout=limit)
    # librdkafka takes one group a call here, and its mock cluster wants the partitions by name.
    places = [TopicPartition(topic, number) for number in partitions]
    wanted = (ConsumerGroupTopicPartitions(name, places) for name in names)
    offsets = [admin.list_consumer_group_offsets([one], request_timeout=limit)[one.group_id] for one in wanted]
    return [_group(name, topic, described[name], found) for name, found in zip(names, offsets, strict=True)]


def _group(name: str, topic: str, described: Future[Any], offsets: Future[Any]) -> Group:
    doing = f"asking for the group {name}"
    committed = {one.partition: one.offset for one in _answer(offsets, doing).topic_partitions if one.offset >= 0}
    try:
        known = described.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError._UNSUPPORTED_FEATURE:  # noqa: SLF001 - librdkafka's name for it
            raise broker_error(error, doing) from None
        return Group(name, None, None, committed)
    members = tuple(
        Member(one.client_id, one.host.lstrip("/"), _partitions_of(one, topic))
        for one in sorted(known.members, key=lambda one: str(one.member_id))
    )
    return Group(name, known.state.name.replace("_", " ").lower(), members, committed)


def _partitions_of(member: Any, topic: str) -> tuple[int, ...]:
    return tuple(sorted(one.partition for one in member.assignment.topic_partitions if one.topic == topic))


def _answer(future: Future[Any], doing: str) -> Any:
    try:
        return future.result()
    except KafkaException as error:
        raise broker_error(error, doing) from None
