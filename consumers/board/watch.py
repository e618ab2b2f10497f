"""Looks at broker and registry for the board, each matter on a thread: one that does not answer hides no other."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, Generic, TypeVar

import msgspec

from consumers.board.state import Board
from consumers.letters import Letter, hexdump, read_letters
from consumers.observe import Observed, observe_messages
from contract.changes import describe_changes
from contract.compatibility import Level
from contract.errors import ClientFailed, PipelineError, Unavailable
from contract.gate import check_schemas, is_compatible
from contract.order import OrderV2
from contract.registry import Plan, plan
from contract.subjects import SchemaFile, Subject, load_contract
from runtime.bounded import waiting_until
from runtime.groups import Groups, asking_client, partition_ends, topic_ends
from runtime.metrics import ConsumerMetrics
from runtime.topics import Servers, Topic, find_topics

T = TypeVar("T")

GROUP = "board"
ANSWER_SECONDS = 5.0  # an absent broker is to be seen sooner than REQUEST_TIMEOUT gives it up
LETTERS = 20
LETTER_BYTES = 128


class Watch:
    """Keeps a board up to date until `stop` is set; what cannot be known for now is told on it."""

    def __init__(self, servers: Servers, board: Board, stop: Event) -> None:
        settings = servers.settings
        hurried = msgspec.structs.replace(settings, request_timeout=min(ANSWER_SECONDS, settings.request_timeout))
        self._settings, self._hurried, self._servers = settings, hurried, servers
        self._subject = load_contract(servers.settings.schemas_dir).subject("order")
        self._board = board
        self._stop = stop
        other_groups = [group for group in self._subject.readers if group != GROUP]
        patience = 2 * settings.request_timeout
        self._asking_groups = Kept(
            lambda: (asking_client(hurried, GROUP), Groups(hurried, self._subject.topic, other_groups)), patience
        )
        self._asking_letters = Kept(lambda: (asking_client(hurried, GROUP), servers.topic_client(hurried)), patience)
        self._metrics = ConsumerMetrics(servers.settings, GROUP, self._subject.topic, joins=False)
        self._partitions = 0
        self._topic: Topic | None = None
        self._letters = {group: Letters(group) for group in other_groups}  # the board writes none
        looks = {"orders": (self._observe, 1.0), "groups": (self._ask_groups, 1.0), "registry": (self._compare, 3.0)}
        looks |= {"dead letters": (self._read_letters, 1.0)}
        self.jobs = [partial(self._keep, what, *look) for what, look in looks.items()]
        """What is to be done at the same time, each on a thread, until `stop` is set."""

    def _keep(self, what: str, look: Callable[[], None], seconds: float) -> None:
        while not self._stop.is_set():
            try:
                with waiting_until(self._stop):
                    look()
                self._board.tell(what, None)
            except ClientFailed as error:
                self._metrics.has_failed_for_good(str(error))
                raise
            except PipelineError as error:
                self._board.tell(what, self._settings.redact(str(error)))
            self._stop.wait(seconds)

    def _observe(self) -> None:
        partitions = self._partitions

        def observe(observed: Sequence[Observed[OrderV2]]) -> None:
            nonlocal partitions
            partitions = partitions or self._partitions  # the groups' look may come later
            self._metrics.has_turned()
            self._board.take(observed)
            if partitions != self._partitions:
                raise Unavailable("the topic has other partitions now, reading begins again")

        self._metrics.has_turned()
        observe_messages(
            self._servers, self._subject, OrderV2, GROUP, observe=observe, resume=self._resume, stop=self._stop
        )

    def _resume(self, topic: Topic) -> Mapping[int, int]:
        if self._topic is not None and not self._topic.is_same(topic):
            self._board.begin_anew()
        self._topic = topic
        return self._board.next_offsets.copy()

    def _ask_groups(self) -> None:
        with self._asking_groups.use() as (client, groups):
            ends = topic_ends(client, self._hurried, self._subject.topic)
            self._partitions = len(ends)
            self._board.take_groups(ends, groups.ask([*ends]))

    def _compare(self) -> None:
        """Read the files anew, too: a version may have been released since."""
        subject = load_contract(self._settings.schemas_dir).subject("order")
        try:
            self._servers.registry.clear_caches()  # type: ignore[no-untyped-call]  # confluent-kafka gives it no types
            planned = plan(subject, self._servers.registry)
        except PipelineError:
            self._board.take_part("contract", describe_contract(subject, None))
            raise
        self._board.take_part("contract", describe_contract(subject, planned), planned.ids)

    def _read_letters(self) -> None:
        names = {group: self._subject.dead_letters(group) for group in self._letters}
        with self._asking_letters.use() as (client, ask):
            found = find_topics(self._hurried, ask, [*names.values()])
            ends = {
                topic: partition_ends(client, self._hurried, topic, [0])[0][1] for topic in found
            }  # of the only one
        for group, topic in names.items():
            if topic not in found:
                continue  # its consumer makes the topic when it starts for the first time
            if (kept := self._letters[group]).topic != found[topic]:
                kept = self._letters[group] = Letters(group, found[topic])  # the first look, or it was made anew
            if ends[topic] > kept.next_offset:
                self._read_on(kept)
        newest = [one for kept in self._letters.values() for one in kept.newest]
        newest.sort(key=lambda one: one["placed"], reverse=True)
        counts = {group: kept.reasons.most_common() for group, kept in self._letters.items()}
        self._board.take_part("letters", {"counts": counts, "newest": newest[:LETTERS]})

    def _read_on(self, kept: Letters) -> None:
        try:
            for letter in read_letters(self._settings, self._subject.dead_letters(kept.group), kept.next_offset):
                kept.take(letter)
        except ClientFailed as error:  # it was made for these letters alone
            raise Unavailable(str(error)) from None


class Kept(Generic[T]):
    """What a look asks by from one time to the next: a new client has to connect first, several answers' time.

    It is made anew once it has failed for `patience` seconds: a client that has lost its broker may not find it again.
    """

    def __init__(self, make: Callable[[], T], patience: float) -> None:
        self._make = make
        self._patience = patience
        self._now, self._worked_at = make(), time.monotonic()

    @contextmanager
    def use(self) -> Iterator[T]:
        """Lend it; whether that raises Unavailable says whether it works."""
        try:
            yield self._now
        except Unavailable:
            if time.monotonic() > self._worked_at + self._patience:
                self._now, self._worked_at = self._make(), time.monotonic()
            raise
        self._worked_at = time.monotonic()


class Letters:
    """One consumer's letters as far as they were read: counted, and what is shown of the newest of them."""

    def __init__(self, group: str, topic: Topic | None = None) -> None:
        self.group = group
        self.topic = topic
        self.next_offset = 0
        self.reasons = Counter[str]()
        self.newest: deque[dict[str, Any]] = deque(maxlen=LETTERS)

    def take(self, letter: Letter) -> None:
        """Count a letter, and keep what is shown of it: whole, it may have 16 MiB."""
        self.next_offset = letter.offset + 1
        self.reasons[letter.reason] += 1
        self.newest.appendleft(_shown_letter(self.group, letter))


