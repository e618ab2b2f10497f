"""The workshop's story, on real servers: the waiter publishes, the cook prepares, the manager records."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.restaurant import Restaurant, wait_until

pytestmark = pytest.mark.integration

MARGHERITA = "Received an order for a pizza margherita at table 17 !"


def test_the_waiter_prints_the_workshops_line_for_each_run(restaurant: Restaurant) -> None:
    """On a fresh topic the first order is at offset 0 and the next at offset 1."""
    assert restaurant.waiter().stdout == "message published on partition 0 with offset 0\n"
    assert restaurant.waiter("margherita", "17").stdout == "message published on partition 0 with offset 1\n"


def test_cook_and_manager_both_receive_each_order(restaurant: Restaurant) -> None:
    """Each group reads the whole topic, whichever part was started first."""
    cook, manager = restaurant.start("cook"), restaurant.start("manager")
    assert restaurant.waiter("margherita", "17").returncode == 0
    assert cook.wait_for_lines(1) == [MARGHERITA]
    ((line, topic, partition, offset, published, recorded, pizza, table, order_id),) = restaurant.wait_for_rows(1)
    assert (line, topic, partition, offset, pizza, table) == (1, restaurant.topic, 0, 0, "margherita", 17)
    assert 0 <= recorded - published < 60_000
    assert len(order_id) == 36
    assert restaurant.log() == [MARGHERITA]
    assert manager.stop() == 0
    assert manager.lines() == []


def test_three_cooks_share_three_partitions(open_restaurant: Callable[..., Restaurant]) -> None:
    """Each order is prepared by one cook, and each cook has its part of the work."""
    restaurant = open_restaurant(partitions=3)
    assert restaurant.register().returncode == 0
    cooks = [restaurant.start("cook") for _ in range(3)]
    for cook in cooks:
        cook.wait_for_error("was given partitions")
    wait_until(lambda: all(_last_assignment(cook.errors()) == 1 for cook in cooks), what="one partition each")
    orders = [json.dumps({"pizza": f"pizza {table}", "table": table}) for table in range(1, 61)]
    assert restaurant.waiter("--orders", str(restaurant.orders_file("orders.jsonl", *orders))).returncode == 0
    wait_until(lambda: sum(len(cook.lines()) for cook in cooks) >= 60, what="60 orders")
    assert all(cook.lines() for cook in cooks)
    assert sorted(line for cook in cooks for line in cook.lines()) == sorted(
        f"Received an order for a pizza pizza {table} at table {table} !" for table in range(1, 61)
    )


def _last_assignment(errors: str) -> int:
    """Count the partitions that a cook holds, by what it said of each rebalance."""
    held: set[str] = set()
    for line in errors.splitlines():
        if not line.startswith("cook "):  # its replays are another group's
            continue
        numbers = set(line[line.rfind("[") + 1 : -1].split(", ")) - {""}
        if "was given partitions" in line:
            held |= numbers
        elif "gives back partitions" in line or "lost partitions" in line:
            held -= numbers
    return len(held)


def test_both_consumers_read_both_schema_versions(restaurant: Restaurant) -> None:
    """An older waiter's orders have no identity; both readers take them as they take the newest."""
    assert restaurant.waiter("napoli", "3", "--schema-version", "1").returncode == 0
    assert restaurant.waiter("diavola", "4").returncode == 0
    cook = restaurant.start("cook")
    restaurant.start("manager")
    assert cook.wait_for_lines(2) == [
        "Received an order for a pizza napoli at table 3 !",
        "Received an order for a pizza diavola at table 4 !",
    ]
    older, newer = (row[6:] for row in restaurant.wait_for_rows(2))
    assert older == ("napoli", 3, "")
    assert newer[:2] == ("diavola", 4)
    assert newer[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_consumer_exits_0_and_goes_on_where_it_was(restaurant: Restaurant, number: signal.Signals) -> None:
    """What was handled is committed before the consumer leaves, so nothing is prepared a second time."""
    restaurant.waiter("first", "1")
    cook = restaurant.start("cook")
    cook.wait_for_lines(1)
    assert cook.stop(number) == 0
    restaurant.waiter("second", "2")
    again = restaurant.start("cook")
    assert again.wait_for_lines(1) == ["Received an order for a pizza second at table 2 !"]
    assert again.stop() == 0
    assert _committed(restaurant, "cook") == 2


def test_the_manager_resumes_from_its_ledger_whatever_the_group_committed(restaurant: Restaurant) -> None:
    """Neither a lost nor a wrong committed offset makes a row twice or leaves one out."""
    for table in ("1", "2", "3"):
        restaurant.waiter("napoli", table)
    manager = restaurant.start("manager")
    restaurant.wait_for_rows(3)
    assert manager.stop() == 0
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "manager"})) as client:
        client.commit(offsets=[TopicPartition(restaurant.topic, 0, 1)], asynchronous=False)
    restaurant.waiter("napoli", "4")
    restaurant.start("manager")
    assert [row[7] for row in restaurant.wait_for_rows(4)] == [1, 2, 3, 4]
    assert len(restaurant.log()) == 4


