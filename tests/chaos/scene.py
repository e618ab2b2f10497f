"""A restaurant under attack, and the audit that each attack ends with.

The audit reads the topic with a plain client and decodes it with Avro alone, and compares row by row: what the waiter
reported, the topic, the ledger, its duplicates, the dead letters, and `log.txt`.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, Message, TopicPartition

from tests.restaurant import LIMIT, Restaurant, Service, wait_until

LONG = os.environ.get("CHAOS") == "long"
# A thousand orders a second or so: otherwise a file has passed before anything can be killed.
SLOWLY = {"KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "100", "KAFKA_LINGER_MS": "60"}
# The same, but faster where the long run has many of them.
PACED = {**SLOWLY, "KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "400" if LONG else "100"}
REPORTED = re.compile(r"message published on partition (\d+) with offset (\d+)")

Place = tuple[int, int]


def lines_of(count: int, chance: random.Random, *, first: int = 0) -> list[str]:
    """Make a file's lines: each pizza has a number that grows, so that a table's order can be told."""
    return [json.dumps({"pizza": f"number {first + n}", "table": chance.randint(1, 40)}) for n in range(count)]


@dataclass(frozen=True)
class Order:
    """What a plain Avro reader finds in a message."""

    pizza: str
    table: int
    order_id: str


class Scene(Restaurant):
    """A restaurant whose processes are killed, paused and started again."""

    def start(self, name: str, env: Mapping[str, str] | None = None) -> Service:
        """Start a consumer whose session lapses soon."""
        return self.start_program(name, "-m", "tests.chaos.consumer", name, env=env)

    def start_as_it_is(self, name: str) -> Service:
        """Start a consumer with the session that it has in production."""
        return super().start(name)

    def start_waiter(self, file: Path, *flags: str, env: Mapping[str, str] | None = None) -> Service:
        """Start a waiter that reports each order."""
        return self.start_program(
            "waiter", "-m", "producer.waiter", "--orders", str(file), "--verbose", *flags, env=env
        )

    def start_faulty(self, consumer: str, point: str, number: int = 1) -> Service:
        """Start a consumer that is hit at a point of its code, the so-manieth time that it comes there."""
        return self.start_program("faulty", "-m", "tests.chaos.consumer", consumer, point, str(number))

    def wait_for_end(self, *, limit: float = 90.0) -> None:
        """Wait until the ledger has come to the end of the topic."""
        wait_until(lambda: self._next_offsets() == self._end_offsets(), limit, "the end of the topic in the ledger")

    def kill_all(self) -> None:
        """End what runs, paused processes too."""
        for service in self.services:
            if service.process.poll() is None:
                service.process.kill()
                service.process.wait(LIMIT)
        self.close()

    def messages(self, topic: str | None = None) -> list[Message]:
        """Read a topic from beginning to end, as any client does."""
        name = topic or self.topic
        with self._reader() as reader:
            places = [TopicPartition(name, p, 0) for p in reader.list_topics(name, timeout=10).topics[name].partitions]
            ends = {place.partition: reader.get_watermark_offsets(place, timeout=10)[1] for place in places}
            reader.assign(places)
            deadline = time.monotonic() + LIMIT
            found: list[Message] = []
            while len(found) < sum(ends.values()):
                assert time.monotonic() < deadline, f"{name} cannot be read to its end"
                for message in reader.consume(5_000, 0.05):
                    assert message.error() is None, message.error()
                    if (message.offset() or 0) < ends[message.partition() or 0]:
                        found.append(message)
        return sorted(found, key=_place)

    def audit(self, *waiters: Service, lines: int, bad: int = 0) -> Audit:
        """Compare everything, and fail on the first row that differs.

        `lines` orders were to be recorded, and `bad` messages of the topic were no orders.
        """
        topic, letters = self.messages(), self._letters()
        orders = {_place(message): order for message in topic if (order := self._decode(message)) is not None}
        reported = {_numbers(found) for waiter in waiters for found in REPORTED.finditer(waiter.out.read_text())}
        assert reported <= orders.keys(), "a waiter has reported what is not in the topic"

        rows = self.rows("SELECT line, partition, offset, identity, record FROM orders ORDER BY line")
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        assert [json.loads(row[4]) for row in rows] == [vars(orders[row[1], row[2]]) for row in rows]
        assert [row[3] for row in rows] == [orders[row[1], row[2]].order_id for row in rows]
        assert len({row[3] for row in rows}) == len(rows) == lines
        recorded = {(row[1], row[2]): row[0] for row in rows}
        assert len(recorded) == len(rows)

        duplicates = {row[:2]: row[2] for row in self.rows("SELECT partition, offset, line FROM duplicates")}
        for place, line in duplicates.items():
            assert rows[line - 1][3] == orders[place].order_id
        assert recorded.keys() | duplicates.keys() == orders.keys()
        assert not recorded.keys() & duplicates.keys()

        unreadable = {_place(message): message for message in topic if _place(message) not in orders}
        assert len(unreadable) == bad
        assert letters.keys() == unreadable.keys()
        for place, message in unreadable.items():
            for letter in letters[place]:
                assert (letter.key(), letter.value()) == (message.key(), message.value())

        assert self.log() == [
            f"Received an order for a pizza {order.pizza} at table {order.table} !"
            for order in (orders[row[1], row[2]] for row in rows)
        ]
        assert self._next_offsets() == self._end_offsets()
        return Audit(list(orders.values()), [orders[row[1], row[2]] for row in rows], len(duplicates))

    def _next_offsets(self) -> dict[int, int]:
        return {p: n for p, n in self.rows("SELECT partition, next_offset FROM partitions") if n}

    def _end_offsets(self) -> dict[int, int]:
        with self._reader() as reader:
            partitions = reader.list_topics(self.topic, timeout=10).topics[self.topic].partitions
            ends = {p: reader.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)[1] for p in partitions}
        return {partition: end for partition, end in ends.items() if end}

    def _letters(self) -> dict[Place, list[Message]]:
        """Give the manager's dead letters by where they were; one may have come twice."""
        found: dict[Place, list[Message]] = {}
        for message in self.messages(f"{self.topic}.manager.dead-letters"):
            told = dict(_headers(message))
            place = int(told["dead-letter.partition"]), int(told["dead-letter.offset"])
            found.setdefault(place, []).append(message)
        return found

    def _decode(self, message: Message) -> Order | None:
        """Read an order of version 2 as the specification says, or of version 1; None for what is none."""
        value = message.value()
        if value is None or len(value) < 5 or value[0] != 0:
            return None
        schema = self.schemas_by_id().get(int.from_bytes(value[1:5], "big"))
        buffer = io.BytesIO(value[5:])
        try:
            values: Any = fastavro.schemaless_reader(buffer, schema, None) if schema else {}
        except (ValueError, LookupError, EOFError, OverflowError, TypeError):
            return None
        limits = 0 < len(values.get("pizza", "")) <= 64 and values.get("table", 0) > 0
        if not limits or len(values.get("order_id", "")) > 64 or buffer.read():
            return None
        return Order(values["pizza"], values["table"], values.get("order_id", ""))

    def schemas_by_id(self) -> dict[int, Any]:
        """Give both versions of an order by the registry's ids."""
        if not hasattr(self, "_by_id"):
            versions = [self.registry.get_version(self.subject.name, n) for n in (1, 2)]
            self._by_id: dict[int, Any] = {
                int(v.schema_id or 0): fastavro.parse_schema(json.loads(str(v.schema.schema_str))) for v in versions
            }
        return self._by_id

    @contextmanager
    def _reader(self) -> Iterator[Consumer]:
        properties = {"bootstrap.servers": self.bootstrap_servers, "group.id": "audit", "enable.auto.commit": False}
        with closing(Consumer(properties)) as reader:
            yield reader


@dataclass(frozen=True)
class Audit:
    """What the audit has found to be the same everywhere: orders by partition as published, and as recorded."""

    published: list[Order]
    recorded: list[Order]
    duplicates: int

    def check_order_of_tables(self) -> None:
        """Each table's orders are recorded as they were published, and that is as they were in the file."""
        for orders in (self.published, self.recorded):
            last: dict[int, int] = {}
            for order in orders:
                number = int(order.pizza.split()[-1])
                assert number > last.get(order.table, -1), f"{order} is recorded after number {last[order.table]}"
                last[order.table] = number


def kill(service: Service) -> None:
    """End it as a crash would."""
    assert service.stop(signal.SIGKILL) == -signal.SIGKILL


def _numbers(found: re.Match[str]) -> Place:
    return int(found[1]), int(found[2])


def _headers(message: Message) -> list[tuple[str, bytes]]:
    pairs: Any = message.headers() or []
    return list(pairs)


def _place(message: Message) -> Place:
    return message.partition() or 0, message.offset() or 0
