"""Log lines on standard error, one an event; standard output belongs to the results."""

from __future__ import annotations

import logging
import sys
import time

from runtime.settings import Settings

LONGEST_INTERVAL_SECONDS = 300.0


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process to standard error, with the settings' secrets taken out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting(settings, "%(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # The registry's HTTP client tells of every request, and librdkafka of every retry; what fails is reported by ours.
    if settings.log_level.upper() != "DEBUG":
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        librdkafka = logging.getLogger("librdkafka")
        librdkafka.setLevel(logging.ERROR)
        librdkafka.filters = [_Thinning()]
        logging.getLogger("librdkafka.consumer").setLevel(logging.CRITICAL)  # its errors come as events, too


class _Redacting(logging.Formatter):
    def __init__(self, settings: Settings, pattern: str) -> None:
        super().__init__(pattern)
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        return self._settings.redact(super().format(record))


class _Thinning(logging.Filter):
    """Lets lines through at growing intervals, as long as they keep coming: librdkafka has one for every try."""

    _next = 0.0
    _interval = 1.0

    def filter(self, _record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        quiet = now > self._next + LONGEST_INTERVAL_SECONDS
        self._interval = 1.0 if quiet else min(2 * self._interval, LONGEST_INTERVAL_SECONDS)
        self._next = now + self._interval
        return True
