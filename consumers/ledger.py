"""Records each record exactly once: rows, next offsets and the length of the log in one transaction.

The ledger, not the group's committed offset, is the truth about what has been recorded. Its text log is derived from
it: cut to the committed length at start, rebuilt where it is shorter.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import sqlite3
import stat
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter
from pathlib import Path
from typing import Generic

import msgspec

from consumers.batches import Batch, Received
from consumers.rows import agrees, read_leniently
from consumers.source import TOPIC_MARK, FirstOffsets, topic_mark
from contract.errors import LedgerError, Overtaken, Rejected, SettingError, StorageUnavailable
from contract.records import R
from runtime.data_dir import check_file, open_data_dir, open_file
from runtime.metrics import DUPLICATES, ROWS
from runtime.telemetry import printable
from runtime.topics import Topic

log = logging.getLogger(__name__)

FORMAT = 1
"""Raised with every change of the tables; a ledger of a newer format is refused."""

_ROWS = 100
"""How many rows one statement inserts; SQLite takes 32,766 values, and more rows gain nothing."""

_TABLES = """
CREATE TABLE ledger (
    id TEXT NOT NULL,               -- the newest: what it leaves beside the group's committed offsets
    name TEXT NOT NULL,             -- of the table of rows
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    log_bytes INTEGER NOT NULL      -- how much of log.txt belongs to it
);
CREATE TABLE partitions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE {table} (
    line INTEGER PRIMARY KEY,       -- of the log, from 1
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    published_ms INTEGER NOT NULL,  -- milliseconds since 1970, by the producer
    recorded_ms INTEGER NOT NULL,   -- the same, by the ledger
    identity TEXT NOT NULL,         -- empty in records of versions that have none
    record TEXT NOT NULL            -- JSON, so that a new field needs no migration
);
CREATE UNIQUE INDEX {table}_place ON {table} (partition, offset);
CREATE UNIQUE INDEX {table}_identity ON {table} (identity) WHERE identity <> '';
-- Sent again under an identity that is recorded: where it was, and the line that it repeats.
CREATE TABLE duplicates (partition INTEGER, offset INTEGER, line INTEGER NOT NULL, PRIMARY KEY (partition, offset));
"""

_IDS = """
CREATE TABLE ids (                  -- every id that it has had, and where it was then; releases before ignore it
    id TEXT PRIMARY KEY,
    inode TEXT NOT NULL,            -- of ledger.db
    directory TEXT NOT NULL,
    machine TEXT NOT NULL           -- empty where nothing tells
)
"""
_HERE = "inode = ? AND directory = ? AND (machine = ? OR '' IN (machine, ?))"

_UNREADABLE = (msgspec.DecodeError, RecursionError)

RESTORE = "restore it from a backup, or set DATA_DIR to another directory"

_LASTING = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EINVAL,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What the file system says of a directory that no waiting makes usable."""

MACHINE_ID = Path("/etc/machine-id")

_COLUMNS = ("partition", "offset", "published_ms", "recorded_ms", "identity", "record")


@dataclass(frozen=True)
class Recorded:
    """What one batch added."""

    rows: int
    duplicates: int


PASSED = """
CREATE TABLE IF NOT EXISTS passed (
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,        -- the first that was passed over
    next_offset INTEGER NOT NULL,
    records INTEGER,                -- how many of them were records, where that was known
    by_hand INTEGER NOT NULL,       -- or else because the topic no longer had them when the ledger began
    PRIMARY KEY (partition, offset)
)
"""
"""What no row is for although a next offset is past it; made when it is needed, and older releases ignore it."""


