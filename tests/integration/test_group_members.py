"""What keeps a consumer out of its group for good ends it: only a person can mend that."""

from __future__ import annotations

from contextlib import closing

import pytest
from confluent_kafka import Consumer

from tests.restaurant import LIMIT, Restaurant, wait_until

pytestmark = pytest.mark.integration


def test_another_client_in_the_group_that_shares_partitions_otherwise_is_named(restaurant: Restaurant) -> None:
    """It was there first, and the broker lets nobody in who does not share as it does."""
    restaurant.make_topic()
    properties = {"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "cook"}
    with closing(Consumer(properties | {"partition.assignment.strategy": "range"})) as foreign:
        foreign.subscribe([restaurant.topic])
        wait_until(lambda: (foreign.poll(0.1), foreign.assignment())[1], what="the foreign member's assignment")
        cook = restaurant.start("cook")
        wait_until(lambda: (foreign.poll(0.1), cook.process.poll())[1] is not None, what="the cook's end")
    assert cook.process.poll() == 2
    assert "Inconsistent group protocol; another client of the group has another partition.assignment.strategy" in (
        cook.errors()
    )


def test_who_is_fenced_ends_with_a_sentence_and_the_other_works(restaurant: Restaurant) -> None:
    """Of two with one KAFKA_GROUP_INSTANCE_ID the broker keeps the second; the first one's client can do no more."""
    static = {"KAFKA_GROUP_INSTANCE_ID": "cook-1"}
    fenced = restaurant.start("cook", static)
    fenced.wait_for_error("cook.replays was given partitions")
    other = restaurant.start("cook", static)
    assert fenced.process.wait(LIMIT) == 2
    said = fenced.errors()
    assert "Traceback" not in said
    assert "cook: the Kafka client has failed for good, reading" in said
    assert "fenced by other consumer" in said
    assert "if KAFKA_GROUP_INSTANCE_ID is set, each member of the group needs one of its own" in said
    restaurant.waiter("napoli", "3")
    assert other.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
