"""Everything that a user can cause ends in one sentence and an exit code, and loses nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from contract.order import Order
from stack.local import free_port
from tests.restaurant import Restaurant, wait_until

pytestmark = pytest.mark.integration

NOBODY = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "STARTUP_TIMEOUT": "2", "REQUEST_TIMEOUT": "1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["margherita", "0"], "waiter: table is '0', expected int >= 1"),
        (["margherita", "--", "-3"], "waiter: table is '-3', expected int >= 1"),
        (["margherita", "abc"], "waiter: table is 'abc', expected int, got str"),
        (["margherita", str(2**40)], "waiter: table is '1099511627776', expected int <= 2147483647"),
        (["", "17"], "waiter: pizza is '', expected str of length >= 1"),
        (["x" * 10_000, "17"], "(10000 characters), expected str of length <= 64"),
        (["margherita", "17", "--orders", "orders.jsonl"], "argument --orders: not allowed with argument pizza"),
        (["half\udced", "17"], "waiter: pizza is 'half\\udced', which holds half of a surrogate pair: no text"),
    ],
)
def test_a_wrong_order_is_refused_with_field_value_and_limit(
    restaurant: Restaurant, arguments: list[str], sentence: str
) -> None:
    """Nothing is sent: the next order is the first of the topic."""
    refused = restaurant.waiter(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert restaurant.waiter().stdout.endswith("with offset 0\n")


@pytest.mark.parametrize(
    ("name", "content", "code", "sentences"),
    [
        ("missing.jsonl", None, 2, ["cannot be read: No such file or directory; give the path of one"]),
        ("empty.jsonl", b"", 2, ["holds no records"]),
        ("orders.xml", b"<orders/>", 2, ["is neither JSON Lines (.jsonl) nor CSV (.csv)"]),
        ("utf16.csv", "pizza,table\nnapoli,3\n".encode("utf-16"), 2, ["not UTF-8"]),
        ("latin1.jsonl", b'{"pizza":"s\xfc\xdf","table":3}\n', 1, ["line 1: not UTF-8: byte 0xfc"]),
        ("list.jsonl", b'[{"pizza":"napoli","table":3}]\n', 1, ["line 1: expected object, got array"]),
        (
            "shape.csv",
            b"name,number\nnapoli,3\n",
            1,
            ["line 2: object", "nothing was sent"],
        ),
        (
            "bad.jsonl",
            b'{"pizza":"napoli","table":3}\n{"pizza":"napoli","table":0}\n{"pizza":"","table":3}\n{"pizza"\n',
            1,
            [
                "line 2: table is 0, expected int >= 1",
                "line 3: pizza is '', expected str of length >= 1",
                "line 4: not JSON",
                "3 bad lines; nothing was sent",
            ],
        ),
    ],
)
def test_a_bad_file_is_named_with_line_field_and_reason_and_nothing_is_sent(
    restaurant: Restaurant, name: str, content: bytes | None, code: int, sentences: list[str]
) -> None:
    """By default a file is sent whole or not at all."""
    path = restaurant.directory / name
    if content is not None:
        path.write_bytes(content)
    refused = restaurant.waiter("--orders", str(path))
    assert refused.returncode == code
    assert "Traceback" not in refused.stderr
    for sentence in sentences:
        assert sentence in refused.stderr
    assert restaurant.waiter().stdout.endswith("with offset 0\n")


def test_a_directory_is_no_file_of_orders(restaurant: Restaurant) -> None:
    """The sentence says so."""
    refused = restaurant.waiter("--orders", str(restaurant.directory))
    assert refused.returncode == 2
    assert "directory" in refused.stderr


def test_skip_invalid_sends_the_rest_and_still_exits_1(restaurant: Restaurant) -> None:
    """The bad lines are named all the same."""
    path = restaurant.orders_file("o.jsonl", '{"pizza":"napoli","table":3}', "{}", '{"pizza":"bufala","table":4}')
    sent = restaurant.waiter("--orders", str(path), "--skip-invalid", "--verbose")
    assert sent.returncode == 1
    assert len(sent.stdout.splitlines()) == 2
    assert "line 2: object missing required field pizza" in sent.stderr


@pytest.mark.parametrize("command", ["producer.waiter", "consumers.cook", "consumers.manager"])
def test_no_broker_is_waited_for_and_then_a_sentence(restaurant: Restaurant, command: str) -> None:
    """Exit 2 with the broker's address, well within the limit."""
    refused = restaurant.run("-m", command, env=NOBODY, limit=30)
    assert refused.returncode == 2
    assert "the broker does not answer" in refused.stderr
    assert "127.0.0.1:1" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["producer.waiter", "consumers.cook", "consumers.manager"])
