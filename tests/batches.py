"""Batches as a poll gives them, of records whose places are chosen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message

from consumers.batches import Batch, Received
from contract.records import R


@dataclass
class Topic:
    """What a batch needs to know of the topic that its messages are of, without a connection."""

    is_replays: bool = False
    ever_owned: Collection[int] = (0, 1)
    lost: list[Message] = field(default_factory=list)

    def how_to_pass(self, message: Message) -> str:
        """Return what a person can do."""
        return f"pass over {message.offset()}"

    def is_message(self, message: Message) -> bool:
        """Tell it from an error."""
        return message.error() is None


def batch_of(records: Sequence[Received[R]], next_offsets: Mapping[int, int]) -> Batch[R]:
    """Give a batch of these records, after which each partition goes on at its next offset."""
    messages = [
        Message(topic="t", partition=one.partition, offset=one.offset, timestamp=(1, one.timestamp)) for one in records
    ]
    fetched = [Message(topic="t", partition=partition, offset=end - 1) for partition, end in next_offsets.items()]
    topic = Topic(ever_owned=next_offsets)
    return Batch(topic, fetched, [one.value for one in records], messages)  # type: ignore[arg-type]  # enough of one
