"""Members with a KAFKA_GROUP_INSTANCE_ID of their own: of two with the same one, the broker keeps the second."""

from __future__ import annotations

import pytest

from tests.restaurant import LIMIT, Restaurant

pytestmark = pytest.mark.integration


def test_who_is_fenced_ends_with_a_sentence_and_the_other_works(restaurant: Restaurant) -> None:
    """A client that the broker has fenced can do nothing any more: only another process can go on."""
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
