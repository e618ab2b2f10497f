"""When the loop tries again and commits; what it does with messages is tested with a broker."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition

from consumers.loop import LONGEST_BACKOFF_SECONDS, backoff_seconds
from consumers.source import COMMIT_SECONDS, Source
from contract.subjects import load_contract
from runtime.embedded import embedded_servers
from runtime.settings import Settings


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 0.2), (5, 3.2), (8, LONGEST_BACKOFF_SECONDS), (100_000, LONGEST_BACKOFF_SECONDS)],
)
def test_the_wait_grows_to_its_limit_however_long_an_outage_lasts(failures: int, longest: float) -> None:
    for _ in range(20):
        assert longest / 2 <= backoff_seconds(failures) <= longest


def test_what_is_handled_is_committed_at_intervals() -> None:
    """On librdkafka's own cluster: this is about when the client is asked to commit, and that nothing is forgotten."""
    with embedded_servers(Settings()) as servers:
        servers.ensure_topics(load_contract().subject("order"))
        source = Source(servers.settings, "cook", "pizza-order")
        for offset in (1, 2):  # the first one has to find the group's coordinator
            began = time.monotonic()
            source.handled = {0: offset}
            source.commit(wait=True)
        source.handled = {0: 3}
        while source.handled:
            source.commit()
            assert time.monotonic() < began + 10
        assert time.monotonic() >= began + COMMIT_SECONDS
        while source.client.committed([TopicPartition("pizza-order", 0)], timeout=5)[0].offset != 3:
            assert time.monotonic() < began + 10
        source.close()