def test_no_registry_is_waited_for_and_then_a_sentence(restaurant: Restaurant, command: str) -> None:
    """Exit 2 with the registry's address."""
    nobody = f"http://127.0.0.1:{free_port()}"
    refused = restaurant.run("-m", command, env={"SCHEMA_REGISTRY_URL": nobody, "STARTUP_TIMEOUT": "2"}, limit=30)
    assert refused.returncode == 2
    assert "the schema registry does not answer" in refused.stderr
    assert nobody in refused.stderr


@pytest.mark.parametrize("command", ["producer.waiter", "consumers.cook", "consumers.manager"])
def test_a_subject_that_is_not_registered_names_the_command(
    open_restaurant: Callable[..., Restaurant], command: str
) -> None:
    """No part registers by itself."""
    bare = open_restaurant()
    refused = bare.run("-m", command)
    assert refused.returncode == 2
    assert "run: python scripts/register_schema.py" in refused.stderr


def test_what_is_not_acknowledged_is_kept_and_can_be_sent_again(restaurant: Restaurant) -> None:
    """The broker refuses what is larger than the topic takes: all of it is kept, identities included."""
    _limit_message_size(restaurant, 10)
    path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in range(1, 6)))
    failed = restaurant.waiter("--orders", str(path))
    assert failed.returncode == 1
    assert "published 0 orders" in failed.stderr
    (kept,) = restaurant.data.glob("undelivered-*.jsonl")
    assert f"5 orders were not acknowledged (Broker: Message size too large) and are kept in {kept}" in failed.stderr
    orders = [msgspec.json.decode(line, type=Order) for line in kept.read_bytes().splitlines()]
    assert [(order.pizza, order.table) for order in orders] == [("napoli", table) for table in range(1, 6)]
    lone = restaurant.waiter()
    assert lone.returncode == 1
    assert lone.stdout == ""
    assert "not delivered" in lone.stderr
    (kept_alone,) = {*restaurant.data.glob("undelivered-*.jsonl")} - {kept}
    assert f"the order is kept in {kept_alone}, and may have arrived all the same" in lone.stderr
    assert f"run: waiter --orders {kept_alone}; ordering it anew would be another order" in lone.stderr
    _limit_message_size(restaurant, 1_000_000)
    for again in (kept, path, kept_alone, kept_alone):
        assert restaurant.waiter("--orders", str(again)).returncode == 0
    restaurant.start("manager")
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(12,)], what="all twelve")
    orders.append(msgspec.json.decode(kept_alone.read_bytes(), type=Order))
    assert [row[8] for row in restaurant.rows()] == [order.order_id for order in orders]


@pytest.mark.parametrize(
    "pizza", ["napoli", 'quattro\N{NO-BREAK SPACE}formaggi \x7f \x85 " \\ è \N{SLICE OF PIZZA} \U000e0041']
)
def test_an_order_that_can_neither_be_delivered_nor_kept_is_shown(restaurant: Restaurant, pizza: str) -> None:
    """What is shown is a line that can be sent."""
    _limit_message_size(restaurant, 10)
    failed = restaurant.waiter(pizza, "3", env={"DATA_DIR": "/proc/nowhere"})
    assert failed.returncode == 1
    assert re.search(r"cannot be kept, as /proc/nowhere/undelivered-\S+ cannot be written: No such file", failed.stderr)
    _limit_message_size(restaurant, 1_000_000)
    (line,) = re.findall(r"save the line (\{.*\}) as a file that ends in .jsonl", failed.stderr)
    file = restaurant.orders_file("saved.jsonl", line)
    for _ in range(2):
        assert restaurant.waiter("--orders", str(file)).returncode == 0
    restaurant.start("manager")
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(2,)], what="both")
    assert [row[6] for row in restaurant.rows()] == [pizza]


