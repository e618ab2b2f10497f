"""What a service tells of itself: Prometheus' metrics, whether its loop turns, and whether it has work to expect.

Counted a batch at a time: one increment costs what decoding a record costs. `METRICS_PORT` serves `/metrics`,
`/healthz` and `/readyz`; without it nothing listens and librdkafka gathers no statistics.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app, start_http_server

from contract.errors import Reason, SettingError
from runtime.settings import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

STATISTICS_MS = 1_000
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_READER = ("group", "topic")

PUBLISHED = Counter("producer_records_published", "Records that were to be published.", ["topic"])
ACKNOWLEDGED = Counter("producer_records_acknowledged", "Records that the broker has acknowledged.", ["topic"])
FAILED = Counter("producer_records_failed", "Records that were not acknowledged and were given back.", ["topic"])
CONSUMED = Counter("consumer_records_consumed", "Messages fetched, those that cannot be read included.", _READER)
HANDLED = Counter("consumer_records_handled", "Records whose handler has returned.", _READER)
DEAD_LETTERS = Counter("consumer_dead_letters", "Messages written to the dead letters.", [*_READER, "reason"])
RETRIES = Counter("consumer_retries", "Failed tries of a batch that is tried again.", _READER)
HANDLING = Histogram("consumer_handling_seconds", "Time that a batch's handler took.", _READER, buckets=_SECONDS)
LATENCY = Histogram(
    "consumer_end_to_end_latency_seconds",
    "From the producer's timestamp until handled, of the first and the last record of each batch.",
    _READER,
    buckets=_SECONDS,
)
LAG = Gauge(
    "consumer_lag_records", "Offsets between what is committed and the last stable offset.", [*_READER, "partition"]
)
READY = Gauge("consumer_ready", "1 while the group is joined and the registry was seen.", _READER)
ROWS = Gauge("ledger_rows", "Rows of the ledger.", ["table"])
DUPLICATES = Counter("ledger_duplicates", "Records that were recorded already, under the same identity.", ["table"])
SCHEMA = Gauge(
    "contract_schema_info", "1 for the schema version in use.", ["user", "subject", "version", "schema_id"]
)  # fmt: skip


class ConsumerMetrics:
    """One consumer's counts, and its answers to `/healthz` and `/readyz`."""

    def __init__(self, settings: Settings, group: str, topic: str, *, joins: bool = True) -> None:
        """Begin to be watched, and serve the metrics if the settings say so; raises SettingError when it cannot.

        One that reads without joining its group (`joins` is False) is ready as soon as its loop turns.
        """
        self.group = group
        self.topic = topic
        self.lags: dict[int, int] = {}
        self.handled = 0
        self.letters = 0
        self._measured = settings.metrics_port is not None
        # The longest that a call may hold a turn up, and some more.
        self._limit = max(settings.startup_timeout, settings.delivery_timeout) + settings.request_timeout + 5
        self._turned: float | None = None
        self._failure = ""
        self._joined = not joins
        self._consumed, self._retries, self._handled = (
            counter.labels(group, topic) for counter in (CONSUMED, RETRIES, HANDLED)
        )
        self._seconds, self._latency = (histogram.labels(group, topic) for histogram in (HANDLING, LATENCY))
        self._ready = READY.labels(group, topic)
        self._ready.set(self._joined)
        self._reasons = {reason: DEAD_LETTERS.labels(group, topic, reason.value) for reason in Reason}
        _watched.append(self)
        serve(settings)

    def close(self) -> None:
        """Be watched no longer."""
        _watched.remove(self)
        self._ready.set(0)

    def has_turned(self) -> None:
        """Say that the loop has turned."""
        self._turned = time.monotonic()

    def has_failed_for_good(self, why: str) -> None:
        """Say what ends this consumer: it may take a while until its process has ended."""
        self._failure = why

    def has_consumed(self, count: int) -> None:
        """Count messages that were fetched."""
        self._consumed.inc(count)

    def has_failed(self) -> None:
        """Count a failed try of a batch."""
        self._retries.inc()

    def has_handled(self, count: int, seconds: float, published_ms: Iterable[int]) -> None:
        """Count a batch of records that was handled in so many seconds, some of which the producer stamped so."""
        self.handled += count
        if not self._measured:
            return
        self._handled.inc(count)
        self._seconds.observe(seconds)
        now = time.time()
        for stamp in published_ms:
            self._latency.observe(max(0.0, now - stamp / 1000))

    def has_dead_letters(self, reasons: Iterable[Reason]) -> None:
        """Count dead letters that were written."""
        for reason in reasons:
            self.letters += 1
            self._reasons[reason].inc()

    def take_statistics(self, text: str, committed: Mapping[int, int]) -> None:
        """Take librdkafka's statistics: whether the group is joined, and how far each partition of ours reaches.

        The lag is what a reader of committed transactions could have behind the committed offsets, or all that there is
        where nothing is committed yet; librdkafka knows none before a client has committed something itself.
        """
        told = json.loads(text)
        self._joined = told.get("cgrp", {}).get("join_state") == "steady"
        self._ready.set(self._joined)
        partitions = told["topics"].get(self.topic, {"partitions": {}})["partitions"].items()
        mine = {int(number): one for number, one in partitions if one["fetch_state"] == "active"}
        for number in self.lags.keys() - mine.keys():
            LAG.remove(self.group, self.topic, str(number))
        self.lags = {
            number: max(0, one["ls_offset"] - max(committed.get(number, 0), one["lo_offset"]))
            for number, one in mine.items()
            if one["ls_offset"] >= 0
        }
        for number, lag in self.lags.items():
            LAG.labels(self.group, self.topic, str(number)).set(lag)

    def why_unhealthy(self) -> str:
        """Say why the process should be ended; empty while its loop turns."""
        if self._failure:
            return f"{self.group} has failed: {self._failure}"
        if self._turned is None:
            return f"{self.group} has not begun to poll"
        age = time.monotonic() - self._turned
        return f"the loop of {self.group} has not turned for {age:.0f} s" if age > self._limit else ""

    def why_unready(self) -> str:
        """Say what is missing; the registry was seen before the loop began."""
        if self._turned is None or self._failure:
            return self.why_unhealthy()
        return "" if self._joined else f"{self.group} has not joined its group"


