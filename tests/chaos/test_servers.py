"""Broker and registry killed and paused while orders pass: nobody stops, and what was reported is there, once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from contract.order import OrderV2
from producer.publishing import RecordProducer
from stack.local import LocalStack, Server
from tests.chaos.consumer import SESSION_MS
from tests.chaos.scene import LONG, PACED, Scene, lines_of
from tests.restaurant import Service, wait_until

ORDERS = 100_000 if LONG else 5_000
ROUNDS = 5 if LONG else 1


def reports(waiter: Service) -> int:
    """Count what a waiter has reported so far."""
    return waiter.out.read_bytes().count(b"\n")


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """Stop a server's process, as a long collection of garbage or a suspended machine does."""
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_the_broker_is_killed_while_the_waiter_publishes(
    stack: LocalStack, scene: Scene, chance: random.Random
) -> None:
    """What the waiter could not get acknowledged is in its file, and that file given again completes the orders."""
    cook, manager = scene.start("cook"), scene.start("manager")
    file = scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance))
    hurried = {**PACED, "DELIVERY_TIMEOUT": "2"}
    waiters = [scene.start_waiter(file, env=hurried)]
    while True:
        enough = chance.randint(ORDERS // 20, ORDERS // 4)
        wait_until(lambda enough=enough: reports(waiters[-1]) >= enough or waiters[-1].process.poll() is not None)  # type: ignore[misc]
        if len(waiters) <= ROUNDS:
            stack.kafka.kill()
        code = waiters[-1].process.wait(180)
        stack.kafka.start()
        if code == 0:
            break
        assert "were not acknowledged" in waiters[-1].errors()
        kept = max(scene.data.glob("undelivered-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        waiters.append(scene.start_waiter(kept, env=hurried))
    assert len(waiters) > ROUNDS
    scene.wait_for_end()
    scene.audit(*waiters, lines=ORDERS)
    wait_until(lambda: len(set(cook.lines())) == len(set(scene.log())), what="each order prepared")
    assert (cook.process.poll(), manager.process.poll()) == (None, None)


@pytest.mark.skipif(not LONG, reason="for half a minute librdkafka itself does not believe it: make chaos")
def test_a_topic_that_the_broker_does_not_know_for_a_moment_is_waited_for(scene: Scene) -> None:
    """As it is with a broker that has come up before its controller has told it of the topic."""
    scene.make_topic()
    producer = RecordProducer(scene.servers, scene.subject, OrderV2, bulk=True)
    admin = AdminClient({"bootstrap.servers": scene.bootstrap_servers})
    failed: list[str] = []

    def chunks() -> Iterator[list[OrderV2]]:
        yield [OrderV2("napoli", table) for table in range(1, 10)]
        time.sleep(32)
        admin.delete_topics([scene.topic])[scene.topic].result(10)
        for _ in range(20):
            yield [OrderV2("napoli", table) for table in range(1, 100)]
            time.sleep(0.1)
        scene.make_topic()

    assert producer.publish_all(chunks(), lambda _, reason: failed.append(reason)) == 9 + 20 * 99
    assert not failed


@pytest.mark.parametrize("name", ["kafka", "registry"])
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_a_server_is_away_for_longer_than_a_session(
    stack: LocalStack, scene: Scene, chance: random.Random, name: str, how: str
) -> None:
    """Waiter, cook and manager wait for it in their places, and each order is published and recorded once."""
    server: Server = getattr(stack, name)
    cook, manager = scene.start("cook"), scene.start("manager")
    for service, consumer in (("cook", cook), ("manager", manager)):
        consumer.wait_for_error(f"{service} was given partitions")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance)), env=PACED)
    wait_until(lambda: reports(waiter) >= ORDERS // 4)
    away = threading.Event()
    if how == "killed":
        server.kill()
        away.wait(SESSION_MS / 1000 + 1)
        if name == "kafka":
            cook.wait_for_error("cook begins anew with another connection")
            manager.wait_for_error("manager begins anew with another connection")
        server.start()
    else:
        with paused(server):
            away.wait(SESSION_MS / 1000 + 1)
    assert waiter.process.wait(240) == 0, waiter.errors()
    scene.wait_for_end()
    scene.audit(waiter, lines=ORDERS).check_order_of_tables()
    wait_until(lambda: len(set(cook.lines())) == len(set(scene.log())), what="each order prepared")
    assert (cook.process.poll(), manager.process.poll()) == (None, None)


@pytest.mark.parametrize("count", [100, 2_000], ids=["fewer", "more"])
def test_a_broker_that_comes_back_without_its_data_is_another_cluster(
    stack: LocalStack, scene: Scene, chance: random.Random, count: int
) -> None:
    """At the same address: nothing that it has is taken for what the first one had, whatever comes first."""
    cook, manager = scene.start("cook"), scene.start("manager")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(1_000, chance)))
    assert waiter.process.wait(60) == 0
    scene.wait_for_end()
    wait_until(lambda: len(cook.lines()) == 1_000, what="each order prepared")
    stack.kafka.kill()
    shutil.rmtree(stack.kafka.directory / "data" / "kafka")
    stack.kafka.start()
    scene.servers.ensure_topics(scene.subject, *scene.subject.topics_beside)
    again = scene.start_waiter(scene.orders_file("again.jsonl", *lines_of(count, chance, first=1_000)))
    assert again.process.wait(60) == 0
    for consumer in (cook, manager):
        assert consumer.process.wait(60) == 2
        assert "is another topic now" in consumer.errors(), consumer.errors()
    assert (len(scene.rows()), len(cook.lines())) == (1_000, 1_000)
    refused = scene.run("-m", "consumers.manager")
    assert (refused.returncode, "where its offsets mean nothing" in refused.stderr) == (2, True)
    cook = scene.start("cook")
    wait_until(lambda: len(set(cook.lines())) == count, what="each order of the new cluster prepared")


