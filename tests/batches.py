"""Batches as a poll gives them, of records whose places are chosen."""

from collections.abc import Mapping, Sequence

from confluent_kafka import Message

from consumers.batches import Batch, Received
from contract.records import R


def batch_of(records: Sequence[Received[R]], next_offsets: Mapping[int, int]) -> Batch[R]:
    """Give a batch of these records, after which each partition goes on at its next offset."""
    messages = [
        Message(topic="t", partition=one.partition, offset=one.offset, timestamp=(1, one.timestamp)) for one in records
    ]
    fetched = [Message(topic="t", partition=partition, offset=end - 1) for partition, end in next_offsets.items()]
    return Batch([one.value for one in records], messages, fetched, len(fetched))