class ProducerMetrics:
    """The counts of one call that publishes: told as totals, so that its loop has nothing else to count."""

    def __init__(self, topic: str) -> None:
        self._counters = [metric.labels(topic) for metric in (PUBLISHED, ACKNOWLEDGED, FAILED)]
        self._told = [0, 0, 0]

    def tell(self, *totals: int) -> None:
        """Take how many were to be published, were acknowledged, and were given back, since the call began."""
        # What is under way is librdkafka's own count, with events that are no records: never counted backwards.
        for counter, total, before in zip(self._counters, totals, self._told, strict=True):
            counter.inc(max(0, total - before))
        self._told = [*map(max, totals, self._told)]


_watched: list[ConsumerMetrics] = []
_served: set[tuple[str, int]] = set()
_metrics: WSGIApplication = make_wsgi_app()


def serve(settings: Settings) -> None:
    """Serve what this process tells, from a thread that ends with it; raises SettingError for a port that is taken."""
    port, host = settings.metrics_port, settings.metrics_host
    if port is None or (host, port) in _served:
        return
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        raise SettingError(
            f"METRICS_PORT {port} of METRICS_HOST {host} cannot be listened on: {error.strerror}; "
            "two services of one machine need a port each"
        ) from None
    server.set_app(_answer)  # in the instant before, every path is answered with the metrics
    server.RequestHandlerClass.timeout = 5  # type: ignore[attr-defined]  # seconds for a client to say what it wants
    _served.add((host, port))
    log.info("metrics are at http://%s:%d/metrics", host, server.server_port)


def _answer(request: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = request["PATH_INFO"]
    if path == "/metrics":
        return _metrics(request, start_response)
    questions: dict[str, Callable[[ConsumerMetrics], str]] = {
        "/healthz": ConsumerMetrics.why_unhealthy,
        "/readyz": ConsumerMetrics.why_unready,
    }
    if path not in questions:
        status, said = "404 Not Found", "there are /metrics, /healthz and /readyz"
    else:
        said = "; ".join(filter(None, map(questions[path], list(_watched))))
        status = "503 Service Unavailable" if said else "200 OK"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{said or 'ok'}\n".encode()]