def test_a_file_sent_again_is_recorded_once(restaurant: Restaurant) -> None:
    """A line's identity comes from the file's content; --batch names a repeat that is meant."""
    orders = restaurant.orders_file("orders.csv", "pizza,table", "napoli,3", "diavola,4")
    for flags in ([], [], ["--batch", "monday"]):
        assert restaurant.waiter("--orders", str(orders), *flags).returncode == 0
    restaurant.start("manager")
    restaurant.waiter("last", "9")
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(7,)], what="all seven")
    assert [row[6] for row in restaurant.rows()] == ["napoli", "diavola", "napoli", "diavola", "last"]
    assert restaurant.rows("SELECT partition, offset, line FROM duplicates") == [(0, 2, 1), (0, 3, 2)]
    assert len(restaurant.log()) == 5


def test_a_file_of_orders_reports_its_number_and_with_verbose_each_one(restaurant: Restaurant) -> None:
    """Results are on standard output, the summary on standard error, and no progress bar is in a pipe."""
    orders = restaurant.orders_file("orders.jsonl", '{"pizza":"napoli","table":3}', '{"pizza":"diavola","table":4}')
    quiet = restaurant.waiter("--orders", str(orders))
    assert quiet.stdout == ""
    summary = [line for line in quiet.stderr.splitlines() if line.startswith("published")]
    assert len(summary) == 1
    assert summary[0].startswith("published 2 orders in ")
    verbose = restaurant.waiter("--orders", str(orders), "--verbose")
    assert verbose.stdout.splitlines() == [
        "message published on partition 0 with offset 2",
        "message published on partition 0 with offset 3",
    ]


def test_the_topic_is_made_as_the_contract_says_unless_a_setting_says_otherwise(
    open_restaurant: Callable[..., Restaurant],
) -> None:
    """No part relies on the broker to make the topic by itself."""
    restaurant = open_restaurant()
    restaurant.edit_subjects("partitions: 1", "partitions: 2")
    restaurant.register()
    cook = restaurant.start("cook", {"TOPIC_PARTITIONS": ""})
    cook.wait_for_error("partitions: 2")
    other = open_restaurant(partitions=4)
    other.register()
    other.waiter()
    (metadata,) = other.servers.ensure_topics(other.subject)
    assert metadata.name == other.topic
    with closing(Consumer({"bootstrap.servers": other.bootstrap_servers, "group.id": "x"})) as client:
        assert len(client.list_topics(other.topic, timeout=10).topics[other.topic].partitions) == 4


def _committed(restaurant: Restaurant, group: str) -> int:
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        (partition,) = client.committed([TopicPartition(restaurant.topic, 0)], timeout=10)
        return partition.offset
