"""Files of orders through containers that are scaled, stopped and killed meanwhile: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containers.conftest import LIMIT, Containers, Start, run
from tests.restaurant import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

WriteOrders = Callable[[str, int], Path]
COOKS = ("--scale", "cook=2")
# 50,000 orders a second at most: otherwise a file has passed before anything can be killed.
SLOWLY = {"KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "2500", "KAFKA_LINGER_MS": "50"}


@pytest.fixture(scope="module")
def containers(start_containers: Start) -> Iterator[Containers]:
    """A topic of three partitions and two cooks."""
    with start_containers(TOPIC_PARTITIONS="3") as containers:
        containers.compose("up", "--detach", "--wait", "--no-recreate", *COOKS)
        yield containers


def test_two_cooks_share_a_file_of_10_000_orders_that_are_recorded_once(
    containers: Containers, write_orders: WriteOrders
) -> None:
    """Each order is cooked by one of them, each cook has some, and ledger and log have one row and line an order."""
    orders = write_orders("shared", 10_000)

    def cooked() -> list[int]:
        logs = [run(["docker", "logs", container["Id"]]).stdout for container in containers.containers("cook")]
        return [log.count(" shared ") for log in logs]

    containers.send_file(orders)

    containers.wait_until_recorded(orders, 10_000)
    wait_until(lambda: sum(cooked()) >= 10_000, LIMIT, "10,000 sentences")
    assert sum(cooked()) == 10_000
    assert len(cooked()) == 2
    assert all(cooked())
    assert containers.recorded(orders) == containers.log_lines(orders) == 10_000


def test_down_and_up_again_loses_nothing_and_repeats_nothing(containers: Containers, write_orders: WriteOrders) -> None:
    """Topic, schemas and ledger are in volumes, and they still belong together."""
    orders, more = write_orders("before", 2_000), write_orders("after", 1_000)
    containers.send_file(orders)
    containers.wait_until_recorded(orders, 2_000)

    containers.compose("down")
    containers.compose("up", "--detach", "--wait", *COOKS)

    containers.send_file(more)
    containers.wait_until_recorded(more, 1_000)
    assert containers.recorded(orders) == containers.log_lines(orders) == 2_000
    assert containers.recorded(more) == containers.log_lines(more) == 1_000


def test_orders_that_arrive_while_nobody_works_are_handled_after(
    containers: Containers, write_orders: WriteOrders
) -> None:
    """The broker keeps them."""
    orders = write_orders("waiting", 1_000)
    containers.compose("stop", "cook", "manager")
    containers.send_file(orders)
    containers.compose("up", "--detach", "--wait", *COOKS)

    containers.wait_until_recorded(orders, 1_000)


@pytest.mark.parametrize("service", ["manager", "schema-registry", "kafka", "zookeeper"])
def test_a_service_that_is_killed_under_load_recovers_without_a_hand(
    containers: Containers, write_orders: WriteOrders, service: str
) -> None:
    """The restart policy brings it back, and every order is recorded once in the end."""
    count = 300_000
    orders = write_orders(f"kill-{service}", count)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(containers.send_file, orders, limit=2 * LIMIT, **SLOWLY)
        containers.wait_until_recorded(orders, 1)
        restarts = containers.restarts(service)
        containers.kill(service)
        assert containers.recorded(orders) < count, "it was over before the kill"
        wait_until(lambda: containers.restarts(service) > restarts, LIMIT, f"the restart of {service}")
        sending.result()

    containers.wait_until_recorded(orders, count)
    assert containers.recorded(orders) == containers.log_lines(orders) == count
    containers.wait_until_healthy()
    assert "message published" in containers.waiter("margherita", "17")
