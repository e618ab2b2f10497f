"""What of the ledger's command needs no servers: its output, and ledgers that it cannot use."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumers.batches import Received
from consumers.ledger import FORMAT, Ledger
from consumers.ledger_command import main
from contract.order import OrderV2
from runtime.topics import Topic
from tests.batches import batch_of

TOPIC = Topic("pizza-order", "topic-1", "cluster-1", 1)
META = ["partition", "offset", "published_ms", "recorded_ms"]
NEWER = (
    '{"pizza":"größe, «\\"groß\\"»\\r\\n","table":4,"order_id":"b","tip":1.50,"vip":true,"host":null,'
    '"guests":[{"name":"Ada","seat":null,"vip":false}],"big":123456789012345678901,"raw":"/wA=","offset":"mine"}'
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ledger of four orders, the second one of a newer version, the third of one that lacks fields."""
    with Ledger(tmp_path / "data", TOPIC, OrderV2, "order_id", lambda order: order.pizza, table="orders") as ledger:
        ledger.resume([0])
        values = [OrderV2("napoli", 3, name) for name in "abcd"]
        ledger.record(batch_of([Received(one, 0, n, n) for n, one in enumerate(values)], {0: 4}))
    store(tmp_path / "data", 2, NEWER)
    store(tmp_path / "data", 3, '{"pizza":"funghi","note":"x"}')
    return tmp_path / "data"


def store(data: Path, line: int, record: str) -> None:
    """Put another record into a row."""
    with closing(sqlite3.connect(data / "ledger.db")) as db, db:
        db.execute("UPDATE orders SET record = ? WHERE line = ?", (record, line))


