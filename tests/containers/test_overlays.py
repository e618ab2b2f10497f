"""The overlays: without ZooKeeper, and three brokers of which one may go."""

from __future__ import annotations

import pytest

from tests.containers.conftest import LIMIT, Containers, Start
from tests.restaurant import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


def wait_for_orders(containers: Containers, count: int) -> None:
    """Wait until so many orders were cooked and recorded."""
    wait_until(lambda: len(containers.sentences()) == count, LIMIT, f"{count} sentences")
    wait_until(lambda: containers.ledger("SELECT count(*) FROM orders") == [[count]], LIMIT, f"{count} rows")


def test_an_order_goes_through_without_zookeeper(start_containers: Start) -> None:
    """The KRaft overlay is the same restaurant, one server fewer."""
    with start_containers("kraft") as containers:
        assert containers.waiter("margherita", "17") == "message published on partition 0 with offset 0\n"
        wait_for_orders(containers, 1)
        assert "zookeeper" not in containers.compose("ps", "--all", "--services").split()


def test_three_brokers_go_on_when_one_of_them_is_lost(start_containers: Start) -> None:
    """Two replicas are enough to acknowledge an order, and two controllers to lead."""
    with start_containers("kraft", "cluster") as containers:
        containers.waiter("margherita", "17")
        containers.compose("stop", "kafka-2")
        assert containers.waiter("funghi", "3", options=["--no-deps"]).startswith("message published")
        wait_for_orders(containers, 2)
