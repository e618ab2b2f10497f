"""Looks into a ledger and checks it beside the topic: `python -m consumers.ledger`."""

from __future__ import annotations

import codecs
import csv
import os
import sqlite3
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.ledger import (
    PASSED,
    RESTORE,
    check_format,
    database_errors,
    forget_elsewhere,
    lock_directory,
    open_database,
    refuse_other,
    renew_id,
)
from consumers.letters import Letter, read_letters
from contract.access import ONLOOKERS, Permission, to_read_letters, to_verify
from contract.errors import Forbidden, LedgerError, Reason, SettingError, StorageUnavailable, TopicError
from contract.subjects import Subject, load_contract
from runtime.acls import require
from runtime.clients import admin_client, cluster_metadata
from runtime.command import FAILED, OK, counted, create_parser, run_command
from runtime.data_dir import check_data_dir
from runtime.groups import read_to_end, reading_client, topic_ends
from runtime.settings import Settings
from runtime.telemetry import printable
from runtime.topics import Topic, connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 when `verify` finds that something is missing."""
    parser = create_parser("ledger", __doc__ or "", "python -m consumers.ledger verify")
    actions = parser.add_subparsers(dest="action", required=True, metavar="summary|export|verify|duplicates|skip|adopt")
    actions.add_parser("summary", help="count rows and duplicates, and show the next offsets")
    exported = actions.add_parser("export", help="write every row to standard output, in the order of recording")
    exported.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
    actions.add_parser("verify", help="check that each offset of the topic is a row, a duplicate or a dead letter")
    actions.add_parser("duplicates", help="list what came again under a recorded identity, and where")
    skipped = actions.add_parser("skip", help="go on at an offset, accepting that what is before it is lost")
    skipped.add_argument("partition", type=int)
    skipped.add_argument("offset", type=int)
    adopted = actions.add_parser("adopt", help="let this ledger follow another one that its consumer group had before")
    adopted.add_argument("group")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Do what was asked for, and give the exit code."""
    actions = {
        "summary": _summary,
        "export": _export,
        "verify": _verify,
        "duplicates": _duplicates,
        "skip": _skip,
        "adopt": _adopt,
    }
    with _open(settings.data_dir, write=flags.action in {"skip", "adopt"}) as books:
        return actions[flags.action](flags, settings, books)


class Passed(NamedTuple):
    """Offsets that were passed over; `records` is None for those that had left the topic, as nobody knows what was."""

    partition: int
    offset: int
    next_offset: int
    records: int | None
    by_hand: bool

    def __str__(self) -> str:
        by_hand = "passed over by hand" + (", when they had left the topic" if self.records is None else "")
        why = by_hand if self.by_hand else "no longer in the topic when the ledger began"
        records = "" if self.records is None else f" ({counted(self.records, 'record')})"
        return f"partition {self.partition} {_offsets_between(self.offset, self.next_offset)}{records} {why}"


@dataclass(frozen=True)
class _Books:
    """An open ledger: its file, its database, the name of its table, its topic, and every id that it has had."""

    path: Path
    db: sqlite3.Connection
    table: str
    topic: str
    ids: frozenset[str]

    @property
    def next_offsets(self) -> dict[int, int]:
        """The next offset of each partition that it knows."""
        return dict(self.db.execute("SELECT partition, next_offset FROM partitions ORDER BY partition"))

    @property
    def passed(self) -> list[Passed]:
        """What no row is for although a next offset is past it."""
        if not self.one("SELECT count(*) FROM sqlite_master WHERE name = 'passed'"):
            return []
        query = "SELECT partition, offset, next_offset, records, by_hand FROM passed ORDER BY partition, offset"
        return [Passed(*row) for row in self.db.execute(query)]

    def one(self, query: str, *values: object) -> int:
        return int(self.db.execute(query.format(table=self.table), values).fetchone()[0])


@contextmanager
def _open(directory: Path, *, write: bool) -> Iterator[_Books]:
    path = directory / "ledger.db"
    with ExitStack() as opened, database_errors(path, "used"):
        try:
            path.lstat()
            check_data_dir(directory)
            if write:
                opened.callback(os.close, lock_directory(directory))
        except (FileNotFoundError, NotADirectoryError):
            raise LedgerError(f"there is no ledger at {path}; set DATA_DIR to where its consumer keeps it") from None
        except PermissionError as error:
            raise SettingError(
                f"{error.filename or path} cannot be used: {error.strerror}; run this as the user whose ledger it is"
            ) from None
        except OSError as error:
            raise StorageUnavailable(f"{error.filename or path} cannot be used: {error.strerror}") from None
        db = open_database(path, write=write)
        opened.callback(db.close)
        if not check_format(path, db):
            raise LedgerError(f"there is no ledger in {path} yet; its consumer makes one when it starts")
        yield _Books(path, db, *_known_of(path, db))


