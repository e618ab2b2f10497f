"""What is measured. Every case takes its peers in turn, round by round, so that a slow minute hits them alike."""

from __future__ import annotations

import math
import re
import signal
import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.kitchen import PEERS, BenchmarkError, Kitchen, Place, Process, python_of, wait_until
from benchmarks.peers.harness import Job, as_dict, orders

T = TypeVar("T")
BROKER_WARM_UP = 2_000_000  # orders
STILL = 60.0
"""Seconds without progress after which a consumer counts as stuck."""
OURS, SERDES, READY = "ours", "confluent_serdes", "ready_bytes"


@dataclass
class Bench:
    """A run: what it may use, how much of it, and what it has measured, by name.

    `publish/…` and `consume/…` are orders a second, `cpu-…` microseconds of a process's CPU an order.
    """

    kitchen: Kitchen
    peers: Sequence[str]
    orders: int
    rounds: int
    sizes: Sequence[int]
    measures: dict[str, list[float]] = field(default_factory=dict)

    @property
    def warm_up(self) -> int:
        """Orders before the clock starts."""
        return self.orders // 10

    def add(self, name: str, value: float) -> None:
        """Note a measure, which is told at once: the whole takes long. What was too short to measure is none."""
        if math.isnan(value):
            return
        self.measures.setdefault(name, []).append(value)
        print(f"  {name:<40} {value:,.3f}", flush=True)

    def turns(self, things: Sequence[T]) -> Iterator[T]:
        """Give each thing in each round, another one first each time."""
        for number in range(self.rounds):
            first = number % len(things)
            yield from (*things[first:], *things[:first])

    def median(self, name: str) -> float | None:
        """Give the median of a measure, None when there is none."""
        return statistics.median(self.measures[name]) if name in self.measures else None


def publish(bench: Bench) -> None:
    """Publish from memory, acknowledged and counted; and a file by the waiter."""
    with bench.kitchen.place() as place:
        file = orders_file(place.directory / "orders.jsonl", (as_dict(order) for order in orders(bench.orders)))
        # A broker that has just been started compiles itself while it works, on the same cores.
        place.run_peer(READY, "publish", place.job(BROKER_WARM_UP))
        for peer in bench.turns([*bench.peers, "waiter"]):
            if peer == "waiter":
                bench.add("publish/waiter", bench.orders / published(place, file)[0])
                continue
            result = place.run_peer(peer, "publish", place.job(bench.orders, bench.warm_up))
            if result["orders"] != bench.orders:
                raise BenchmarkError(f"{peer}: {result['orders']} of {bench.orders} orders were acknowledged")
            bench.add(f"publish/{peer}", result["orders"] / result["seconds"])
            bench.add(f"cpu-publish/{peer}", result["cpu"] / result["orders"] * 1e6)


def consume(bench: Bench) -> None:
    """Read and decode what is in a topic; and as the cook does, with the older version, printing and not."""
    with bench.kitchen.place() as place:
        total = bench.warm_up + bench.orders
        place.run_peer(READY, "publish", place.job(bench.orders, bench.warm_up))
        (last,) = orders(1, total - 1)
        ours = [(OURS, "consume_older"), (OURS, "cook")] if OURS in bench.peers else []
        for peer, what in bench.turns([*((peer, "consume") for peer in bench.peers), *ours]):
            place.rewind("manager")
            place.rewind("cook")
            result = place.run_peer(peer, what, place.job(bench.orders, bench.warm_up))
            if result["last"] != (last[2] if what == "consume" else last[0]):
                raise BenchmarkError(f"{peer} has read {result['last']} last, not {last}")
            name = peer if what == "consume" else what
            bench.add(f"consume/{name}", result["orders"] / result["seconds"])
            bench.add(f"cpu-consume/{name}", result["cpu"] / result["orders"] * 1e6)


def ledger(bench: Bench) -> None:
    """Record exactly once, by the manager: identities of the waiter's own, which grow, and random ones."""
    total = bench.warm_up + bench.orders
    plain = [{"pizza": pizza, "table": table} for pizza, table, _ in orders(total)]
    with bench.kitchen.place() as own, bench.kitchen.place() as random:
        published(own, orders_file(own.directory / "orders.jsonl", plain))
        with_ids = ({**order, "order_id": str(uuid.uuid4())} for order in plain)
        published(random, orders_file(random.directory / "orders.jsonl", with_ids))
        for name, place in bench.turns([("own", own), ("random", random)]):
            place.rewind("manager")
            manager = place.command("manager")
            bench.add(f"ledger/{name}", rate_until(place.recorded, bench.warm_up, total, manager))
            manager.stop()


def latency(bench: Bench) -> None:
    """One order's way at 100 orders/s, and at half of the most that both ways can do from end to end."""
    both = (READY, OURS)
    for peer in bench.turns(both):
        bench.add(f"latency-most/{peer}", _latencies(bench, [peer], bench.orders, bench.warm_up)[peer]["rate"])
    # Both at once, each its 100: a nearly idle machine takes twice as long to wake up in one minute as in the next, and
    # in turn it would be minutes that are compared.
    for peers in bench.turns((both, both[::-1]) * 2):
        _add_latencies(bench, "100", _latencies(bench, peers, 500, 200, 100))
    half = int(min(bench.median(f"latency-most/{peer}") or 0 for peer in both) / 2)
    # In a few seconds a hitch of the broker's comes or does not: the 99th percentile is one of two, so many are taken.
    for peer in bench.turns(both * 4):
        _add_latencies(bench, "half", _latencies(bench, [peer], 3 * half, 2 * half, half))


