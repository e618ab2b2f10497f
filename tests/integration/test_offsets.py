"""Offsets that are gone are named, and offsets that are no messages are neither lag nor loss."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event, Thread
from typing import Literal

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.board.state import Board
from consumers.board.watch import Watch
from tests.integration.test_metrics import ON, scrape
from tests.restaurant import Restaurant, Service, wait_until

pytestmark = pytest.mark.integration


def order(restaurant: Restaurant, *tables: int) -> None:
    """Publish an order for each table."""
    path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in tables))
    assert restaurant.waiter("--orders", str(path), "--batch", f"to {tables[-1]}").returncode == 0


def delete_records(restaurant: Restaurant, before: int, topic: str = "") -> None:
    """Let a topic forget, as its retention does."""
    place = TopicPartition(topic or restaurant.topic, 0, before)
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    admin.delete_records([place])[place].result(10)


def committed(restaurant: Restaurant, group: str, topic: str = "") -> int:
    """Give what a group has committed of partition 0, below 0 for nothing."""
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        return client.committed([TopicPartition(topic or restaurant.topic, 0)], timeout=10)[0].offset


def commit(restaurant: Restaurant, group: str, offset: int, topic: str = "") -> None:
    """Commit an offset for a group that nobody is in."""
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        client.commit(offsets=[TopicPartition(topic or restaurant.topic, 0, offset)], asynchronous=False)


def ledger(restaurant: Restaurant, *arguments: str) -> tuple[int, str, str]:
    """Run the command that looks into the ledger."""
    done = restaurant.run("-m", "consumers.ledger", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def tables(service: Service) -> list[int]:
    """Give the tables of the orders that a cook has prepared."""
    return [int(line.split()[-2]) for line in service.lines()]


def next_offset(restaurant: Restaurant) -> int:
    """Give the ledger's next offset."""
    found = restaurant.rows("SELECT next_offset FROM partitions")
    return int(found[0][0]) if found else -1


class Transactions:
    """A producer that copies the first order of the topic in transactions."""

    def __init__(self, restaurant: Restaurant) -> None:
        self._topic = restaurant.topic
        with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "reader"})) as reader:
            reader.assign([TopicPartition(self._topic, 0, 0)])
            (message,) = reader.consume(1, 10)
        self._order = message.value() or b""
        properties = {"bootstrap.servers": restaurant.bootstrap_servers, "transactional.id": self._topic}
        self._producer = Producer(properties)
        self._producer.init_transactions(30)

    def run(self, count: int, end: Literal["commit", "abort"]) -> None:
        """Publish so many in one transaction."""
        self.begin(count)
        (self._producer.commit_transaction if end == "commit" else self._producer.abort_transaction)(10)

    def begin(self, count: int) -> None:
        """Publish so many in a transaction that stays open."""
        self._producer.begin_transaction()
        for _ in range(count):
            self._producer.produce(self._topic, self._order, partition=0)
        assert self._producer.flush(10) == 0


@pytest.fixture
def transactions(restaurant: Restaurant) -> Transactions:
    """A transactional producer beside one order."""
    order(restaurant, 1)
    return Transactions(restaurant)


