"""A file that grows, is rewritten or interrupted, and is sent again: each of its lines is recorded once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import RecordFileError, StorageUnavailable
from contract.order import OrderV1, OrderV2
from contract.records import Record
from contract.subjects import Subject, load_contract
from producer import record_files, sending
from producer.bulk import publish_file
from producer.publishing import Delivery, RecordProducer
from producer.record_files import RecordFile
from tests.unit.producer.test_bulk import parsed


class Killed(BaseException):
    """Ends whatever runs."""


class Kitchen:
    """A directory with a file of orders, and a ledger that records an identity once."""

    def __init__(self, directory: Path, name: str = "orders.jsonl", record: type[Record] = OrderV2) -> None:
        self.data = directory / "data"
        self.path = directory / name
        self.ledger: dict[str, str] = {}
        self.sent = 0
        self._subject: Subject = load_contract().subjects["pizza-order-value"]
        self._record = record
        self.lines = 0
        self.path.write_text("pizza,table\n" if name.endswith("csv") else "")

    def line(self) -> str:
        """Return a line that no other is like."""
        self.lines += 1
        if self.path.suffix == ".csv":
            return f"number {self.lines},1\n"
        return json.dumps({"pizza": f"number {self.lines}", "table": 1}) + "\n"

    def add(self, text: str | None = None) -> None:
        """Add text to the file, by default a line."""
        with self.path.open("a") as file:
            file.write(self.line() if text is None else text)

    def give(self, *flags: str, path: Path | None = None, at: int = -1, event: Callable[[], object] = Event) -> int:
        """Send a file; when so many orders are sent, something happens."""
        self._left, self._event = at, event
        with closing(RecordFile(path or self.path, self._record)) as file:
            producer = cast(RecordProducer[Any], self)
            return publish_file(parsed(*flags), file, self._subject, lambda: producer, self.data, Event, send)

    def give_kept(self) -> None:
        """Send all that is kept."""
        for path in self.kept:
            assert self.give(path=path) == 0

    @property
    def kept(self) -> list[Path]:
        """The files of what was not acknowledged, the oldest first."""
        # Of one second, all but the first have a number.
        return sorted(self.data.glob("undelivered-*"), key=lambda path: (path.stat().st_mtime_ns, len(path.name)))

    @property
    def notes(self) -> list[str]:
        """The names of the notes."""
        return sorted(path.name for path in self.data.glob("sending-*"))

    @property
    def recorded(self) -> Counter[str]:
        """How often each pizza is recorded."""
        return Counter(self.ledger.values())

    def each_once(self) -> None:
        """Fail when a line is missing or recorded twice."""
        assert self.recorded == Counter(f"number {number}" for number in range(1, self.lines + 1))

    def publish_all(
        self,
        chunks: Iterable[Sequence[Any]],
        on_failure: Callable[[Any, str], object],
        _on_delivery: Callable[[Delivery], object] | None = None,
        _stop: Event | None = None,
    ) -> int:
        """Acknowledge records until the event is failure."""
        count = 0
        is_down = False
        for record in (record for chunk in chunks for record in chunk):
            if self._left == 0:
                is_down = self._event() == "down"
            self._left -= 1
            if is_down:
                on_failure(record, "no broker")
                continue
            count += 1
            identity = getattr(record, "order_id", "") or f"none-{self.sent}"
            assert self.ledger.setdefault(identity, record.pizza) == record.pizza, "two orders share an identity"
            self.sent += 1
        return count


def send(path: Path) -> str:
    """Return the command that sends a file."""
    return f"send {path}"


def kill() -> None:
    """End the waiter as a crash would."""
    raise Killed


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some lines are several chunks."""
    monkeypatch.setattr(record_files, "BLOCK", 100)
    monkeypatch.setattr(record_files, "_CHUNK", 2)


@pytest.fixture(params=["orders.jsonl", "orders.csv"])
def kitchen(tmp_path: Path, request: pytest.FixtureRequest) -> Kitchen:
    """A file of ten orders."""
    kitchen = Kitchen(tmp_path, request.param)
    kitchen.add("".join(kitchen.line() for _ in range(10)))
    return kitchen


