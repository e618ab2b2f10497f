"""Whatever is done to the manager, each order that a waiter reported is in its ledger once, and log.txt agrees."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.consumer import SESSION_MS
from tests.chaos.scene import LONG, SLOWLY, Scene, kill, lines_of
from tests.restaurant import wait_until

ORDERS, KILLS, ROUNDS = (100_000, 20, 5) if LONG else (20_000, 5, 1)


def log_bytes(scene: Scene) -> int:
    """Give the size of log.txt, which grows before anything is committed."""
    path = scene.data / "log.txt"
    return path.stat().st_size if path.exists() else 0


def test_it_is_killed_at_random_moments(scene: Scene, chance: random.Random) -> None:
    """While it records: each moment is some lines after it has begun to."""
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(ORDERS, chance)), env=SLOWLY)
    for _ in range(KILLS):
        manager = scene.start("manager")
        enough = log_bytes(scene) + chance.randint(1, 50 * ORDERS // KILLS)
        wait_until(lambda enough=enough: log_bytes(scene) > enough or waiter.process.poll() is not None)  # type: ignore[misc]
        kill(manager)
    assert waiter.process.wait(120) == 0
    scene.start("manager")
    scene.wait_for_end()
    audit = scene.audit(waiter, lines=ORDERS)
    audit.check_order_of_tables()
    assert audit.duplicates == 0


def test_it_is_killed_at_each_point_of_its_code(scene: Scene, chance: random.Random) -> None:
    """With the lines half on the disk, before the commit, after it, and before the group's offsets are committed."""
    count = ORDERS if LONG else 8_000
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(count, chance)), env=SLOWLY)
    for number in range(1, ROUNDS + 1):
        for point in ("log-half-written", "log-written", "committed", "before-offset-commit"):
            manager = scene.start_faulty("manager", point, number)
            assert manager.process.wait(60) == -signal.SIGKILL, manager.errors()
    scene.start("manager")
    assert waiter.process.wait(120) == 0
    scene.wait_for_end()
    scene.audit(waiter, lines=count).check_order_of_tables()


def test_a_paused_one_keeps_its_ledger_from_another(scene: Scene) -> None:
    """Its lock outlasts its session: the other is refused, and names it."""
    paused = scene.start("manager")
    paused.wait_for_error("manager was given partitions")
    paused.process.send_signal(signal.SIGSTOP)
    refused = scene.run("-m", "consumers.manager")
    assert refused.returncode == 2
    assert f"is held by process {paused.process.pid}" in refused.stderr
    paused.process.send_signal(signal.SIGCONT)


def test_a_paused_one_wakes_up_when_another_has_recorded_what_it_has_in_hand(
    scene: Scene, chance: random.Random
) -> None:
    """Where the lock does not hold, as on some shared file systems, the compare-and-set does: it changes nothing."""
    first = lines_of(500, chance)
    paused = scene.start_faulty("manager", "paused-before-recording")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *first))
    assert waiter.process.wait(60) == 0
    wait_until(lambda: _state(paused.process.pid) == "T", what="the pause")
    (scene.data / "lock").unlink()
    other = scene.start("manager")
    scene.wait_for_end()
    waiter_again = scene.start_waiter(scene.orders_file("more.jsonl", *lines_of(500, chance, first=500)))
    assert waiter_again.process.wait(60) == 0
    scene.wait_for_end()
    before = scene.log()
    paused.process.send_signal(signal.SIGCONT)
    paused.wait_for_error("somebody else has recorded partition")
    assert scene.log() == before
    kill(other)
    last = scene.start_waiter(scene.orders_file("last.jsonl", *lines_of(500, chance, first=1_000)))
    assert last.process.wait(60) == 0
    scene.wait_for_end()
    scene.audit(waiter, waiter_again, last, lines=1_500).check_order_of_tables()