class TestGone:
    """What retention has taken is named; a ledger's owner decides, a cook goes on."""

    def test_a_new_ledger_begins_where_the_topic_does_and_keeps_that(self, restaurant: Restaurant) -> None:
        """A fact, and no error: nobody had promised that it has what was before it."""
        order(restaurant, 1, 2, 3, 4)
        delete_records(restaurant, 3)
        manager = restaurant.start("manager")
        assert [row[7] for row in restaurant.wait_for_rows(1)] == [4]
        assert "begins at offset 3 of partition 0: the topic no longer has 0 to 2" in manager.errors()
        assert manager.stop() == 0
        passed = "partition 0 offsets 0 to 2 no longer in the topic when the ledger began\n"
        assert passed in ledger(restaurant, "summary")[1]
        code, told, _ = ledger(restaurant, "verify")
        assert (code, told) == (0, f"{restaurant.topic} {passed}1 rows, 0 duplicates, 0 letters, 0 missing\n")
        again = restaurant.start("manager")
        order(restaurant, 5)
        restaurant.wait_for_rows(2)
        assert "no longer has" not in again.errors()

    def test_a_ledger_that_knows_the_topic_is_not_led_past_what_is_gone(self, restaurant: Restaurant) -> None:
        """Also where its next offset is 0; `verify` counts what it never had."""
        restaurant.make_topic()
        manager = restaurant.start("manager")
        manager.wait_for_error("manager was given partitions [0]")
        wait_until(lambda: next_offset(restaurant) == 0, what="a ledger that has begun")
        assert manager.stop() == 0
        order(restaurant, 1, 2, 3)
        delete_records(restaurant, 2)
        refused = restaurant.run("-m", "consumers.manager")
        assert refused.returncode == 2
        sentence = f"{restaurant.topic} partition 0 has no offset 0, where manager would go on: offsets 0 to 1 are lost"
        assert sentence in refused.stderr
        assert "ledger skip 0 2" in refused.stderr
        assert restaurant.rows() == []
        code, told, _ = ledger(restaurant, "verify")
        assert code == 1
        assert f"{restaurant.topic} partition 0 offsets 0 to 1 left the topic before they were recorded\n" in told
        assert told.endswith("0 rows, 0 duplicates, 0 letters, 2 missing\n")
        assert ledger(restaurant, "skip", "0", "2")[0] == 0
        assert ledger(restaurant, "verify")[0] == 0
        restaurant.start("manager")
        assert [row[7] for row in restaurant.wait_for_rows(1)] == [3]

    def test_a_cook_says_what_is_gone_and_goes_on_with_what_is_there(self, restaurant: Restaurant) -> None:
        """When it is started again."""
        order(restaurant, 1)
        cook = restaurant.start("cook")
        wait_until(lambda: committed(restaurant, "cook") == 1, what="the first order")
        assert cook.stop() == 0
        order(restaurant, 2, 3, 4)
        delete_records(restaurant, 3)
        again = restaurant.start("cook")
        again.wait_for_lines(1)
        assert tables(again) == [4]
        sentence = "partition 0 has no offset 1, where cook would go on: offsets 1 to 2 are lost; it goes on at 3"
        assert f"{restaurant.topic} {sentence}" in again.errors()

    def test_it_says_so_once_also_where_nothing_is_left_to_read(self, restaurant: Restaurant) -> None:
        """Where it goes on is committed, or each start would find the same gap, and others a lag that is none."""
        order(restaurant, 1, 2, 3)
        commit(restaurant, "cook", 1)
        delete_records(restaurant, 3)
        cook = restaurant.start("cook")
        wait_until(lambda: committed(restaurant, "cook") == 3, what="the commit")
        assert cook.stop() == 0
        assert cook.errors().count("offsets 1 to 2 are lost; it goes on at 3") == 1
        again = _started(restaurant, "cook")
        order(restaurant, 4)
        again.wait_for_lines(1)
        assert "lost" not in again.errors()

    def test_and_while_it_runs(self, restaurant: Restaurant) -> None:
        """As for one that was paused for longer than the topic keeps anything."""
        order(restaurant, 1)
        cook = restaurant.start("cook")
        wait_until(lambda: committed(restaurant, "cook") == 1, what="the first order")
        cook.process.send_signal(signal.SIGSTOP)
        order(restaurant, *range(2, 40))
        delete_records(restaurant, 39)
        wait_until(lambda: _members(restaurant, "cook") == 0, what="the end of its session")
        cook.process.send_signal(signal.SIGCONT)
        order(restaurant, 40)
        wait_until(lambda: 40 in tables(cook), what="the last order")
        if len(tables(cook)) < 40:  # what was on its way to it before the pause may be prepared
            assert "are lost; it goes on at 39" in cook.errors()

    def test_a_topic_that_ends_before_the_committed_offset_is_read_from_its_beginning(
        self, restaurant: Restaurant
    ) -> None:
        """Nobody knows which of its messages are others by now."""
        order(restaurant, 1, 2)
        commit(restaurant, "cook", 9)
        cook = restaurant.start("cook")
        cook.wait_for_lines(2)
        assert tables(cook) == [1, 2]
        assert "where cook would go on: the topic ends at offset 2; it goes on at 0" in cook.errors()

    def test_replays_that_are_gone_are_named_too(self, restaurant: Restaurant) -> None:
        """They are read as a cook reads, for a ledger's consumer as well."""
        restaurant.make_topic()
        assert _started(restaurant, "manager").stop() == 0
        replays = f"{restaurant.topic}.manager.replays"
        producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
        for _ in range(3):
            producer.produce(replays, b"no replay")
        assert producer.flush(10) == 0
        commit(restaurant, "manager.replays", 1, replays)
        delete_records(restaurant, 2, replays)
        manager = restaurant.start("manager")
        manager.wait_for_error("where manager.replays would go on: offsets 1 to 1 are lost; it goes on at 2")
        wait_until(lambda: committed(restaurant, "manager.replays", replays) == 3, what="the last replay")


