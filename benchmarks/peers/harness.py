"""What every peer has in common: the same orders, a warm-up apart from the clock, and the same counting.

A peer is a program, `python PEER.py publish|consume JOB`, JOB being JSON, and so is its last line of output. It needs
only the standard library beside what it measures, for each peer has an environment of its own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

_RESULTS = os.dup(1)
BATCH_BYTES = 128 * 1024
"""What the topic takes at once, as ours is told by its contract; librdkafka's default is 1 MB."""
PIZZAS = ("margherita", "napoli", "quattro stagioni", "funghi", "diavola", "calzone", "marinara", "prosciutto")


@dataclass(frozen=True)
class Job:
    """What one run of a peer has to do, and on which servers."""

    bootstrap: str
    registry: str
    topic: str
    schema: str
    """Version 2 of an order, as it is registered."""
    schema_id: int
    group: str
    orders: int
    warm_up: int
    """So many more before the clock starts."""
    rate: float = 0
    """Orders a second, where latency is measured."""
    schemas_dir: str = ""
    """A contract whose topic is this one, for ours."""

    @property
    def is_bulk(self) -> bool:
        """Whether so much is sent that it travels together, as a file does; a few a second wait for no company."""
        return not 0 < self.rate <= 1_000  # noqa: PLR2004 - far from both rates that are measured

    @property
    def frame(self) -> bytes:
        """The five bytes of Confluent's wire format before each value."""
        return struct.pack(">bI", 0, self.schema_id)

    def producer_properties(self) -> dict[str, Any]:
        """librdkafka's, for every peer that lets them be set: acknowledged by all, idempotent, else its defaults."""
        return {
            "bootstrap.servers": self.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "batch.size": BATCH_BYTES,
        }

    def consumer_properties(self) -> dict[str, Any]:
        """librdkafka's, for every peer that lets them be set; offsets are committed as its default is.

        fetch.queue.backoff.ms: at its default of 1000 a consumer that is faster than 155,000/s stands still at times.
        The property is documented, so a peer is given what ours has.
        """
        return {
            "bootstrap.servers": self.bootstrap,
            "group.id": self.group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
        }


Order = tuple[str, int, str]
Send = Callable[[Sequence[Any]], int]
"""Publishes, and gives the number that the broker has acknowledged."""
Publisher = Callable[[Job], AbstractContextManager[tuple[Callable[[Order], Any], Send]]]
"""Opens a producer; gives how this peer holds an order in memory, and how it sends them."""


def orders(count: int, start: int = 0) -> Iterator[Order]:
    """Give pizza, table and identity (36 characters, as a UUID has) of each order; the same ones every time."""
    for n in range(start, start + count):
        yield PIZZAS[n % 8], 1 + n % 200, f"{n:08x}-0000-7000-8000-{n:012x}"


def as_dict(order: Order) -> dict[str, Any]:
    """Give an order as a dictionary, which most peers publish."""
    return {"pizza": order[0], "table": order[1], "order_id": order[2]}


class Acknowledgements:
    """Counts delivery reports without an error; librdkafka's callback."""

    def __init__(self) -> None:
        """Begin with none."""
        self.count = 0

    def __call__(self, error: object, _message: object) -> None:
        """Count one."""
        self.count += error is None


class Meter:
    """Counts what has been read: the clock starts behind the warm-up and stops at the last order."""

    def __init__(self, job: Job) -> None:
        self._start, self._end = job.warm_up, job.warm_up + job.orders
        self._count = 0
        self._from: tuple[int, float, float] | None = None

    def add(self, count: int, last: str) -> bool:
        """Count orders, the last of which has this identity; True when all have been read."""
        self._count += count
        if self._from is None:
            if self._count >= self._start:
                self._from = (self._count, time.perf_counter(), _cpu())
        elif self._count >= self._end:
            counted, seconds, cpu = self._from
            report(
                orders=self._count - counted,
                seconds=time.perf_counter() - seconds,
                cpu=_cpu() - cpu,
                last=last,
            )
            return True
        return False


class Latencies:
    """Collects how long orders were under way; each has the time of its publication for an identity."""

    def __init__(self, job: Job) -> None:
        self._skipped, self._wanted = job.warm_up, job.orders
        self._all: list[int] = []
        self._first = 0

    def add(self, identities: Iterable[str | bytes]) -> bool:
        """Note the orders that have come; True when all have."""
        now = time.monotonic_ns()  # before they are looked at
        sent = [int(identity) for identity in identities]
        self._first = self._first or sent[0]
        self._all += [now - one for one in sent]
        if len(self._all) < self._skipped + self._wanted:
            return False
        kept = sorted(self._all[self._skipped :])
        p99 = kept[int(len(kept) * 0.99)]
        seconds = (now - self._first) / 1e9
        report(median=statistics.median(kept) / 1e6, p99=p99 / 1e6, rate=len(self._all) / seconds)
        return True


MOST_AT_ONCE = 1_000


def paced(job: Job) -> Iterator[int]:
    """Give how many orders are due, and wait in between, until all of a job's have been; at rate 0, all are due."""
    begin, given, total = time.perf_counter(), 0, job.warm_up + job.orders
    while given < total:
        due = min(total, int((time.perf_counter() - begin) * job.rate) + 1) if job.rate else total
        while given < due:
            count = min(due - given, MOST_AT_ONCE)
            yield count
            given += count
        if job.rate:
            # Somewhere within its interval: of two senders that keep time, one would always find the machine awake.
            # A millisecond at least: to wake up for each order would be more work than to send it.
            moment = begin + (given + random.random()) / job.rate  # noqa: S311 - no secret
            time.sleep(max(0.001, min(moment - time.perf_counter(), 1.0)))


def stamp() -> str:
    """Give the time as an identity of 36 characters; the clock is the same in every process of a machine."""
    return f"{time.monotonic_ns():036d}"


def report(**measured: float | str) -> None:
    """Print what was measured, where standard output was at the start."""
    os.write(_RESULTS, f"{json.dumps(measured)}\n".encode())


def main(publisher: Publisher, consume: Callable[[Job], None], **others: Callable[[Job], None]) -> None:
    """Run a peer as its command line says."""
    what, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    if what == "publish":
        _publish(publisher, job)
    else:
        {"consume": consume, **others}[what](job)


def _publish(publisher: Publisher, job: Job) -> None:
    with publisher(job) as (in_memory, send):
        warm_up = [in_memory(order) for order in orders(job.warm_up)]
        batch = [in_memory(order) for order in orders(job.orders, job.warm_up)]
        send(warm_up)
        seconds, cpu = time.perf_counter(), _cpu()
        acknowledged = send(batch)
        report(orders=acknowledged, seconds=time.perf_counter() - seconds, cpu=_cpu() - cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