def describe_contract(subject: Subject, planned: Plan | None) -> dict[str, Any]:
    """Say what versions there are, who reads them, and what the registry holds, where that is known."""
    files = {file.number or 0: file for file in subject.released}
    if not subject.is_released:
        files[subject.next_number] = subject.current
    present = planned.present if planned is not None else {}
    befores: list[SchemaFile | None] = [None, *files.values()]
    return {
        "subject": subject.name,
        "level": subject.compatibility,
        "registry_level": None if planned is None else planned.level_now or "its default",
        "versions": [
            {
                "number": number,
                "released": file.number is not None,
                "changes": describe_changes(before.parsed if before else None, file.parsed),
                "schema_id": present[number].id if number in present else None,
            }
            for before, (number, file) in zip(befores, files.items(), strict=False)
        ],
        "readers": [
            {"group": group, "version": number, "reads": _reads(files.get(number) or subject.version(number), files)}
            for group, number in subject.readers.items()
        ],
        "findings": [] if planned is None else [finding.message for finding in planned.findings],
    }


def _reads(reader: SchemaFile, files: Mapping[int, SchemaFile]) -> list[dict[str, Any]]:
    """Judge a reader's version beside each writer's, as the gate does."""
    verdicts = {number: check_schemas(Level.BACKWARD, [writer], reader) for number, writer in files.items()}
    return [
        {"version": number, "reads": is_compatible(found), "why": [one.message for one in found]}
        for number, found in verdicts.items()
    ]


def _shown_letter(group: str, letter: Letter) -> dict[str, Any]:
    value = letter.message.value() or b""
    return {
        "group": group,
        "offset": letter.offset,
        "reason": letter.reason,
        "sentence": letter.sentence,
        "place": f"{letter.topic} partition {letter.partition} offset {letter.original_offset}",
        "placed": letter.timestamp / 1000,
        "size": len(value),
        "bytes": "\n".join(hexdump(value[:LETTER_BYTES])),
    }