def test_its_ledger_is_locked_by_another_process(scene: Scene, chance: random.Random) -> None:
    """It waits in its group, also when it starts meanwhile, and goes on when the ledger is free."""
    manager = scene.start("manager")
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(1_000, chance)))
    assert waiter.process.wait(60) == 0
    scene.wait_for_end()
    with closing(sqlite3.connect(scene.data / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        more = scene.start_waiter(scene.orders_file("more.jsonl", *lines_of(1_000, chance, first=1_000)))
        assert more.process.wait(60) == 0
        manager.wait_for_error("manager waits, try 1 failed")
        assert "database is locked" in manager.errors()
        kill(manager)
        manager = scene.start("manager")
        manager.wait_for_error("database is locked")
        other.execute("ROLLBACK")
    scene.wait_for_end()
    scene.audit(waiter, more, lines=2_000).check_order_of_tables()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a ledger and little more."""
    directory = tmp_path / "small"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(directory)], check=False).returncode:
        pytest.skip("a small file system cannot be mounted by this user")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_its_disk_is_full_and_it_is_killed_on_it(
    small_disk: Path, open_scene: Callable[..., Scene], chance: random.Random
) -> None:
    """It waits for room, and so does the one that is started after it."""
    scene = open_scene()
    scene.data = small_disk / "data"
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(5_000, chance)))
    assert waiter.process.wait(60) == 0
    manager = scene.start("manager")
    manager.wait_for_error("manager waits, try 2 failed")
    kill(manager)
    manager = scene.start("manager")
    manager.wait_for_error("cannot be written")
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    scene.wait_for_end()
    scene.audit(waiter, lines=5_000).check_order_of_tables()
    scene.kill_all()


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_its_log_is_deleted_shortened_and_lengthened(scene: Scene, chance: random.Random, *, running: bool) -> None:
    """The log is the ledger's: it is made what it was, before anything is added to it."""
    manager = scene.start("manager")
    path = scene.data / "log.txt"

    def shorten() -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def lengthen() -> None:
        with path.open("a") as file:
            file.write("Received an order that nobody gave\nand half a li")

    waiters = []
    for number, spoil in enumerate([lambda: None, path.unlink, shorten, lengthen]):
        spoil()
        file = scene.orders_file(f"{number}.jsonl", *lines_of(200, chance, first=number * 200))
        waiters.append(scene.start_waiter(file))
        assert waiters[-1].process.wait(60) == 0
        if not running:
            manager.wait_for_error("was given partitions")  # before, nobody may be there to hear the signal
            assert manager.stop() == 0
            manager = scene.start("manager")
        scene.wait_for_end()
        scene.audit(*waiters, lines=200 * (number + 1))


def test_another_ledger_in_the_same_group_is_refused_before_a_single_order(scene: Scene) -> None:
    """The first leaves its mark when it is given its partitions."""
    scene.start("manager").wait_for_error("manager was given partitions")
    refused = scene.run("-m", "consumers.manager", env={"DATA_DIR": str(scene.directory / "other")})
    assert refused.returncode == 2
    assert "the group manager has another ledger" in refused.stderr


def test_of_two_ledgers_at_the_same_moment_one_goes_on_at_most(scene: Scene) -> None:
    """Neither has left a mark when the other looks for one, and each is given a part."""
    managers = [scene.start("manager", {"DATA_DIR": str(scene.directory / name)}) for name in ("one", "other")]
    wait_until(lambda: any(manager.process.poll() is not None for manager in managers), what="a refusal")
    for manager in managers:
        assert manager.process.poll() in {None, 2}
        assert "Traceback" not in manager.errors()
    assert any("the group manager has another ledger" in manager.errors() for manager in managers)


def test_a_session_that_lapses_is_joined_again(scene: Scene, chance: random.Random) -> None:
    """Nobody has taken over meanwhile, and it goes on by itself."""
    manager = scene.start("manager")
    manager.wait_for_error("manager was given partitions")
    manager.process.send_signal(signal.SIGSTOP)
    waiter = scene.start_waiter(scene.orders_file("orders.jsonl", *lines_of(500, chance)))
    assert waiter.process.wait(60) == 0
    wait_until(lambda: not _members(scene), SESSION_MS / 1000 + 20, "the end of the session")
    manager.process.send_signal(signal.SIGCONT)
    scene.wait_for_end()
    scene.audit(waiter, lines=500).check_order_of_tables()


def _state(pid: int) -> str:
    """Give a process's state as Linux has it: T is paused."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _members(scene: Scene) -> int:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    admin = AdminClient({"bootstrap.servers": scene.bootstrap_servers})
    described = admin.describe_consumer_groups(["manager"], request_timeout=10)["manager"].result()
    return len(described.members)
