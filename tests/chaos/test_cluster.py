"""Three brokers that lose one, then two: the waiter goes on, then reports what failed, and claims nothing else."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.local import HOME, Kafka, LocalStack, free_port
from tests.chaos.scene import LONG, SLOWLY, Scene, lines_of
from tests.restaurant import wait_until

pytestmark = pytest.mark.skipif(not LONG, reason="three brokers start only in the long run: make chaos")

ORDERS = 50_000
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "group.min.session.timeout.ms": "1000",
}


@pytest.fixture
def brokers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Kafka]]:
    """Three nodes of one cluster, as docker-compose.cluster.yaml has them."""
    cluster_id = secrets.token_urlsafe(16)
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: cluster_id)  # every node formats its storage with it
    controllers = [free_port() for _ in range(3)]
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    nodes: list[Kafka] = []
    for node, controller in enumerate(controllers, 1):
        port = free_port()
        listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
        own = {"node.id": str(node), "controller.quorum.voters": voters, "listeners": listeners}
        nodes.append(Kafka(tmp_path / f"broker-{node}", port, HOME, {**REPLICATED, **own}))
    try:
        for broker in nodes:
            broker.check()
            broker.launch()
        for broker in nodes:
            broker.wait()
        yield nodes
    finally:
        for broker in nodes:
            broker.kill()


@pytest.fixture
def cluster(brokers: list[Kafka], stack: LocalStack, tmp_path: Path) -> Iterator[Scene]:
    """A restaurant on the three, with the one registry."""
    addresses = ",".join(f"localhost:{broker.port}" for broker in brokers)
    directory = tmp_path / "scene"
    directory.mkdir()
    scene = Scene(directory, addresses, stack.registry_url, partitions=3)
    assert scene.run("scripts/register_schema.py").returncode == 0
    yield scene
    scene.kill_all()


def test_one_broker_is_lost_and_then_a_second(brokers: list[Kafka], cluster: Scene, chance: random.Random) -> None:
    """Two of three copies acknowledge; with one left nobody does, until the others are back."""
    replicated = {"TOPIC_REPLICATION": "3"}
    hurried = {**SLOWLY, **replicated, "DELIVERY_TIMEOUT": "20"}
    cook, manager = cluster.start("cook", replicated), cluster.start("manager", replicated)
    for service, consumer in (("cook", cook), ("manager", manager)):
        consumer.wait_for_error(f"{service} was given partitions")
    waiters = [cluster.start_waiter(cluster.orders_file("orders.jsonl", *lines_of(ORDERS, chance)), env=hurried)]
    first, second = chance.sample(brokers, 2)

    def reported() -> int:
        return waiters[0].out.read_bytes().count(b"\n")

    wait_until(lambda: reported() > ORDERS // 10)
    first.kill()
    after = reported()
    wait_until(lambda: reported() > after + ORDERS // 10, what="going on with two of three")
    second.kill()
    assert waiters[0].process.wait(120) == 1
    assert "were not acknowledged" in waiters[0].errors()
    assert reported() < ORDERS
    for broker in (first, second):
        broker.check()
        broker.launch()
    for broker in (first, second):
        broker.wait()
    (kept,) = cluster.data.glob("undelivered-*.jsonl")
    waiters.append(cluster.start_waiter(kept, env=replicated))
    assert waiters[1].process.wait(120) == 0, waiters[1].errors()
    cluster.wait_for_end()
    cluster.audit(*waiters, lines=ORDERS)
    wait_until(lambda: len(set(cook.lines())) == len(set(cluster.log())), what="each order prepared")
    assert (cook.process.poll(), manager.process.poll()) == (None, None)