class TestSkip:
    """Only to where the ledger may go on, and what is passed over is said, and stays to be seen."""

    @pytest.mark.parametrize("offset", ["-1", "1", "7", "9223372036854775808", "1" * 40, "nan", "1" * 5000])
    def test_an_offset_that_is_none_is_refused(self, restaurant: Restaurant, offset: str) -> None:
        """Backwards, behind the end, and numbers that Kafka gives a meaning of their own."""
        self.record_two(restaurant)
        code, _, told = ledger(restaurant, "skip", "0", offset)
        assert code == 2
        if len(offset) < 30 and offset != "nan":
            assert f"{offset} is no offset to go on at: for partition 0 it is one from 2, the ledger's next" in told
            assert "to 6, the topic's end" in told
        assert next_offset(restaurant) == 2

    @pytest.mark.parametrize("partition", ["-1", "1", "4294967296"])
    def test_a_partition_that_is_none_is_refused(self, restaurant: Restaurant, partition: str) -> None:
        """With those that there are."""
        self.record_two(restaurant)
        code, _, told = ledger(restaurant, "skip", partition, "3")
        sentence = f"the ledger has no partition {partition} of {restaurant.topic}; its partitions: 0"
        assert (code, sentence in told) == (2, True), told

    def test_a_topic_that_ends_before_the_ledgers_offset_has_none_to_go_on_at(self, restaurant: Restaurant) -> None:
        """As one that has lost its end with a broker's disk; what to do is said as the manager says it."""
        self.record_two(restaurant)
        with closing(sqlite3.connect(restaurant.data / "ledger.db")) as db:
            db.execute("UPDATE partitions SET next_offset = 9")
            db.commit()
        code, _, told = ledger(restaurant, "skip", "0", "9")
        sentence = f"partition 0 of {restaurant.topic} ends at offset 6, before the ledger's next one, 9: there is none"
        assert (code, sentence in told, "set DATA_DIR to another directory" in told) == (2, True, True)

    def test_it_says_how_many_records_it_passes_over_and_that_stays_to_be_seen(self, restaurant: Restaurant) -> None:
        """Records: markers and aborted ones are none. The manager goes on behind them."""
        self.record_two(restaurant)
        code, told, _ = ledger(restaurant, "skip", "0", "5")
        assert (code, told) == (
            0,
            "partition 0 goes on at offset 5: 2 records that are in the topic are passed over\n",
        )
        passed = "partition 0 offsets 2 to 4 (2 records) passed over by hand\n"
        assert passed in ledger(restaurant, "summary")[1]
        code, told, _ = ledger(restaurant, "verify")
        assert (code, told) == (0, f"{restaurant.topic} {passed}2 rows, 0 duplicates, 0 letters, 0 missing\n")
        restaurant.start("manager")
        assert len(restaurant.wait_for_rows(3)) == 3
        wait_until(lambda: next_offset(restaurant) == 6, what="the end")

    def test_it_does_not_say_what_it_cannot_know(self, restaurant: Restaurant) -> None:
        """What the topic no longer has is told as offsets; and both ends of what is allowed are."""
        self.record_two(restaurant)
        delete_records(restaurant, 3)
        assert ledger(restaurant, "skip", "0", "2")[:2] == (
            0,
            "partition 0 goes on at offset 2: 0 records that are in the topic are passed over\n",
        )
        code, told, _ = ledger(restaurant, "skip", "0", "6")
        assert (code, "; offsets 2 to 2 are no longer there\n" in told) == (0, True)
        assert told.startswith("partition 0 goes on at offset 6: 2 records that are in the topic are passed over; ")
        gone = "partition 0 offsets 2 to 2 passed over by hand, when they had left the topic\n"
        there = "partition 0 offsets 3 to 5 (2 records) passed over by hand\n"
        assert f"not recorded {gone}not recorded {there}" in ledger(restaurant, "summary")[1]
        code, told, _ = ledger(restaurant, "verify")
        shown = f"{restaurant.topic} {gone}{restaurant.topic} {there}"
        assert (code, told) == (0, f"{shown}2 rows, 0 duplicates, 0 letters, 0 missing\n")

    def test_where_the_ledger_has_come_to_the_end_there_is_nothing_to_pass_over(self, restaurant: Restaurant) -> None:
        """Any offset is refused but the one where it goes on anyway."""
        self.record_two(restaurant)
        assert ledger(restaurant, "skip", "0", "6")[0] == 0
        shown = ledger(restaurant, "summary")
        assert ledger(restaurant, "skip", "0", "6")[0] == 0
        for offset in ("5", "7"):
            code, _, told = ledger(restaurant, "skip", "0", offset)
            sentence = "there is nothing to pass over in partition 0, as the ledger's next offset is the topic's end, 6"
            assert (code, sentence in told) == (2, True), told
        assert ledger(restaurant, "summary") == shown

    def test_a_gap_that_is_all_there_is_is_no_record(self, restaurant: Restaurant) -> None:
        """And a single record is one."""
        self.record_two(restaurant)
        delete_records(restaurant, 5)
        assert "; offsets 2 to 3 are no longer there\n" in ledger(restaurant, "skip", "0", "4")[1]
        told = ledger(restaurant, "skip", "0", "6")[1]
        one = "partition 0 goes on at offset 6: 1 record that is in the topic is passed over"
        assert told == f"{one}; offsets 4 to 4 are no longer there\n"
        passed = [line for line in ledger(restaurant, "summary")[1].splitlines() if "not recorded" in line]
        assert [line.partition("offsets ")[2] for line in passed] == [
            "2 to 3 passed over by hand, when they had left the topic",
            "4 to 4 passed over by hand, when they had left the topic",
            "5 to 5 (1 record) passed over by hand",
        ]

    @staticmethod
    def record_two(restaurant: Restaurant) -> None:
        """Record two orders; behind them are two in a transaction, its marker, and one more."""
        order(restaurant, 1, 2)
        manager = restaurant.start("manager")
        restaurant.wait_for_rows(2)
        wait_until(lambda: next_offset(restaurant) == 2, what="two orders")
        assert manager.stop() == 0
        Transactions(restaurant).run(2, "commit")
        order(restaurant, 3)


