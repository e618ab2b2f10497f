"""The ledger's commands, and what keeps a ledger from being the wrong one."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.ledger import FORMAT
from tests.restaurant import Restaurant, wait_until

pytestmark = pytest.mark.integration

ORDERS = [
    {"pizza": "napoli", "table": 3, "order_id": "a"},
    {"pizza": "größe, «groß»", "table": 4, "order_id": "b"},
    {"pizza": "napoli", "table": 3, "order_id": "a"},
]


@pytest.fixture
def recorded(restaurant: Restaurant) -> Restaurant:
    """A restaurant whose ledger has two orders, a duplicate and a letter; its manager has stopped."""
    orders = restaurant.orders_file("orders.jsonl", *(json.dumps(order) for order in ORDERS))
    assert restaurant.waiter("--orders", str(orders)).returncode == 0
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    producer.produce(restaurant.topic, b"noise")
    assert producer.flush(10) == 0
    manager = restaurant.start("manager")
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(4,)], what="all four")
    assert manager.stop() == 0
    return restaurant


def command(restaurant: Restaurant, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the command that looks into the ledger."""
    done = restaurant.run("-m", "consumers.ledger", *arguments, env=env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def change(restaurant: Restaurant, statement: str) -> None:
    """Change the ledger behind its back."""
    with closing(sqlite3.connect(restaurant.data / "ledger.db")) as db, db:
        db.execute(statement)


def delete_records(restaurant: Restaurant, before: int) -> None:
    """Let the topic forget, as its retention does."""
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(restaurant.topic, 0, before)]).values():
        deleted.result(10)


def test_summary_counts(recorded: Restaurant) -> None:
    """Rows, duplicates and where each partition goes on."""
    assert command(recorded, "summary")[:2] == (
        0,
        f"topic        {recorded.topic}\norders       2\nduplicates   1\npartition    0, next offset 4\n",
    )


def test_export_gives_every_row_in_either_format(recorded: Restaurant) -> None:
    """In the order of recording, each field of the record a column."""
    code, text, _ = command(recorded, "export")
    assert code == 0
    rows = [json.loads(line) for line in text.splitlines()]
    assert [{name: row[name] for name in ("pizza", "table", "order_id")} for row in rows] == ORDERS[:2]
    assert [(row["partition"], row["offset"]) for row in rows] == [(0, 0), (0, 1)]
    code, text, _ = command(recorded, "export", "--format", "csv")
    assert code == 0
    assert list(csv.DictReader(io.StringIO(text))) == [{name: str(row[name]) for name in row} for row in rows]


def test_verify_finds_everything_there_and_names_what_is_not(recorded: Restaurant) -> None:
    """Each offset is a row, a duplicate or a letter; a row taken away is named."""
    code, told, _ = command(recorded, "verify")
    assert (code, told.splitlines()[0]) == (0, "2 rows, 1 duplicates, 1 letters, 0 missing")
    change(recorded, "DELETE FROM orders WHERE offset = 1")
    change(recorded, "DELETE FROM duplicates")
    code, told, _ = command(recorded, "verify")
    assert code == 1
    for offset in (1, 2):
        assert f"{recorded.topic} partition 0 offset {offset} is neither row, duplicate nor letter\n" in told
    assert told.endswith("1 rows, 0 duplicates, 1 letters, 2 missing\n")
    delete_records(recorded, 3)
    assert command(recorded, "verify")[0] == 0, "what the topic no longer has is not missed"


def test_whoever_takes_a_recorded_identity_is_shown(recorded: Restaurant) -> None:
    """The same order again is a duplicate, another one a letter: verify counts both, and says what lists them."""
    taken = recorded.orders_file("taken.jsonl", json.dumps({"pizza": "tonno", "table": 9, "order_id": "a"}))
    assert recorded.waiter("--orders", str(taken)).returncode == 0
    manager = recorded.start("manager")
    wait_until(lambda: recorded.rows("SELECT next_offset FROM partitions") == [(5,)], what="all five")
    assert manager.stop() == 0
    counted, lists = command(recorded, "verify")[1].splitlines()
    assert counted == "2 rows, 1 duplicates, 2 letters, 0 missing"
    assert lists.startswith("came again under a recorded identity: 1 with the same content, 1 with another; ")
    assert lists.endswith("; python -m consumers.ledger duplicates lists them")
    code, told, _ = command(recorded, "duplicates")
    same, other = told.splitlines()
    assert (code, same) == (
        0,
        f"{recorded.topic} partition 0 offset 2 is as line 1, partition 0 offset 0: identity 'a'",
    )
    kept = f"offset 1 of {recorded.topic}.manager.dead-letters"
    sentence = "order_id 'a' is recorded in line 1 with another content"
    assert other == f"{recorded.topic} partition 0 offset 4 is another, kept at {kept}: {sentence}"


def test_a_letter_of_another_consumer_is_none_of_this_ledger(recorded: Restaurant) -> None:
    """What only the cook could not read is to be in the manager's ledger."""
    cook = recorded.start("cook")
    cook.wait_for_error("goes to the dead letters")
    assert cook.stop() == 0
    admin = AdminClient({"bootstrap.servers": recorded.bootstrap_servers})
    admin.delete_topics([f"{recorded.topic}.manager.dead-letters"])[f"{recorded.topic}.manager.dead-letters"].result(10)
    code, told, _ = command(recorded, "verify")
    assert (code, "partition 0 offset 3 is neither" in told) == (1, True)


