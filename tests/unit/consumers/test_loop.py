"""The loop's own reckoning; what it does with messages is tested with a broker."""

from __future__ import annotations

import pytest

from consumers.loop import LONGEST_BACKOFF_SECONDS, backoff_seconds


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 0.2), (5, 3.2), (8, LONGEST_BACKOFF_SECONDS), (100_000, LONGEST_BACKOFF_SECONDS)],
)
def test_the_wait_grows_to_its_limit_however_long_an_outage_lasts(failures: int, longest: float) -> None:
    for _ in range(20):
        assert longest / 2 <= backoff_seconds(failures) <= longest
