"""What a person at a terminal sees beside what a pipe gets."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.restaurant import LIMIT, ROOT, Restaurant

pytestmark = pytest.mark.integration


@contextmanager
def at_a_terminal(
    command: list[str], restaurant: Restaurant, stdout: int | None = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """Run a command whose standard error is a terminal, its standard output too if None; gives what is shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))  # a new one has no columns at all
    process = subprocess.Popen(
        command, cwd=ROOT, env=restaurant.environment(), stdout=theirs if stdout is None else stdout, stderr=theirs
    )
    os.close(theirs)

    def read() -> Iterator[bytes]:
        with suppress(OSError):  # how a terminal tells that nobody writes to it any more
            while part := os.read(ours, 65_536):
                yield part

    try:
        yield process, read()
    finally:
        process.terminate()
        process.wait(LIMIT)
        os.close(ours)


def test_a_file_has_a_progress_bar_on_a_terminal_and_none_in_a_pipe(restaurant: Restaurant) -> None:
    """Standard error is the terminal; the bar says how many there are, and the last line is the summary."""
    path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in range(1, 5_001)))
    command = [sys.executable, "-m", "producer.waiter", "--orders", str(path)]
    with at_a_terminal(command, restaurant) as (process, screen):
        shown = b"".join(screen)
        assert process.wait(LIMIT) == 0
    assert b"/5000 [" in shown  # how far it gets before the summary takes its place is a matter of speed
    assert b"published 5000 orders in " in shown
    assert "/5000" not in restaurant.waiter("--orders", str(path)).stderr


def test_a_consumer_has_a_status_line_on_a_terminal_without_any_control_sequence(restaurant: Restaurant) -> None:
    """It counts, gives way to a log line, and is gone at the end; NO_COLOR has nothing to forbid."""
    for table in range(1, 4):
        assert restaurant.waiter("napoli", str(table)).returncode == 0
    shown = b""
    with at_a_terminal([sys.executable, "-m", "consumers.manager"], restaurant) as (process, screen):
        while b"manager: 3 handled, " not in shown:
            shown += next(screen)
        process.terminate()
        shown += b"".join(screen)
        assert process.wait(LIMIT) == 0
    assert b"\x1b" not in shown
    lines = shown.decode().split("\r\n")
    said = [line.rpartition("\r")[2] for line in lines]
    assert any(line.startswith("manager was given partitions [0]") for line in said)
    assert said[-1] == ""


def test_the_cooks_sentences_on_a_terminal_are_not_interrupted(restaurant: Restaurant) -> None:
    """They are the sign of life; with its standard output elsewhere there is a status line."""
    assert restaurant.waiter("napoli", "3").returncode == 0
    shown = b""
    with at_a_terminal([sys.executable, "-m", "consumers.cook"], restaurant, stdout=None) as (process, screen):
        while b"Received an order for a pizza napoli at table 3 !\r\n" not in shown:
            shown += next(screen)
        process.terminate()
        shown += b"".join(screen)
        assert process.wait(LIMIT) == 0
    assert b" handled, " not in shown


@pytest.mark.parametrize(
    "command", ["producer.waiter", "consumers.cook", "consumers.manager", "consumers.dead_letters", "consumers.ledger"]
)
def test_every_command_tells_its_version_and_an_example(restaurant: Restaurant, command: str) -> None:
    """Without a server."""
    version = restaurant.run("-m", command, "--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.split()[-1].count(".") == 2
    assert "\nexample: " in restaurant.run("-m", command, "--help").stdout