class TestAGrowingFile:
    """It stops the waiter, and is known again."""

    def test_what_is_said(self, kitchen: Kitchen, capsys: pytest.CaptureFixture[str]) -> None:
        assert kitchen.give(at=3, event=kitchen.add) == 1
        said = capsys.readouterr().err
        lines = 10 + kitchen.path.name.endswith("csv")
        sent = kitchen.sent
        assert f"published {sent} orders" in said
        assert f"{10 - sent} orders were not acknowledged ({kitchen.path} was changed while it was being sent)" in said
        assert f"and are kept in {kitchen.kept[0]}; when the cause is mended, run: send {kitchen.kept[0]}\n" in said
        assert (
            f"{kitchen.path} was changed while it was being sent: give {kitchen.path} again when nobody writes to it "
            f"any more, its first {lines} lines keep their identities as long as they stay as they are; then what is "
            "kept need not be sent, but may be\n"
        ) in said
        assert kitchen.give() == 0
        assert (
            f"the first {lines} lines of {kitchen.path} were being sent before, and keep their identities; "
            "to send them as others, add --batch NAME\n"
        ) in capsys.readouterr().err
        kitchen.give_kept()
        kitchen.each_once()

    def test_growth_behind_the_last_line_is_noticed(self, kitchen: Kitchen, capsys: pytest.CaptureFixture[str]) -> None:
        """All was sent, so nothing is kept; but the file is not done."""
        assert kitchen.give(at=9, event=kitchen.add) == 1
        said = capsys.readouterr().err
        assert "published 10 orders" in said
        assert "was changed while it was being sent: give " in said
        assert kitchen.kept == []
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_a_batch_is_known_by_its_name_alone(self, kitchen: Kitchen) -> None:
        """The same lines in another batch are others."""
        assert kitchen.give("--batch", "a", at=3, event=kitchen.add) == 1
        assert kitchen.give("--batch", "b") == 0
        assert kitchen.give("--batch", "a") == 0
        assert kitchen.give() == 0
        assert set(kitchen.recorded.values()) == {3}

    def test_invalid_lines_are_skipped_as_before(self, kitchen: Kitchen) -> None:
        kitchen.add("nonsense\n")
        kitchen.add()
        assert kitchen.give("--skip-invalid", at=3, event=kitchen.add) == 1
        assert kitchen.give("--skip-invalid") == 1
        kitchen.give_kept()
        kitchen.each_once()
        assert kitchen.give("--skip-invalid") == 1
        kitchen.each_once()

    def test_a_grown_file_that_was_sent_whole_is_recorded_once_when_it_is_sent_again(self, kitchen: Kitchen) -> None:
        """And a file that goes on is another, as is one that begins like what the file was at first."""
        assert kitchen.give(at=3, event=kitchen.add) == 1
        for _ in range(2):
            assert kitchen.give() == 0
        kitchen.each_once()
        kitchen.add()
        assert kitchen.give() == 0
        assert sum(kitchen.recorded.values()) == 11 + 12

    def test_a_file_that_grows_while_it_is_checked_is_not_sent(
        self, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beginnings = RecordFile.beginnings

        def growing(file: RecordFile[Any], sizes: Collection[int]) -> Any:
            kitchen.add()
            return beginnings(file, sizes)

        monkeypatch.setattr(RecordFile, "beginnings", growing)
        with pytest.raises(RecordFileError, match=r"was changed while it was being checked; nothing was sent"):
            kitchen.give()
        assert (kitchen.sent, kitchen.notes) == (0, [])


class TestAHalfWrittenLine:
    """The writer is in the middle of the last line when the file is checked."""

    def test_it_is_not_sent_before_it_is_complete(self, tmp_path: Path) -> None:
        """As CSV, what there is of it may be a valid row of another table."""
        kitchen = Kitchen(tmp_path, "orders.csv")
        kitchen.add("".join(kitchen.line() for _ in range(10)))
        kitchen.add(kitchen.line().removesuffix("\n"))
        assert kitchen.give(at=3, event=lambda: kitchen.add("7\n")) == 1
        assert sum(path.read_text().count("\n") for path in kitchen.kept) + kitchen.sent == 10
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("at", [3, 10])
    def test_one_that_lacked_only_its_end_keeps_its_identity(self, kitchen: Kitchen, end: str, at: int) -> None:
        """Whether it was sent or kept."""
        kitchen.add(kitchen.line().removesuffix("\n"))
        assert kitchen.give(at=at, event=lambda: kitchen.add(end + kitchen.line())) == 1
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_one_that_was_skipped_as_invalid_is_sent_when_it_is_complete(self, tmp_path: Path) -> None:
        kitchen = Kitchen(tmp_path)
        kitchen.add("".join(kitchen.line() for _ in range(10)))
        last = kitchen.line()
        kitchen.add(last[:-5])
        assert kitchen.give("--skip-invalid", at=3, event=lambda: kitchen.add(last[-5:])) == 1
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()


class TestAFileThatIsRewritten:
    """Its lines are not those that were checked."""

    @pytest.mark.parametrize("how", ["other bytes", "truncated"])
    def test_nothing_is_kept_under_the_identity_of_another_line(
        self, kitchen: Kitchen, how: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = kitchen.path.read_bytes()
        other = content.replace(b"number", b"nombre") if how == "other bytes" else content[: len(content) // 2]
        assert kitchen.give(at=1, event=lambda: kitchen.path.write_bytes(other)) == 1
        said = capsys.readouterr().err
        lost = 10 - kitchen.sent
        assert (
            f"no longer holds what was checked, and {lost} records that were not sent cannot be kept: restored" in said
        )
        assert kitchen.kept == []
        kitchen.path.write_bytes(content)
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_one_that_is_rewritten_while_the_rest_is_being_kept(
        self, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What was kept of it is taken back."""
        content = kitchen.path.read_bytes()
        between = RecordFile.between

        def rewriting(file: RecordFile[Any], *lines: int) -> Any:
            for part in between(file, *lines):
                yield part
                kitchen.path.write_bytes(content.replace(b"number", b"nombre"))

        monkeypatch.setattr(RecordFile, "between", rewriting)
        assert kitchen.give(at=1, event=kitchen.add) == 1
        assert "cannot be kept" in capsys.readouterr().err
        assert kitchen.kept == []

    def test_one_that_is_replaced_keeps_the_identities_of_lines_that_stay(self, kitchen: Kitchen) -> None:
        """As an editor does it that writes another file and gives it the name."""

        def replace() -> None:
            other = kitchen.path.with_suffix(".new")
            other.write_bytes(kitchen.path.read_bytes())
            other.replace(kitchen.path)
            kitchen.add()

        assert kitchen.give(at=3, event=replace) == 1
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()

    @pytest.mark.parametrize("at", [3, 9])
    @pytest.mark.parametrize("by", ["other lines", "fewer lines", "nothing"])
    def test_one_whose_name_is_another_files_is_not_to_be_given_again(
        self, kitchen: Kitchen, by: str, at: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As `sed -i` does it: all that was checked is sent or kept, and what is there now are other orders."""
        content = kitchen.path.read_bytes()

        def replace() -> None:
            kitchen.path.rename(kitchen.path.with_suffix(".old"))
            if by == "nothing":
                with kitchen.path.with_suffix(".old").open("a") as file:
                    file.write(kitchen.line())
            else:
                half = content[: len(content) // 2]
                kitchen.path.write_bytes(half if by == "fewer lines" else content.replace(b"number", b"nombre"))

        assert kitchen.give(at=at, event=replace) == 1
        said = capsys.readouterr().err
        todo = "send what is kept, and not this file" if at == 3 else "all of that was sent"
        assert f"{kitchen.path} no longer holds what was checked: {todo}; as it is now, all of its lines are" in said
        assert "again" not in said
        assert len(kitchen.kept) == (at == 3)
        kitchen.give_kept()
        assert kitchen.recorded == Counter(f"number {number}" for number in range(1, 11))
        if kitchen.kept:  # all of it was sent, and what begins like it is another file
            assert kitchen.notes == []

    def test_one_that_is_deleted_is_sent_to_its_end(self, kitchen: Kitchen) -> None:
        assert kitchen.give(at=3, event=kitchen.path.unlink) == 0
        assert kitchen.notes == []
        kitchen.each_once()


class TestNotes:
    """What is remembered of a file that was not sent whole."""

    def test_none_is_left_of_a_file_that_was_sent_whole(self, kitchen: Kitchen) -> None:
        assert kitchen.give() == 0
        assert [*kitchen.data.iterdir()] == []

    @pytest.mark.parametrize("event", [kill, lambda: "down"])
    def test_one_stays_of_a_file_that_was_not(self, kitchen: Kitchen, event: Callable[[], object]) -> None:
        """Killed, or not acknowledged: lines that come later are other ones, the first keep their identities."""
        with suppress(Killed):
            kitchen.give(at=3, event=event)
        assert len(kitchen.notes) == 1
        kitchen.add()
        assert kitchen.give() == 0
        kitchen.give_kept()
        kitchen.each_once()

    def test_it_is_there_before_the_first_record_is_sent(self, kitchen: Kitchen) -> None:
        assert kitchen.give(at=0, event=lambda: pytest.fail("no note") if len(kitchen.notes) != 1 else None) == 0

    def test_a_file_that_only_shares_first_lines_with_part_of_one_is_another(self, kitchen: Kitchen) -> None:
        """It must hold all that the note covers."""
        with suppress(Killed):
            kitchen.give(at=3, event=kill)
        sent = kitchen.sent
        lines = kitchen.path.read_text().splitlines(keepends=True)
        kitchen.path.write_text("".join([*lines[:-1], kitchen.line()]))
        assert kitchen.give() == 0
        assert sum(kitchen.recorded.values()) == sent + 10

    def test_a_damaged_one_is_named_and_nothing_is_sent(self, kitchen: Kitchen) -> None:
        kitchen.data.mkdir()
        (kitchen.data / "sending-monday.jsonl").write_text("a file that somebody calls so")
        (kitchen.data / f"sending-{24 * '0'}.json").write_text("{")
        with pytest.raises(RecordFileError, match=r"sending-0+\.json is damaged.*nothing was sent: restore it, or"):
            kitchen.give()
        assert kitchen.sent == 0

    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_directory_that_cannot_be_written_is_said_before_anything_is_sent(
        self, kitchen: Kitchen, *, is_there: bool
    ) -> None:
        if is_there:
            kitchen.data.write_text("a file")
        else:
            kitchen.data = Path("/proc/nowhere")
        with pytest.raises(StorageUnavailable, match="nothing was sent"):
            kitchen.give()
        assert kitchen.sent == 0


def down() -> str:
    """Acknowledge nothing more."""
    return "down"


class TestAnotherFile:
    """It begins with all that was checked of one that was not sent whole."""

    @pytest.fixture(autouse=True)
    def failed(self, kitchen: Kitchen) -> None:
        """A file that has come to its third order."""
        assert kitchen.give(at=3, event=down) == 1

    @staticmethod
    def another(kitchen: Kitchen, name: str = "") -> Path:
        """Return another day's file, which goes on otherwise."""
        path = kitchen.path.with_stem(name) if name else kitchen.path
        path.write_text(kitchen.path.read_text() + kitchen.line())
        return path

    @pytest.mark.parametrize("name", ["", "monday"])
    def test_its_lines_are_others_once_what_was_kept_has_been_sent(self, kitchen: Kitchen, name: str) -> None:
        """With the same path or another one."""
        kitchen.give_kept()
        assert kitchen.notes == []
        assert kitchen.give(path=self.another(kitchen, name)) == 0
        assert kitchen.recorded == Counter({f"number {number}": 2 for number in range(1, 11)} | {"number 11": 1})

    @pytest.mark.parametrize("has_been_moved", [False, True])
    def test_what_was_kept_may_be_sent_in_parts_from_anywhere(self, kitchen: Kitchen, *, has_been_moved: bool) -> None:
        """The broker goes away a second time."""
        for expected in (1, 2):
            path = kitchen.kept[-1]
            if has_been_moved:
                path = path.rename(kitchen.path.with_name(path.name))
            assert kitchen.give(path=path, at=2, event=down) == 1
            assert len(kitchen.notes) == expected + 1
        assert kitchen.give(path=kitchen.kept[-1]) == 0
        assert kitchen.notes == []
        kitchen.each_once()

    def test_what_was_kept_has_identities_of_its_own(
        self, kitchen: Kitchen, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A batch would change nothing, and is not advised."""
        kept = kitchen.kept[0]
        assert kitchen.give(path=kept, at=1, event=down) == 1
        lines = len(kept.read_bytes().splitlines())
        capsys.readouterr()
        assert kitchen.give(path=kept) == 0
        said = capsys.readouterr().err
        assert (
            f"the first {lines} lines of {kept} were being sent before, and have identities of their own: each" in said
        )
        assert "--batch" not in said
        kitchen.each_once()

    @pytest.mark.parametrize("which", [0, 1])
    def test_either_file_of_two_attempts_completes_it(self, kitchen: Kitchen, which: int) -> None:
        assert kitchen.give(at=5, event=down) == 1
        assert kitchen.give(path=kitchen.kept[which]) == 0
        assert kitchen.notes == []
        kitchen.each_once()

    def test_what_was_kept_of_a_batch_completes_it_without_the_name(self, kitchen: Kitchen) -> None:
        kitchen.give_kept()
        assert kitchen.give("--batch", "evening", at=3, event=down) == 1
        kitchen.give_kept()
        assert kitchen.notes == []
        assert set(kitchen.recorded.values()) == {2}

    def test_lines_that_were_added_before_what_was_kept_is_sent_continue_it(self, kitchen: Kitchen) -> None:
        """Although they came when the waiter had ended."""
        kitchen.add()
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_a_grown_file_is_completed_by_what_was_kept_of_it(self, kitchen: Kitchen) -> None:
        """From then on its first lines are no longer its own, and what it was at last is recorded once."""
        first = kitchen.path.read_text()
        kitchen.add()
        assert kitchen.give(at=3, event=down) == 1
        assert len(kitchen.notes) == 1
        assert kitchen.give(path=kitchen.kept[-1]) == 0
        kitchen.each_once()
        assert kitchen.give() == 0
        kitchen.each_once()
        kitchen.path.write_text(first)
        assert kitchen.give(path=self.another(kitchen)) == 0
        assert sum(kitchen.recorded.values()) == 11 + 11

    def test_until_then_one_with_another_path_is_refused(self, kitchen: Kitchen) -> None:
        """It may be that file, moved; each of both meanings has its way."""
        other = self.another(kitchen, "monday")
        sent = kitchen.sent
        with pytest.raises(
            RecordFileError,
            match=f"{other} begins with all that {kitchen.path} had, which was not sent whole; nothing was sent: if it "
            f"is that file, give it as {kitchen.path}; if all of its lines are others, add --batch NAME",
        ):
            kitchen.give(path=other)
        assert kitchen.sent == sent
        assert kitchen.give("--batch", "monday", path=other) == 0
        assert sum(kitchen.recorded.values()) == sent + 11
        other.replace(kitchen.path)
        assert kitchen.give() == 0
        assert sum(kitchen.recorded.values()) == 11 + 11

    def test_one_that_grew_is_known_although_it_is_moved_before_what_was_kept_is_sent(self, kitchen: Kitchen) -> None:
        """It is not guessed where it is."""
        assert kitchen.give(at=3, event=kitchen.add) == 1
        moved = kitchen.path.rename(kitchen.path.with_stem("moved"))
        kitchen.give_kept()
        with pytest.raises(RecordFileError, match=f"if it is that file, give it as {kitchen.path};"):
            kitchen.give(path=moved)
        moved.rename(kitchen.path)
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_a_copy_is_that_file_wherever_it_is(self, kitchen: Kitchen) -> None:
        """It has the same digest."""
        copy = kitchen.path.with_stem("copy")
        copy.write_bytes(kitchen.path.read_bytes())
        assert kitchen.give(path=copy) == 0
        assert kitchen.notes == []
        kitchen.each_once()

    def test_one_whose_lines_have_identities_is_not_in_doubt(self, kitchen: Kitchen) -> None:
        """As a file of what was not acknowledged that begins like another one."""
        kitchen.add("".join(kitchen.line() for _ in range(10)))
        assert kitchen.give(at=12, event=down) == 1
        first, second = kitchen.kept
        second.write_bytes(first.read_bytes() + second.read_bytes())
        assert kitchen.give(path=first, at=0, event=down) == 1
        assert kitchen.give(path=second) == 0
        kitchen.each_once()

    def test_a_link_is_the_file_that_it_leads_to(self, kitchen: Kitchen) -> None:
        """Another day to another one."""
        link = kitchen.path.with_stem("today")
        link.symlink_to(kitchen.path)
        kitchen.add()
        assert kitchen.give(path=link) == 0
        kitchen.each_once()

    def test_a_path_may_have_any_bytes(self, kitchen: Kitchen) -> None:
        kitchen.give_kept()
        kitchen.path = kitchen.path.rename(kitchen.path.with_stem("\udcff"))
        assert kitchen.give(at=3, event=down) == 1
        kitchen.add()
        kitchen.give_kept()
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_the_oldest_notes_go_and_their_files_are_named(
        self, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sending, "MOST_NOTES", 2)
        oldest = kitchen.path
        for _ in range(2):
            kitchen.path = kitchen.path.with_stem(f"later-{len(kitchen.kept)}")
            kitchen.path.write_text(oldest.read_text().replace("number", kitchen.path.stem))
            assert oldest.name not in capsys.readouterr().err
            assert kitchen.give(at=3, event=down) == 1
        assert f"the oldest is gone, and if lines are added to {oldest}, or were while it" in capsys.readouterr().err
        assert len(kitchen.notes) == 2
        for path in (oldest, kitchen.path):
            with path.open("a") as file:
                file.write(kitchen.line())
        sent = kitchen.sent
        assert kitchen.give(path=oldest) == 0
        assert kitchen.give() == 0
        assert "first" in capsys.readouterr().err
        assert kitchen.sent == sent + 11 + 11


class TestWithoutIdentities:
    """An older version's records cannot be recognised, and that is said."""

    def test_a_file_that_grows(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kitchen = Kitchen(tmp_path, record=OrderV1)
        kitchen.add("".join(kitchen.line() for _ in range(10)))
        assert kitchen.give(at=3, event=kitchen.add) == 1
        assert "its first 10 lines have no identities, send what is behind them in a file of its own" in (
            capsys.readouterr().err
        )
        kitchen.give_kept()
        kitchen.path.write_text(kitchen.path.read_text().splitlines(keepends=True)[-1])
        assert kitchen.give() == 0
        kitchen.each_once()

    def test_a_file_that_is_given_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kitchen = Kitchen(tmp_path, record=OrderV1)
        kitchen.add("".join(kitchen.line() for _ in range(10)))
        with suppress(Killed):
            kitchen.give(at=3, event=kill)
        assert kitchen.give() == 0
        assert "and have no identity: those that have arrived are recorded twice" in capsys.readouterr().err


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("part"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["grow", "part-grows", "kill", "down"]), st.integers(0, 12)),
        st.tuples(st.just("kept"), st.just(0)),
    ),
    max_size=12,
)


@settings(
    derandomize=True, max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=ACTIONS, name=st.sampled_from(["orders.jsonl", "orders.csv"]))
def test_in_whatever_order_things_happen_each_line_is_recorded_once(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]], name: str
) -> None:
    """It grows, also in the middle of a line, waiters are killed or lose the broker, and what is kept is sent.

    And when all of it is, a file that begins like it is another one.
    """
    kitchen = Kitchen(tmp_path_factory.mktemp("kitchen"), name)
    rest = ""  # of the line that is being written

    def write(part: int = 0) -> None:
        nonlocal rest
        text = rest + kitchen.line()
        # A row of CSV is no valid one until its comma has come.
        cut = min(part, len(text) - 1 - 2 * name.endswith("csv")) if part else len(text)
        kitchen.add(text[:cut])
        rest = text[cut:]

    write()
    accounted = 0  # bytes all of whose lines were acknowledged or kept
    for action, number in actions:
        if action == "add":
            kitchen.add(rest + "".join(kitchen.line() for _ in range(number)))
            rest = ""
        elif action == "part":
            write(number)
        elif action == "kept":
            kitchen.give_kept()
            if accounted == kitchen.path.stat().st_size:
                break  # it was sent whole: what comes later would be another file
        else:
            size, count = kitchen.path.stat().st_size, len(kitchen.kept)
            happens: dict[str, Callable[[], object]] = {
                "grow": write, "part-grows": lambda: write(9), "kill": kill, "down": lambda: "down",
            }  # fmt: skip
            with suppress(Killed):
                if kitchen.give(at=number, event=happens[action]) == 0:
                    break
                accounted = size if len(kitchen.kept) > count else accounted
    else:
        kitchen.add(rest)
        assert kitchen.give() == 0
    kitchen.give_kept()
    assert kitchen.give() == 0
    lines = Counter(re.findall(r"number \d+(?=[\",])", kitchen.path.read_text()))
    assert kitchen.recorded == lines
    other = kitchen.path.with_stem("other")
    other.write_text(kitchen.path.read_text().removesuffix("\n") + "\n" + kitchen.line())
    assert kitchen.give(path=other) == 0
    assert kitchen.recorded == lines + lines + Counter([f"number {kitchen.lines}"])
