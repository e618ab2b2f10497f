"""One topic as a group member reads it: polling, pausing and committing, with what has been handled so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from contract.errors import ClientFailed, TopicError, Unavailable
from runtime.aside import Aside
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
from runtime.topics import Topic, TopicWatch, is_gone

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
COMMIT_SECONDS = 0.05
"""What a killed consumer may repeat, beside the batch in hand; commits as fast as they go take a sixth of its speed."""
SILENCE_SECONDS = 5.0
LONGEST_SILENCE_SECONDS = 600.0
ASK_SECONDS = 10.0
LOOK_SECONDS = 1.0
QUIET_SECONDS = 1.0

FirstOffsets: TypeAlias = Callable[[], Mapping[int, int]]
"""Returns the first offset that each partition of the topic has now."""
Resume: TypeAlias = Callable[[Collection[int], FirstOffsets], Mapping[int, int]]
"""Returns the next offset of each of some partitions, for whom the group's own offsets are not the truth."""
OnRebalance: TypeAlias = Callable[["Source", list[TopicPartition]], None]

TOPIC_MARK = "topic "
"""Before a topic's id in the metadata of committed offsets, alone or behind a ledger's own."""


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
        batch: int = BATCH,
        on_statistics: Callable[[str, Mapping[int, int]], None] | None = None,
        *,
        is_replays: bool = False,
    ) -> None:
        self.group = group
        self.is_replays = is_replays
        self._batch = batch
        self.topic = topic
        self.handled: dict[int, int] = {}
        """The next offset of each partition, past what has been handled and is not committed."""
        self.committed: dict[int, int] = {}
        """The next offset of each partition that has one, as it is committed."""
        self._reached: dict[int, int] = {}
        """The same, with commits that are under way."""
        self.owned: set[int] = set()
        """The partitions that are ours; asking librdkafka takes as long as reading a batch."""
        self.ever_owned: set[int] = set()
        self.resume_from: Resume | None = None
        """Where the group's own offsets are not the truth."""
        self.lost: list[Message] = []
        """Errors that tell of an offset that its partition does not have, to be settled by `go_on`, or of a batch that
        `go_behind` has passed over: that one's offset is the batch's last."""
        self.mark: Mark | None = None
        """Its id is left in the committed offsets' metadata."""
        self.topic_mark = ""
        """The topic's, left there where there is no ledger."""
        self.watch: TopicWatch | None = None
        self.on_quiet: Callable[[Source], object] | None = None
        """Called when nothing has come for a moment, and once a second while nothing does."""
        self._committing = self._is_closing = self._is_paused = False
        self._commit_at = self._quiet_at = 0.0
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
        # Never a silent jump: where an offset is not there, we say so and decide.
        properties |= {"auto.offset.reset": "error", "error_cb": self._on_error, "on_commit": self._on_commit}
        properties |= {"logger": _ClientLog(settings.kafka.get("debug", ""), self._hear)}
        # Some lines every ten seconds, one of which is all that tells of a topic that was made anew.
        properties |= {"debug": ",".join(filter(None, [settings.kafka.get("debug", ""), "metadata"]))}
        if on_statistics is not None and settings.metrics_port is not None:
            properties |= {"stats_cb": lambda text: on_statistics(text, self.committed)}
            properties |= {"statistics.interval.ms": STATISTICS_MS}
        self._properties = properties
        self._abandoned = 0
        """How many clients are no longer ours."""
        self._subscription: dict[str, OnRebalance] = {}
        self._ask_at = time.monotonic() + ASK_SECONDS
        self._renewals = 0
        """How often it has begun anew since it last was given partitions."""
        self.client = self._make_client()

    def _make_client(self) -> Consumer:
        calls = {name: self._while_ours(call) for name, call in self._properties.items() if callable(call)}
        return make_client(Consumer, self._properties | calls)

    def _while_ours(self, call: Callable[..., object]) -> Callable[..., None]:
        """Return a callback for the client of now: nothing that it reports once it is abandoned is about us."""
        abandoned = self._abandoned

        def called(*arguments: object) -> None:
            if self._abandoned == abandoned:
                call(*arguments)

        return called

    def subscribe(self, on_assign: OnRebalance, on_revoke: OnRebalance, on_lost: OnRebalance) -> None:
        """Join the group; each callback gets this source and the partitions."""
        self._subscription = {"on_assign": on_assign, "on_revoke": on_revoke, "on_lost": on_lost}

        def given(_: Consumer, partitions: list[TopicPartition]) -> None:
            if self._is_closing:
                return  # a client that closes answers no question, and gives them back at once
            self._renewals = 0
            self.owned |= {one.partition for one in partitions}
            self.ever_owned |= self.owned
            on_assign(self, partitions)

        def taken(call: OnRebalance, partitions: list[TopicPartition]) -> None:
            call(self, partitions)
            self.owned -= {one.partition for one in partitions}

        self.client.subscribe(
            [self.topic],
            on_assign=self._while_ours(given),
            on_revoke=self._while_ours(lambda _, partitions: taken(on_revoke, partitions)),
            on_lost=self._while_ours(lambda _, partitions: taken(on_lost, partitions)),
        )

    def read_alone(self, resume: Mapping[int, int], look_back: int) -> None:
        """Read every partition without the group, from where `resume` says or `look_back` messages before the end."""
        starts: dict[int, int] = {}
        for number, (first, end) in topic_ends(self.client, self._settings, self.topic).items():
            starts[number] = resume.get(number, max(first, end - look_back))
            if not first <= starts[number] <= end:
                log.warning("%s", self._gone(number, starts[number], first, end))
                starts[number] = max(first, end - look_back)
        self.owned = set(starts)
        self.client.assign([TopicPartition(self.topic, *start) for start in starts.items()])

    def first_offsets(self, partitions: int) -> Mapping[int, int]:
        """Return the first offset that each of so many partitions has now; raises Unavailable or Forbidden.

        From a callback of this client, too, where it must not be asked for the topics: it would end the process.
        """
        return {number: self._range(number)[0] for number in range(partitions)}

    def group_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the group's committed offset of each of these partitions that has one; raises Unavailable, Forbidden.

        One that was committed for another topic of this name is none: Kafka forgets a deleted topic's offsets, but for
        those that were under way.
        """
        found: dict[int, int] = {}
        for one in self._committed(partitions):
            if self._is_of_another(one.metadata or ""):
                sentence = "%s passes over its offset %d of partition %d: it was committed for %s, a topic that is gone"
                log.warning(sentence, self.group, one.offset, one.partition, one.metadata)
            elif one.offset >= 0:
                found[one.partition] = one.offset
        return found

    def starts(self, offsets: Mapping[int, int], partitions: Collection[int]) -> list[TopicPartition]:
        """Return where partitions are to be read from: at these offsets, or the beginning."""
        kept = {one: offset for one, offset in self.committed.items() if one not in partitions}
        self.committed = {**kept, **offsets}
        self._reached = self._reached | dict.fromkeys(partitions, 0) | {**offsets}
        return [TopicPartition(self.topic, one, offsets.get(one, OFFSET_BEGINNING)) for one in partitions]

    def go_to(self, offsets: Mapping[int, int]) -> None:
        """Read partitions of ours on from other offsets."""
        places = self.starts(offsets, offsets)
        # A seek is refused where reading has ended for want of the offset.
        self.client.incremental_unassign(places)
        self.assign(places)

    def assign(self, places: list[TopicPartition]) -> None:
        """Read further partitions from these places on, as soon as nothing is paused."""
        self.client.incremental_assign(places)
        # librdkafka keeps a partition paused that was given back so, and would never read it again.
        (self.client.pause if self._is_paused else self.client.resume)(places)

    def forget(self) -> None:
        """Commit nothing of what has been handled, neither now nor when a commit that is under way fails."""
        self.handled, self.owned = {}, set()

    def passed(self) -> list[Message]:
        """Return what was passed over behind the last record of a partition, as a message there: markers, aborted ones.

        Only while nothing is in hand: a client's position is behind all that it has given.
        """
        known = self._reached | self.handled
        places = [TopicPartition(self.topic, number) for number in self.owned]
        return [
            Message(topic=self.topic, partition=one.partition, offset=one.offset - 1)
            for one in self.client.position(places)
            if one.offset > known.get(one.partition, 0)
        ]

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
        else:
            self._be_quiet()
        return messages

    def _be_quiet(self) -> None:
        """Do what is for when nothing comes, seldom."""
        now = time.monotonic()
        if self._came:
            self._fall_silent()
        elif now >= self._ask_at and not (self._subscription and self.owned):
            self._ask()  # who has partitions has lost them soon if nobody answers its heartbeats
        if now >= self._quiet_at and self.on_quiet is not None:
            self._quiet_at = now + QUIET_SECONDS
            self.on_quiet(self)

    def _fall_silent(self) -> None:
        """Note that what came before has been the last: what failed has worked, and we wait again before we ask."""
        self._came, self._quiet_at = 0, 0.0
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
            # It closes by itself, if it does: librdkafka may wait for ever, and has nothing left that is ours.
            self._abandoned += 1
            Aside(self.client.close)
            self.client = self._make_client()
            self._committing = False
            self.subscribe(**self._subscription)

    def commit(self, *, wait: bool = False) -> None:
        """Commit what has been handled: at once after a pause, else at intervals, and one at a time."""
        if not self.handled or (not wait and (self._committing or time.monotonic() < self._commit_at)):
            return
        self._commit_at = time.monotonic() + COMMIT_SECONDS
        mark = self.mark.id if self.mark else self.topic_mark
        offsets = [TopicPartition(self.topic, *place, metadata=mark) for place in self.handled.items()]
        self._reached |= self.handled
        self.handled = {}
        if not wait:
            self._committing = True
            self.client.commit(offsets=offsets, asynchronous=True)
            return
        try:
            self.client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._not_committed(error.args[0])
        else:
            self._has_committed(offsets)

    def check_mark(self, partitions: int) -> None:
        """Raise LedgerError for a group whose offsets were committed beside another mark: each would have a part."""
        found = {one.metadata for one in self._committed(range(partitions)) if one.metadata}
        ours = {one for one in found if not (one.startswith(TOPIC_MARK) or self._is_of_another(one))}
        if self.mark and ours:
            self.mark.check_ids(self.group, ours)

    def _is_of_another(self, metadata: str) -> bool:
        """Return whether what was committed beside an offset names another topic than this."""
        return TOPIC_MARK in metadata and not metadata.endswith(self.topic_mark)

    def _committed(self, partitions: Collection[int]) -> list[TopicPartition]:
        try:
            places = [TopicPartition(self.topic, partition) for partition in partitions]
            return self.client.committed(places, timeout=self._timeout)
        except KafkaException as error:
            raise broker_error(error, f"asking for the offsets of {self.group}") from None

    def pause(self) -> None:
        """Fetch nothing, and stay in the group; nor from what is assigned meanwhile."""
        self._is_paused = True
        if self.owned:
            self.client.pause(self.client.assignment())

    def resume(self) -> None:
        """Fetch again."""
        self._is_paused = False
        if self.owned:  # who has none may have left the group
            self.client.resume(self.client.assignment())

    def close(self) -> None:
        """Leave the group, by on_revoke, and let go of the connection.

        Raises ClientFailed for a member whose client does not close; nobody waits for one that is in no group.
        """
        self._is_closing = True
        if self._subscription:
            leave(self.client.close, self.group)
        else:
            Aside(self.client.close)

    def _on_commit(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        self._committing = False
        if error is not None and error.code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - librdkafka's name for it
            self._not_committed(error)
            # As when the group takes turns; else nobody would commit them before the next record comes.
            self.handled = {one.partition: one.offset for one in offsets if one.partition in self.owned} | self.handled
        else:
            self._has_committed(offsets)

    def _has_committed(self, offsets: Sequence[TopicPartition]) -> None:
        self.committed |= {one.partition: one.offset for one in offsets if one.partition in self.owned}

    def _not_committed(self, error: KafkaError) -> None:
        self._log.warning("%s: offsets were not committed, their records may come again: %s", self.group, error.str())

    def _on_error(self, error: KafkaError) -> None:
        """Tell what the client gets over by itself at growing intervals: it reports every try."""
        if self._came:
            self._fall_silent()
        self._doubt()
        self._log.warning("%s: %s", self.group, error.str(), extra={"topic": self.topic})

    def _doubt(self) -> None:
        if self.watch is not None:
            self.watch.doubt()

    def _hear(self, line: str) -> None:
        if self.watch is not None:
            self.watch.hear(line)

    def is_message(self, message: Message) -> bool:
        """Tell a message from an error; for one that only a person can mend raises KafkaException or TopicError.

        Not from a callback of this client, as it may have to ask the brokers.
        """
        if (error := message.error()) is None:
            return True
        self._doubt()
        where = f"{message.topic()} partition {message.partition()}"
        if error.code() in DENIED | NOT_JOINED.keys() or is_fatal(error):
            raise KafkaException(error)
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and is_gone(
            self.client, self._settings, message.topic() or ""
        ):
            raise TopicError(f"{where} is gone: {error.str()}; start again to have the topic made")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's name for it
            self.lost.append(message)
            return False
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
        """Go on behind a batch that cannot be decompressed, and note it in `lost`; False for an error to be left aside.

        That is one that has come again before we went on, or a batch whose end is to be asked for when it comes again.
        """
        partition = message.partition() or 0
        if any(one.partition() == partition and is_not_decompressed(one) for one in self.lost):
            return False
        try:
            behind = behind_batch(self._settings, message)
        except (KafkaException, Unavailable, ClientFailed) as error:  # of the client that asks, not of ours
            self._log.warning("%s cannot pass a batch that it cannot decompress: %s", self.group, error)
            return False
        self.go_to({partition: behind})
        self.lost.append(Message(topic=self.topic, partition=partition, offset=behind - 1, error=message.error()))
        return True

    def go_on(self, lost: Message) -> None:
        """Go on at the first offset of a partition that does not have our next one any more, and say what is gone.

        Raises TopicError for who has a ledger, which a person must take past what is gone, and Unavailable.
        """
        partition, wanted = lost.partition() or 0, lost.offset() or 0
        first, end = self._range(partition)
        if first <= wanted <= end:  # whoever leads the partition now has it
            self.go_to({partition: wanted})
            return
        if self.resume_from is not None:
            advice = f"accept that with: python -m consumers.ledger skip {partition} {first}"
            if wanted > end:
                advice = "set DATA_DIR to another directory, for a ledger that begins with what the topic has now"
            raise TopicError(f"{self._gone(partition, wanted, first, end)}; restore the topic, or {advice}")
        place_told = {"topic": self.topic, "partition": partition, "offset": first}
        log.warning("%s; it goes on at %d", self._gone(partition, wanted, first, end), first, extra=place_told)
        self.go_to({partition: first})
        self.handled[partition] = first  # though nothing may come from there for long

    def _range(self, partition: int) -> tuple[int, int]:
        """Return the first offset of a partition and its last stable one."""
        try:
            place = TopicPartition(self.topic, partition)
            return self.client.get_watermark_offsets(place, timeout=self._timeout)
        except KafkaException as error:
            raise broker_error(error, f"asking for the offsets of {self.topic} partition {partition}") from None

    def _gone(self, partition: int, wanted: int, first: int, end: int) -> str:
        """Say that a partition does not have an offset, and which are gone: offsets, for who knows what they were."""
        gone = f"offsets {wanted} to {first - 1} are lost" if wanted < first else f"the topic ends at offset {end}"
        return f"{self.topic} partition {partition} has no offset {wanted}, where {self.group} would go on: {gone}"


def topic_mark(topic: Topic) -> str:
    """Return what says in a committed offset's metadata which topic it is of."""
    return f"{TOPIC_MARK}{topic.id}"


class _ClientLog:
    """A client's log without the lines that nobody asked for by KAFKA_DEBUG; each of them is heard."""

    def __init__(self, wanted: str, hear: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._hear = hear
        self._log = logging.getLogger("librdkafka.consumer")

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Take a line, as a logger does; its last argument is the sentence."""
        if level <= logging.DEBUG:
            self._hear(str(arguments[-1]))
        if level > logging.DEBUG or self._wanted:
            self._log.log(level, message, *arguments)
