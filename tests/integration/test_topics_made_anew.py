"""A topic that is deleted and made again is another topic: nothing of it is taken for what the first one had."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from threading import Event, Thread

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.board.state import Board
from consumers.board.watch import Watch
from consumers.letters import Headers, headers_of
from tests.restaurant import Restaurant, Service, wait_until

pytestmark = pytest.mark.integration

FEWER, MORE = 3, 10
"""Orders of the new topic: its end is before, or behind, the offset at which the old one was read on."""


def order(restaurant: Restaurant, name: str, count: int) -> None:
    """Publish orders whose tables are numbered."""
    path = restaurant.orders_file(f"{name}.csv", "pizza,table", *(f"{name},{table + 1}" for table in range(count)))
    done = restaurant.waiter("--orders", str(path))
    assert done.returncode == 0, done.stderr


def delete(restaurant: Restaurant, topic: str) -> None:
    """Delete a topic, and return when it is gone."""
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(10)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, what="the end of the topic")


def make_anew(restaurant: Restaurant, count: int = 0) -> None:
    """Delete the topic of orders, and make it again at once, with so many new ones."""
    delete(restaurant, restaurant.topic)
    restaurant.make_topic()
    if count:
        order(restaurant, "new", count)


def sentences(count: int, pizza: str = "new") -> list[str]:
    """Give what a cook prints of so many orders."""
    return [f"Received an order for a pizza {pizza} at table {table + 1} !" for table in range(count)]


def start(restaurant: Restaurant, name: str) -> Service:
    """Start a consumer, and return when it has had six orders and committed them."""
    service = restaurant.start(name)
    order(restaurant, "old", 6)
    wait_until(lambda: committed(restaurant, name) == 6, what="the six old orders")
    return service


def committed(restaurant: Restaurant, group: str) -> int:
    """Give what a group has committed of partition 0, below 0 for nothing."""
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        return client.committed([TopicPartition(restaurant.topic, 0)], timeout=10)[0].offset


@pytest.fixture(autouse=True)
def _no_traceback(restaurant: Restaurant) -> Iterator[None]:
    """Whatever comes, no consumer ends in a traceback."""
    yield
    for service in restaurant.services:
        assert "Traceback" not in service.errors()


@pytest.mark.parametrize("count", [FEWER, MORE])
@pytest.mark.parametrize("pause", [False, True], ids=["running", "paused"])
def test_a_cook_ends_and_prepares_every_new_order_when_it_is_started_again(
    restaurant: Restaurant, count: int, *, pause: bool
) -> None:
    """None by the first one, whether it is running or paused meanwhile: it would begin in the middle."""
    cook = start(restaurant, "cook")
    if pause:
        cook.process.send_signal(signal.SIGSTOP)
    make_anew(restaurant, count)
    cook.process.send_signal(signal.SIGCONT)
    assert cook.process.wait(40) == 2
    assert cook.lines() == sentences(6, "old")
    assert f"cook: {restaurant.topic} (" in cook.errors()
    assert "is another topic now" in cook.errors()
    assert "start again, to begin with the first message of the new one" in cook.errors()
    again = restaurant.start("cook")
    assert again.wait_for_lines(count) == sentences(count)
    wait_until(lambda: committed(restaurant, "cook") == count, what="the commit")
    assert len(again.lines()) == count


@pytest.mark.parametrize("count", [FEWER, MORE])
@pytest.mark.parametrize("pause", [False, True], ids=["running", "paused"])
def test_a_manager_ends_with_nothing_of_the_new_topic_in_its_ledger(
    restaurant: Restaurant, count: int, *, pause: bool
) -> None:
    """Another directory has all of the new one; no command takes the one topic for the other."""
    manager = start(restaurant, "manager")
    if pause:
        manager.process.send_signal(signal.SIGSTOP)
    make_anew(restaurant, count)
    manager.process.send_signal(signal.SIGCONT)
    assert manager.process.wait(40) == 2
    assert "is another topic now" in manager.errors()
    assert "set DATA_DIR to another directory" in manager.errors()
    assert "ledger skip" not in manager.errors()
    assert [row[6] for row in restaurant.rows()] == ["old"] * 6
    for command in (["verify"], ["skip", "0", "6"], ["adopt", "manager"]):
        refused = restaurant.run("-m", "consumers.ledger", *command)
        assert (refused.returncode, "where its offsets mean nothing" in refused.stderr) == (2, True), refused
    restaurant.data = restaurant.directory / "anew"
    restaurant.start("manager")
    assert [row[6] for row in restaurant.wait_for_rows(count)] == ["new"] * count


def test_a_quiet_topic_that_is_made_anew_is_noticed_without_a_message(restaurant: Restaurant) -> None:
    """And not only when there is an order to lose."""
    consumers = [start(restaurant, "cook"), restaurant.start("manager")]
    restaurant.wait_for_rows(6)
    make_anew(restaurant)
    for consumer in consumers:
        assert consumer.process.wait(40) == 2
        assert "is another topic now" in consumer.errors()


def test_an_offset_that_was_committed_for_a_topic_that_is_gone_is_none_of_the_new_one(restaurant: Restaurant) -> None:
    """As a commit that was on its way when the topic was deleted: Kafka knows topics by name here."""
    assert start(restaurant, "cook").stop() == 0
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "cook"})) as client:
        (late,) = client.committed([TopicPartition(restaurant.topic, 0)], timeout=10)
        assert late.offset == 6
        make_anew(restaurant, MORE)
        wait_until(lambda: committed(restaurant, "cook") < 0, what="Kafka's forgetting")
        client.commit(offsets=[late], asynchronous=False)
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(MORE) == sentences(MORE)
    assert "cook passes over its offset 6 of partition 0: it was committed for topic " in cook.errors()


def spoil(restaurant: Restaurant) -> None:
    """Publish what nobody can read."""
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    producer.produce(restaurant.topic, b"noise")
    assert producer.flush(10) == 0


def replay(restaurant: Restaurant, topic_id: str, value: bytes, offset: int) -> None:
    """Put a message among the manager's replays, as of a place in a topic of this id."""
    place = {"topic": restaurant.topic, "partition": "0", "offset": str(offset), "timestamp": "0"}
    ids = {"topic-id": topic_id, "cluster-id": "x"} if topic_id else {}
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    headers: Headers = [(f"replay.{name}", text) for name, text in (place | ids).items()]
    producer.produce(f"{restaurant.topic}.manager.replays", value, headers=headers)
    assert producer.flush(10) == 0


