"""What another version has recorded: after a rollback it is kept, shown, and known when it is sent again."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, field

from consumers.batches import Received
from consumers.ledger import Ledger, Recorded
from consumers.rows import agrees, read_leniently
from contract.errors import LedgerError, Rejected
from contract.records import Record
from runtime.topics import Topic
from tests.batches import batch_of

DEEP = '{"pizza":' + "[" * 100_000 + "]" * 100_000 + "}"
TOPIC = Topic("pizza-order", "topic-1", "cluster-1", 1)


class Guest(Record, frozen=True):
    """As this version knows a guest."""

    name: Annotated[str, Meta(max_length=5)]
    seat: int = 1


class NewGuest(Record, frozen=True):
    """As a newer one does."""

    name: str
    seat: int = 1
    vip: bool = False


class Order(Record, frozen=True):
    """As this version knows an order."""

    pizza: Annotated[str, Meta(min_length=1, max_length=6)]
    order_id: str
    size: Literal["SMALL", "LARGE"] = "SMALL"
    guests: Annotated[list[Guest], Meta(max_length=3)] = field(default_factory=list)
    notes: dict[str, Guest] = field(default_factory=dict)
    host: Guest | None = None

    VERSION: ClassVar[int] = 1
    SCHEMA: ClassVar[str] = "{}"


class NewOrder(Record, frozen=True):
    """As a newer one does: more fields, nested too, wider limits, another symbol."""

    pizza: str
    order_id: str
    size: Literal["SMALL", "LARGE", "FAMILY"] = "SMALL"
    guests: list[NewGuest] = field(default_factory=list)
    notes: dict[str, NewGuest] = field(default_factory=dict)
    host: NewGuest | None = None
    tip: float | None = None

    VERSION: ClassVar[int] = 2
    SCHEMA: ClassVar[str] = "{}"


NEW = NewOrder(
    "napoli",
    "a",
    "FAMILY",
    [NewGuest("Ada", 2, vip=True)],
    {"x": NewGuest("Bo", 3)},
    NewGuest("Cy", vip=True),
    0.5,
)
AS_READ = Order("napoli", "a", "SMALL", [Guest("Ada", 2)], {"x": Guest("Bo", 3)}, Guest("Cy"))
"""What this version's reader makes of it: symbols that it does not know are the enum's default."""


def line(order: Order | NewOrder) -> str:
    """Return a record's line of the log."""
    return f"{order.pizza.upper()} {order.size} {[guest.name for guest in order.guests]}"


def old_ledger(directory: Path, line: Callable[[Order], str] = line) -> Ledger[Order]:
    """Open it as this version does."""
    return Ledger(directory, TOPIC, Order, "order_id", line, table="orders")


@pytest.fixture
def record_new(tmp_path: Path) -> Callable[..., list[str]]:
    """Record as the newer version does, and give the lines of its log."""

    def record(*orders: NewOrder) -> list[str]:
        with Ledger(tmp_path, TOPIC, NewOrder, "order_id", line, table="orders") as ledger:
            ledger.resume([0])
            ledger.record(batch_of([Received(one, 0, n, 0) for n, one in enumerate(orders)], {0: len(orders)}))
        return log(tmp_path)

    return record


def log(directory: Path) -> list[str]:
    """Return the lines of the log."""
    return (directory / "log.txt").read_text("utf-8").splitlines()


def store(directory: Path, record: str) -> None:
    """Put something else into the first row."""
    with closing(sqlite3.connect(directory / "ledger.db")) as db, db:
        db.execute("UPDATE orders SET record = ? WHERE line = 1", (record,))