def test_an_unknown_schema_waits_for_the_registry_and_known_ones_do_not(
    stack: LocalStack, scene: Scene, chance: random.Random
) -> None:
    """A message whose schema nobody can look up now is no bad message."""
    cook, manager = scene.start("cook"), scene.start("manager")
    old = _bytes_of_version_1(scene)
    known = scene.start_waiter(scene.orders_file("known.jsonl", *lines_of(1_000, chance)), env=PACED)
    wait_until(lambda: len(scene.rows("SELECT 1 FROM orders")) > 0 and cook.lines(), what="the first order")
    stack.registry.kill()
    assert known.process.wait(60) == 0
    scene.wait_for_end()
    producer = Producer({"bootstrap.servers": scene.bootstrap_servers})
    producer.produce(scene.topic, old, "7", partition=0)
    assert producer.flush(10) == 0
    for consumer in (cook, manager):
        consumer.wait_for_error("waits, try 1 failed: the schema registry does not answer")
    stack.registry.start()
    scene.wait_for_end()
    wait_until(lambda: "Received an order for a pizza napoli at table 7 !" in cook.lines())
    assert scene.messages(f"{scene.topic}.manager.dead-letters") == []
    assert scene.messages(f"{scene.topic}.cook.dead-letters") == []
    assert len(scene.log()) == 1_001


def _bytes_of_version_1(scene: Scene) -> bytes:
    """Frame an order of version 1: its name is 6 letters long, and 7 is 14 in zigzag."""
    schema_id = min(scene.schemas_by_id())
    return b"\0" + schema_id.to_bytes(4, "big") + b"\x0cnapoli" + b"\x0e"


REASONS: dict[str, Callable[[int, bytes, random.Random], bytes | None]] = {
    "not-framed": lambda _, __, chance: b"{" + chance.randbytes(20),
    "too-short": lambda _, __, ___: b"\0\0\0",
    "unknown-id": lambda _, body, ___: b"\0\x7f\0\0\1" + body,
    "truncated": lambda known, body, __: b"\0" + known.to_bytes(4, "big") + body[:-1],
    "trailing-bytes": lambda known, body, __: b"\0" + known.to_bytes(4, "big") + body + b"!",
    "malformed": lambda known, _, __: b"\0" + known.to_bytes(4, "big") + b"\x04\xff\xff\x02\0",
    "breaks-limit": lambda known, _, __: b"\0" + known.to_bytes(4, "big") + b"\0\x02\0",
    "tombstone": lambda _, __, ___: None,
    "random": lambda _, __, chance: chance.randbytes(chance.randint(0, 60)),
}


def test_bad_messages_of_every_reason_among_good_ones(scene: Scene, chance: random.Random) -> None:
    """A thousand among a hundred thousand: each is a letter with its bytes, and each good one is recorded."""
    good, bad = 100_000, 1_000
    many = {"DEAD_LETTER_LIMIT": "1001", "KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "4000", "KAFKA_LINGER_MS": "50"}
    cook, manager = scene.start("cook", many), scene.start("manager", many)
    known = max(scene.schemas_by_id())
    noise = Producer({"bootstrap.servers": scene.bootstrap_servers, "linger.ms": 0})
    makers = list(REASONS.values())
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(good, chance)), env=many)
    wait_until(lambda: reports(waiter) > 0)
    for number in range(bad):
        value = makers[number % len(makers)](known, b"\x0cnapoli\x0e\0", chance)
        noise.produce(scene.topic, value, chance.randbytes(4), partition=number % 3)
        noise.poll(0.001)
    assert noise.flush(20) == 0
    assert waiter.process.wait(60) == 0
    scene.wait_for_end()
    scene.audit(waiter, lines=good, bad=bad).check_order_of_tables()
    wait_until(lambda: len(cook.lines()) >= good, what="every good order prepared")
    listed = scene.run("-m", "consumers.dead_letters", "list", "manager").stdout
    assert f"{bad} letters" in listed
    assert all(reason in listed for reason in REASONS if reason != "random")
    assert (cook.process.poll(), manager.process.poll()) == (None, None)