def letters(restaurant: Restaurant, count: int) -> list[dict[str, str]]:
    """Give what the manager's dead letters tell of themselves."""
    topic = f"{restaurant.topic}.manager.dead-letters"
    found: list[Message] = []
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "reader"})) as reader:
        wait_until(lambda: topic in reader.list_topics(timeout=10).topics, what=topic)
        wait_until(lambda: reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1] >= count)
        reader.assign([TopicPartition(topic, 0, 0)])
        while len(found) < count:
            found += reader.consume(count, 10)
    return [{name: str(value, "utf-8") for name, value in headers_of(message)} for message in found]  # type: ignore[arg-type]


def test_a_letter_of_a_topic_that_is_gone_is_not_replayed_into_the_new_one(restaurant: Restaurant) -> None:
    """It would count as recorded already, for another order has its place; `verify` misses none of the new ones."""
    restaurant.make_topic()
    spoil(restaurant)
    manager = restaurant.start("manager")
    (letter,) = letters(restaurant, 1)
    today = restaurant.servers.find_topics(restaurant.topic)[restaurant.topic]
    assert (letter["dead-letter.topic-id"], letter["dead-letter.cluster-id"]) == (today.id, today.cluster_id)
    assert manager.stop() == 0
    make_anew(restaurant, 1)
    restaurant.data = restaurant.directory / "anew"
    manager = restaurant.start("manager")
    restaurant.wait_for_rows(1)
    refused = restaurant.run("-m", "consumers.dead_letters", "replay", "manager")
    assert refused.returncode == 1
    assert refused.stdout.startswith("0 letters replayed")
    assert (
        f"1 letter not replayed: of a topic {restaurant.topic} ({today.id}) that is gone, today it is" in refused.stderr
    )
    assert manager.stop() == 0
    verified = restaurant.run("-m", "consumers.ledger", "verify")
    assert verified.stdout == "1 rows, 0 duplicates, 0 letters, 0 missing\n"


def test_a_replay_of_a_topic_that_is_gone_is_a_letter_again_and_never_recorded_already(restaurant: Restaurant) -> None:
    """One without the ids, from before they were noted, counts as one of today's topic."""
    order(restaurant, "old", 1)
    restaurant.start("manager")
    restaurant.wait_for_rows(1)
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "reader"})) as reader:
        reader.assign([TopicPartition(restaurant.topic, 0, 0)])
        (message,) = reader.consume(1, 10)
    value = message.value() or b""
    replay(restaurant, "AAAAAAAAAAAAAAAAAAAAAg", value, 0)
    (letter,) = letters(restaurant, 1)
    assert (letter["dead-letter.reason"], letter["dead-letter.topic-id"]) == ("other-topic", "AAAAAAAAAAAAAAAAAAAAAg")
    replay(restaurant, "", value, 7)
    wait_until(lambda: restaurant.rows("SELECT offset FROM duplicates") == [(7,)], what="the replay without ids")
    assert len(letters(restaurant, 1)) == 1


def test_replays_that_are_made_anew_are_read_from_their_beginning(restaurant: Restaurant) -> None:
    """By a consumer that is started again, as it is told to."""
    order(restaurant, "old", 1)
    manager = restaurant.start("manager")
    restaurant.wait_for_rows(1)
    for offset in range(3):
        replay(restaurant, "gone", b"", offset)
    letters(restaurant, 3)
    delete(restaurant, f"{restaurant.topic}.manager.replays")
    restaurant.servers.ensure_topics(restaurant.subject, f"{restaurant.topic}.manager.replays")
    for offset in range(4):
        replay(restaurant, "gone", b"", offset)
    assert manager.process.wait(40) == 2
    assert f"{restaurant.topic}.manager.replays (" in manager.errors()
    assert "start again" in manager.errors()
    restaurant.start("manager")
    assert [letter["dead-letter.offset"] for letter in letters(restaurant, 7)] == ["0", "1", "2", "0", "1", "2", "3"]


def test_the_board_begins_anew(restaurant: Restaurant) -> None:
    """What it shows is what the new topic has, and none of the old one's."""
    order(restaurant, "old", 6)
    board, stop = Board(), Event()
    jobs = [Thread(target=job) for job in Watch(restaurant.servers, board, stop).jobs]
    for job in jobs:
        job.start()
    try:
        wait_until(lambda: _pizzas(board) == ["old"] * 6, what="the old orders")
        make_anew(restaurant, MORE)
        wait_until(lambda: _pizzas(board) == ["new"] * MORE, what="the new orders alone")
        assert board.next_offsets == {0: MORE}
    finally:
        stop.set()
        for job in jobs:
            job.join()


def _pizzas(board: Board) -> list[str]:
    return [one["pizza"] for one in json.loads(board.encode("kitchen"))["newest"]]