@pytest.mark.parametrize("what", ["open to all", "a file"])
def test_a_single_order_is_not_sent_where_it_could_not_be_kept(restaurant: Restaurant, what: str) -> None:
    """Although the broker would take it."""
    if what == "a file":
        restaurant.data.write_text("")
    else:
        restaurant.data.mkdir()
        restaurant.data.chmod(0o777)
    refused = restaurant.waiter("napoli", "3")
    assert (refused.returncode, refused.stdout) == (2, "")
    todo = "set DATA_DIR to a directory" if what == "a file" else f"run: chmod go-w {restaurant.data}, or set DATA_DIR"
    assert todo in refused.stderr
    assert restaurant.waiter(env={"DATA_DIR": str(restaurant.directory / "new")}).stdout.endswith("with offset 0\n")
    assert not (restaurant.directory / "new").exists()


@pytest.mark.parametrize("flags", [("--batch", "evening"), ("--batch", ""), ("--skip-invalid",)])
def test_a_flag_of_a_file_is_refused_with_a_single_order(restaurant: Restaurant, flags: tuple[str, ...]) -> None:
    """It would change nothing."""
    refused = restaurant.waiter(*flags, "margherita", "3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"waiter: {flags[0]} is for a file of orders, and this is a single one; add --orders FILE" in refused.stderr


def test_a_file_is_not_begun_where_what_is_left_of_it_could_not_be_kept(restaurant: Restaurant) -> None:
    """DATA_DIR is asked for first."""
    path = restaurant.orders_file("orders.csv", "pizza,table", "napoli,3")
    refused = restaurant.waiter("--orders", str(path), env={"DATA_DIR": "/proc/nowhere"})
    assert refused.returncode == 2
    assert re.search(
        r"/proc/nowhere/sending-\w+\.json cannot be written: No such file or directory; nothing was sent: "
        r"set DATA_DIR to a directory that can be",
        refused.stderr,
    )
    assert restaurant.waiter().stdout.endswith("with offset 0\n")


def test_a_file_is_not_sent_to_a_topic_that_is_compacted(restaurant: Restaurant) -> None:
    """It keeps one order of each table. A lone order does not ask; cook and manager refuse such a topic likewise."""
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    new = NewTopic(restaurant.topic, 1, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([new])[restaurant.topic].result(10)
    path = restaurant.orders_file("orders.csv", "pizza,table", "napoli,3")
    for flags in ([], ["--verbose"]):
        refused = restaurant.waiter("--orders", str(path), *flags)
        assert refused.returncode == 2
        assert f"waiter: the topic {restaurant.topic} has cleanup.policy=compact and would lose" in refused.stderr
        assert f"--entity-name {restaurant.topic} --add-config cleanup.policy=delete" in refused.stderr
    assert not restaurant.data.exists()
    assert restaurant.waiter().stdout.endswith("with offset 0\n")


def _limit_message_size(restaurant: Restaurant, size: int) -> None:
    restaurant.make_topic()
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, restaurant.topic, incremental_configs=[entry])
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(10)


def test_one_data_dir_has_one_manager(restaurant: Restaurant) -> None:
    """The second says who holds it, and ends."""
    first = restaurant.start("manager")
    first.wait_for_error("was given partitions")
    second = restaurant.run("-m", "consumers.manager")
    assert second.returncode == 2
    assert f"is held by process {first.process.pid}" in second.stderr


def test_a_ledger_of_another_topic_is_an_error_not_a_gap(
    restaurant: Restaurant, open_restaurant: Callable[..., Restaurant]
) -> None:
    """Its offsets mean nothing there."""
    first = restaurant.start("manager")
    first.wait_for_error("was given partitions")
    first.stop()
    other = open_restaurant()
    other.register()
    refused = other.run("-m", "consumers.manager", env={"DATA_DIR": str(restaurant.data)})
    assert refused.returncode == 2
    assert "belongs to topic" in refused.stderr
    assert "DATA_DIR" in refused.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a ledger and little more."""
    directory = tmp_path / "small"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_holds_the_manager_up_and_nothing_is_committed_that_is_not_written(
    restaurant: Restaurant, small_disk: Path
) -> None:
    """It says so and waits in its group; with room again, it goes on where it was: every order is recorded once."""
    count = 5_000
    orders = [json.dumps({"pizza": "quattro formaggi", "table": 1 + number % 50}) for number in range(count)]
    assert restaurant.waiter("--orders", str(restaurant.orders_file("o.jsonl", *orders))).returncode == 0
    restaurant.data = small_disk / "data"
    manager = restaurant.start("manager")
    manager.wait_for_error("manager waits, try 1 failed")
    assert "full" in manager.errors() or "No space left" in manager.errors()
    assert len(restaurant.rows()) < count
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert len(restaurant.wait_for_rows(count)) == count
    assert manager.stop() == 0
    assert "manager goes on after" in manager.errors()
    assert len(restaurant.log()) == count
    assert restaurant.rows("SELECT next_offset FROM partitions") == [(count,)]


def test_no_secret_is_shown_anywhere(restaurant: Restaurant) -> None:
    """Neither in what commands print nor in what librdkafka logs when it is refused."""
    secrets = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "chef",
        "KAFKA_SASL_PASSWORD": "tiramisu-1",
        "KAFKA_SSL_KEY_PASSWORD": "tiramisu-2",
        "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "chef:tiramisu-3",
        "STARTUP_TIMEOUT": "2",
        "REQUEST_TIMEOUT": "1",
        "LOG_LEVEL": "DEBUG",
        "KAFKA_DEBUG": "security,broker",
    }
    for command in ("producer.waiter", "consumers.cook", "consumers.manager"):
        shown = restaurant.run("-m", command, env=secrets)
        assert shown.returncode == 2
        assert "tiramisu" not in shown.stdout + shown.stderr


def test_an_unreadable_messages_sender_does_not_paint_the_terminal(restaurant: Restaurant) -> None:
    """A pizza's name cannot forge a line of the cook's output or of log.txt."""
    assert restaurant.waiter("evil\nReceived an order\x1b[31m", "3").returncode == 0
    cook = restaurant.start("cook")
    restaurant.start("manager")
    sentence = r"Received an order for a pizza evil\nReceived an order\x1b[31m at table 3 !"
    assert cook.wait_for_lines(1) == [sentence]
    restaurant.wait_for_rows(1)
    assert restaurant.log() == [sentence]


def test_a_port_that_is_no_broker_is_not_waited_for_without_end(restaurant: Restaurant) -> None:
    """Something listens there and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_broker = {**NOBODY, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"}
        refused = restaurant.run("-m", "producer.waiter", env=silent_broker, limit=30)
    assert refused.returncode == 2
    assert "the broker does not answer" in refused.stderr


def _publish_noise(restaurant: Restaurant) -> None:
    restaurant.make_topic()
    noise = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    for number in range(1_000):
        noise.produce(restaurant.topic, number.to_bytes(2, "big") * (number % 7))
    assert noise.flush(10) == 0


def test_raw_bytes_from_anybody_do_not_end_a_consumer(restaurant: Restaurant) -> None:
    """A thousand messages of noise become dead letters, and the order behind them is prepared."""
    _publish_noise(restaurant)
    restaurant.waiter("napoli", "3")
    cook = restaurant.start("cook", {"DEAD_LETTER_LIMIT": "1001"})
    assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
    assert cook.stop() == 0
    listed = restaurant.run("-m", "consumers.dead_letters", "list", "cook")
    assert f"{restaurant.topic}.cook.dead-letters: 1000 letters" in listed.stdout


def test_when_everything_is_unreadable_the_consumer_stops_rather_than_empty_the_topic(restaurant: Restaurant) -> None:
    """A hundred in a row look like wrong servers: exit 2, nothing is committed, and the next start ends likewise."""
    _publish_noise(restaurant)
    for _ in range(2):
        stopped = restaurant.run("-m", "consumers.cook")
        assert stopped.returncode == 2
        assert "100 messages in a row could not be read" in stopped.stderr
        assert "DEAD_LETTER_LIMIT" in stopped.stderr
