"""Log lines: one an event, for people or for a collector; none forges another or tells a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from runtime.settings import Settings
from runtime.telemetry import StatusLine, Thinning, configure_logging, printable

log = logging.getLogger("service")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a test configures ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_is_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    log.info("%s was given partitions %s", "group", [0], extra={"topic": "t"})
    assert capsys.readouterr().err == "group was given partitions [0]\n"


def test_a_value_cannot_forge_a_line_or_paint_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    log.info("its name is %s", "a\nb\r\x1b[31m\u202e\u2028ü")
    assert capsys.readouterr().err == "its name is a\\nb\\r\\x1b[31m\\u202e\\u2028ü\n"


def test_json_is_one_object_a_line_with_the_events_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="json"))
    log.warning("bad\nnews", extra={"topic": "t", "partition": 0, "offset": 7, "schema_id": None, "record_id": ""})
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "warning", "logger": "service", "message": "bad\nnews", "topic": "t", "partition": 0, "offset": 7
    }  # fmt: skip


def test_json_tells_no_secret_however_it_would_be_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    secret = 'hun"ter\\2'  # noqa: S105 - the test's own
    configure_logging(Settings(log_format="json", kafka={"sasl.password": secret}))
    try:
        raise RuntimeError(secret)  # noqa: TRY301 - its traceback is what is looked at
    except RuntimeError:
        log.exception("refused: %s", secret, extra={"reason": secret})
    event = json.loads(capsys.readouterr().err)
    assert event["message"] == "refused: ***"
    assert event["reason"] == "***"
    assert "RuntimeError: ***" in event["exception"]


def test_a_steady_failure_is_told_at_growing_intervals_with_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a second for ten minutes is a handful of lines, which tell of all; after a silence it begins anew."""
    now = 0.0
    monkeypatch.setattr("runtime.telemetry.time.monotonic", lambda: now)
    thinning = Thinning(first=1, longest=60)

    def told(seconds: int) -> list[str]:
        nonlocal now
        lines = []
        for _ in range(seconds):
            now += 1
            record = logging.LogRecord("x", logging.ERROR, "", 0, "%s is down", ("it",), None)
            if thinning.filter(record):
                lines.append(record.getMessage())
        return lines

    lines = told(600)
    assert lines[:2] == ["it is down", "it is down (1 more like it since the last one)"]
    assert len(lines) < 20
    held_back = sum(int(line.split("(")[1].split()[0]) for line in lines[1:])
    assert 600 - 60 < len(lines) + held_back <= 600
    now += 1_000
    assert [line.partition(" (")[0] for line in told(2)] == ["it is down", "it is down"]
    assert told(1) == []
    thinning.forget()
    assert told(1) == ["it is down"]


def test_a_pipe_has_no_status_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = StatusLine()
    line.tell("group", 1, 0)
    line.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["plain", "größe", "日本語", ""])
def test_what_prints_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text