class TestTransactions:
    """Behind a record there may be a marker, or aborted ones: nobody waits for them, and nobody misses them."""

    @pytest.mark.parametrize("name", ["cook", "manager"])
    def test_the_lag_is_0_when_nothing_is_left_to_read(
        self, restaurant: Restaurant, transactions: Transactions, name: str
    ) -> None:
        """Behind a committed transaction, behind an aborted one, while one is open, and after a start."""
        service = restaurant.start(name, ON)
        for count, end, offset in ((2, "commit", 4), (3, "abort", 8)):
            transactions.run(count, end)  # type: ignore[arg-type]
            wait_until(lambda offset=offset: committed(restaurant, name) == offset, what=f"the commit of {offset}")  # type: ignore[misc]
            wait_until(lambda: lag(restaurant, service) == 0, what="no lag")
        transactions.begin(2)
        if name == "manager":
            assert next_offset(restaurant) == 8
        assert service.stop() == 0
        again = restaurant.start(name, ON)
        wait_until(lambda: lag(restaurant, again) == 0, what="no lag beside an open transaction")
        assert again.stop() == 0
        assert ledger(restaurant, "verify")[0] == 0 if name == "manager" else True

    @pytest.mark.parametrize("name", ["cook", "manager"])
    def test_what_was_aborted_while_nobody_read_is_passed_over_after_a_start(
        self, restaurant: Restaurant, transactions: Transactions, name: str
    ) -> None:
        """Though no message comes that would tell of it."""
        assert _started(restaurant, name).stop() == 0
        wait_until(lambda: committed(restaurant, name) == 1, what="the first order")
        transactions.run(3, "abort")
        service = restaurant.start(name, ON)
        wait_until(lambda: committed(restaurant, name) == 5, what="the commit")
        wait_until(lambda: lag(restaurant, service) == 0, what="no lag")
        assert service.stop() == 0

    def test_a_group_that_has_read_nothing_but_aborted_ones_has_no_lag(self, restaurant: Restaurant) -> None:
        """Nothing was ever handled, and still it has come to the end."""
        order(restaurant, 1)
        transactions = Transactions(restaurant)
        transactions.run(1, "abort")
        delete_records(restaurant, 1)
        cook = restaurant.start("cook", ON)
        wait_until(lambda: committed(restaurant, "cook") == 3, what="the commit")
        wait_until(lambda: lag(restaurant, cook) == 0, what="no lag")
        assert cook.lines() == []

    def test_a_marker_that_retention_has_taken_is_no_loss(
        self, restaurant: Restaurant, transactions: Transactions
    ) -> None:
        """The ledger has come past it, and begins behind it without a word."""
        manager = restaurant.start("manager")
        transactions.run(2, "commit")
        wait_until(lambda: next_offset(restaurant) == 4, what="past the marker")
        assert manager.stop() == 0
        delete_records(restaurant, 4)
        assert ledger(restaurant, "verify")[0] == 0
        again = restaurant.start("manager")
        order(restaurant, 7)
        wait_until(lambda: next_offset(restaurant) == 5, what="one more")
        assert "lost" not in again.errors()

    def test_the_board_shows_no_lag_either(self, restaurant: Restaurant, transactions: Transactions) -> None:
        """Not behind a marker, and not beside an open transaction."""
        restaurant.start("cook")
        transactions.run(2, "commit")
        wait_until(lambda: committed(restaurant, "cook") == 4, what="the commit")
        transactions.begin(2)
        with watching(restaurant) as board:
            wait_until(lambda: _lags(board).get("cook") == [0], what="no lag of the cook")