def _add_latencies(bench: Bench, name: str, results: Mapping[str, Mapping[str, float]]) -> None:
    for peer, result in results.items():
        for measure in ("median", "p99"):
            bench.add(f"latency-{name}/{peer}/{measure}", result[measure])


def _latencies(
    bench: Bench, peers: Sequence[str], orders: int, warm_up: int, rate: int = 0
) -> dict[str, dict[str, float]]:
    """Send orders at a rate, as fast as it goes for 0, by each peer to a receiver of its own that is there already."""
    with ExitStack() as open_places:
        ready: list[tuple[str, Place, Job, Process]] = []
        for peer in peers:
            place = open_places.enter_context(bench.kitchen.place())
            job = place.job(orders, warm_up, rate)
            receiver = place.start_peer(peer, "latency_receive", job)
            place.wait_for_members("manager" if peer == OURS else job.group, 1, receiver)
            ready.append((peer, place, job, receiver))
        processes = [place.start_peer(peer, "latency_send", job) for peer, place, job, _ in ready]
        for process in (*processes, *(receiver for *_, receiver in ready)):
            process.wait()
        return {peer: place.results("latency_receive") for peer, place, *_ in ready}


def one(bench: Bench) -> None:
    """One order from the command line, the whole process."""
    with bench.kitchen.place() as place:
        script: list[str | Path] = [
            python_of(SERDES),
            PEERS / "one_order.py",
            msgspec.json.encode(place.job()).decode(),
        ]
        with (place.directory / "offset").open("wb") as output:
            for peer in bench.turns([SERDES, "waiter"] * 3):
                process = (
                    place.command("waiter", "margherita", "17")
                    if peer == "waiter"
                    else bench.kitchen.start(script, place.environment, output)
                )
                used = process.wait()
                bench.add(f"one/{peer}/wall", used.wall)
                bench.add(f"one/{peer}/cpu", used.cpu)


def scaling(bench: Bench) -> None:
    """Partitions and cooks: what a waiter publishes, and cooks read, their sentences going nowhere."""
    for partitions, cooks in bench.turns([(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]):
        with bench.kitchen.place(partitions) as place:
            # A group that takes turns while it reads measures its own rebalance: so it is complete before there is
            # anything to read, and stands still, for less than its session, while the topic is filled.
            started = [place.command("cook") for _ in range(cooks)]
            place.wait_for_members("cook", cooks, started[0])
            for cook in started:
                cook.send(signal.SIGSTOP)
            place.run_peer(READY, "publish", place.job(bench.orders))
            for cook in started:
                cook.send(signal.SIGCONT)
            rate = rate_until(lambda: place.committed("cook"), 1, bench.orders, started[0])
            bench.add(f"scaling/{partitions}/cooks-{cooks}", rate)
            for cook in started:
                cook.stop()
            file = orders_file(place.directory / "orders.jsonl", (as_dict(order) for order in orders(bench.orders)))
            bench.add(f"scaling/{partitions}/waiter", bench.orders / published(place, file)[0])


def sizes(bench: Bench) -> None:
    """Memory, time per order and the start of a manager, from ten orders to ten million."""
    for size in bench.sizes:
        for _ in range(1 if size >= 1_000_000 else bench.rounds):  # noqa: PLR2004 - long enough to be one
            with bench.kitchen.place() as place:
                plain = ({"pizza": pizza, "table": table} for pizza, table, _ in orders(size))
                file = orders_file(place.directory / "orders.jsonl", plain)
                seconds, mb = published(place, file)
                file.unlink()
                bench.add(f"sizes/{size}/waiter/seconds", seconds)
                bench.add(f"sizes/{size}/waiter/mb", mb)
                manager = place.command("manager")
                rate = rate_until(place.recorded, 10_000, size, manager)  # fewer are too few to be timed
                bench.add(f"sizes/{size}/manager/rate", rate)
                bench.add(f"sizes/{size}/manager/mb", manager.stop().mb)
                for rows in range(size, size + 3):
                    bench.add(f"sizes/{size}/manager/start", _start_of_manager(place, rows))


CASES: dict[str, Callable[[Bench], None]] = {
    case.__name__: case for case in (publish, consume, ledger, latency, one, scaling, sizes)
}


def orders_file(path: Path, lines: Iterable[object]) -> Path:
    """Write JSON Lines."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for line in lines:
            file.write(encoder.encode(line) + b"\n")
    return path


def published(place: Place, file: Path) -> tuple[float, float]:
    """Publish a file by the waiter; give the seconds that it says (checking and connecting included) and MB."""
    used = place.command("waiter", "--orders", file).wait()
    said = re.search(r"in ([\d.]+) s \(", used.errors)
    if said is None:
        raise BenchmarkError(f"the waiter does not say how long it took: {used.errors}")
    return float(said[1]), used.mb


def rate_until(count: Callable[[], int], start: int, total: int, process: Process) -> float:
    """Give the rate at which a count goes from `start` or more to `total`; raises BenchmarkError when it stops."""
    began: tuple[int, float] | None = None
    seen, since = -1, time.perf_counter()
    while (now := count()) < total:
        at = time.perf_counter()
        if began is None and now >= start:
            began = now, at
        if now != seen:
            seen, since = now, at
        elif at - since > STILL:
            raise BenchmarkError(f"a consumer stands still at {now} of {total}")
        process.check()
        time.sleep(0.01)
    return math.nan if began is None else (now - began[0]) / (time.perf_counter() - began[1])


def _start_of_manager(place: Place, rows: int) -> float:
    """Give the seconds from its start until a manager has recorded an order that waits for it."""
    place.command("waiter", "margherita", "17").wait()
    began = time.perf_counter()
    manager = place.command("manager")
    wait_until(lambda: place.recorded() > rows)
    seconds = time.perf_counter() - began
    manager.stop()
    return seconds