def _known_of(path: Path, db: sqlite3.Connection) -> tuple[str, str, frozenset[str]]:
    found = db.execute("SELECT name, topic, id FROM ledger").fetchone()
    if found is None:
        raise LedgerError(f"{path} is damaged: it does not say whose ledger it is; {RESTORE}")
    table, topic, newest = found
    older = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'ids'").fetchone() is None
    ids = [] if older else [one for (one,) in db.execute("SELECT id FROM ids")]
    return table, topic, frozenset([newest, *ids])


def _summary(_flags: Namespace, _settings: Settings, books: _Books) -> int:
    print(f"topic        {books.topic}")
    print(f"{books.table:<12} {books.one('SELECT count(*) FROM {table}')}")
    print(f"duplicates   {books.one('SELECT count(*) FROM duplicates')}")
    for partition, next_offset in books.next_offsets.items():
        print(f"partition    {partition}, next offset {next_offset}")
    for passed in books.passed:
        print(f"not recorded {passed}")
    return OK


def _export(flags: Namespace, _settings: Settings, books: _Books) -> int:
    """Write every row whole, whichever version has written it, as UTF-8 whatever the terminal's encoding is."""
    if sys.stdout is None:
        raise StorageUnavailable("standard output is closed; let it go to a file")
    out = codecs.getwriter("utf-8")(sys.stdout.buffer)
    books.db.execute("BEGIN")  # one state of the ledger, however often it is read
    if flags.format == "jsonl":
        for row in _rows(books):
            out.write(msgspec.json.format(msgspec.json.encode(row), indent=-1).decode() + "\n")
        return OK
    # What a newer or an older version has written may have other fields than the first row.
    columns = {name: None for row in _rows(books) for name in row}
    table = csv.writer(out)
    table.writerow(columns)
    for row in _rows(books):
        table.writerow([_cell(row[name]) if name in row else "" for name in columns])
    return OK


def _rows(books: _Books) -> Iterator[Mapping[str, msgspec.Raw]]:
    """Return each row's columns and its record's fields as JSON, just as they are stored.

    A field that is called as one of the columns gets "record." before its name.
    """
    columns = ("partition", "offset", "published_ms", "recorded_ms")
    query = f"SELECT line, record, {', '.join(columns)} FROM {books.table} ORDER BY line"
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    for line, record, *numbers in books.db.execute(query):
        try:
            fields = decode(record)
        except (msgspec.DecodeError, RecursionError):
            raise LedgerError(
                f"{books.path} is damaged: the record of line {line} is no JSON object; {RESTORE}"
            ) from None
        row = {name: msgspec.Raw(str(number).encode()) for name, number in zip(columns, numbers, strict=True)}
        yield row | {f"record.{name}" if name in columns else name: value for name, value in fields.items()}


def _cell(value: msgspec.Raw) -> str:
    """Return a CSV cell: text as it is, everything else as JSON."""
    known = bytes(value)
    return msgspec.json.decode(known, type=str) if known.startswith(b'"') else known.decode()


def _skip(flags: Namespace, settings: Settings, books: _Books) -> int:
    partition, offset = flags.partition, flags.offset
    _require(settings, Permission("READ", "topic", books.topic), Permission("DESCRIBE", "group", ONLOOKERS))
    _topic(settings, books)
    with reading_client(settings) as client:
        ends = topic_ends(client, settings, books.topic)
        known = books.next_offsets
        if partition not in known or partition not in ends:
            holder = "the ledger" if partition not in known else "the topic"
            raise SettingError(
                f"{holder} has no partition {partition} of {books.topic}; its partitions: {_list(known, ends)}"
            )
        (first, end), start = ends[partition], known[partition]
        if start == end != offset:
            raise SettingError(
                f"{offset} is no offset to go on at: there is nothing to pass over in partition {partition}, as the "
                f"ledger's next offset is the topic's end, {end}"
            )
        if end < start:
            raise TopicError(
                f"partition {partition} of {books.topic} ends at offset {end}, before the ledger's next one, {start}: "
                "there is none to go on at; restore the topic, or set DATA_DIR to another directory, for a ledger that "
                "begins with what the topic has now"
            )
        if not start <= offset <= end:
            raise SettingError(
                f"{offset} is no offset to go on at: for partition {partition} it is one from {start}, the ledger's "
                f"next offset, to {end}, the topic's end"
            )
        place = TopicPartition(books.topic, partition, max(first, start))
        records = sum(len(offsets) for offsets in _offsets(client, settings, place, offset))
    there = max(start, min(first, offset))  # what is before it has left the topic
    passed = [(partition, start, there, None), (partition, there, offset, records)]
    books.db.execute("BEGIN IMMEDIATE")
    books.db.execute("UPDATE partitions SET next_offset = ? WHERE partition = ?", (offset, partition))
    books.db.execute(PASSED)
    for one in passed:
        if one[1] < one[2]:
            books.db.execute("INSERT OR REPLACE INTO passed VALUES (?, ?, ?, ?, TRUE)", one)
    books.db.execute("COMMIT")
    are = "that is in the topic is" if records == 1 else "that are in the topic are"
    gone = f"; {_offsets_between(start, there)} are no longer there" if start < there else ""
    print(f"partition {partition} goes on at offset {offset}: {counted(records, 'record')} {are} passed over{gone}")
    return OK