@contextmanager
def watching(restaurant: Restaurant, board: Board | None = None) -> Iterator[Board]:
    """Keep a board up to date."""
    board, stop = board or Board(), Event()
    jobs = [Thread(target=job) for job in Watch(restaurant.servers, board, stop).jobs]
    for job in jobs:
        job.start()
    try:
        yield board
    finally:
        stop.set()
        for job in jobs:
            job.join()


def test_the_board_goes_on_where_the_topic_has_something(restaurant: Restaurant) -> None:
    """When what it would read next is gone."""
    order(restaurant, 1, 2, 3, 4)
    with watching(restaurant) as board:
        wait_until(lambda: board.next_offsets == {0: 4}, what="all four")
    board.next_offsets[0] = 2
    delete_records(restaurant, 4)
    order(restaurant, 5)
    with watching(restaurant, board):
        wait_until(lambda: board.next_offsets == {0: 5}, what="the fifth")


def _lags(board: Board) -> dict[str, list[int]]:
    groups = json.loads(board.encode("kitchen"))["groups"]
    return {group["name"]: [one["lag"] for one in group["partitions"]] for group in groups}


def lag(restaurant: Restaurant, service: Service) -> float | None:
    """Give the lag that a service tells of; None while it tells of none."""
    group = next(name for name in ("cook", "manager") if f"consumers.{name}" in str(service.process.args))
    return scrape(service).get(f"consumer_lag_records{{group={group},partition=0,topic={restaurant.topic}}}")


def _members(restaurant: Restaurant, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    return len(admin.describe_consumer_groups([group], request_timeout=10)[group].result().members)


def _started(restaurant: Restaurant, name: str) -> Service:
    service = restaurant.start(name)
    service.wait_for_error(f"{name} was given partitions [0]")
    wait_until(lambda: committed(restaurant, name) >= 0 or name == "manager", what="the first order")
    return service
