"""Waiters that die half-way, cooks that come and go: each order is recorded once and prepared at least once."""

from __future__ import annotations

import random
import signal
import time

from tests.chaos.scene import LONG, PACED, Scene, kill, lines_of
from tests.restaurant import wait_until

ORDERS = 100_000 if LONG else 8_000
TAKEN_OVER = 15.0


def test_the_waiter_is_killed_half_way_and_its_file_given_again(scene: Scene, chance: random.Random) -> None:
    """What was published the first time has the same identities, so each order is recorded once."""
    scene.start("manager")
    file = scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance))
    waiter = scene.start_waiter(file, env=PACED)
    wait_until(lambda: waiter.out.read_bytes().count(b"\n") > ORDERS // 2)
    kill(waiter)
    again = scene.start_waiter(file)
    assert again.process.wait(120) == 0
    scene.wait_for_end()
    audit = scene.audit(waiter, again, lines=ORDERS)
    assert audit.duplicates > ORDERS // 2


def test_the_waiter_is_interrupted_and_gives_what_it_has_not_published(scene: Scene, chance: random.Random) -> None:
    """Ctrl-C: exit 1, and the file that it leaves completes the orders, each once."""
    scene.start("manager")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance)), env=PACED)
    wait_until(lambda: waiter.out.read_bytes().count(b"\n") > ORDERS // 4)
    assert waiter.stop(signal.SIGINT) == 1
    (kept,) = scene.data.glob("undelivered-*.jsonl")
    again = scene.start_waiter(kept)
    assert again.process.wait(120) == 0
    scene.wait_for_end()
    scene.audit(waiter, again, lines=ORDERS)


def test_cooks_join_and_leave_throughout(scene: Scene, chance: random.Random) -> None:
    """From one to three and back, leaving or killed: each order is prepared, and the manager undisturbed."""
    cooks = [scene.start("cook")]
    scene.start("manager")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance)), env=PACED)
    while waiter.process.poll() is None:
        running = [cook for cook in cooks if cook.process.poll() is None]
        if len(running) < 3 and (len(running) < 2 or chance.random() < 0.5):
            cooks.append(scene.start("cook"))
            cooks[-1].wait_for_error("cook reads")
        elif chance.random() < 0.3:
            kill(chance.choice(running))
        else:
            assert chance.choice(running).stop() == 0
    assert waiter.process.wait() == 0
    scene.wait_for_end()
    audit = scene.audit(waiter, lines=ORDERS)
    audit.check_order_of_tables()
    ordered = set(scene.log())
    wait_until(lambda: {line for cook in cooks for line in cook.lines()} >= ordered, what="each order prepared")
    assert {cook.process.poll() for cook in cooks} <= {None, 0, -signal.SIGKILL}


def test_a_cook_is_killed_with_orders_in_hand(scene: Scene, chance: random.Random) -> None:
    """Their offsets are not committed before they are prepared, so the next cook prepares them."""
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(2_000, chance)), env=PACED)
    cooks = [scene.start_faulty("cook", "before-preparing")]
    assert cooks[0].process.wait(60) == -signal.SIGKILL, cooks[0].errors()
    assert waiter.process.wait(60) == 0
    cooks.append(scene.start("cook"))
    wait_until(lambda: len({line for cook in cooks for line in cook.lines()}) == 2_000, what="each order prepared")


def test_a_killed_cooks_partitions_are_taken_over_within_15_s(scene: Scene, chance: random.Random) -> None:
    """With the session that it has in production."""
    killed, left = scene.start_as_it_is("cook"), scene.start_as_it_is("cook")
    wait_until(
        lambda: all("cook was given partitions" in cook.errors() for cook in (killed, left)), what="a share each"
    )
    began = time.monotonic()
    kill(killed)
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(300, chance)))
    assert waiter.process.wait(60) == 0
    left.wait_for_lines(300)
    assert len(set(left.lines())) == 300
    assert time.monotonic() - began < TAKEN_OVER
