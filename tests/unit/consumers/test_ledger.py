"""The ledger: rows, offsets and log are one, whatever fails between; one holder, one topic."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consumers.batches import Batch, Received
from consumers.ledger import FORMAT, Ledger, Recorded
from contract.errors import LedgerError, Overtaken, Rejected, Unavailable
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

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_a_log_that_is_full(self, directory: Path) -> None:
        """It ends in one sentence, also while it is closed, and nothing counts as recorded."""
        directory.mkdir()
        (directory / "log.txt").symlink_to("/dev/full")
        with pytest.raises(Unavailable, match=r"cannot be written: No space left on device"):
            self._record_two(directory)
        assert rows(directory) == []
        assert rows(directory, "SELECT next_offset FROM partitions") == [(0,)]
        (directory / "log.txt").unlink()
        self._record_two(directory)
        assert log(directory) == ["pizza 1", "pizza 2"]

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

    def test_a_file_that_is_no_ledger_is_named(self, directory: Path) -> None:
        content = b"not a database at all" * 100
        directory.mkdir()
        (directory / "ledger.db").write_bytes(content)
        with pytest.raises(LedgerError, match=r"ledger\.db is damaged or no ledger: file is not a database"):
            Ledger(directory, TOPIC, OrderV2, "order_id", line, table="orders")
        assert (directory / "ledger.db").read_bytes() == content

    def test_a_directory_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file")
        with pytest.raises(Unavailable, match=r"data cannot be written: "):
            Ledger(tmp_path / "data", TOPIC, OrderV2, "order_id", line, table="orders")

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
