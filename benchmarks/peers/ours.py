"""This project: its public functions, as waiter, cook and manager call them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.peers.harness import Job, Latencies, Meter, Send, main, paced, stamp
from consumers.batches import Batch
from consumers.cook import prepare
from consumers.loop import consume_messages, create_consumer
from contract.order import Order, OrderV1, OrderV2
from contract.subjects import load_contract
from producer.waiter import AnyOrder, create_producer
from runtime.settings import Settings
from runtime.topics import connect

Handle = Callable[[Event, Batch[Any]], None]
CHUNK = 1_000  # as a file is read
AT_HAND = 16  # a chunk is encoded whole before its first order goes on its way


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    """Publish from memory, limits checked."""
    producer = create_producer(connect(_settings(job)), bulk=True)

    def send(orders: Sequence[AnyOrder]) -> int:
        return producer.publish_all((orders[n : n + CHUNK] for n in range(0, len(orders), CHUNK)), _fail)

    yield lambda order: Order(*order), send


def consume(job: Job) -> None:
    """Read with the version that was written, checked, committed."""
    _consume(job, OrderV2, "manager", _count(job, "order_id"))


def consume_older(job: Job) -> None:
    """Read as the cook does, with version 1, and print nothing."""
    _consume(job, OrderV1, "cook", _count(job, "pizza"))


def cook(job: Job) -> None:
    """Read as the cook does, its sentences going nowhere."""
    count = _count(job, "pizza")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def handle(stop: Event, batch: Batch[OrderV1]) -> None:
        prepare(batch)
        count(stop, batch)

    _consume(job, OrderV1, "cook", handle)


def latency_send(job: Job) -> None:
    """Publish at a rate; what is more than a person orders, as a file is published."""
    producer = create_producer(connect(_settings(job)), bulk=job.is_bulk)

    def chunks() -> Iterator[list[AnyOrder]]:
        for due in paced(job):
            if due == 1:
                yield [Order("margherita", 17, stamp())]
                continue
            for first in range(0, due, AT_HAND):
                yield [Order("margherita", 17, stamp()) for _ in range(min(AT_HAND, due - first))]

    seconds = time.perf_counter()
    sent = producer.publish_all(chunks(), _fail)
    print(f"sent at {sent / (time.perf_counter() - seconds):.0f} orders/s")


def latency_receive(job: Job) -> None:
    """Read with the loop that every consumer runs."""
    latencies, identity = Latencies(job), attrgetter("order_id")

    def handle(stop: Event, batch: Batch[OrderV2]) -> None:
        if latencies.add(map(identity, batch.values)):
            stop.set()

    _consume(job, OrderV2, "manager", handle)


def _count(job: Job, last: str) -> Handle:
    meter, value = Meter(job), attrgetter(last)

    def handle(stop: Event, batch: Batch[Any]) -> None:
        if meter.add(len(batch.values), value(batch.values[-1])):
            stop.set()

    return handle


def _consume(job: Job, version: type[Any], group: str, handle: Handle) -> None:
    settings = _settings(job)
    stop = Event()
    consumer = create_consumer(connect(settings), load_contract(settings.schemas_dir).subject("order"), version, group)
    consume_messages(consumer, partial(handle, stop), stop)


def _settings(job: Job) -> Settings:
    return Settings(
        kafka_bootstrap_servers=job.bootstrap, schema_registry_url=job.registry, schemas_dir=Path(job.schemas_dir)
    )


def _fail(_order: AnyOrder, reason: str) -> None:
    raise RuntimeError(reason)


if __name__ == "__main__":
    main(
        publisher,
        consume,
        consume_older=consume_older,
        cook=cook,
        latency_send=latency_send,
        latency_receive=latency_receive,
    )
