"""One topic as a group member reads it: polling, pausing and committing, with what has been handled so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contract.errors import TopicError, Unavailable
from runtime.clients import (
    DENIED,
    NOT_JOINED,
    broker_error,
    consumer_properties,
    is_fatal,
    leave,
    make_client,
)
from runtime.groups import BATCH, behind_batch, is_not_decompressed, topic_ends
from runtime.metrics import STATISTICS_MS
from runtime.settings import Settings
from runtime.telemetry import Thinning
from runtime.topics import is_gone

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
COMMIT_SECONDS = 0.05
"""What a killed consumer may repeat, beside the batch in hand; commits as fast as they go take a sixth of its speed."""
SILENCE_SECONDS = 5.0
LONGEST_SILENCE_SECONDS = 600.0
ASK_SECONDS = 10.0
LOOK_SECONDS = 1.0

LostOffset: TypeAlias = Literal["earliest", "error"]
Resume: TypeAlias = Callable[[Collection[int]], Mapping[int, int]]
"""Gives the next offset of each partition that has one."""
OnRebalance: TypeAlias = Callable[["Source", list[TopicPartition]], None]


class Mark(Protocol):
    """What a ledger leaves beside the group's committed offsets, so that no other one records a part of them."""

    id: str

    def check_ids(self, group: str, found: Collection[str]) -> None:
        """Raise LedgerError when an id that is beside the group's offsets is none of its own."""