class TestLog:
    """The log is rebuilt from rows of any version."""

    @pytest.mark.parametrize("spoil", ["missing", "short"])
    def test_it_is_rebuilt_from_a_newer_versions_rows(
        self, tmp_path: Path, record_new: Callable[..., list[str]], spoil: str
    ) -> None:
        lines = record_new(NEW, NewOrder("quattro stagioni", "b"), NewOrder("funghi", "c"))
        if spoil == "missing":
            (tmp_path / "log.txt").unlink()
        else:
            (tmp_path / "log.txt").write_bytes(b"NAPOLI")
        with old_ledger(tmp_path) as ledger:
            assert log(tmp_path) == lines
            ledger.resume([0])
            assert ledger.record(batch_of([Received(Order("bianca", "d"), 0, 3, 0)], {0: 4})) == Recorded(1, 0)
        assert log(tmp_path) == [*lines, "BIANCA SMALL []"]

    @pytest.mark.parametrize(
        "record",
        [
            "{}",
            "[1]",
            "7",
            "null",
            '{"pizza": 7}',
            '{"pizza": "a"}',
            '{"pizza":"a","size":"SMALL","guests":[7]}',
            "{no",
            DEEP,
        ],
        ids=range(9),
    )
    def test_a_row_that_no_record_can_be_made_of_is_its_own_line(
        self, tmp_path: Path, record_new: Callable[..., list[str]], record: str
    ) -> None:
        record_new(NEW, NewOrder("funghi", "c"))
        store(tmp_path, record)
        (tmp_path / "log.txt").unlink()
        with old_ledger(tmp_path):
            assert log(tmp_path) == [record, "FUNGHI SMALL []"]

    def test_such_a_line_is_one_line(self, tmp_path: Path, record_new: Callable[..., list[str]]) -> None:
        """Whoever wrote the row."""
        record_new(NEW)
        store(tmp_path, '{"x":\n"\x1b[31m\x85\u2028"}')
        (tmp_path / "log.txt").unlink()
        with old_ledger(tmp_path):
            assert log(tmp_path) == [r'{"x":\n"\x1b[31m\x85\u2028"}']

    def test_a_line_that_fails_for_a_record_of_this_version_is_a_defect(self, tmp_path: Path) -> None:
        """Not to be hidden."""

        def failing(_order: Order) -> str:
            raise ZeroDivisionError

        with old_ledger(tmp_path) as ledger:
            ledger.resume([0])
            ledger.record(batch_of([Received(Order("bianca", "d"), 0, 0, 0)], {0: 1}))
        (tmp_path / "log.txt").unlink()
        with pytest.raises(ZeroDivisionError):
            old_ledger(tmp_path, failing)


class TestSentAgain:
    """The same order is the same, in all that this version knows."""

    @pytest.fixture
    def ledger(self, tmp_path: Path, record_new: Callable[..., list[str]]) -> Iterator[Ledger[Order]]:
        """Of this version, with an order of the newer one."""
        record_new(NEW)
        with old_ledger(tmp_path) as ledger:
            ledger.resume([0])
            yield ledger

    def test_it_is_a_duplicate(self, ledger: Ledger[Order]) -> None:
        assert ledger.record(batch_of([Received(AS_READ, 0, 1, 0)], {0: 2})) == Recorded(0, 1)

    @pytest.mark.parametrize(
        "change",
        [
            {"pizza": "bianca"},
            {"guests": []},
            {"guests": [Guest("Ada", 2), Guest("Ada", 2)]},
            {"guests": [Guest("Ada", 3)]},
            {"notes": {}},
            {"notes": {"x": Guest("Bo", 3), "y": Guest("Bo", 3)}},
            {"notes": {"y": Guest("Bo", 3)}},
            {"host": None},
            {"host": Guest("Di")},
        ],
        ids=str,
    )
    def test_another_content_is_refused(self, ledger: Ledger[Order], change: dict[str, Any]) -> None:
        """Maps are no records: a key too many is a difference."""
        other = msgspec.structs.replace(AS_READ, **change)
        with pytest.raises(Rejected, match="order_id 'a' is recorded in line 1 with another content"):
            ledger.record(batch_of([Received(other, 0, 1, 0)], {0: 2}))

    @pytest.mark.parametrize("record", ["{}", "[1]", "{no", "null", DEEP], ids=range(5))
    def test_a_row_that_no_record_can_be_made_of_is_another_content(
        self, ledger: Ledger[Order], tmp_path: Path, record: str
    ) -> None:
        store(tmp_path, record)
        with pytest.raises(Rejected):
            ledger.record(batch_of([Received(AS_READ, 0, 1, 0)], {0: 2}))

    def test_a_field_that_an_older_version_did_not_have_counts_as_its_default(self, ledger: Ledger[Order]) -> None:
        """As Avro reads it; another value is another content."""
        ledger.record(batch_of([Received(Order("bianca", "b"), 0, 1, 0)], {0: 2}))
        ledger._db.execute("""UPDATE orders SET record = '{"pizza":"bianca","order_id":"b"}' WHERE line = 2""")  # noqa: SLF001
        assert ledger.record(batch_of([Received(Order("bianca", "b"), 0, 2, 0)], {0: 3})) == Recorded(0, 1)
        with pytest.raises(Rejected):
            ledger.record(batch_of([Received(Order("bianca", "b", "LARGE"), 0, 3, 0)], {0: 4}))


