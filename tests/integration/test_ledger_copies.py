"""A ledger's directory that was copied, moved, restored or mounted again: one alone records a group's orders."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.restaurant import Restaurant, Service, wait_until

pytestmark = pytest.mark.integration

WAS_MOVED = "it was copied, moved or restored"
ADOPT = "python -m consumers.ledger adopt manager"


@pytest.fixture
def restaurant(open_restaurant: Callable[..., Restaurant]) -> Restaurant:
    """A restaurant with three partitions, whose contract is registered."""
    opened = open_restaurant(3)
    assert opened.register().returncode == 0
    return opened


def publish(restaurant: Restaurant, count: int, name: str) -> None:
    """Publish orders of many tables, so that each partition has some."""
    orders = [json.dumps({"pizza": name, "table": number + 1}) for number in range(count)]
    assert restaurant.waiter("--orders", str(restaurant.orders_file(f"{name}.jsonl", *orders))).returncode == 0


def work(restaurant: Restaurant) -> Service:
    """Start a manager and wait until it has its partitions."""
    manager = restaurant.start("manager")
    manager.wait_for_error("manager was given partitions")
    return manager


def record(restaurant: Restaurant, count: int) -> None:
    """Let a manager record until the ledger has so many rows, and stop it."""
    manager = work(restaurant)
    wait_until(lambda: len(restaurant.rows()) == count, what=f"{count} rows; {manager.errors()}")
    assert manager.stop() == 0


def refused(restaurant: Restaurant, data: Path) -> str:
    """Run a manager on another directory, which must be refused, and give what it said."""
    done = restaurant.run("-m", "consumers.manager", env={"DATA_DIR": str(data)})
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    return done.stderr


def count(data: Path) -> int:
    """Count the rows of a ledger."""
    with closing(sqlite3.connect(data / "ledger.db")) as db:
        return int(db.execute("SELECT count(*) FROM orders").fetchone()[0])


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_a_copy_beside_the_original_records_nothing(restaurant: Restaurant, *, running: bool) -> None:
    """Whether it was copied from a manager at work or not, and whichever of both starts first."""
    publish(restaurant, 4, "first")
    copy = restaurant.directory / "copy"
    if running:
        manager = work(restaurant)
        restaurant.wait_for_rows(4)
        shutil.copytree(restaurant.data, copy)
    else:
        record(restaurant, 4)
        shutil.copytree(restaurant.data, copy)
        told = refused(restaurant, copy)
        assert WAS_MOVED in told
        manager = work(restaurant)
    told = refused(restaurant, copy)
    assert f"was at {restaurant.data}" in told
    assert f"is at {copy}" in told
    assert ADOPT in told
    publish(restaurant, 12, "second")
    restaurant.wait_for_rows(16)
    assert manager.stop() == 0
    assert count(copy) == 4
    record(restaurant, 16)


def test_a_moved_ledger_goes_on_once_it_is_adopted(restaurant: Restaurant) -> None:
    """And then at each start; until then it is refused as a copy is."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    moved = restaurant.directory / "moved"
    restaurant.data.rename(moved)
    assert WAS_MOVED in refused(restaurant, moved)
    adopted = restaurant.run(*ADOPT.split()[1:], env={"DATA_DIR": str(moved)})
    assert adopted.returncode == 0, adopted.stderr
    restaurant.data = moved
    publish(restaurant, 12, "second")
    record(restaurant, 16)
    record(restaurant, 16)


def test_a_ledger_that_was_moved_back_needs_nothing(restaurant: Restaurant) -> None:
    """It is again where its group's offsets know it."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    moved = restaurant.directory / "moved"
    restaurant.data.rename(moved)
    assert WAS_MOVED in refused(restaurant, moved)
    moved.rename(restaurant.data)
    publish(restaurant, 12, "second")
    record(restaurant, 16)


def test_a_restored_backup_is_refused_until_it_is_adopted(restaurant: Restaurant) -> None:
    """Then it records again what it lacks."""
    publish(restaurant, 4, "first")
    manager = work(restaurant)
    restaurant.wait_for_rows(4)
    backup = restaurant.directory / "backup.db"
    with closing(sqlite3.connect(restaurant.data / "ledger.db")) as db, closing(sqlite3.connect(backup)) as other:
        db.backup(other)
    publish(restaurant, 12, "second")
    restaurant.wait_for_rows(16)
    assert manager.stop() == 0
    shutil.rmtree(restaurant.data)
    restaurant.data.mkdir()
    backup.rename(restaurant.data / "ledger.db")
    assert WAS_MOVED in refused(restaurant, restaurant.data)
    assert restaurant.run(*ADOPT.split()[1:]).returncode == 0
    record(restaurant, 16)
    assert len(restaurant.log()) == 16


def test_a_copy_that_no_place_tells_from_the_original_is_refused_once_the_original_has_started(
    restaurant: Restaurant,
) -> None:
    """As on a cloned disk: the same file, the same directory, the same machine."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    cloned = (restaurant.data / "ledger.db").read_bytes()
    publish(restaurant, 12, "second")
    record(restaurant, 16)
    (restaurant.data / "ledger.db").write_bytes(cloned)
    told = refused(restaurant, restaurant.data)
    assert "the group manager has another ledger" in told
    assert ADOPT in told
    assert restaurant.run(*ADOPT.split()[1:]).returncode == 0
    record(restaurant, 16)


def test_a_copy_is_not_adopted_while_its_group_is_at_work(restaurant: Restaurant) -> None:
    """Nor does trying make it look like the original."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    copy = restaurant.directory / "copy"
    shutil.copytree(restaurant.data, copy)
    work(restaurant)
    tried = restaurant.run(*ADOPT.split()[1:], env={"DATA_DIR": str(copy)})
    assert (tried.returncode, "stop every manager" in tried.stderr) == (2, True)
    assert WAS_MOVED in refused(restaurant, copy)


def test_a_symlinked_directory_is_the_one_that_it_points_to(restaurant: Restaurant) -> None:
    """By either name."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    link = restaurant.directory / "link"
    link.symlink_to(restaurant.data)
    data, restaurant.data = restaurant.data, link
    publish(restaurant, 12, "second")
    record(restaurant, 16)
    restaurant.data = data
    record(restaurant, 16)


def test_hard_links_to_a_ledger_are_refused(restaurant: Restaurant) -> None:
    """As `cp -al` makes them: two directories would write one file."""
    publish(restaurant, 4, "first")
    record(restaurant, 4)
    copy = restaurant.directory / "copy"
    subprocess.run(["cp", "-al", str(restaurant.data), str(copy)], check=True)
    for data in (copy, restaurant.data):
        assert "has 2 names (hard links)" in refused(restaurant, data)
    shutil.rmtree(copy)
    record(restaurant, 4)