@pytest.mark.parametrize("action", ["summary", "export", "verify"])
def test_a_ledger_that_is_not_there_is_said_so(restaurant: Restaurant, action: str) -> None:
    """And none is made."""
    code, _, told = command(restaurant, action)
    assert (code, f"there is no ledger at {restaurant.data}/ledger.db; set DATA_DIR" in told) == (2, True)
    assert not restaurant.data.exists()


def test_commands_may_run_beside_the_manager_but_for_skip(recorded: Restaurant) -> None:
    """Readers disturb nobody; what changes the ledger waits until it is free."""
    manager = recorded.start("manager")
    manager.wait_for_error("manager was given partitions")
    assert [command(recorded, action)[0] for action in ("summary", "export", "verify")] == [0, 0, 0]
    code, _, told = command(recorded, "skip", "0", "9")
    assert (code, f"is held by process {manager.process.pid}" in told) == (2, True)


def test_a_ledger_from_the_future_is_refused_by_all(recorded: Restaurant) -> None:
    """With both formats named."""
    change(recorded, f"PRAGMA user_version = {FORMAT + 1}")
    for program in (["-m", "consumers.manager"], ["-m", "consumers.ledger", "summary"]):
        refused = recorded.run(*program)
        assert refused.returncode == 2
        assert f"was written by a newer release (format {FORMAT + 1}, this one knows {FORMAT})" in refused.stderr


def test_an_offset_that_the_topic_no_longer_has_is_named_and_skipped_only_when_told(recorded: Restaurant) -> None:
    """Two orders came and went while the manager was away: no silent jump over them."""
    for table in ("5", "6", "7"):
        recorded.waiter("lost", table)
    delete_records(recorded, 6)
    refused = recorded.run("-m", "consumers.manager")
    assert refused.returncode == 2
    sentence = f"{recorded.topic} partition 0 has no offset 4, where manager would go on: offsets 4 to 5 are lost"
    assert sentence in refused.stderr
    assert "python -m consumers.ledger skip 0 6" in refused.stderr
    assert len(recorded.rows()) == 2
    passed = "0 records that are in the topic are passed over; offsets 4 to 5 are no longer there"
    assert command(recorded, "skip", "0", "6")[:2] == (0, f"partition 0 goes on at offset 6: {passed}\n")
    assert command(recorded, "skip", "7", "6")[0] == 2
    recorded.start("manager")
    assert recorded.wait_for_rows(3)[2][3] == 6


def test_another_ledger_in_the_same_group_is_refused_until_it_is_adopted(recorded: Restaurant) -> None:
    """Each would record a part; after `adopt` the new one records the whole topic, from its beginning."""
    other: dict[str, Any] = {"DATA_DIR": str(recorded.directory / "other")}
    refused = recorded.run("-m", "consumers.manager", env=other)
    assert refused.returncode == 2
    assert "the group manager has another ledger" in refused.stderr
    assert "python -m consumers.ledger adopt manager" in refused.stderr
    assert command(recorded, "adopt", "cheff", **other)[0] == 2
    assert command(recorded, "adopt", "manager", **other)[0] == 0
    recorded.data = recorded.directory / "other"
    recorded.start("manager")
    assert [row[6] for row in recorded.wait_for_rows(2)] == ["napoli", "größe, «groß»"]


def test_a_ledger_is_not_adopted_while_its_group_is_at_work(recorded: Restaurant) -> None:
    """The members would write their own mark again; the sentence says what to do."""
    other: dict[str, Any] = {"DATA_DIR": str(recorded.directory / "other")}
    assert recorded.run("-m", "consumers.manager", env=other).returncode == 2
    manager = recorded.start("manager")
    manager.wait_for_error("manager was given partitions")
    code, _, told = command(recorded, "adopt", "manager", **other)
    assert (code, "stop every manager" in told) == (2, True)
    code, _, told = command(recorded, "adopt", "manager")
    assert (code, f"is held by process {manager.process.pid}" in told) == (2, True)


def test_what_a_newer_version_recorded_stays_and_counts_once(recorded: Restaurant) -> None:
    """After a rollback: the log is made anew, the same order again is no dead letter, each row is exported whole."""
    newer = json.dumps({**ORDERS[1], "tip": 1.5, "guests": [{"name": "Ada", "vip": True}]}, separators=(",", ":"))
    with closing(sqlite3.connect(recorded.data / "ledger.db")) as db, db:
        db.execute("UPDATE orders SET record = ? WHERE line = 2", (newer,))
    (recorded.data / "log.txt").unlink()
    lines = [f"Received an order for a pizza {order['pizza']} at table {order['table']} !" for order in ORDERS[:2]]
    again = recorded.orders_file("again.jsonl", json.dumps(ORDERS[1]))
    assert recorded.waiter("--orders", str(again)).returncode == 0
    manager = recorded.start("manager")
    wait_until(lambda: recorded.rows("SELECT next_offset FROM partitions") == [(5,)], what="the fifth")
    assert recorded.log() == lines
    assert recorded.rows("SELECT offset, line FROM duplicates WHERE offset = 4") == [(4, 2)]
    assert manager.stop() == 0
    assert "dead letters of manager" not in manager.errors()
    code, told = command(recorded, "verify")[:2]
    assert (code, told.splitlines()[0]) == (0, "2 rows, 2 duplicates, 1 letters, 0 missing")
    exported = csv.DictReader(io.StringIO(command(recorded, "export", "--format", "csv")[1]))
    assert [(row["tip"], row["guests"]) for row in exported] == [("", ""), ("1.5", '[{"name":"Ada","vip":true}]')]
