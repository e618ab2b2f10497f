"""What a person at a terminal sees beside what a pipe gets."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from tests.restaurant import LIMIT, ROOT, Restaurant

pytestmark = pytest.mark.integration


def test_a_file_has_a_progress_bar_on_a_terminal_and_none_in_a_pipe(restaurant: Restaurant) -> None:
    """Standard error is the terminal; the bar says how many there are, and the last line is the summary."""
    path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in range(1, 5_001)))
    command = [sys.executable, "-m", "producer.waiter", "--orders", str(path)]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))  # a new one has no columns at all
    process = subprocess.Popen(
        command, cwd=ROOT, env=restaurant.environment(), stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a terminal tells that nobody writes to it any more
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    assert process.wait(LIMIT) == 0
    assert b"/5000 [" in shown  # how far it gets before the summary takes its place is a matter of speed
    assert b"published 5000 orders in " in shown
    assert "/5000" not in restaurant.waiter("--orders", str(path)).stderr