def _adopt(flags: Namespace, settings: Settings, books: _Books) -> int:
    """Leave a new id of this ledger beside the group's offsets, which stay as they are."""
    groups = _groups(settings, books)
    if flags.group not in groups:
        raise SettingError(
            f"{flags.group} is no consumer of {books.topic} that subjects.yaml knows; its consumers: {_list(groups)}"
        )
    _require(settings, Permission("DESCRIBE", "topic", books.topic), Permission("READ", "group", flags.group))
    _topic(settings, books)
    books.db.execute("BEGIN IMMEDIATE")
    ledger_id = renew_id(books.path, books.db)
    books.db.execute("COMMIT")
    with reading_client(settings, flags.group) as client:
        committed = client.committed(_partitions(client, settings, books), timeout=settings.request_timeout)
        marked = [
            TopicPartition(one.topic, one.partition, one.offset, metadata=ledger_id)
            for one in committed
            if one.offset >= 0
        ]
        try:
            if marked:
                client.commit(offsets=marked, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                raise
            raise LedgerError(f"{flags.group} is at work; stop every {flags.group}, then run this again") from None
    forget_elsewhere(books.path, books.db)
    print(f"{flags.group} has this ledger now; it records {books.topic} from the ledger's offsets on")
    return OK


def _verify(_flags: Namespace, settings: Settings, books: _Books) -> int:
    """Read the topic up to the ledger's next offsets, and name each offset that is nowhere."""
    known = books.next_offsets  # first of all: its consumer may go on meanwhile, and writes its letters before
    _require_to_verify(settings, books)
    topic = _topic(settings, books)
    letters = {(one.partition, one.original_offset): one.reason for one in _letters(settings, books, topic)}
    passed = books.passed
    missing = 0
    with reading_client(settings) as client:
        for partition, (first, end) in topic_ends(client, settings, books.topic).items():
            next_offset = known.get(partition, 0 if known else first)
            if next_offset < first:
                missing += first - next_offset
                gone = _offsets_between(next_offset, first)
                print(f"{books.topic} partition {partition} {gone} left the topic before they were recorded")
            if next_offset > end:
                missing += next_offset - end
                print(f"{books.topic} partition {partition} ends at offset {end}, before the next one, {next_offset}")
            for offsets in _offsets(client, settings, TopicPartition(books.topic, partition, 0), next_offset):
                for offset in sorted(offsets - _known(books, partition, offsets)):
                    if (partition, offset) not in letters and not _is_passed(passed, partition, offset):
                        missing += 1
                        print(
                            f"{books.topic} partition {partition} offset {offset} is neither row, duplicate nor letter"
                        )
    for one in passed:
        print(f"{books.topic} {one}")
    rows = books.one("SELECT count(*) FROM {table}")
    duplicates = books.one("SELECT count(*) FROM duplicates")
    print(f"{rows} rows, {duplicates} duplicates, {len(letters)} letters, {missing} missing")
    if duplicates + (others := sum(reason == Reason.HANDLER for reason in letters.values())):
        again = f"{duplicates} with the same content, {others} with another"
        print(f"came again under a recorded identity: {again}; python -m consumers.ledger duplicates lists them")
    return FAILED if missing else OK


def _duplicates(_flags: Namespace, settings: Settings, books: _Books) -> int:
    """List each duplicate with the row that it repeats, then each letter whose identity has a row of other content."""
    _require_to_verify(settings, books)
    query = "SELECT d.partition, d.offset, d.line, t.partition, t.offset, t.identity FROM duplicates d JOIN {table} t"
    query += " USING (line) ORDER BY d.partition, d.offset"
    for partition, offset, line, *place, identity in books.db.execute(query.format(table=books.table)):
        row = f"line {line}, partition {place[0]} offset {place[1]}: identity {identity!r}"
        print(f"{books.topic} partition {partition} offset {offset} is as {row}")
    _require_to_verify(settings, books)
    for letter in _letters(settings, books, _topic(settings, books)):
        if letter.reason == Reason.HANDLER:
            place = f"partition {letter.partition} offset {letter.original_offset}"
            kept = f"offset {letter.offset} of {letter.message.topic()}"
            print(f"{books.topic} {place} is another, kept at {kept}: {printable(letter.sentence)}")
    return OK


def _is_passed(passed: Sequence[Passed], partition: int, offset: int) -> bool:
    return any(one.partition == partition and one.offset <= offset < one.next_offset for one in passed)


def _offsets_between(first: int, next_offset: int) -> str:
    """Name offsets: what they were is not always known, records, aborted ones or a transaction's markers."""
    return f"offsets {first} to {next_offset - 1}"


def _list(*names: Collection[int] | Collection[str]) -> str:
    return ", ".join(map(str, sorted(set[Any].intersection(*map(set, names))))) or "none"


def _require(settings: Settings, *permissions: Permission) -> None:
    """Raise Forbidden, with what to do, where we lack any of these permissions.

    A client that may not ask for a group's offsets is not told so: it asks for the group's coordinator until its limit.
    """
    admin = admin_client(settings)
    cluster_metadata(admin, settings)  # which says why no connection comes about
    try:
        require(permissions, admin, settings)
    except Forbidden as error:
        raise Forbidden(f"{error}; or run this as the principal of the consumer that records here") from None


def _require_to_verify(settings: Settings, books: _Books) -> None:
    subjects = _groups(settings, books).values()
    _require(settings, *dict.fromkeys(one for subject in subjects for one in to_verify(subject)))


def _topic(settings: Settings, books: _Books) -> Topic:
    """Return the ledger's topic as it is today; raises TopicError where there is none, LedgerError for another one."""
    topic = connect(settings).find_topics(books.topic).get(books.topic)
    if topic is None:
        raise TopicError(f"there is no topic {books.topic}")
    refuse_other(books.path, books.db.execute("SELECT topic, topic_id, cluster_id FROM ledger").fetchone(), topic)
    return topic


def _known(books: _Books, partition: int, offsets: set[int]) -> set[int]:
    between = (partition, min(offsets), max(offsets))
    query = "SELECT offset FROM {table} WHERE partition = ? AND offset BETWEEN ? AND ?"
    queries = [query.format(table=table) for table in (books.table, "duplicates")]
    return {offset for query in queries for (offset,) in books.db.execute(query, between)}


def _letters(settings: Settings, books: _Books, topic: Topic) -> Iterator[Letter]:
    """Return the dead letters of this topic of whoever records in this ledger: one of its ids is in their offsets."""
    for group, subject in _groups(settings, books).items():
        with reading_client(settings, group) as client:
            committed = client.committed(_partitions(client, settings, books), timeout=settings.request_timeout)
        if not books.ids & {one.metadata for one in committed}:
            continue
        _require(settings, *to_read_letters(subject, group))
        try:
            yield from (one for one in read_letters(settings, subject.dead_letters(group)) if one.is_of(topic))
        except TopicError:
            continue  # somebody has removed the topic, and its letters


def _offsets(client: Consumer, settings: Settings, place: TopicPartition, end: int) -> Iterator[set[int]]:
    """Give the offsets that a partition really has below `end`, some at a time."""
    for messages in read_to_end(client, settings, place):
        if below := {offset for one in messages if (offset := one.offset() or 0) < end}:
            yield below
        else:
            return


def _partitions(client: Consumer, settings: Settings, books: _Books) -> list[TopicPartition]:
    topics = cluster_metadata(client, settings).topics
    if books.topic not in topics:
        raise TopicError(f"there is no topic {books.topic}")
    return [TopicPartition(books.topic, partition) for partition in topics[books.topic].partitions]


def _groups(settings: Settings, books: _Books) -> dict[str, Subject]:
    """Give the consumers of the ledger's topic."""
    subjects = load_contract(settings.schemas_dir).subjects.values()
    return {group: subject for subject in subjects if subject.topic == books.topic for group in subject.readers}