class Ledger(AbstractContextManager["Ledger[R]"], Generic[R]):
    """A SQLite ledger and its text log in one directory, held by one process at a time."""

    def __init__(
        self,
        directory: Path,
        topic: Topic,
        record: type[R],
        identity: str | None,
        line: Callable[[R], str],
        table: str,
    ) -> None:
        """Open or make `ledger.db` and `log.txt`; `line` gives a record's line of the log.

        Raises LedgerError when another process holds it, it is of another topic or cluster, or newer than this code,
        SettingError for a directory that cannot be used, and Unavailable when the disk does not let it be opened now.
        """
        self._record = record
        self._decoder = msgspec.json.Decoder(record)
        self._identity = identity
        self._identity_of: Callable[[R], str] = attrgetter(identity) if identity else lambda _: ""
        self._line = line
        self._table = table
        self._next: dict[int, int] = {}
        self._path = directory / "ledger.db"
        self._log_path = directory / "log.txt"
        with disk_errors(self._path), ExitStack() as opened:
            with _lasting_errors(directory):
                open_data_dir(directory)
                opened.callback(os.close, lock_directory(directory))
                # Made here for its mode, which SQLite gives its other files too.
                os.close(open_file(self._path, os.O_RDWR | os.O_CREAT))
            self._db = open_database(self._path, write=True)
            opened.callback(self._db.close)
            self._prepare(topic)
            with self._transaction():
                self._repair_log()
            ROWS.labels(table).set(self._last_line())
            self._opened = opened.pop_all()

    def resume(self, partitions: Collection[int], first_offsets: FirstOffsets = dict) -> Mapping[int, int]:
        """Return the next offset of each of these partitions.

        A new ledger begins at the topic's first offsets, for which it asks, and knows all of its partitions from then
        on. A partition that is added later begins at 0: what it no longer has is missing.
        """
        with disk_errors(self._path):
            is_new = not self._last_line() and not self._db.execute("SELECT 1 FROM partitions").fetchone()
            begins = dict.fromkeys(partitions, 0) | (dict(first_offsets()) if is_new else {})
            with self._transaction():
                self._db.executemany("INSERT OR IGNORE INTO partitions VALUES (?, ?)", begins.items())
                for partition, first in begins.items():
                    if first:
                        self._begin_at(partition, first)
            known = dict(self._db.execute("SELECT partition, next_offset FROM partitions"))
        self._next |= {partition: known[partition] for partition in partitions}
        return {partition: known[partition] for partition in partitions}

    def record(self, batch: Batch[R]) -> Recorded:
        """Record a batch and its offsets, whole or not at all; what is recorded already is passed over.

        Raises Rejected for records whose identity is recorded with another content, Overtaken when somebody else has
        recorded these offsets, and Unavailable when the disk or another process keeps it from being written.
        """
        with disk_errors(self._path), self._transaction():
            self._advance(batch.next_offsets)
            log_bytes = self._repair_log()
            new, duplicates = self._insert(batch)
            self._append("\n".join([*map(self._line, new), ""]).encode(), log_bytes)
        for partition, next_offset in batch.next_offsets.items():
            self._next[partition] = max(next_offset, self._next[partition])
        ROWS.labels(self._table).inc(len(new))
        DUPLICATES.labels(self._table).inc(duplicates)
        return Recorded(len(new), duplicates)

    def check_ids(self, group: str, found: Collection[str]) -> None:
        """Raise LedgerError when a group's offsets were committed beside an id that this ledger has not had here.

        Each opening has a new id. So whoever was copied, moved or restored lacks one, wherever its original goes on.
        """
        with disk_errors(self._path):
            place = Place.of(self._path)
            had = f"SELECT 1 FROM ids WHERE id = ? AND {_HERE}"
            unknown = [one for one in found if not self._db.execute(had, (one, *place.values())).fetchone()]
            if not unknown:
                return
            elsewhere = self._db.execute(
                f"SELECT inode, directory, machine FROM ids WHERE NOT ({_HERE}) ORDER BY rowid DESC", place.values()
            ).fetchone()
            has_rows = self._last_line() > 0
        adopt = f"stop every {group} and run: python -m consumers.ledger adopt {group}"
        if elsewhere:
            before = Place(*elsewhere)
            raise LedgerError(
                f"{self._path} must not be used beside its original, for each would record a part; if that is no more, "
                f"{adopt} (it was copied, moved or restored: it was at {before.unlike(place)}, and is at "
                f"{place.unlike(before)} now)"
            )
        put_back = f"{self._path} has rows: it had the group before that one, or was put back to an earlier state. "
        raise LedgerError(
            f"the group {group} has another ledger ({', '.join(sorted(unknown))}): each would record a part. "
            f"{put_back if has_rows else ''}Set DATA_DIR to the directory of the ledger that recorded last; if that is "
            f"lost, {adopt}"
        )

    def close(self) -> None:
        """Close the database and let another process have the directory."""
        self._opened.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_at(self, partition: int, first: int) -> None:
        self._db.execute(PASSED)
        self._db.execute("INSERT OR IGNORE INTO passed VALUES (?, 0, ?, NULL, FALSE)", (partition, first))
        sentence = "%s begins at offset %d of partition %d: the topic no longer has 0 to %d"
        log.warning(sentence, self._path, first, partition, first - 1)

    def _advance(self, next_offsets: Mapping[int, int]) -> None:
        """Move each partition on from where this process left it, and nobody else."""
        for partition, next_offset in next_offsets.items():
            expected = self._next[partition]
            changed = self._db.execute(
                "UPDATE partitions SET next_offset = ? WHERE partition = ? AND next_offset = ?",
                (max(next_offset, expected), partition, expected),
            ).rowcount
            if not changed:
                raise Overtaken(f"{self._path}: somebody else has recorded partition {partition} past {expected}")

    def _insert(self, batch: Batch[R]) -> tuple[Sequence[R], int]:
        """Give the values that are rows now, and the number of duplicates among the others."""
        now = time.time_ns() // 1_000_000
        before = self._last_line()
        contents = map(bytes.decode, map(msgspec.json.Encoder().encode, batch.values))
        stamps = repeat(now, len(batch.values))
        rows = zip(*batch.places, stamps, map(self._identity_of, batch.values), contents, strict=True)
        values, width = list(chain.from_iterable(rows)), _ROWS * len(_COLUMNS)
        inserted = sum(self._insert_rows(values[start : start + width]) for start in range(0, len(values), width))
        return (batch.values, 0) if inserted == len(batch.values) else self._sort_out(batch.records, before)

    def _last_line(self) -> int:
        (line,) = self._db.execute(f"SELECT coalesce(max(line), 0) FROM {self._table}").fetchone()
        return int(line)

    def _insert_rows(self, values: Sequence[object]) -> int:
        """Insert rows by one statement, in half the time that one for each takes, and give how many were new."""
        row = f"({', '.join('?' * len(_COLUMNS))})"
        # ON CONFLICT DO NOTHING takes a third more time; a null, which only that would refuse, is found by _sort_out.
        return self._db.execute(
            f"INSERT OR IGNORE INTO {self._table} ({', '.join(_COLUMNS)}) "
            f"VALUES {', '.join([row] * (len(values) // len(_COLUMNS)))}",
            values,
        ).rowcount

    def _append(self, text: bytes, log_bytes: int) -> None:
        """Put lines on the disk, behind what belongs to the ledger; the transaction is not committed before."""
        log = open_file(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            unwritten = memoryview(text)
            while unwritten:
                unwritten = unwritten[os.write(log, unwritten) :]
            os.fsync(log)
            self._db.execute("UPDATE ledger SET log_bytes = ?", (log_bytes + len(text),))
        except BaseException:
            # While the transaction still keeps everybody else from the log; if this fails, the next one does it.
            with suppress(OSError):
                os.ftruncate(log, log_bytes)
            raise
        finally:
            os.close(log)

    def _sort_out(self, records: Sequence[Received[R]], before: int) -> tuple[list[R], int]:
        """Give the values that became rows after line `before`, and note and count the others' repeated identities.

        A place that is recorded already is passed over; a known identity with other content is Rejected.
        """
        new: list[R] = []
        duplicates = 0
        refused: dict[tuple[int, int], str] = {}
        last = before
        for received in records:
            place = (received.partition, received.offset)
            row = self._find("partition = ? AND offset = ?", place)
            if row is not None:
                if row[0] > last:
                    new.append(received.value)
                    last = row[0]
                continue
            identity = self._identity_of(received.value)
            found = self._find("identity = ? AND identity <> ''", (identity,))
            if found is None:  # so nothing is in its way but a null
                raise LedgerError(
                    f"{self._path} takes no record whose {self._identity} is {identity}, as at partition {place[0]} "
                    f"offset {place[1]}; name a field as identity in subjects.yaml that is never null"
                )
            line, content = found
            if self._is_recorded(content, received.value):
                self._db.execute("INSERT OR IGNORE INTO duplicates VALUES (?, ?, ?)", (*place, line))
                duplicates += 1
            else:
                refused[place] = f"{self._identity} {identity!r} is recorded in line {line} with another content"
        if refused:
            raise Rejected(refused)
        return new, duplicates

    def _find(self, where: str, values: tuple[object, ...]) -> tuple[int, str] | None:
        query = f"SELECT line, record FROM {self._table} WHERE {where}"
        found: tuple[int, str] | None = self._db.execute(query, values).fetchone()
        return found

    def _is_recorded(self, content: str, value: R) -> bool:
        """Whether a row holds this record, in all that this version knows."""
        with suppress(*_UNREADABLE):
            if self._decoder.decode(content) == value:  # as nearly always
                return True
        with suppress(*_UNREADABLE):
            return agrees(self._record, value, msgspec.json.decode(content))
        return False  # no JSON: somebody's hand

    def _prepare(self, topic: Topic) -> None:
        check_format(self._path, self._db)  # before anything is changed
        # Larger pages than 4096 bytes: a row and its two index entries are some 200 bytes. Only a new file takes it.
        self._db.execute("PRAGMA page_size = 16384")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        ours = (topic.name, topic.id, topic.cluster_id)
        with self._transaction():
            if not check_format(self._path, self._db):
                for statement in _TABLES.format(table=self._table).split(";\n"):
                    self._db.execute(statement)
                self._db.execute(
                    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, 0)",
                    (f"{uuid.uuid4().hex} of {topic_mark(topic)}", self._table, *ours),
                )
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
            theirs = self._db.execute("SELECT topic, topic_id, cluster_id FROM ledger").fetchone()
            refuse_other(self._path, theirs, topic)
            self._make_view()
            self.id = renew_id(self._path, self._db)

    def _make_view(self) -> None:
        """Show the record's fields as columns, those that it has in this version."""
        view = f"{self._table}_by_field"
        fields = "".join(f", json_extract(record, '$.{name}') AS \"{name}\"" for name in self._record.__struct_fields__)
        self._db.execute(f"DROP VIEW IF EXISTS {view}")
        self._db.execute(
            f"CREATE VIEW {view} AS SELECT line, (SELECT topic FROM ledger) AS topic, partition, offset, published_ms, "
            f"recorded_ms{fields} FROM {self._table}"
        )

    def _repair_log(self) -> int:
        """Make the log what the ledger says it is, without reading it, and return its length in bytes.

        Before each batch, too: a failed commit, a crash, or somebody's hand may have left it longer or shorter.
        """
        (log_bytes,) = self._db.execute("SELECT log_bytes FROM ledger").fetchone()
        log = open_file(self._log_path, os.O_WRONLY | os.O_CREAT)
        try:
            state = os.fstat(log)
            if state.st_size > log_bytes:
                os.ftruncate(log, log_bytes)
        finally:
            os.close(log)
        return self._rebuild_log(state.st_mode) if state.st_size < log_bytes else int(log_bytes)

    def _rebuild_log(self, mode: int) -> int:
        new = self._log_path.with_suffix(".rebuilt")
        new.unlink(missing_ok=True)  # what a crash has left, or a link that somebody has put there
        try:
            with os.fdopen(open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
                for (record,) in self._db.execute(f"SELECT record FROM {self._table} ORDER BY line"):
                    file.write(f"{self._line_of(record)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
                log_bytes = file.tell()
            new.replace(self._log_path)
        except BaseException:
            with suppress(OSError):
                new.unlink(missing_ok=True)  # it takes room that is wanted
            raise
        self._db.execute("UPDATE ledger SET log_bytes = ?", (log_bytes,))
        return log_bytes

    def _line_of(self, content: str) -> str:
        """Return a row's line of the log; its JSON where another version wrote what `line` cannot put into words."""
        try:
            record = self._decoder.decode(content)
        except _UNREADABLE:
            try:
                return self._line(read_leniently(self._record, msgspec.json.decode(content)))
            except Exception:  # noqa: BLE001 - what a foreign value does to `line` is anything
                return printable(content)
        return self._line(record)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


@dataclass(frozen=True)
class Place:
    """Where a ledger is; a copied, moved or restored one is elsewhere.

    Not the device's number, which changes with a reboot, nor the host's name, which is another one in each container.
    """

    inode: str
    directory: str
    machine: str

    @classmethod
    def of(cls, path: Path) -> Place:
        """Return the place of a ledger.db that is there."""
        directory = str(path.parent.resolve()).encode("utf-8", "backslashreplace").decode()
        return cls(str(path.stat().st_ino), directory, _machine())

    def values(self) -> tuple[str, str, str, str]:
        """Return what _HERE asks for."""
        return self.inode, self.directory, self.machine, self.machine

    def unlike(self, other: Place) -> str:
        """Return this place by what sets it apart from the other one."""
        if self.directory != other.directory:
            return self.directory
        if self.inode != other.inode:
            return f"{self.directory} (inode {self.inode})"
        return f"{self.directory} (machine {self.machine})"


def _machine() -> str:
    """Return a name for this machine, empty where it has none, as in most containers."""
    try:
        known = MACHINE_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    # Not as it is: it is to be kept from others, says machine-id(5).
    return hashlib.sha256(f"ledger {known}".encode()).hexdigest()[:12] if known not in {"", "uninitialized"} else ""


def renew_id(path: Path, db: sqlite3.Connection) -> str:
    """Return a new id of the ledger, which no copy of it has; the ids that it had here before are still its own."""
    place = Place.of(path)
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'ids'").fetchone():
        db.execute(_IDS)  # a new ledger, or one of a release that did not know where it was
        db.execute("INSERT INTO ids SELECT id, ?, ?, ? FROM ledger", place.values()[:3])
    (topic_id,) = db.execute("SELECT topic_id FROM ledger").fetchone()
    new = f"{uuid.uuid4().hex} of {TOPIC_MARK}{topic_id}"
    db.execute("INSERT INTO ids VALUES (?, ?, ?, ?)", (new, *place.values()[:3]))
    db.execute("UPDATE ledger SET id = ?", (new,))
    return new


def forget_elsewhere(path: Path, db: sqlite3.Connection) -> None:
    """Forget the ids that the ledger had elsewhere: it belongs where it is now."""
    db.execute(f"DELETE FROM ids WHERE NOT ({_HERE})", Place.of(path).values())


def open_database(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a ledger.db that is there; raises SettingError for links in its place or beside it, and sqlite3.Error."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        check_file(path.with_name(path.name + suffix))
    address = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=5)


def check_format(path: Path, db: sqlite3.Connection) -> bool:
    """Whether there are tables yet; raises LedgerError when they are from the future, or no ledger's."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if found > FORMAT:
        raise LedgerError(
            f"{path} was written by a newer release (format {found}, this one knows {FORMAT}); run that release"
        )
    if not tables and not found:
        return False
    if not {"ledger", "partitions", "duplicates"} <= tables:
        raise LedgerError(f"{path} is a database, and no ledger; set DATA_DIR to another directory")
    return True


def refuse_other(path: Path, theirs: tuple[str, str, str], topic: Topic) -> None:
    """Raise LedgerError when a ledger of `theirs`, a topic's name, id and cluster, is not of this topic."""
    if theirs != (topic.name, topic.id, topic.cluster_id):
        other = "" if theirs[2] == topic.cluster_id else ", or connect to that cluster"
        raise LedgerError(
            f"{path} belongs to topic {theirs[0]} ({theirs[1]}) of cluster {theirs[2]}; this is {topic}, where its "
            f"offsets mean nothing; set DATA_DIR to another directory{other}"
        )


def lock_directory(directory: Path) -> int:
    """Take the directory for this process, until the descriptor is closed or the process ends."""
    descriptor = open_file(directory / "lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode("utf-8", "replace").strip() or "another process"
            raise LedgerError(
                f"{directory} is held by {holder}; stop it, or set DATA_DIR to another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into this project's errors."""
    try:
        with database_errors(path):
            yield
    except OSError as error:
        raise StorageUnavailable(f"{error.filename or path} cannot be written: {error.strerror}") from None


@contextmanager
def _lasting_errors(directory: Path) -> Iterator[None]:
    """Raise SettingError for a directory that cannot be made or written until somebody has changed something."""
    try:
        yield
    except OSError as error:
        if error.errno not in _LASTING:
            raise
        is_in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        why = "is no directory" if is_in_the_way else f"cannot be made or written: {error.strerror}"
        raise SettingError(
            f"DATA_DIR {directory} cannot be used: {error.filename or directory} {why}; set DATA_DIR to a directory "
            "that this user can make or write"
        ) from None


@contextmanager
def database_errors(path: Path, doing: str = "written") -> Iterator[None]:
    """Turn what SQLite raises into this project's errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"{path} cannot be {doing}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path} is damaged or no ledger: {error}; {RESTORE}") from None


if __name__ == "__main__":
    from consumers.ledger_command import main

    sys.exit(main())