def run(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command; whatever happens there is no traceback."""
    done = start(data, *arguments, **env)
    out, err = done.communicate(timeout=60)
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def start(data: Path, *arguments: str, stdout: Any = subprocess.PIPE, **env: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "consumers.ledger", *arguments]
    environ = {**os.environ, "DATA_DIR": str(data), **env}
    return subprocess.Popen(command, env=environ, stdout=stdout, stderr=subprocess.PIPE)


def test_every_row_is_exported_whole_as_json_lines(data: Path) -> None:
    """Just as it is stored; a field that is called as a column has another name."""
    done = run(data, "export")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().split("\n")
    assert len(lines) == 5
    rows = [json.loads(line) for line in lines[:-1]]
    newer = json.loads(NEWER)
    assert rows[1] == {"partition": 0, "offset": 1, "published_ms": 1, "recorded_ms": rows[1]["recorded_ms"]} | {
        "record.offset" if name == "offset" else name: value for name, value in newer.items()
    }
    assert '"tip":1.50,' in lines[1]
    assert '"big":123456789012345678901,' in lines[1]
    assert {name: rows[2][name] for name in rows[2] if name not in META} == {"pizza": "funghi", "note": "x"}


def test_the_columns_of_csv_are_those_of_all_rows(data: Path) -> None:
    """In the order in which they appear first; text is text, everything else JSON, and what a row lacks is empty."""
    done = run(data, "export", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, b"")
    header, first, second, third, fourth = csv.reader(io.StringIO(done.stdout.decode(), newline=""))
    own = ["pizza", "table", "order_id"]
    more = ["tip", "vip", "host", "guests", "big", "raw", "record.offset", "note"]
    assert header == [*META, *own, *more]
    assert first[4:] == ["napoli", "3", "a"] + [""] * 8
    guests = '[{"name":"Ada","seat":null,"vip":false}]'
    assert second[4:] == [
        'größe, «"groß"»\r\n', "4", "b", "1.50", "true", "null", guests, "123456789012345678901", "/wA=", "mine", "",
    ]  # fmt: skip
    assert third[4:] == ["funghi", "", "", *[""] * 7, "x"]
    assert fourth[:2] == ["0", "3"]


@pytest.mark.parametrize(
    "env",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-16"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=["ascii", "utf-16", "C"],
)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_is_utf_8_whatever_the_terminal_is(data: Path, env: dict[str, str], form: str) -> None:
    plain = run(data, "export", "--format", form)
    assert "größe" in plain.stdout.decode()
    assert run(data, "export", "--format", form, PYTHONCOERCECLOCALE="0", **env).stdout == plain.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["summary"], ["export"], ["export", "--format", "csv"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_one_sentence(data: Path, arguments: list[str]) -> None:
    """Also where it is little enough to be written at the very end."""
    with Path("/dev/full").open("wb") as full:
        process = start(data, *arguments, stdout=full)
        error = process.communicate(timeout=60)[1].decode()
    assert error == "ledger: standard output cannot be written: No space left on device\n"
    assert process.returncode == 2


@pytest.mark.parametrize("arguments", [["summary"], ["export"], ["export", "--format", "csv"]], ids=" ".join)
@pytest.mark.parametrize("rows", [5, 5_000])
def test_a_reader_that_went_away_ends_it_quietly(data: Path, arguments: list[str], rows: int) -> None:
    """Before anything has come, or in the middle of it."""
    with Ledger(data, TOPIC, OrderV2, "order_id", lambda order: order.pizza, table="orders") as ledger:
        ledger.resume([0])
        more = [Received(OrderV2("x" * 60, 1, str(n)), 0, n, n) for n in range(4, rows)]
        ledger.record(batch_of(more, {0: rows}))
    reading, writing = os.pipe()
    process = start(data, *arguments, stdout=writing)
    os.close(writing)
    if rows > 5 and arguments != ["summary"]:
        os.read(reading, 10)
    os.close(reading)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 1


@pytest.mark.parametrize("arguments", ["summary", "export"])
def test_a_closed_output_is_no_traceback(data: Path, arguments: str) -> None:
    shell = ["sh", "-c", f"exec {sys.executable} -m consumers.ledger {arguments} >&-"]
    done = subprocess.run(shell, env={**os.environ, "DATA_DIR": str(data)}, capture_output=True, text=True, check=False)
    expected = {"summary": (0, ""), "export": (2, "ledger: standard output is closed; let it go to a file\n")}
    assert (done.returncode, done.stderr) == expected[arguments]


@pytest.mark.parametrize("record", ["[1]", "7", "{no", '"text"', '{"pizza":' + "[" * 100_000], ids=range(5))
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_row_that_is_no_record_is_named(data: Path, record: str, form: str) -> None:
    store(data, 3, record)
    done = run(data, "export", "--format", form)
    assert done.returncode == 2
    assert b"ledger.db is damaged: the record of line 3 is no JSON object" in done.stderr


def test_an_export_is_of_one_moment(data: Path, tmp_path: Path) -> None:
    """Though its manager records meanwhile."""
    with (tmp_path / "out.csv").open("wb") as out:
        process = start(data, "export", "--format", "csv", stdout=out)
    with Ledger(data, TOPIC, OrderV2, "order_id", lambda order: order.pizza, table="orders") as ledger:
        ledger.resume([0])
        offset = 4
        while process.poll() is None:
            values = [OrderV2("napoli", 3, f"more-{offset + n}") for n in range(100)]
            records = [Received(one, 0, offset + n, n) for n, one in enumerate(values)]
            ledger.record(batch_of(records, {0: offset + 100}))
            offset += 100
    assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert len(list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text(), newline="")))) % 100 == 5


def _truncate(data: Path) -> None:
    (data / "ledger.db").write_bytes((data / "ledger.db").read_bytes()[:20_000])


def _replace_by_directory(data: Path) -> None:
    (data / "ledger.db").unlink()
    (data / "ledger.db").mkdir()


def _replace_by_file(data: Path) -> None:
    shutil.rmtree(data)
    data.touch()


def _replace_by_another(data: Path) -> None:
    (data / "ledger.db").unlink()
    with closing(sqlite3.connect(data / "ledger.db")) as db:
        db.execute("CREATE TABLE accounts (id)")


def _raise_format(data: Path) -> None:
    with closing(sqlite3.connect(data / "ledger.db")) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")


def _forget_topic(data: Path) -> None:
    with closing(sqlite3.connect(data / "ledger.db")) as db, db:
        db.execute("DELETE FROM ledger")


def _link(data: Path) -> None:
    (data / "ledger.db").rename(data.parent / "elsewhere.db")
    (data / "ledger.db").symlink_to(data.parent / "elsewhere.db")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: (data / "ledger.db").write_bytes(b""), "there is no ledger in {data}/ledger.db yet"),
        (lambda data: (data / "ledger.db").write_bytes(b"no database" * 99), "; restore it from a backup"),
        (_truncate, "is damaged or no ledger"),
        (_replace_by_directory, "{data}/ledger.db is no regular file"),
        (_replace_by_another, "{data}/ledger.db is a database, and no ledger"),
        (_raise_format, f"was written by a newer release (format {FORMAT + 1}"),
        (_forget_topic, "is damaged: it does not say whose ledger it is"),
        (_link, "{data}/ledger.db is a symbolic link, and is not followed; run: rm "),
        (lambda data: (data / "ledger.db-wal").symlink_to(data.parent / "x"), "ledger.db-wal is a symbolic link"),
        (lambda data: data.chmod(0o777), "run: chmod go-w {data}"),
        (shutil.rmtree, "there is no ledger at {data}/ledger.db; set DATA_DIR"),
        (_replace_by_file, "there is no ledger at {data}/ledger.db; set DATA_DIR"),
    ],
    ids=[
        "empty", "no database", "cut", "directory", "another", "newer", "without a topic", "link", "link beside it",
        "for everybody", "absent", "a file",
    ],
)  # fmt: skip
@pytest.mark.parametrize("arguments", [["summary"], ["export"], ["verify"], ["skip", "0", "1"], ["adopt", "manager"]])
def test_a_ledger_that_cannot_be_used_is_one_sentence(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    sentence: str,
    arguments: list[str],
) -> None:
    """Before any server is asked."""
    spoil(data)
    monkeypatch.setenv("DATA_DIR", str(data))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert sentence.format(data=data) in told
    assert told.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_who_may_not_read_the_directory_is_told_so(data: Path) -> None:
    """As another user who looks into the manager's."""
    code = (
        "import os, sys; from consumers.ledger_command import main; os.setgroups([]); os.setgid(12345); "
        "os.setuid(12345); sys.exit(main(['summary']))"
    )
    environ = {**os.environ, "DATA_DIR": str(data)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be used: Permission denied; run this as the user whose ledger it is" in done.stderr
