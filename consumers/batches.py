"""What a handler is given: records with their places, and where the consumer will be once they are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeAlias, overload

import msgspec
from confluent_kafka import Message

from consumers.letters import origin_of_replay
from contract.records import R

Place: TypeAlias = Callable[[Message], tuple[int, int, int]]
"""Gives the partition, the offset and the timestamp that count for a message."""


class Received(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record and where it was first: `timestamp` is the producer's, in milliseconds since 1970."""

    value: R
    partition: int
    offset: int
    timestamp: int


class Batch(msgspec.Struct, Generic[R], frozen=True):
    """What one poll gave: the records, and the messages that they came in.

    Places and offsets are put together when asked for: a handler that wants only values pays for no more, and a lone
    record does not wait for them. Replayed records come in batches of their own.
    """

    values: Sequence[R]
    messages: Sequence[Message]
    """Those of the values, in their order."""
    fetched: Sequence[Message]
    """Those that are done with once the values are handled: what could not be read is among them."""
    partitions: int
    """How many partitions may have been fetched from."""
    is_replays: bool = False

    @property
    def records(self) -> Sequence[Received[R]]:
        """The records with their places."""
        return _ReceivedRecords(self.values, self.messages, self.place)

    @property
    def place(self) -> Place:
        """How to find the place of one of the messages."""
        return origin_of_replay if self.is_replays else place_of

    @property
    def next_offsets(self) -> dict[int, int]:
        """The offset behind the last fetched message of each partition; replays, which are elsewhere, have none."""
        return {} if self.is_replays else self.ends()

    def ends(self) -> dict[int, int]:
        """Give the offset behind the last fetched message of each partition of the topic that was polled.

        A partition's messages come in order, so the last few tell: a message costs more to ask than to decode.
        """
        ends: dict[int, int] = {}
        for message in reversed(self.fetched):
            partition = message.partition() or 0
            if partition not in ends:
                ends[partition] = (message.offset() or 0) + 1
                if len(ends) == self.partitions:
                    break
        return ends


class _ReceivedRecords(Sequence[Received[R]]):
    def __init__(self, values: Sequence[R], messages: Sequence[Message], place: Place) -> None:
        self._values = values
        self._messages = messages
        self._place = place

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Received[R]]:
        place = self._place
        for value, message in zip(self._values, self._messages, strict=True):
            yield Received(value, *place(message))

    @overload
    def __getitem__(self, index: int) -> Received[R]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Received[R]]: ...
    def __getitem__(self, index: int | slice) -> Received[R] | Sequence[Received[R]]:
        if isinstance(index, slice):
            return list(self)[index]
        return Received(self._values[index], *self._place(self._messages[index]))


def place_of(message: Message) -> tuple[int, int, int]:
    """Give a message's own partition, offset and timestamp."""
    return message.partition() or 0, message.offset() or 0, message.timestamp()[1]
