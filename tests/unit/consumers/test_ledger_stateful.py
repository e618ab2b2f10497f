"""Any interleaving of batches, crashes, seeks, duplicates and replays leaves the ledger as a single pass would."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.batches import Batch, Received
from consumers.ledger import Ledger
from contract.errors import Overtaken, Rejected
from contract.order import OrderV2
from runtime.topics import Topic
from tests.batches import batch_of

TOPIC = Topic("pizza-order", "topic-1", "cluster-1", 1)
PARTITIONS = 2
PLACES = st.integers(0, PARTITIONS - 1)
# Few, so that they meet: an empty identity, and two that come again with the same and with another content.
ORDERS = st.builds(
    OrderV2, st.sampled_from(["napoli", "größe", "x" * 64]), st.integers(1, 2), st.sampled_from(["", "a", "b"])
)
POINTS = ["before the log", "half of the log", "after the log", "after the commit"]

Place = tuple[int, int]


class Crash(BaseException):
    """The process has been killed: nothing of it runs any more."""


def line(order: OrderV2) -> str:
    """Give a record's line of the log."""
    return f"{order.pizza} {order.table}"


class Recording(RuleBasedStateMachine):
    """A topic that grows, and managers that record it, one after the other, each crashing sooner or later.

    The model is a single pass: what a message becomes is decided the first time that it is recorded, by what has been
    recorded before it.
    """

    letters: Bundle[Place] = Bundle("letters")

    @initialize()
    def open_first(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.topic: list[list[OrderV2 | None]] = [[] for _ in range(PARTITIONS)]
        self.position = [0] * PARTITIONS
        self.rows: list[Place] = []
        self.duplicates: dict[Place, int] = {}
        self.refused: set[Place] = set()
        self.next = [0] * PARTITIONS
        self.overtaking: Ledger[OrderV2] | None = None
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.directory, TOPIC, OrderV2, "order_id", line, table="orders")
        self.resume()

    def resume(self) -> None:
        offsets = self.ledger.resume(range(PARTITIONS))
        self.position = [offsets.get(partition, 0) for partition in range(PARTITIONS)]

    @rule(partition=PLACES, orders=st.lists(st.none() | ORDERS, min_size=1, max_size=4))
    def publish(self, partition: int, orders: list[OrderV2 | None]) -> None:
        """None is a message that cannot be read."""
        self.topic[partition] += orders

    @rule(counts=st.tuples(*[st.integers(0, 4)] * PARTITIONS), crash=st.sampled_from([None, None, *POINTS]))
    def record(self, counts: tuple[int, ...], crash: str | None) -> None:
        """Take a batch from both partitions, and perhaps crash on the way."""
        ends = [min(len(t), p + c) for t, p, c in zip(self.topic, self.position, counts, strict=True)]
        places = [(p, offset) for p in range(PARTITIONS) for offset in range(self.position[p], ends[p])]
        if not places:
            return
        batch = {p: ends[p] for p in range(PARTITIONS) if ends[p] > self.position[p]}
        try:
            with self.crashing(crash):
                self.handle(places, batch)
        except Crash:
            if crash == "after the commit":
                self.apply(places, batch)
            self.ledger.close()
            self.open()
        else:
            self.apply(places, batch)
            self.position = ends

    @rule(partition=PLACES, back=st.integers(1, 5))
    def seek_back(self, partition: int, back: int) -> None:
        """As after a rebalance whose offsets were not committed."""
        self.position[partition] = max(0, self.position[partition] - back)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Replay anything that was there, letters or not: at least once is what replays promise."""
        places = [(p, o) for p in range(PARTITIONS) for o in range(self.next[p]) if self.topic[p][o] is not None]
        if places:
            chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3))
            self.handle(chosen, {})
            self.apply(chosen, {})

    @rule(spoil=st.sampled_from(["nothing", "longer", "shorter", "missing"]), closed=st.booleans())
    def spoil_the_log(self, spoil: str, closed: bool) -> None:  # noqa: FBT001 - hypothesis names it
        """Whoever does it, and whether the manager runs or not."""
        if closed:
            self.ledger.close()
        path = self.directory / "log.txt"
        match spoil:
            case "longer":
                with path.open("ab") as file:
                    file.write(b"half a li")
            case "shorter":
                path.write_bytes(path.read_bytes()[:-3])
            case "missing":
                path.unlink()
        if closed:
            self.open()
        else:  # the next batch mends it
            self.ledger.record(batch_of([], {}))

    @rule(counts=st.integers(1, 3), partition=PLACES)
    def be_overtaken(self, counts: int, partition: int) -> None:
        """Another that holds the same ledger, where a lock does not reach, records a batch before this one does."""
        start = self.next[partition]
        end = min(len(self.topic[partition]), start + counts)
        if end == start:
            return
        (self.directory / "lock").unlink()
        places = [(partition, offset) for offset in range(start, end)]
        with closing(Ledger(self.directory, TOPIC, OrderV2, "order_id", line, table="orders")) as other:
            other.resume(range(PARTITIONS))
            mine, self.ledger = self.ledger, other
            self.handle(places, {partition: end})
            self.apply(places, {partition: end})
            self.ledger = mine
        with pytest.raises(Overtaken):
            self.ledger.record(self.batch(places, {partition: end}))
        self.resume()

    @precondition(lambda self: hasattr(self, "rows"))
    @invariant()
    def is_a_single_pass(self) -> None:
        with closing(sqlite3.connect(self.directory / "ledger.db")) as db:
            rows = db.execute("SELECT line, partition, offset, record FROM orders ORDER BY line").fetchall()
            duplicates = db.execute("SELECT partition, offset, line FROM duplicates").fetchall()
            offsets = dict(db.execute("SELECT partition, next_offset FROM partitions").fetchall())
        expected = [self.at(place) for place in self.rows]
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        assert [row[1:3] for row in rows] == self.rows
        assert [json.loads(row[3]) for row in rows] == [
            {"pizza": order.pizza, "table": order.table, "order_id": order.order_id} for order in expected
        ]
        assert {(p, o): line for p, o, line in duplicates} == self.duplicates
        assert offsets == dict(enumerate(self.next))
        assert (self.directory / "log.txt").read_text("utf-8") == "".join(f"{line(order)}\n" for order in expected)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.directory)

    def at(self, place: Place) -> OrderV2:
        order = self.topic[place[0]][place[1]]
        assert order is not None
        return order

    def batch(self, places: list[Place], next_offsets: dict[int, int]) -> Batch[OrderV2]:
        read = [place for place in places if self.topic[place[0]][place[1]] is not None]
        return batch_of([Received(self.at(place), *place, 0) for place in read], next_offsets)

    def handle(self, places: list[Place], next_offsets: dict[int, int]) -> None:
        """Do as the loop does: what is refused goes to the letters, and the rest is handled again."""
        batch = self.batch(places, next_offsets)
        while True:
            try:
                self.ledger.record(batch)
            except Rejected as rejected:
                refused = rejected.refused.keys()
                assert refused <= set(places)
                batch = batch_of(
                    [one for one in batch.records if (one.partition, one.offset) not in refused], next_offsets
                )
            else:
                return

    def apply(self, places: list[Place], next_offsets: dict[int, int]) -> None:
        """Say what a single pass makes of messages that it meets for the first time."""
        identities = {self.at(place).order_id: line for line, place in enumerate(self.rows, 1)}
        for place in places:
            order = self.topic[place[0]][place[1]]
            if order is None or place in self.rows:
                continue
            known = identities.get(order.order_id) if order.order_id else None
            if known is None:
                self.rows.append(place)
                identities[order.order_id] = len(self.rows)
            elif self.at(self.rows[known - 1]) == order:
                self.duplicates.setdefault(place, known)
        for partition, end in next_offsets.items():
            self.next[partition] = max(end, self.next[partition])

    @contextmanager
    def crashing(self, point: str | None) -> Iterator[None]:
        """Let the process die at a point; what it would have done to mend it, it does not."""
        append, truncate = Ledger._append, os.ftruncate  # noqa: SLF001 - the points are inside

        def dying(ledger: Ledger[OrderV2], text: bytes, log_bytes: int) -> None:
            if point == "half of the log":
                with (self.directory / "log.txt").open("ab") as log:
                    log.write(text[: len(text) // 2])
            if point == "after the log":
                append(ledger, text, log_bytes)
            raise Crash

        with pytest.MonkeyPatch.context() as patch:
            if point is not None and point != "after the commit":
                patch.setattr(Ledger, "_append", dying)
                patch.setattr(os, "ftruncate", lambda *_: None)
            yield
        assert os.ftruncate is truncate
        if point == "after the commit":
            raise Crash


TestRecording = Recording.TestCase
TestRecording.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
