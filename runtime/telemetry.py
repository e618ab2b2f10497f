"""What a person or a collector reads on standard error: log lines, one an event, and at a terminal a status line.

Standard output belongs to the results. No line holds a secret of the settings; none at INFO or above holds a value
out of a message.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime

from runtime.settings import Settings

FIELDS = ("topic", "partition", "offset", "record_id", "schema_id", "reason", "attempt", "held_back")
"""What an event may have beside its sentence, given as `extra`."""


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process to standard error, with the settings' secrets taken out."""
    handler = _Handler(sys.stderr)
    handler.setFormatter((_Json if settings.log_format == "json" else _Text)(settings))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # The registry's HTTP client tells of every request, and librdkafka of every retry; what fails is reported by ours.
    if settings.log_level.upper() != "DEBUG":
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        librdkafka = logging.getLogger("librdkafka")
        librdkafka.setLevel(logging.ERROR)
        librdkafka.filters = [Thinning()]
        logging.getLogger("librdkafka.consumer").setLevel(logging.CRITICAL)  # its errors come as events, too


class Thinning(logging.Filter):
    """Lets lines through at growing intervals as long as they keep coming, and adds how many were held back."""

    def __init__(self, first: float = 1.0, longest: float = 300.0) -> None:
        """Begin with an interval of `first` seconds, which grows up to `longest` and shrinks again after that time."""
        super().__init__()
        self._first, self._longest = first, longest
        self.forget()

    def forget(self) -> None:
        """Let the next line through: what failed has worked since."""
        self._next = 0.0
        self._interval = self._first
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is due."""
        now = time.monotonic()
        if now < self._next:
            self._held_back += 1
            return False
        if self._held_back:
            record.msg, record.args = f"{record.getMessage()} ({self._held_back} more like it since the last one)", ()
            record.held_back = self._held_back
        quiet = now > self._next + self._longest
        self._interval = self._first if quiet else min(2 * self._interval, self._longest)
        self._next, self._held_back = now + self._interval, 0
        return True


class StatusLine:
    """A line at the bottom of a terminal that says how a service is doing; nothing where there is no terminal."""

    shown = 0
    """How many columns it takes now; a log line takes its place."""

    def __init__(self, *, wanted: bool = True) -> None:
        """`wanted` is False for a service whose results go to the same terminal, for they show that it works."""
        self._on = wanted and sys.stderr.isatty()
        self._began = time.monotonic()
        self._told = self._began, 0
        self._next = self._began

    def tell(self, name: str, handled: int, letters: int) -> None:
        """Show the numbers, once a second."""
        if not self._on or (now := time.monotonic()) < self._next:
            return
        self._next = now + 1
        (before, count), self._told = self._told, (now, handled)
        rate = (handled - count) / (now - before) if now > before else 0.0
        text = f"{name}: {handled:,} handled, {rate:,.0f}/s, {letters:,} dead letters"[: _columns() - 1]
        _erase()
        sys.stderr.write(text)
        sys.stderr.flush()
        StatusLine.shown = len(text)

    def close(self) -> None:
        """Take it away."""
        if self._on:
            _erase()


def _erase() -> None:
    """Overwrite the status line without a control sequence, which not every terminal knows."""
    if StatusLine.shown:
        sys.stderr.write(f"\r{' ' * StatusLine.shown}\r")
        sys.stderr.flush()
        StatusLine.shown = 0


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in its stub only
    def emit(self, record: logging.LogRecord) -> None:
        _erase()
        super().emit(record)


class _Text(logging.Formatter):
    """The sentence alone; what is in it cannot forge a line or paint the terminal."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's own name
        return printable(record.message)

    def format(self, record: logging.LogRecord) -> str:
        return self._settings.redact(super().format(record))


class _Json(_Text):
    """One object a line, with the fields that an event has."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name in FIELDS if (value := getattr(record, name, None)) not in {None, ""}},
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        # Before it is encoded: a secret that JSON would escape is not found afterwards.
        redacted = {
            name: self._settings.redact(value) if isinstance(value, str) else value for name, value in event.items()
        }
        return json.dumps(redacted, ensure_ascii=False)


def printable(text: str) -> str:
    """Give a text with every character escaped that would not show as itself on a terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
