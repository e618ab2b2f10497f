"""The ledger: rows, offsets and log are one, whatever fails between; one holder, one topic."""

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from consumers.batches import Batch, Received
from consumers.ledger import FORMAT, Ledger, Recorded
from contract.errors import LedgerError, Overtaken, Rejected, SettingError, Unavailable
from contract.order import OrderV1, OrderV2
from runtime.topics import Topic
from tests.batches import batch_of

TOPIC = Topic("pizza-order", "topic-1", "cluster-1", 1)


def line(order: OrderV2) -> str:
    """Give a record's line of the log."""
    return f"{order.pizza} {order.table}"


def orders(*offsets: int, partition: int = 0, prefix: str = "id") -> Batch[OrderV2]:
    """Give a batch of orders whose identity is made of their offset."""
    records = [Received(OrderV2("pizza", n + 1, f"{prefix}-{n}"), partition, n, 1_000 + n) for n in offsets]
    return batch_of(records, {partition: offsets[-1] + 1})


def named(*identities: str, start: int = 0) -> Batch[OrderV2]:
    """Give a batch of orders with these identities; what an identity names is always the same."""
    values = [OrderV2(f"pizza {name}", 1, name) for name in identities]
    records = [Received(value, 0, offset, 0) for offset, value in enumerate(values, start)]
    return batch_of(records, {0: start + len(identities)})


