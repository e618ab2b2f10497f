"""What a handler is given: records with their places, and where the consumer will be once they are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic

import msgspec
from confluent_kafka import Message

from consumers.letters import origin_of_replay
from consumers.source import Source
from contract.records import R


class Received(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record and where it was first: `timestamp` is the producer's, in milliseconds since 1970."""

    value: R
    partition: int
    offset: int
    timestamp: int


class Polled(msgspec.Struct, frozen=True, eq=False):
    """Messages of one topic that one poll gave, in order, or what is left of them."""

    source: Source
    """For the loop, which alone touches its client."""
    fetched: Sequence[Message]
    """Those that are done with once what can be read of them is handled: what cannot be read is among them."""

    @property
    def is_replays(self) -> bool:
        """Whether these were dead letters, sent once more; their places are elsewhere."""
        return self.source.is_replays

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
                if len(ends) == len(self.source.ever_owned):
                    break
        return ends


class Lost(Polled, frozen=True, eq=False):
    """The error with which a partition could not be read on, behind all that came before it."""


class Batch(Polled, Generic[R], frozen=True, eq=False):
    """The records in what one poll gave, and the messages that they came in.

    A handler gets batches without records, too: where messages became dead letters or were passed over, a consumer's
    place in the topic moves on all the same.
    Places and offsets are put together when asked for: a handler that wants only values pays for no more, and a lone
    record does not wait for them. Replayed records come in batches of their own.
    """

    values: Sequence[R]
    messages: Sequence[Message]
    """Those of the values, in their order."""

    @property
    def records(self) -> list[Received[R]]:
        """The records with their places."""
        return list(map(Received, self.values, *self.places))

    @property
    def places(self) -> Sequence[Iterable[int]]:
        """The partitions, the offsets and the timestamps that count for the messages, one behind the other."""
        messages = self.messages
        if self.is_replays:
            return list(zip(*map(origin_of_replay, messages), strict=True))
        # By the messages' own functions, in a third of the time that one of ours for each takes.
        numbers: list[Callable[[Message], Any]] = [Message.partition, Message.offset]
        return [*(map(number, messages) for number in numbers), map(itemgetter(1), map(Message.timestamp, messages))]