class Everything(Record, frozen=True):
    """One field of each kind that JSON does not have."""

    raw: bytes
    price: decimal.Decimal
    at: Annotated[datetime.datetime, Meta(tz=True)]
    day: datetime.date
    time: datetime.time
    number: uuid.UUID
    ratio: float
    maybe: Annotated[int, Meta(le=9)] | None = None
    many: list[int] = field(default_factory=lambda: [1])


EVERYTHING = Everything(
    b"\xff\x00",
    decimal.Decimal("1.50"),
    datetime.datetime(2026, 11, 28, 12, 0, 0, 5, tzinfo=datetime.UTC),
    datetime.date(2026, 11, 28),
    datetime.time(12, 30),
    uuid.UUID(int=7),
    3.0,
    4,
)


def stored(record: Record, **changes: object) -> Any:
    """Return a record as the ledger keeps it."""
    return json.loads(msgspec.json.encode(record)) | changes


@pytest.mark.parametrize("extra", [{}, {"new": {"a": [1]}}])
def test_every_kind_of_field_is_read_as_it_was(extra: dict[str, Any]) -> None:
    assert read_leniently(Everything, stored(EVERYTHING, **extra)) == EVERYTHING
    assert agrees(Everything, EVERYTHING, stored(EVERYTHING, **extra))


def test_a_value_beyond_a_limit_is_read() -> None:
    found = read_leniently(Everything, stored(EVERYTHING, maybe=99))
    assert found.maybe == 99
    assert found.at == EVERYTHING.at


@pytest.mark.parametrize("ratio", [math.nan, math.inf])
def test_a_number_that_json_does_not_have_agrees_with_what_is_stored_of_it(ratio: float) -> None:
    """Null, and NaN is not even equal to itself."""
    value = msgspec.structs.replace(EVERYTHING, ratio=ratio)
    assert stored(value)["ratio"] is None
    assert agrees(Everything, value, stored(value))


def test_a_whole_number_agrees_with_a_float() -> None:
    assert agrees(Everything, EVERYTHING, stored(EVERYTHING, ratio=3))


def test_a_default_that_is_made_counts() -> None:
    less = stored(EVERYTHING)
    del less["many"]
    assert agrees(Everything, EVERYTHING, less)
    assert not agrees(Everything, msgspec.structs.replace(EVERYTHING, many=[]), less)


@pytest.fixture
def cut_ledger(tmp_path: Path, record_new: Callable[..., list[str]]) -> Path:
    """A directory whose ledger.db has lost its second half, and its log."""
    record_new(*(NewOrder("x" * 900, str(number)) for number in range(300)))
    data = (tmp_path / "ledger.db").read_bytes()
    (tmp_path / "ledger.db").write_bytes(data[: len(data) // 2])
    (tmp_path / "log.txt").unlink()
    return tmp_path


def test_a_ledger_that_is_cut_is_said_to_be_damaged(cut_ledger: Path) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged or no ledger"):
        old_ledger(cut_ledger)


def test_an_empty_file_is_a_new_ledger(cut_ledger: Path) -> None:
    """Whose id a group that has recorded does not know."""
    (cut_ledger / "ledger.db").write_bytes(b"")
    with old_ledger(cut_ledger) as ledger:
        assert ledger.resume([0]) == {0: 0}
        with pytest.raises(LedgerError, match="has another ledger"):
            ledger.check_ids("manager", ["before"])
