"""What the board knows now: a window of orders, and the last answers of the servers.

Threads put it in and the page takes it out; its size does not depend on how many orders there were.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any

import msgspec

from consumers.observe import Observed
from contract.errors import Unreadable
from contract.order import OrderV2
from runtime.groups import Group

NEWEST = 50
WINDOW = 5_000
SECONDS = 120
TOP = 8


class Window:
    """The last `WINDOW` orders, each with its message and when it came, and how many were placed in each second."""

    def __init__(self) -> None:
        self.orders: deque[tuple[OrderV2, Observed[OrderV2], float]] = deque(maxlen=WINDOW)
        self.by_second = Counter[int]()
        self.unreadable = 0

    def take(self, observed: Observed[OrderV2], now: float) -> None:
        """Keep an order, and forget the one that falls out of the window."""
        order = observed.record
        if isinstance(order, Unreadable):
            self.unreadable += 1
            return
        self.orders.append((order, observed, now))
        second = min(int(observed.timestamp / 1000), int(now))
        if second > now - SECONDS:
            self.by_second[second] += 1
        if len(self.by_second) > 2 * SECONDS:  # nobody looks
            self.rates(now)

    def rates(self, now: float) -> list[int]:
        """Give how many orders were placed in each of the last whole seconds, oldest first."""
        seconds = range(int(now) - SECONDS, int(now))
        self.by_second = Counter({second: n for second, n in self.by_second.items() if second >= seconds.start})
        return [self.by_second[second] for second in seconds]


class Board:
    """What there is to show, part by part, with what keeps a part from being known; safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.window = Window()
        self.next_offsets: dict[int, int] = {}
        self._clock = clock
        self._began = clock()
        self._lock = Lock()
        self._versions: Mapping[int, int] = {}
        self._problems: dict[str, str] = {}
        self._topic: dict[str, Any] = {"orders": None, "groups": [], "asked": None}
        self._parts: dict[str, Any] = {"contract": None, "letters": None}

    def take(self, observed: Sequence[Observed[OrderV2]]) -> None:
        """Take what has come from the topic, which may be nothing."""
        with self._lock:
            now = self._clock()
            self._problems.pop("orders", None)
            for one in observed:
                self.next_offsets[one.partition] = one.offset + 1
                self.window.take(one, now)

    def begin_anew(self) -> None:
        """Forget what came from the topic: it was deleted and made again, and its offsets are other orders now."""
        with self._lock:
            self.window, self.next_offsets = Window(), {}

    def take_groups(self, ends: Mapping[int, tuple[int, int]], groups: Iterable[Group]) -> None:
        """Take where the topic ends, and where each group is."""
        with self._lock:
            self._topic = {
                "orders": sum(end - first for first, end in ends.values()),
                "groups": [_shown_group(group, ends) for group in groups],
                "asked": self._clock(),
            }

    def take_part(self, name: str, value: Any, versions: Mapping[int, int] | None = None) -> None:
        """Take a part that is shown as it is; `versions` says which version a schema id of the registry is."""
        with self._lock:
            self._parts[name] = value
            self._versions = versions or self._versions

    def tell(self, what: str, problem: str | None) -> None:
        """Say what keeps a part from being known now, or that nothing does."""
        with self._lock:
            self._problems.pop(what, None)
            if problem is not None:
                self._problems[what] = problem

    def encode(self, part: str) -> bytes:
        """Give a part as JSON; it changes at least once a second for `kitchen`, else only when there is news."""
        with self._lock:
            return msgspec.json.encode(self._kitchen() if part == "kitchen" else self._parts[part])

    def _kitchen(self) -> dict[str, Any]:
        now, orders = self._clock(), self.window.orders
        schema_ids = Counter(one.schema_id for _, one, _ in orders)
        identities = [order.order_id for order, _, _ in orders if order.order_id]
        return {
            "now": int(now),
            "problems": self._problems,
            **self._topic,
            "newest": [self._shown_order(*one) for one in islice(reversed(orders), NEWEST)],
            "window": len(orders),
            "pizzas": Counter(order.pizza for order, _, _ in orders).most_common(TOP),
            "tables": Counter(order.table for order, _, _ in orders).most_common(TOP),
            "versions": [(self._version(id_), count) for id_, count in schema_ids.most_common(TOP)],
            "repeated": len(identities) - len(set(identities)),
            "rates": self.window.rates(now),
            "unreadable": self.window.unreadable,
        }

    def _shown_order(self, order: OrderV2, observed: Observed[OrderV2], came: float) -> dict[str, Any]:
        placed = observed.timestamp / 1000
        return {
            "place": f"{observed.partition}/{observed.offset}",
            "pizza": order.pizza,
            "table": order.table,
            "placed": placed,
            # What was there before the board began was not on the way for so long: the board was not there.
            "way": max(0.0, came - placed) if placed >= self._began else None,
            "version": self._version(observed.schema_id),
        }

    def _version(self, schema_id: int | None) -> str:
        number = self._versions.get(schema_id or 0)
        return str(number) if number else f"id {schema_id}"


def _shown_group(group: Group, ends: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    partitions = [
        {"partition": number, "committed": group.committed.get(number), "end": end,
         "lag": max(0, end - max(first, group.committed.get(number, first)))}
        for number, (first, end) in ends.items()
    ]  # fmt: skip
    members = None if group.members is None else [msgspec.to_builtins(member) for member in group.members]
    return {"name": group.name, "state": group.state, "members": members, "partitions": partitions}
