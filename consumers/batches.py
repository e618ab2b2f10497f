"""What a handler is given: records with their places, and where the consumer will be once they are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, overload

import msgspec
from confluent_kafka import Message

from contract.records import R

Place: TypeAlias = Callable[[Message], tuple[int, int, int]]
"""Gives the partition, the offset and the timestamp that count for a message."""


class Received(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record and where it was first: `timestamp` is the producer's, in milliseconds since 1970."""

    value: R
    partition: int
    offset: int
    timestamp: int


class ReceivedRecords(Sequence[Received[R]]):
    """Records with their places, put together when asked for: a handler that wants only values pays for no more."""

    def __init__(self, values: Sequence[R], messages: Sequence[Message], place: Place) -> None:
        self.values = values
        self._messages = messages
        self._place = place

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Received[R]]:
        place = self._place
        for value, message in zip(self.values, self._messages, strict=True):
            yield Received(value, *place(message))

    @overload
    def __getitem__(self, index: int) -> Received[R]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Received[R]]: ...
    def __getitem__(self, index: int | slice) -> Received[R] | Sequence[Received[R]]:
        if isinstance(index, slice):
            return list(self)[index]
        return Received(self.values[index], *self._place(self._messages[index]))


class Batch(msgspec.Struct, Generic[R], frozen=True):
    """What one poll gave; `next_offsets` is past all that was fetched, what could not be read included.

    Replayed records come in batches of their own, which have no next offsets.
    """

    records: Sequence[Received[R]]
    next_offsets: Mapping[int, int]

    @property
    def values(self) -> Sequence[R]:
        """The records without their places."""
        if isinstance(self.records, ReceivedRecords):
            return self.records.values
        return [received.value for received in self.records]


def place_of(message: Message) -> tuple[int, int, int]:
    """Give a message's own partition, offset and timestamp."""
    return message.partition() or 0, message.offset() or 0, message.timestamp()[1]


def ends_of(messages: Sequence[Message], partitions: int) -> dict[int, int]:
    """Give the offset behind the last message of each partition; `partitions` is how many there may be.

    A partition's messages come in order, so the last few tell: a message costs more to ask than to decode.
    """
    ends: dict[int, int] = {}
    for message in reversed(messages):
        partition = message.partition() or 0
        if partition not in ends:
            ends[partition] = (message.offset() or 0) + 1
            if len(ends) == partitions:
                break
    return ends