class Source:
    """One topic as a group member reads it: its client, and what has been handled and not yet committed."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        topic: str,
        lost_offset: LostOffset = "earliest",
        batch: int = BATCH,
        on_statistics: Callable[[str], None] | None = None,
        *,
        is_replays: bool = False,
    ) -> None:
        self.group = group
        self.is_replays = is_replays
        self._batch = batch
        self.topic = topic
        self.handled: dict[int, int] = {}
        """The next offset of each partition, past what has been handled."""
        self.owned: set[int] = set()
        """The partitions that are ours; asking librdkafka takes as long as reading a batch."""
        self.ever_owned: set[int] = set()
        self.resume_from: Resume | None = None
        """Where the group's own offsets are not the truth."""
        self.mark: Mark | None = None
        """Its id is left in the committed offsets' metadata."""
        self._committing = False
        self._commit_at = 0.0
        self._came = 0
        """How many messages came at once when there were some, 0 in a silence."""
        self._thinning = Thinning(SILENCE_SECONDS, LONGEST_SILENCE_SECONDS)
        self._log = log.getChild(group)
        self._log.filters = [self._thinning]
        self._anew_log = log.getChild(f"{group}.connection")
        self._anew_log.filters = [Thinning(SILENCE_SECONDS, LONGEST_SILENCE_SECONDS)]
        self._settings = settings
        self._timeout = settings.request_timeout
        properties = consumer_properties(settings, group)
        properties |= {"auto.offset.reset": lost_offset, "error_cb": self._on_error, "on_commit": self._on_commit}
        properties |= {"logger": logging.getLogger("librdkafka.consumer")}
        if on_statistics is not None and settings.metrics_port is not None:
            properties |= {"stats_cb": on_statistics, "statistics.interval.ms": STATISTICS_MS}
        self._properties = properties
        self._subscription: dict[str, OnRebalance] = {}
        self._ask_at = time.monotonic() + ASK_SECONDS
        self._renewals = 0
        """How often it has begun anew since it last was given partitions."""
        self.client = make_client(Consumer, properties)

    def subscribe(self, on_assign: OnRebalance, on_revoke: OnRebalance, on_lost: OnRebalance) -> None:
        """Join the group; each callback gets this source and the partitions."""
        self._subscription = {"on_assign": on_assign, "on_revoke": on_revoke, "on_lost": on_lost}

        def given(_: Consumer, partitions: list[TopicPartition]) -> None:
            self._renewals = 0
            self.owned |= {one.partition for one in partitions}
            self.ever_owned |= self.owned
            on_assign(self, partitions)

        def taken(call: OnRebalance, partitions: list[TopicPartition]) -> None:
            call(self, partitions)
            self.owned -= {one.partition for one in partitions}

        self.client.subscribe(
            [self.topic],
            on_assign=given,
            on_revoke=lambda _, partitions: taken(on_revoke, partitions),
            on_lost=lambda _, partitions: taken(on_lost, partitions),
        )

    def read_alone(self, resume: Resume, look_back: int) -> None:
        """Read every partition without the group, from where `resume` says or `look_back` messages before the end."""
        ends = topic_ends(self.client, self._settings, self.topic)
        known = resume(ends)
        starts = {number: known.get(number, max(first, end - look_back)) for number, (first, end) in ends.items()}
        self.owned = set(starts)
        self.client.assign([TopicPartition(self.topic, *start) for start in starts.items()])

    def receive(self, seconds: float = 0.0) -> list[Message]:
        """Give all that is there; when nothing is, wait for the first that comes, not for a batch to fill."""
        messages = self.client.consume(self._batch, 0)
        if not messages and (message := self.client.poll(seconds)) is not None:
            messages = [message]
            # Others have most likely come with it, if they did last, and need not wait until it is handled; a look
            # for them would hold a lone one up.
            if self._came > 1:
                messages += self.client.consume(self._batch - 1, 0)
        if messages:
            self._came = len(messages)
        elif self._came:
            self._fall_silent()
        elif time.monotonic() >= self._ask_at and not (self._subscription and self.owned):
            self._ask()  # who has partitions has lost them soon if nobody answers its heartbeats
        return messages

    def _fall_silent(self) -> None:
        """Note that what came before has been the last: what failed has worked, and we wait again before we ask."""
        self._came = 0
        self._thinning.forget()
        self._ask_at = time.monotonic() + ASK_SECONDS

    def _ask(self) -> None:
        """Find out, after a silence, whether this client still knows a broker, and make another one if it does not.

        A broker that comes back from a pause may say for a moment that the cluster has no brokers: librdkafka then
        forgets them all and never asks again (its issue 5301). That is another error than an answer which has not come
        yet: a member of a group need not wait for it. Raises Unavailable for who is in no group.
        """
        # Ever later, or a client that takes longer to connect would never come to it.
        self._ask_at = time.monotonic() + max(ASK_SECONDS, self._timeout) * (1 << min(self._renewals, 4))
        try:
            self.client.list_topics(
                self.topic, min(LOOK_SECONDS, self._timeout) if self._subscription else self._timeout
            )
        except KafkaException as error:
            if not self._subscription:
                raise broker_error(error, f"reading {self.topic}") from None
            if error.args[0].code() != KafkaError._TRANSPORT:  # noqa: SLF001 - librdkafka's name for it
                return
            self._renewals += 1
            self._anew_log.warning("%s begins anew with another connection: %s", self.group, error.args[0].str())
            self.close()
            self.client = make_client(Consumer, self._properties)
            self._committing = False
            self.subscribe(**self._subscription)

    def commit(self, *, wait: bool = False) -> None:
        """Commit what has been handled: at once after a pause, else at intervals, and one at a time."""
        if not self.handled or (not wait and (self._committing or time.monotonic() < self._commit_at)):
            return
        self._commit_at = time.monotonic() + COMMIT_SECONDS
        mark = self.mark.id if self.mark else ""
        offsets = [TopicPartition(self.topic, *place, metadata=mark) for place in self.handled.items()]
        self.handled = {}
        if not wait:
            self._committing = True
            self.client.commit(offsets=offsets, asynchronous=True)
            return
        try:
            self.client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._not_committed(error.args[0])

    def check_mark(self, partitions: int) -> None:
        """Raise LedgerError for a group whose offsets were committed beside another mark: each would have a part."""
        try:
            places = [TopicPartition(self.topic, partition) for partition in range(partitions)]
            committed = self.client.committed(places, timeout=self._timeout)
        except KafkaException as error:
            raise broker_error(error, f"asking for the offsets of {self.group}") from None
        if self.mark and (found := {str(one.metadata) for one in committed if one.metadata}):
            self.mark.check_ids(self.group, found)

    def pause(self) -> None:
        """Fetch nothing, and stay in the group."""
        if self.owned:
            self.client.pause(self.client.assignment())

    def resume(self) -> None:
        """Fetch again."""
        if self.owned:  # who has none may have left the group
            self.client.resume(self.client.assignment())

    def close(self) -> None:
        """Leave the group, by on_revoke, and let go of the connection."""
        leave(self.client.close, self.group)

    def _on_commit(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        self._committing = False
        if error is not None and error.code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - librdkafka's name for it
            self._not_committed(error)
            # As when the group takes turns; else nobody would commit them before the next record comes.
            self.handled = {one.partition: one.offset for one in offsets if one.partition in self.owned} | self.handled

    def _not_committed(self, error: KafkaError) -> None:
        self._log.warning("%s: offsets were not committed, their records may come again: %s", self.group, error.str())

    def _on_error(self, error: KafkaError) -> None:
        """Tell what the client gets over by itself at growing intervals: it reports every try."""
        if self._came:
            self._fall_silent()
        self._log.warning("%s: %s", self.group, error.str(), extra={"topic": self.topic})

    def is_message(self, message: Message) -> bool:
        """Tell a message from an error; for one that only a person can mend raises KafkaException or TopicError.

        Not from a callback of this client, as it may have to ask the brokers.
        """
        if (error := message.error()) is None:
            return True
        where = f"{message.topic()} partition {message.partition()}"
        if error.code() in DENIED | NOT_JOINED.keys() or is_fatal(error):
            raise KafkaException(error)
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and is_gone(
            self.client, self._settings, message.topic() or ""
        ):
            raise TopicError(f"{where} is gone: {error.str()}; start again to have the topic made")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's name for it
            raise self._lost(message)
        if is_not_decompressed(message):
            return self.go_behind(message)
        place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        # The client gets over it by itself.
        log.warning("%s goes on after an error of %s: %s", self.group, where, error.str(), extra=place)
        return False

    def how_to_pass(self, message: Message) -> str:
        """Return what a person can do to go on without a message that can neither be read nor kept."""
        partition, behind = message.partition() or 0, (message.offset() or 0) + 1
        servers = self._settings.kafka_bootstrap_servers
        command = (
            f"kafka-consumer-groups --bootstrap-server {servers} --group {self.group} --topic {self.topic}:{partition} "
            f"--reset-offsets --to-offset {behind} --execute"
            if self.resume_from is None
            else f"python -m consumers.ledger skip {partition} {behind}"
        )
        return f"to go on without partition {partition} offset {behind - 1}, which is lost then, run: {command}"

    def go_behind(self, message: Message) -> bool:
        """Go on behind a batch that cannot be decompressed; False where that has to be tried again."""
        try:
            behind = behind_batch(self._settings, message)
        except (KafkaException, Unavailable) as error:
            self._log.warning("%s cannot pass a batch that it cannot decompress: %s", self.group, error)
            return False
        self.client.seek(TopicPartition(message.topic() or "", message.partition() or 0, behind))
        return True

    def _lost(self, message: Message) -> TopicError:
        """Name what is gone when the topic no longer has the ledger's next offset."""
        place = TopicPartition(message.topic() or "", message.partition() or 0)
        known = self.resume_from([place.partition]) if self.resume_from is not None else {}
        wanted = known.get(place.partition, 0)
        try:
            first, end = self.client.get_watermark_offsets(place, timeout=self._timeout)
        except KafkaException as error:
            return TopicError(
                f"{place.topic} partition {place.partition} has no offset {wanted}: {error.args[0].str()}"
            )
        lost = f"offsets {wanted} to {first - 1} are lost" if wanted < first else f"the topic ends at offset {end}"
        return TopicError(
            f"{place.topic} partition {place.partition} has no offset {wanted}, where {self.group} would go on: "
            f"{lost}; restore the topic, or accept that with: python -m consumers.ledger skip {place.partition} {first}"
        )