Opener = Callable[..., Ledger[OrderV2]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "data"


@pytest.fixture
def opener(directory: Path) -> Iterator[Opener]:
    """Open ledgers, which are closed at the end of the test; a second one closes the first."""
    held: list[Ledger[OrderV2]] = []

    def close() -> None:
        while held:
            held.pop().close()

    def open_(topic: Topic = TOPIC, line: Callable[[OrderV2], str] = line) -> Ledger[OrderV2]:
        close()
        held.append(Ledger(directory, topic, OrderV2, "order_id", line, table="orders"))
        return held[-1]

    yield open_
    close()


def rows(
    directory: Path, query: str = "SELECT partition, offset FROM orders ORDER BY line"
) -> list[tuple[object, ...]]:
    """Ask the ledger's database, as somebody else would."""
    with closing(sqlite3.connect(directory / "ledger.db")) as db:
        return db.execute(query).fetchall()


def log(directory: Path) -> list[str]:
    """Give the lines of the log."""
    return (directory / "log.txt").read_text("utf-8").splitlines()


PAGE = 4_096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a ledger and little more."""
    directory = tmp_path / "small"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@contextmanager
def filled(disk: Path, room: int) -> Iterator[None]:
    """Fill a disk but for some bytes, and empty it again."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - room))
    yield
    filler.unlink()


def open_files() -> list[str]:
    """Return what this process has open of a ledger."""
    targets = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return sorted(target for target in targets if "/data/" in target)


class TestRecording:
    """Rows, columns, lines."""

    def test_a_new_ledger_starts_at_the_beginning(self, opener: Opener) -> None:
        assert opener().resume([0, 1]) == {0: 0, 1: 0}

    def test_a_new_ledger_starts_where_the_topic_does_and_asks_only_once(self, opener: Opener, directory: Path) -> None:
        """In all of its partitions, whichever it is given first; one that is added later begins at 0."""
        asked = iter([{0: 5, 1: 0, 2: 7}])
        ledger = opener()
        assert ledger.resume([0], lambda: next(asked)) == {0: 5}
        assert ledger.resume([1, 2, 3], lambda: next(asked)) == {1: 0, 2: 7, 3: 0}
        assert opener().resume([0, 1, 2, 3], lambda: next(asked)) == {0: 5, 1: 0, 2: 7, 3: 0}
        assert rows(directory, "SELECT partition, offset, next_offset, by_hand FROM passed") == [
            (0, 0, 5, 0),
            (2, 0, 7, 0),
        ]

    def test_a_ledger_that_knows_the_topic_does_not_start_where_that_does_now(self, opener: Opener) -> None:
        """Also where it has recorded nothing yet: it would be a silent jump."""
        opener().resume([0])
        assert opener().resume([0], lambda: {0: 5}) == {0: 0}

    def test_a_ledger_that_cannot_know_where_to_start_has_not_started(self, opener: Opener) -> None:
        """It asks again."""

        def nobody_answers() -> dict[int, int]:
            raise Unavailable("the broker does not answer")

        ledger = opener()
        with pytest.raises(Unavailable):
            ledger.resume([0], nobody_answers)
        assert ledger.resume([0], lambda: {0: 5}) == {0: 5}

    def test_a_batch_is_recorded(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        assert ledger.record(orders(0, 1)) == Recorded(2, 0)
        assert rows(directory) == [(0, 0), (0, 1)]
        assert log(directory) == ["pizza 1", "pizza 2"]

    def test_the_columns(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([2])
        ledger.record(orders(5, partition=2))
        query = (
            "SELECT line, partition, offset, published_ms, identity, record, recorded_ms > 1700000000000 FROM orders"
        )
        assert rows(directory, query) == [(1, 2, 5, 1005, "id-5", '{"pizza":"pizza","table":6,"order_id":"id-5"}', 1)]

    def test_a_view_shows_the_records_fields(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        query = 'SELECT line, topic, partition, offset, pizza, "table", order_id FROM orders_by_field'
        assert rows(directory, query) == [(1, "pizza-order", 0, 0, "pizza", 1, "id-0")]

    def test_it_resumes_where_it_ended(self, opener: Opener) -> None:
        ledger = opener()
        ledger.resume([0, 1])
        ledger.record(orders(0, 1))
        assert ledger.resume([0, 1]) == {0: 2, 1: 0}
        assert opener().resume([0, 1]) == {0: 2, 1: 0}

    def test_offsets_of_what_could_not_be_read_count_too(self, opener: Opener) -> None:
        """A batch's next offset is past what was fetched, dead letters included."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(batch_of(orders(0).records, {0: 5}))
        ledger.record(batch_of([], {0: 9}))
        assert opener().resume([0]) == {0: 9}

    def test_a_redelivered_batch_is_passed_over(self, opener: Opener, directory: Path) -> None:
        """The group's committed offset may lie behind the ledger's."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0, 1, 2))
        assert ledger.record(orders(0, 1)) == Recorded(0, 0)
        assert ledger.resume([0]) == {0: 3}
        assert ledger.record(orders(2, 3)) == Recorded(1, 0)
        assert rows(directory) == [(0, 0), (0, 1), (0, 2), (0, 3)]
        assert len(log(directory)) == 4

    def test_a_redelivered_batch_is_passed_over_after_a_restart(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0, 1, 2))
        ledger = opener()
        ledger.resume([0])
        assert ledger.record(orders(0, 1, 2, 3)) == Recorded(1, 0)
        assert len(log(directory)) == len(rows(directory)) == 4

    def test_partitions_do_not_mix(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0, 1])
        ledger.record(orders(0, 1))
        ledger.record(orders(0, partition=1, prefix="other"))
        assert ledger.resume([0, 1]) == {0: 2, 1: 1}
        assert rows(directory) == [(0, 0), (0, 1), (1, 0)]


class TestDuplicates:
    """An identity counts once."""

    def test_sent_again_later(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(named("a", "b"))
        assert ledger.record(named("b", "c", "a", start=2)) == Recorded(1, 2)
        assert rows(directory, "SELECT identity FROM orders ORDER BY line") == [("a",), ("b",), ("c",)]
        assert rows(directory, "SELECT partition, offset, line FROM duplicates ORDER BY offset") == [
            (0, 2, 2),
            (0, 4, 1),
        ]
        assert log(directory) == ["pizza a 1", "pizza b 1", "pizza c 1"]

    def test_sent_twice_in_a_batch(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        assert ledger.record(named("a", "a", "a")) == Recorded(1, 2)
        assert log(directory) == ["pizza a 1"]
        assert rows(directory, "SELECT offset, line FROM duplicates ORDER BY offset") == [(1, 1), (2, 1)]

    def test_sent_again_to_another_partition(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0, 1])
        ledger.record(orders(0))
        assert ledger.record(orders(0, partition=1)) == Recorded(0, 1)
        assert rows(directory) == [(0, 0)]

    def test_an_identity_with_another_content_is_rejected(self, opener: Opener, directory: Path) -> None:
        """With the places of those that are, and nothing of the batch is recorded: the rest can be sent again."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(named("a"))
        other = Received(OrderV2("other", 1, "a"), 0, 2, 0)
        with pytest.raises(Rejected) as rejected:
            ledger.record(batch_of([*named("b", start=1).records, other], {0: 3}))
        assert rejected.value.refused == {(0, 2): "order_id 'a' is recorded in line 1 with another content"}
        assert (rows(directory), log(directory)) == ([(0, 0)], ["pizza a 1"])
        assert ledger.record(batch_of(named("b", start=1).records, {0: 3})) == Recorded(1, 0)
        assert ledger.resume([0]) == {0: 3}

    def test_a_null_for_an_identity_is_no_row_and_no_letter(self, opener: Opener, directory: Path) -> None:
        """Nothing of its batch is recorded, and the consumer ends: the contract is wrong, not the record."""
        with opener() as ledger:
            ledger.resume([0])
            null = Received(OrderV2("napoli", 3, None), 0, 1, 0)  # type: ignore[arg-type]  # as a field may be that is a union
            with pytest.raises(LedgerError, match="order_id is None, as at partition 0 offset 1"):
                ledger.record(batch_of([*named("a").records, null], {0: 2}))
        assert rows(directory) == []

    def test_without_an_identity_each_counts(self, opener: Opener, directory: Path) -> None:
        """Orders of version 1 have none; also among others that are repeats."""
        ledger = opener()
        ledger.resume([0])
        assert ledger.record(named("", "", "a", "a", "")) == Recorded(4, 1)
        assert log(directory) == ["pizza  1", "pizza  1", "pizza a 1", "pizza  1"]

    def test_a_record_without_the_field_has_none(self, directory: Path) -> None:
        with Ledger(directory, TOPIC, OrderV1, None, lambda order: order.pizza, table="orders") as ledger:
            ledger.resume([0])
            records = [Received(OrderV1("a", 1), 0, offset, 0) for offset in range(2)]
            assert ledger.record(batch_of(records, {0: 2})) == Recorded(2, 0)


class TestFailures:
    """Whatever fails, rows, offsets and log stay together, and the next start goes on from there."""

    def test_a_line_that_cannot_be_made(self, opener: Opener, directory: Path) -> None:
        def failing(order: OrderV2) -> str:
            if order.table == 3:
                raise ZeroDivisionError
            return line(order)

        ledger = opener(line=failing)
        ledger.resume([0])
        ledger.record(orders(0))
        with pytest.raises(ZeroDivisionError):
            ledger.record(orders(1, 2))
        assert rows(directory) == [(0, 0)]
        assert log(directory) == ["pizza 1"]
        assert ledger.resume([0]) == {0: 1}
        ledger = opener()
        assert ledger.resume([0]) == {0: 1}
        assert ledger.record(orders(1, 2)) == Recorded(2, 0)
        assert log(directory) == ["pizza 1", "pizza 2", "pizza 3"]

    def test_a_log_that_is_ahead_of_a_transaction_that_failed(self, opener: Opener, directory: Path) -> None:
        """The lines are written and the rows refused: the lines are cut off again."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        with closing(sqlite3.connect(directory / "ledger.db")) as other:
            other.execute(
                "CREATE TRIGGER refuse BEFORE UPDATE OF log_bytes ON ledger BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        with pytest.raises(LedgerError, match="refused"):
            ledger.record(orders(1, 2))
        assert (rows(directory), log(directory)) == ([(0, 0)], ["pizza 1"])
        with closing(sqlite3.connect(directory / "ledger.db")) as other:
            other.execute("DROP TRIGGER refuse")
        ledger.record(orders(1, 2))
        assert log(directory) == ["pizza 1", "pizza 2", "pizza 3"]

    def test_a_database_that_is_full(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        database = ledger._db  # noqa: SLF001 - there is no other way to fill a disk in a test
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match=r"ledger\.db cannot be written: database or disk is full"):
            ledger.record(orders(*range(1, 500)))
        assert (rows(directory), log(directory)) == ([(0, 0)], ["pizza 1"])
        database.execute("PRAGMA max_page_count = 1000000")
        assert ledger.record(orders(*range(1, 500))) == Recorded(499, 0)
        assert len(log(directory)) == 500

    def test_a_disk_that_is_full(self, small_disk: Path) -> None:
        """Wherever that is met, it is one sentence, nothing counts as recorded, and nothing stays locked or open."""
        directory = small_disk / "data"
        sentences: list[str] = []
        for room in range(0, 60 * PAGE, PAGE):
            shutil.rmtree(directory, ignore_errors=True)
            with filled(small_disk, room):
                before = open_files()
                try:
                    self._record_two(directory)
                except Unavailable as error:
                    sentences.append(str(error))
                else:
                    break
                assert open_files() == before
            self._record_two(directory)
            assert (rows(directory), log(directory)) == ([(0, 0), (0, 1)], ["pizza 1", "pizza 2"])
        assert len(sentences) > 5
        for sentence in sentences:
            assert re.search(r"cannot be written: (No space left|.*full|disk I/O)", sentence)

    def test_a_log_that_is_full_while_it_is_rebuilt(self, small_disk: Path) -> None:
        """What was left of it stays, nothing lies about, and with room again it is whole."""
        directory = small_disk / "data"
        with Ledger(directory, TOPIC, OrderV2, "order_id", lambda _: "x" * 5_000, table="orders") as ledger:
            ledger.resume([0])
            ledger.record(orders(0, 1))
            whole = (directory / "log.txt").read_bytes()
            (directory / "log.txt").write_bytes(whole[:-3])
            with filled(small_disk, PAGE), pytest.raises(Unavailable, match=r"cannot be written: No space left"):
                ledger.record(batch_of([], {}))
            assert (directory / "log.txt").read_bytes() == whole[:-3]
            assert not (directory / "log.rebuilt").exists()
            ledger.record(batch_of([], {}))
            assert (directory / "log.txt").read_bytes() == whole

    @staticmethod
    def _record_two(directory: Path) -> None:
        with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            ledger.resume([0])
            assert ledger.record(orders(0, 1)) == Recorded(2, 0)

    def test_an_offset_that_somebody_else_has_moved(self, opener: Opener, directory: Path) -> None:
        """A lock that failed, on a network file system perhaps, does not make two histories."""
        ledger = opener()
        ledger.resume([0])
        with closing(sqlite3.connect(directory / "ledger.db")) as other, other:
            other.execute("UPDATE partitions SET next_offset = 7")
        with pytest.raises(Overtaken, match="somebody else has recorded partition 0 past 0"):
            ledger.record(orders(0))
        assert rows(directory) == []


class TestLog:
    """The log is derived from the ledger, whatever was done to it."""

    @pytest.mark.parametrize("spoil", ["longer", "half a line", "shorter", "empty", "missing", "as it was"])
    def test_it_is_made_what_it_was(self, directory: Path, spoil: str) -> None:
        """Cut where a crash left more in it, rebuilt where it has less."""
        with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            ledger.resume([0])
            ledger.record(orders(0, 1, 2))
        path = directory / "log.txt"
        whole = path.read_bytes()
        match spoil:
            case "longer":
                path.write_bytes(whole + b"pizza 4\npizza 5\n")
            case "half a line":
                path.write_bytes(whole + b"piz")
            case "shorter":
                path.write_bytes(whole[:-4])
            case "empty":
                path.write_bytes(b"")
            case "missing":
                path.unlink()
        with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            assert path.read_bytes() == whole
            ledger.resume([0])
            ledger.record(orders(3))
        assert log(directory) == ["pizza 1", "pizza 2", "pizza 3", "pizza 4"]
        assert sorted(file.name for file in directory.iterdir() if "ledger.db" not in file.name) == ["lock", "log.txt"]

    def test_letters_beyond_ascii_are_counted_in_bytes(self, opener: Opener, directory: Path) -> None:
        """The committed length is the file's."""
        ledger = opener(line=lambda order: f"größe {order.table}")
        ledger.resume([0])
        ledger.record(orders(0))
        opener()
        assert log(directory) == ["größe 1"]


class TestOwnership:
    """One process, one topic, one format."""

    @pytest.mark.parametrize(
        ("topic", "what"),
        [
            (Topic("pizza-order", "topic-1", "cluster-2", 1), "cluster cluster-2"),
            (Topic("pizza-order", "topic-2", "cluster-1", 1), "topic-2"),
            (Topic("payment", "topic-1", "cluster-1", 1), "payment"),
        ],
    )
    def test_a_ledger_of_another_topic_or_cluster_is_refused(self, opener: Opener, topic: Topic, what: str) -> None:
        """Its offsets mean nothing there: a silent gap otherwise."""
        opener()
        with pytest.raises(LedgerError) as refused:
            opener(topic)
        assert "belongs to topic pizza-order (topic-1) of cluster cluster-1" in str(refused.value)
        assert what in str(refused.value)
        assert "set DATA_DIR" in str(refused.value)

    def test_a_refused_ledger_is_let_go_of(self, opener: Opener) -> None:
        """So that the same process may open it rightly."""
        opener()
        with pytest.raises(LedgerError):
            opener(Topic("payment", "", "", 1))
        assert opener().resume([0]) == {0: 0}

    def test_a_newer_format_is_refused(self, opener: Opener, directory: Path) -> None:
        opener().close()
        with closing(sqlite3.connect(directory / "ledger.db")) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (FORMAT,)
            db.execute(f"PRAGMA user_version = {FORMAT + 1}")
        with pytest.raises(LedgerError, match=f"{FORMAT + 1}"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")

    @pytest.mark.parametrize("statement", ["CREATE TABLE accounts (id)", "CREATE TABLE ledger (id)"])
    @pytest.mark.parametrize("version", [0, FORMAT])
    def test_a_database_of_something_else_is_refused_and_left_alone(
        self, directory: Path, statement: str, version: int
    ) -> None:
        """Nothing is waited for, and no table of ours is put into it."""
        directory.mkdir()
        with closing(sqlite3.connect(directory / "ledger.db")) as db:
            db.execute(statement)
            db.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(LedgerError, match=r"ledger\.db is a database, and no ledger; set DATA_DIR"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
        assert len(rows(directory, "SELECT name FROM sqlite_master")) == 1
        assert rows(directory, "PRAGMA journal_mode") == [("delete",)]

    def test_a_file_that_is_no_ledger_is_named(self, directory: Path) -> None:
        content = b"not a database at all" * 100
        directory.mkdir()
        (directory / "ledger.db").write_bytes(content)
        with pytest.raises(LedgerError, match=r"ledger\.db is damaged or no ledger: file is not a database"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
        assert (directory / "ledger.db").read_bytes() == content

    def test_another_process_that_holds_it_is_named(self, opener: Opener, directory: Path) -> None:
        """By number and machine; once it has ended, however, the directory is free."""
        code = (
            "import fcntl, os, sys; lock = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(lock, fcntl.LOCK_EX); "
            "os.ftruncate(lock, 0); os.write(lock, f'process {os.getpid()} on here\\n'.encode()); "
            "print('held', flush=True); sys.stdin.read()"
        )
        opener().close()
        command = [sys.executable, "-c", code, str(directory / "lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(
                LedgerError, match=rf"data is held by process {holder.pid} on here; stop it, or set DATA_DIR"
            ):
                Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
            holder.kill()
        Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders").close()

    def test_the_lock_names_this_process(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        assert (directory / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
        with pytest.raises(LedgerError, match=f"held by process {os.getpid()}"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
        assert ledger.resume([0]) == {0: 0}


def test_a_record_sent_again_is_the_same_however_its_json_was_written(opener: Opener, directory: Path) -> None:
    """As when a release with more fields wrote what is recorded: records are compared, not text."""
    with opener() as ledger:
        ledger.resume([0])
        ledger.record(batch_of([Received(OrderV2("napoli", 3, "id-1"), 0, 0, 0)], {0: 1}))
    with closing(sqlite3.connect(directory / "ledger.db")) as db:
        db.execute("""UPDATE orders SET record = '{"order_id": "id-1", "table": 3, "pizza": "napoli"}'""")
        db.commit()
    with opener() as ledger:
        ledger.resume([0])
        again = ledger.record(batch_of([Received(OrderV2("napoli", 3, "id-1"), 0, 1, 0)], {0: 2}))
    assert again == Recorded(rows=0, duplicates=1)


class TestOtherHands:
    """What others put into the directory, and what others may see of it."""

    NAMES = ("lock", "log.txt", "log.rebuilt", "ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal")

    def test_its_files_are_for_its_owner_alone(self, opener: Opener, directory: Path) -> None:
        """SQLite's own, too."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        (directory / "log.txt").unlink()
        ledger.record(orders(1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
        assert modes == dict.fromkeys(["lock", "log.txt", "ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)
        assert directory.stat().st_mode & 0o777 == 0o700

    def test_a_log_that_is_rebuilt_keeps_its_mode(self, opener: Opener, directory: Path) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        (directory / "log.txt").chmod(0o644)
        (directory / "log.txt").write_bytes(b"")
        ledger.record(orders(1))
        assert (directory / "log.txt").stat().st_mode & 0o777 == 0o644
        assert log(directory) == ["pizza 1", "pizza 2"]

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard"])
    @pytest.mark.parametrize("before", [False, True], ids=["new", "recorded"])
    def test_a_planted_link_is_not_followed(
        self, directory: Path, tmp_path: Path, name: str, kind: str, *, before: bool
    ) -> None:
        """Neither by us nor by SQLite, whatever is behind it; nobody else's file is touched."""
        directory.mkdir()
        if before:
            with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
                ledger.resume([0])
                ledger.record(orders(0))
            (directory / "log.txt").write_bytes(b"")  # so that it is rebuilt
        victim, planted = tmp_path / "victim", directory / name
        victim.write_text("precious\n" * 100)
        planted.unlink(missing_ok=True)
        match kind:
            case "symbolic":
                planted.symlink_to(victim)
            case "dangling":
                planted.symlink_to(tmp_path / "nothing")
            case "hard":
                planted.hardlink_to(victim)
        with suppress(SettingError), Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            assert name == "log.rebuilt", "only what is made anew may take a link's place"
            ledger.resume([0])
            ledger.record(orders(0, 1))
        assert victim.read_text() == "precious\n" * 100
        assert not (tmp_path / "nothing").exists()

    def test_a_link_that_is_planted_while_it_records_ends_it(
        self, opener: Opener, directory: Path, tmp_path: Path
    ) -> None:
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        victim = tmp_path / "victim"
        victim.write_text("precious")
        (directory / "log.txt").unlink()
        (directory / "log.txt").symlink_to(victim)
        with pytest.raises(SettingError, match=r"log\.txt is a symbolic link, and is not followed; run: rm "):
            ledger.record(orders(1))
        assert victim.read_text() == "precious"
        assert rows(directory) == [(0, 0)]
        (directory / "log.txt").unlink()
        assert ledger.record(orders(1)) == Recorded(1, 0)
        assert log(directory) == ["pizza 1", "pizza 2"]

    def test_a_directory_that_others_can_write_is_refused(self, directory: Path) -> None:
        directory.mkdir()
        directory.chmod(0o777)
        with pytest.raises(SettingError, match=f"run: chmod go-w {directory}"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
        assert list(directory.iterdir()) == []

    @pytest.mark.parametrize("name", ["file", "file/data", "dangling", "loop/data", "x" * 300, "/proc/data", "/proc"])
    def test_a_directory_that_cannot_be_made_or_written_is_named(self, tmp_path: Path, name: str) -> None:
        """It is no outage: nothing that is waited for would mend it."""
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        path = tmp_path / name
        with pytest.raises(SettingError) as refused:
            Ledger(path, TOPIC, OrderV2, "order_id", line, table="orders")
        assert str(refused.value).startswith(f"DATA_DIR {path} cannot be used: ")
        assert str(refused.value).endswith("; set DATA_DIR to a directory that this user can make or write")
        is_in_the_way = name.startswith(("file", "dangling", "loop"))
        assert ("is no directory" in str(refused.value)) == is_in_the_way

    def test_a_directory_on_a_full_disk_is_waited_for(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def mkdir(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(directory))

        monkeypatch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(Unavailable, match="cannot be written: No space left on device"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")


class TestPlace:
    """Whose id it is: that of this ledger at this place, not that of a copy."""

    @pytest.fixture(autouse=True)
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where this machine's id is."""
        monkeypatch.setattr("consumers.ledger.MACHINE_ID", tmp_path / "machine-id")
        (tmp_path / "machine-id").write_text("kitchen\n")
        return tmp_path / "machine-id"

    def test_each_opening_has_an_id_of_its_own_and_follows_those_before(self, opener: Opener) -> None:
        ids = [opener().id for _ in range(3)]
        assert len(set(ids)) == 3
        opener().check_ids("manager", ids)

    def test_an_id_of_another_ledger_is_refused(self, opener: Opener, tmp_path: Path) -> None:
        with Ledger(tmp_path / "other", TOPIC, OrderV2, "order_id", line, table="orders") as other:
            theirs = other.id
        ledger = opener()
        with pytest.raises(LedgerError, match=f"the group manager has another ledger \\({theirs}\\)") as refused:
            ledger.check_ids("manager", [ledger.id, theirs])
        assert "copied" not in str(refused.value)
        assert "earlier state" not in str(refused.value), "it has never recorded anything"
        todo = "if that is lost, stop every manager and run: python -m consumers.ledger adopt manager"
        assert str(refused.value).endswith(todo)

    def test_one_that_has_rows_may_have_been_put_back(self, opener: Opener, directory: Path) -> None:
        """As by a snapshot of the whole disk."""
        ledger = opener()
        ledger.resume([0])
        ledger.record(orders(0))
        with pytest.raises(LedgerError, match=f"{directory}/ledger.db has rows: .* was put back to an earlier state"):
            ledger.check_ids("manager", ["later"])

    @pytest.mark.parametrize("change", ["directory", "inode", "machine"])
    def test_elsewhere_it_has_none_of_its_ids(
        self, opener: Opener, directory: Path, tmp_path: Path, machine: Path, change: str
    ) -> None:
        ledger = opener()
        before, first = ledger.id, (directory / "ledger.db").stat().st_ino
        ledger.close()
        where = directory
        match change:
            case "directory":
                where = directory.rename(tmp_path / "moved")
            case "inode":
                shutil.copy(directory / "ledger.db", tmp_path / "restored.db")
                (tmp_path / "restored.db").replace(directory / "ledger.db")
            case "machine":
                machine.write_text("bb\n")
        with Ledger(where, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            for _ in range(2):
                with pytest.raises(LedgerError, match="it was copied, moved or restored") as refused:
                    ledger.check_ids("manager", [before])
        second = (where / "ledger.db").stat().st_ino
        told = str(refused.value)
        was, now = {
            "directory": (f"{directory}, ", f"{where} now"),
            "inode": (f"{directory} (inode {first}), ", f"{where} (inode {second}) now"),
            "machine": (f"{directory} (machine ", f"{where} (machine "),
        }[change]
        assert f"it was at {was}" in told
        assert f"and is at {now}" in told
        assert "kitchen" not in told
        todo = "if that is no more, stop every manager and run: python -m consumers.ledger adopt manager ("
        assert 0 < told.index(todo) < told.index("it was at")

    @pytest.mark.parametrize("known", ["", "uninitialized\n", None])
    def test_a_machine_without_an_id_is_any(self, opener: Opener, machine: Path, known: str | None) -> None:
        """As of most containers: a volume that is mounted into a new one is where it was."""
        before = [opener().id]
        if known is None:
            machine.unlink()
        else:
            machine.write_text(known)
        before.append(opener().id)
        machine.write_text("bb\n")
        before.append(opener().id)
        opener().check_ids("manager", before[1:])

    def test_the_host_name_is_no_part_of_it(self, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        before = opener().id
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "another", "", "", "")))
        opener().check_ids("manager", [before])

    def test_a_ledger_of_the_release_before_is_where_it_is(self, opener: Opener, directory: Path) -> None:
        """It did not know; and it opens what this one has written, with the id that was left last."""
        opener().close()
        with closing(sqlite3.connect(directory / "ledger.db")) as db, db:
            db.execute("DROP TABLE ids")
            db.execute("UPDATE ledger SET id = 'before'")
        ledger = opener()
        ledger.check_ids("manager", ["before"])
        assert rows(directory, "SELECT id FROM ledger") == [(ledger.id,)]
        assert rows(directory, "PRAGMA user_version") == [(1,)]

    def test_an_inode_beyond_what_sqlite_counts(self, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some file systems use all 64 bits."""
        real = os.stat

        def stat(path: Any, **keywords: Any) -> os.stat_result:
            found = list(real(path, **keywords))
            if str(path).endswith("ledger.db"):
                found[1] = 2**64 - 1
            return os.stat_result(found)

        monkeypatch.setattr(os, "stat", stat)
        before = opener().id
        opener().check_ids("manager", [before])

    def test_a_directory_whose_name_is_no_text(self, tmp_path: Path) -> None:
        """Nor a web address."""
        directory = tmp_path / os.fsdecode(b"caf\xe9 100%41?#&")
        with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            before = ledger.id
            ledger.resume([0])
            ledger.record(orders(0))
        with Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders") as ledger:
            ledger.check_ids("manager", [before])
            assert ledger.resume([0]) == {0: 1}
