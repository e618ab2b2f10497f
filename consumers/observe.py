"""Shows what comes to a topic to somebody who only looks: joins no group, and leaves nothing on the servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Generic

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.serialization import MessageField, SerializationContext

from consumers.letters import headers_of
from consumers.source import POLL_SECONDS, Source
from contract.codec import RecordDeserializer, schema_id_of
from contract.errors import Reason, TopicError, Unavailable, Unreadable
from contract.records import R
from contract.subjects import Subject
from runtime.clients import DENIED, broker_error, is_fatal
from runtime.groups import is_not_decompressed
from runtime.topics import Servers, Topic, TopicWatch

LOOK_BACK = 1_000


@dataclass(frozen=True, slots=True)
class Observed(Generic[R]):
    """A message as an observer has it: its place, the schema id that it names, and its record or why there is none."""

    partition: int
    offset: int
    timestamp: int
    schema_id: int | None
    record: R | Unreadable


def observe_messages(
    servers: Servers,
    subject: Subject,
    record: type[R],
    group: str,
    *,
    observe: Callable[[Sequence[Observed[R]]], object],
    resume: Callable[[Topic], Mapping[int, int]],
    stop: Event,
) -> None:
    """Show what comes to `observe`, poll by poll, empty ones too, until `stop` is set.

    Each observer has all partitions; `group` only says in `subjects.yaml` which version it reads. `resume` gives
    offsets of the topic that it is given, to begin at; partitions that it leaves out begin `LOOK_BACK` before their
    end. Raises Unavailable and NotRegistered, after which the caller may begin again, TopicError when there is no such
    topic or it is another one now, after which it may, too, and what `observe` raises.
    """
    subject.check_reader(group, record.VERSION)
    topic = servers.find_topics(subject.topic).get(subject.topic)
    if topic is None:
        raise TopicError(f"there is no topic {subject.topic} yet; whoever publishes to it first makes it")
    source = Source(servers.settings, group, subject.topic)
    watch = source.watch = TopicWatch(servers, [topic])
    deserializer = RecordDeserializer(record, servers.registry)
    context = SerializationContext(subject.topic, MessageField.VALUE)
    try:
        source.read_alone(resume(topic), LOOK_BACK)
        while not stop.is_set():
            messages = source.receive(POLL_SECONDS)
            for message in messages:
                if (error := message.error()) is None or (is_not_decompressed(message) and source.go_behind(message)):
                    continue
                if is_fatal(error) or error.code() in {*DENIED, KafkaError.UNKNOWN_TOPIC_OR_PART}:
                    raise KafkaException(error)  # noqa: TRY301 - to be told as every other one
                if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's name for it
                    raise Unavailable(f"{subject.topic} has no such offset any more; reading begins again")
                watch.doubt()
            watch.ask(servers.settings.request_timeout, lambda *_: "reading begins anew")
            seen = [one for one in messages if one.error() is None] + source.lost  # batches that were passed over
            source.lost.clear()
            observe([_observed(one, deserializer, context) for one in seen])
    except KafkaException as error:
        raise broker_error(error, f"reading {subject.topic}") from None
    finally:
        source.close()


def _observed(message: Message, deserializer: RecordDeserializer[R], context: SerializationContext) -> Observed[R]:
    try:
        if (error := message.error()) is not None:
            raise Unreadable(Reason.COMPRESSION, error.str())  # noqa: TRY301 - as every other one
        context.headers = headers_of(message)
        record = deserializer(message.value(), context)
    except Unreadable as unreadable:
        return Observed(*_place_of(message), unreadable.schema_id, unreadable.alone())
    return Observed(*_place_of(message), schema_id_of(message.value() or b""), record)


def _place_of(message: Message) -> tuple[int, int, int]:
    return message.partition() or 0, message.offset() or 0, message.timestamp()[1]
