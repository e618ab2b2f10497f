"""What nobody can read, or the ledger refuses, is kept unchanged beside its reason, and can be replayed."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema

from consumers.board.state import Board
from consumers.source import Source
from contract.codec import ASK_AGAIN_SECONDS
from runtime.groups import is_not_decompressed
from runtime.topics import KEPT, LARGEST_KEPT
from tests.integration.test_metrics import ON
from tests.integration.test_offsets import lag, watching
from tests.restaurant import LIMIT, ROOT, Restaurant, Service, wait_until

pytestmark = pytest.mark.integration

HEADERS: list[tuple[str, Any]] = [("trace", b"\x00\xff"), ("trace", "again"), ("nothing", None), ("größe", b"")]


def publish(restaurant: Restaurant, value: bytes | None, key: bytes | None = b"17", **more: Any) -> None:
    """Publish a message as anybody can."""
    publish_packed(restaurant, "none", value, key, **more)


def publish_packed(
    restaurant: Restaurant, compression: str, value: bytes | None, *more: Any, count: int = 1, **others: Any
) -> None:
    """Publish a batch of messages that may be large before it is compressed."""
    most = {"message.max.bytes": 1_000_000_000, "queue.buffering.max.kbytes": 1_000_000, "batch.size": 1_000_000_000}
    batch = {"batch.num.messages": count, "linger.ms": 60_000 if count > 1 else 0}
    servers = {"bootstrap.servers": restaurant.bootstrap_servers}
    errors: list[KafkaError | None] = []
    producer = Producer(servers | most | batch | {"compression.type": compression})
    others["on_delivery"] = lambda error, _: errors.append(error)
    for _ in range(count):
        producer.produce(restaurant.topic, value, *more, **others)
    assert (producer.flush(30), errors) == (0, [None] * count)


def publish_bomb(restaurant: Restaurant) -> None:
    """Publish a batch of 130 messages that a client gives up decompressing."""
    restaurant.make_topic()
    configure(restaurant, restaurant.topic, "max.message.bytes", "1000000")
    bomb = Producer(
        {
            "bootstrap.servers": restaurant.bootstrap_servers,
            "compression.type": "zstd",
            "linger.ms": 5000,
            "batch.size": 200_000_000,
            "message.max.bytes": 200_000_000,
            "queue.buffering.max.kbytes": 500_000,
        }
    )
    for _ in range(130):
        bomb.produce(restaurant.topic, bytes(1_000_000))
    assert bomb.flush(60) == 0


def highest_memory(service: Service) -> int:
    """Return the most MiB of memory that a service has had, 0 when it has ended."""
    with suppress(ProcessLookupError):
        return int(*re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text())) // 1024
    return 0


def memory_limit() -> int:
    """Return the MiB that a service's container has."""
    (limit,) = re.findall(r"(?s)x-service:.*?mem_limit: (\d+)m", (ROOT / "docker-compose.yaml").read_text())
    return int(limit)


def read(restaurant: Restaurant, topic: str, count: int) -> list[Message]:
    """Read so many messages of a topic's first partition, and see that there are no more."""
    properties = {"bootstrap.servers": restaurant.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
    found: list[Message] = []
    with closing(Consumer(properties)) as reader:
        place = TopicPartition(topic, 0, 0)
        wait_until(lambda: topic in reader.list_topics(timeout=10).topics, what=topic)
        wait_until(lambda: reader.get_watermark_offsets(place, timeout=10)[1] >= count, what=f"{count} in {topic}")
        reader.assign([place])
        deadline = time.monotonic() + LIMIT
        while len(found) < count and time.monotonic() < deadline:
            found += reader.consume(count, 0.1)
        assert len(found) == count
        assert reader.get_watermark_offsets(place, timeout=10)[1] == count
    return found


def letters(restaurant: Restaurant, consumer: str, count: int) -> list[dict[str, str]]:
    """Give what so many dead letters of a consumer tell of themselves."""
    prefix = "dead-letter."
    return [
        {name.removeprefix(prefix): value.decode() for name, value in pairs(message) if name.startswith(prefix)}
        for message in read(restaurant, f"{restaurant.topic}.{consumer}.dead-letters", count)
    ]


def pairs(message: Message) -> Sequence[tuple[str, bytes]]:
    """Give a message's headers."""
    found: Any = message.headers() or []
    return list(found)


def command(restaurant: Restaurant, *arguments: str) -> tuple[int, str]:
    """Run the command that looks at dead letters."""
    done = restaurant.run("-m", "consumers.dead_letters", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def committed(restaurant: Restaurant, group: str) -> int:
    """Give the offset that a group has committed, below 0 for none."""
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        return client.committed([TopicPartition(restaurant.topic, 0)], timeout=10)[0].offset


def configure(restaurant: Restaurant, topic: str, name: str, value: str) -> None:
    """Set one property of a topic."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(10)


def start_cook(restaurant: Restaurant) -> Service:
    """Start a cook, and return when it is at work: its topics exist then."""
    cook = restaurant.start("cook")
    cook.wait_for_error("cook was given partitions")
    return cook


def test_a_letter_is_the_message_unchanged_and_tells_where_it_was_and_why(restaurant: Restaurant) -> None:
    """Key, value and headers as they came, then ours."""
    restaurant.make_topic()
    publish(restaurant, b"\x00not an order", b"\xff\x00key", headers=HEADERS, timestamp=1_700_000_000_123)
    restaurant.start("manager")
    (message,) = read(restaurant, f"{restaurant.topic}.manager.dead-letters", 1)
    (original,) = read(restaurant, restaurant.topic, 1)
    assert (message.key(), message.value()) == (b"\xff\x00key", b"\x00not an order")
    assert pairs(message)[: len(HEADERS)] == pairs(original)
    told = dict(pairs(message)[len(HEADERS) :])
    schema_id = str(int.from_bytes(b"not "))
    assert told.pop("dead-letter.sentence") == f"the registry knows no schema of id {schema_id}".encode()
    topic = restaurant.servers.find_topics(restaurant.topic)[restaurant.topic]
    assert {name.removeprefix("dead-letter."): value.decode() for name, value in told.items()} == {
        "topic": restaurant.topic,
        "topic-id": topic.id,
        "cluster-id": topic.cluster_id,
        "partition": "0",
        "offset": "0",
        "timestamp": "1700000000123",
        "consumer": "manager",
        "schema-id": schema_id,
        "reason": "unknown-id",
    }


def test_each_reason_has_its_code(restaurant: Restaurant) -> None:
    """One for each typed error of the codec; the order behind them is prepared."""
    restaurant.make_topic()
    foreign = restaurant.registry.register_schema(f"other-{restaurant.topic}", Schema('"string"', "AVRO"))
    known = restaurant.registry.get_version(restaurant.subject.name, 1).schema_id or 0

    def framed(schema_id: int, body: bytes) -> bytes:
        return b"\x00" + schema_id.to_bytes(4, "big") + body

    messages: list[tuple[str, bytes | None, Any]] = [
        ("not-framed", b'{"pizza":"napoli","table":3}', None),
        ("too-short", b"\x00\x00", None),
        ("id-in-headers", b"\x0cnapoli\x06", [("__value_schema_id", b"\x01" + b"\x00" * 16)]),
        ("unknown-id", framed(2**31 - 1, b"\x0cnapoli\x06"), None),
        ("foreign-schema", framed(foreign, b"\x0cnapoli"), None),
        ("truncated", framed(known, b"\x0cnap"), None),
        ("trailing-bytes", framed(known, b"\x0cnapoli\x06\x00"), None),
        ("malformed", framed(known, b"\x04\xff\xfe\x06"), None),
        ("breaks-limit", framed(known, b"\x0cnapoli\x00"), None),
        ("tombstone", None, None),
    ]
    for _, value, headers in messages:
        publish(restaurant, value, headers=headers)
    restaurant.waiter("napoli", "3")
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
    found = letters(restaurant, "cook", len(messages))
    assert [letter["reason"] for letter in found] == [reason for reason, _, _ in messages]
    assert [letter["offset"] for letter in found] == [str(offset) for offset in range(len(messages))]
    wait_until(lambda: committed(restaurant, "cook") == len(messages) + 1, what="the commit")


def test_list_show_and_replay_say_what_they_find(restaurant: Restaurant) -> None:
    """Counts by reason; one letter with its bytes and what the schema makes of them; exit 1 when there is none."""
    restaurant.make_topic()
    known = restaurant.registry.get_version(restaurant.subject.name, 1).schema_id or 0
    publish(restaurant, b"\x00" + known.to_bytes(4, "big") + b"\x0cnapoli\x00", headers=[("trace", b"\x1b[31m")])
    publish(restaurant, b"noise")
    cook = start_cook(restaurant)
    letters(restaurant, "cook", 2)
    assert cook.stop() == 0
    code, listed = command(restaurant, "list", "cook")
    assert code == 0
    assert listed.splitlines()[0] == f"{restaurant.topic}.cook.dead-letters: 2 letters"
    assert sorted(line.split() for line in listed.splitlines()[1:]) == [["breaks-limit", "1"], ["not-framed", "1"]]
    code, shown = command(restaurant, "show", "cook", "0")
    assert code == 0
    assert f"was at      {restaurant.topic} partition 0 offset 0" in shown
    assert "reason      breaks-limit: table is 0, expected int >= 1" in shown
    assert "header      trace = b'\\x1b[31m'" in shown
    assert "0c 6e 61 70 6f 6c 69 00" in shown
    assert "as schema   {'pizza': 'napoli', 'table': 0}" in shown
    assert [command(restaurant, "show", "cook", offset)[0] for offset in ("1", "2", "-1", str(2**70))] == [0, 1, 1, 1]
    assert command(restaurant, "replay", "cook", "--reason", "truncated")[0] == 1
    code, refused = command(restaurant, "list", "chef")
    assert code == 2
    assert "chef is no consumer that subjects.yaml knows; there are board, cook, manager" in refused
    assert command(restaurant, "list", "manager") == (0, f"{restaurant.topic}.manager.dead-letters: 0 letters\n")
    code, refused = command(restaurant, "show", "manager", "0")
    assert (code, "its consumer makes it when it starts" in refused) == (2, True)


def test_a_replay_reaches_its_own_consumer_alone_and_is_recorded_once(restaurant: Restaurant) -> None:
    """A schema that was registered too late; under its own place and time the ledger drops the second replay."""
    restaurant.make_topic()
    versions = restaurant.subject.released
    newer = json.loads(versions[-1].text)
    newer["fields"].append({"name": "note", "type": "string", "default": ""})
    text = Schema(json.dumps(newer, separators=(",", ":")), "AVRO")
    schema_id = restaurant.registry.register_schema(f"other-{restaurant.topic}", text)
    body = b"\x0cnapoli" + b"\x06" + b"\x02a" + b"\x00"
    publish(restaurant, b"\x00" + schema_id.to_bytes(4, "big") + body, timestamp=1_700_000_000_123)
    restaurant.waiter("diavola", "4")
    cook, _ = restaurant.start("cook"), restaurant.start("manager")
    for consumer in ("cook", "manager"):
        assert letters(restaurant, consumer, 1)[0]["reason"] == "foreign-schema"
    time.sleep(ASK_AGAIN_SECONDS)  # or a fast machine has the message back while its id still counts as no good
    assert restaurant.registry.register_schema(restaurant.subject.name, text) == schema_id
    assert command(restaurant, "replay", "cook", "--offset", "0")[0] == 0
    assert cook.wait_for_lines(2)[1] == "Received an order for a pizza napoli at table 3 !"
    assert len(restaurant.wait_for_rows(1)) == 1
    for _ in range(2):
        assert command(restaurant, "replay", "manager", "--reason", "foreign-schema")[0] == 0
    rows = restaurant.wait_for_rows(2)
    assert [row[2:5] for row in rows] == [(0, 1, rows[0][4]), (0, 0, 1_700_000_000_123)]
    restaurant.waiter("last", "5")
    assert len(restaurant.wait_for_rows(3)) == 3
    wait_until(lambda: _is_consumed(restaurant, "manager.replays", 2), what="both replays")
    assert len(restaurant.rows()) == len(restaurant.log()) == 3
    assert len(cook.wait_for_lines(3)) == 3


def _is_consumed(restaurant: Restaurant, group: str, end: int) -> bool:
    with closing(Consumer({"bootstrap.servers": restaurant.bootstrap_servers, "group.id": group})) as client:
        return client.committed([TopicPartition(f"{restaurant.topic}.manager.replays", 0)], timeout=10)[0].offset == end


def test_a_replayed_letter_that_is_still_bad_is_a_letter_of_its_first_place_again(restaurant: Restaurant) -> None:
    """And not of the topic of replays."""
    restaurant.make_topic()
    publish(restaurant, b"noise", headers=HEADERS)
    start_cook(restaurant)
    letters(restaurant, "cook", 1)
    assert command(restaurant, "replay", "cook")[0] == 0
    first, again = read(restaurant, f"{restaurant.topic}.cook.dead-letters", 2)
    assert (again.key(), again.value()) == (first.key(), first.value())
    told = letters(restaurant, "cook", 2)
    assert [told[1][name] for name in ("topic", "offset", "reason")] == [restaurant.topic, "0", "not-framed"]


def test_an_identity_with_another_content_is_a_letter_of_the_handler(restaurant: Restaurant) -> None:
    """The cook, which has no ledger, prepares both."""
    first, other = ({"pizza": pizza, "table": 3, "order_id": "x-1"} for pizza in ("napoli", "diavola"))
    orders = restaurant.orders_file("orders.jsonl", *map(json.dumps, [first, other, first]))
    assert restaurant.waiter("--orders", str(orders)).returncode == 0
    restaurant.start("manager")
    (letter,) = letters(restaurant, "manager", 1)
    assert (letter["reason"], letter["offset"]) == ("handler", "1")
    assert letter["sentence"] == "order_id 'x-1' is recorded in line 1 with another content"
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(3,)], what="all three")
    assert len(restaurant.rows()) == 1
    assert restaurant.rows("SELECT partition, offset, line FROM duplicates") == [(0, 2, 1)]


def properties(restaurant: Restaurant, topic: str) -> dict[str, str]:
    """Return a topic's properties."""
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {key: entry.value for key, entry in admin.describe_configs([resource])[resource].result(10).items()}


def test_the_topics_keep_what_they_get_and_have_room_for_a_full_size_message(restaurant: Restaurant) -> None:
    """Whatever the cluster's defaults are; a message as large as the topic takes fits with its headers."""
    start_cook(restaurant)
    orders = properties(restaurant, restaurant.topic)
    assert (orders["cleanup.policy"], orders["max.message.bytes"]) == ("delete", "131072")
    for name in ("dead-letters", "replays"):
        settings = properties(restaurant, f"{restaurant.topic}.cook.{name}")
        assert settings["retention.ms"] == settings["retention.bytes"] == "-1"
        assert (settings["cleanup.policy"], settings["max.message.bytes"]) == ("delete", str(LARGEST_KEPT))
    publish(restaurant, b"x" * 130_000, headers=HEADERS)
    (message,) = read(restaurant, f"{restaurant.topic}.cook.dead-letters", 1)
    assert message.value() == b"x" * 130_000
    assert command(restaurant, "replay", "cook")[0] == 0
    assert len(letters(restaurant, "cook", 2)) == 2


def test_a_letter_topic_that_cannot_be_written_stops_the_consumer_and_nothing_is_committed(
    restaurant: Restaurant,
) -> None:
    """The message is not dropped: it is there when the topic takes letters again; what is good before it is handled."""
    cook = start_cook(restaurant)
    topic = f"{restaurant.topic}.cook.dead-letters"
    configure(restaurant, topic, "max.message.bytes", "20")
    restaurant.waiter("napoli", "3")
    publish(restaurant, b"noise")
    restaurant.waiter("diavola", "4")
    assert cook.process.wait(40) == 2
    assert len(cook.lines()) == 1
    assert f"cook: {topic} cannot be written: Broker: Message size too large" in cook.errors()
    assert "to go on without partition 0 offset 1, which is lost then, run: kafka-consumer-groups" in cook.errors()
    assert f"--group cook --topic {restaurant.topic}:0 --reset-offsets --to-offset 2 --execute" in cook.errors()
    assert "Traceback" not in cook.errors()
    assert committed(restaurant, "cook") == 1
    configure(restaurant, topic, "max.message.bytes", str(LARGEST_KEPT))
    assert len(restaurant.start("cook").wait_for_lines(1)) == 1
    assert letters(restaurant, "cook", 1)[0]["reason"] == "not-framed"


def test_a_ledgers_consumer_says_how_its_ledger_passes_a_message_over(restaurant: Restaurant) -> None:
    manager = restaurant.start("manager")
    manager.wait_for_error("manager was given partitions")
    configure(restaurant, f"{restaurant.topic}.manager.dead-letters", "max.message.bytes", "20")
    publish(restaurant, b"noise")
    assert manager.process.wait(40) == 2
    assert "which is lost then, run: python -m consumers.ledger skip 0 1" in manager.errors()


def test_also_one_that_the_ledger_refuses_and_what_is_good_before_it_is_recorded(restaurant: Restaurant) -> None:
    """The command passes over that one alone, and leads on to what is behind it."""
    manager = restaurant.start("manager")
    manager.wait_for_error("manager was given partitions")
    orders = [
        {"pizza": pizza, "table": 3, "order_id": identity}
        for pizza, identity in (("napoli", "a"), ("diavola", "b"), ("marinara", "a"), ("funghi", "c"))
    ]
    configure(restaurant, f"{restaurant.topic}.manager.dead-letters", "max.message.bytes", "20")
    path = restaurant.orders_file("orders.jsonl", *map(json.dumps, orders))
    assert restaurant.waiter("--orders", str(path)).returncode == 0
    assert manager.process.wait(40) == 2
    assert f"{restaurant.topic}.manager.dead-letters cannot be written: Broker: Message size" in manager.errors()
    skip = "python -m consumers.ledger skip 0 3"
    assert f"to go on without partition 0 offset 2, which is lost then, run: {skip}" in manager.errors()
    assert [row[6] for row in restaurant.rows()] == ["napoli", "diavola"]
    done = restaurant.run(*skip.split()[1:])
    assert (done.returncode, "1 record that is in the topic is passed over" in done.stdout) == (0, True)
    configure(restaurant, f"{restaurant.topic}.manager.dead-letters", "max.message.bytes", str(LARGEST_KEPT))
    restaurant.start("manager")
    assert [row[6] for row in restaurant.wait_for_rows(3)] == ["napoli", "diavola", "funghi"]


@pytest.mark.parametrize(
    ("name", "value"), [("cleanup.policy", "compact"), ("retention.ms", "1000"), ("max.message.bytes", "20")]
)
def test_a_letter_topic_that_would_lose_letters_is_refused_with_the_command_that_mends_it(
    restaurant: Restaurant, name: str, value: str
) -> None:
    """As a topic that somebody has made by hand, on a cluster whose defaults are others."""
    topic = f"{restaurant.topic}.cook.dead-letters"
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1, config=KEPT | {name: value})])[topic].result(10)
    wait_until(lambda: topic in admin.list_topics(timeout=10).topics, what=topic)
    refused = restaurant.start("cook")
    assert refused.process.wait(40) == 2
    assert (
        f"the topic {topic} has {name}={value} and would lose what it is given; run: kafka-configs" in refused.errors()
    )
    assert f"--entity-name {topic} --add-config {name}={KEPT[name]}" in refused.errors()
    configure(restaurant, topic, name, KEPT[name])
    start_cook(restaurant)


def test_a_compacted_topic_of_orders_is_refused_and_one_with_room_for_bombs_is_warned_of(
    restaurant: Restaurant,
) -> None:
    """Compaction keeps one order of each table; a topic that others have made for large messages is theirs."""
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    admin.create_topics([NewTopic(restaurant.topic, 1, 1)])[restaurant.topic].result(10)
    cook = start_cook(restaurant)
    assert f"the topic {restaurant.topic} takes 1048588 bytes at once, subjects.yaml says 131072" in cook.errors()
    assert f"--entity-name {restaurant.topic} --add-config max.message.bytes=131072" in cook.errors()
    assert cook.stop() == 0
    configure(restaurant, restaurant.topic, "cleanup.policy", "compact")
    refused = restaurant.start("manager")
    assert refused.process.wait(40) == 2
    assert (
        f"the topic {restaurant.topic} has cleanup.policy=compact and would lose what it is given" in refused.errors()
    )


def test_a_letter_topic_that_was_deleted_stops_the_consumer_and_is_there_after_a_start(restaurant: Restaurant) -> None:
    """It is not waited for: nobody makes it but a consumer that starts."""
    hurried = {"DELIVERY_TIMEOUT": "3"}
    cook = restaurant.start("cook", hurried)
    cook.wait_for_error("cook was given partitions")
    topic = f"{restaurant.topic}.cook.dead-letters"
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(10)
    publish(restaurant, b"noise")
    assert cook.process.wait(60) == 2
    assert f"cook: {topic} cannot be written: there is no such topic; start again to have it made" in cook.errors()
    start_cook(restaurant)
    assert letters(restaurant, "cook", 1)[0]["reason"] == "not-framed"


def test_what_is_small_when_it_is_compressed_and_large_when_it_is_not_stops_nobody(restaurant: Restaurant) -> None:
    """Each consumer stays within its container's memory; the letter has size and digest instead of the message."""
    consumers = [restaurant.start(name) for name in ("cook", "manager")]
    for name, consumer in zip(("cook", "manager"), consumers, strict=True):
        consumer.wait_for_error(f"{name}.replays was given partitions")
    value = bytes(60_000_000)
    for _ in range(3):
        publish_packed(restaurant, "gzip", value)
    restaurant.waiter("napoli", "3")
    consumers[0].wait_for_lines(1)
    restaurant.wait_for_rows(1)
    for name, consumer in zip(("cook", "manager"), consumers, strict=True):
        (letter, *_), (message, *_) = (
            letters(restaurant, name, 3),
            read(restaurant, f"{restaurant.topic}.{name}.dead-letters", 3),
        )
        assert (letter["size"], letter["sha256"]) == ("60000000", hashlib.sha256(value).hexdigest())
        assert (letter["offset"], message.key(), message.value()) == ("0", None, None)
        assert highest_memory(consumer) < memory_limit()
    code, said = command(restaurant, "show", "cook", "0")
    where = f"it is at {restaurant.topic} partition 0 offset 0 for as long as that topic keeps it"
    assert (code, f"60000000 bytes, SHA-256 {letter['sha256']}; {where}" in said) == (0, True)
    code, said = command(restaurant, "replay", "cook")
    assert (code, "0 letters replayed" in said, "letter 2 is not replayed" in said) == (1, True, True)
    assert restaurant.run("-m", "consumers.ledger", "verify").returncode == 0


@pytest.mark.parametrize(
    ("compression", "size", "count", "batches"),
    [
        ("gzip", 120_000_000, 1, 6),
        ("gzip", 15_000_000, 8, 6),
        ("gzip", 1_000_000, 60, 5),
        ("zstd", 16_000_000, 1, 60),
    ],
)
def test_a_backlog_of_such_messages_needs_no_more_memory_than_one(
    restaurant: Restaurant, compression: str, size: int, count: int, batches: int
) -> None:
    """Neither in a consumer that starts, nor in the board or a command that reads all of them."""
    restaurant.make_topic()
    for _ in range(batches):
        publish_packed(restaurant, compression, bytes(size), count=count)
    restaurant.waiter("napoli", "3")
    patient = {"DEAD_LETTER_LIMIT": "10000", "BOARD_PORT": "0"}
    cook, manager = (restaurant.start(name, patient) for name in ("cook", "manager"))
    board = restaurant.start_program("board", "-m", "consumers.board", env=patient)
    cook.wait_for_lines(1)
    restaurant.wait_for_rows(1)
    highest = [highest_memory(service) for service in (cook, manager, board)]
    for command in (["consumers.ledger", "verify"], ["consumers.dead_letters", "list", "cook"]):
        started = restaurant.start_program("command", "-m", *command)
        highest.append(0)
        while started.process.poll() is None:
            highest[-1] = highest_memory(started) or highest[-1]
        assert started.process.returncode == 0, started.errors()
    assert max(highest) < memory_limit(), highest


def test_a_batch_that_cannot_be_decompressed_is_one_letter_and_what_is_behind_it_is_read(
    restaurant: Restaurant,
) -> None:
    """A client gives a bomb of zstd up, and would ask for the same batch for ever; it may hold many messages."""
    publish_bomb(restaurant)
    restaurant.waiter("napoli", "3")
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
    restaurant.start("manager")
    assert [row[3] for row in restaurant.wait_for_rows(1)] == [130]
    (letter,) = letters(restaurant, "cook", 1)
    assert (letter["reason"], letter["offset"]) == ("compression", "0")
    assert "its batch cannot be decompressed" in command(restaurant, "show", "cook", "0")[1]
    verified = restaurant.run("-m", "consumers.ledger", "verify")
    assert (verified.returncode, verified.stdout) == (0, "1 rows, 0 duplicates, 1 letters, 0 missing\n")


@pytest.mark.parametrize("name", ["cook", "manager"])
def test_such_a_batch_at_the_topics_end_is_one_letter_however_often_a_consumer_starts(
    restaurant: Restaurant, name: str
) -> None:
    """Its offsets are committed up to its end, though no message comes that would tell where that is."""
    publish_bomb(restaurant)
    for _ in range(2):
        consumer = restaurant.start(name, ON)
        wait_until(lambda: committed(restaurant, name) == 130, what="the commit of its end")
        wait_until(lambda consumer=consumer: lag(restaurant, consumer) == 0, what="no lag")  # type: ignore[misc]
        assert consumer.stop() == 0
    (letter,) = letters(restaurant, name, 1)
    assert (letter["reason"], letter["offset"]) == ("compression", "0")
    if name == "manager":
        assert restaurant.rows("SELECT next_offset FROM partitions") == [(130,)]
        verified = restaurant.run("-m", "consumers.ledger", "verify")
        assert (verified.returncode, verified.stdout) == (0, "0 rows, 0 duplicates, 1 letters, 0 missing\n")


def test_such_a_batch_is_one_letter_also_where_its_error_has_come_more_than_once(restaurant: Restaurant) -> None:
    """The client asks for it twice a second, and a consumer may be busy meanwhile."""
    publish_bomb(restaurant)
    source = Source(restaurant.servers.settings, "cook", restaurant.topic)
    source.read_alone({}, 130)
    time.sleep(3)
    errors = source.receive(LIMIT)
    errors += source.receive(1)
    assert {is_not_decompressed(error) for error in errors} == {True}
    assert len(errors) > 1
    assert list(filter(source.is_message, errors)) == errors[:1]
    assert [(one.partition(), one.offset()) for one in source.lost] == [(0, 129)]
    source.close()


def test_such_a_batch_counts_once_on_the_board_however_often_that_begins_anew(restaurant: Restaurant) -> None:
    publish_bomb(restaurant)
    board = Board()
    with watching(restaurant, board):
        wait_until(lambda: board.next_offsets == {0: 130}, what="its end")
    restaurant.waiter("napoli", "3")
    with watching(restaurant, board):
        wait_until(lambda: len(board.window.orders) == 1, what="the order behind it")
    assert board.window.unreadable == 1


def test_what_is_good_in_between_ends_a_row_of_letters(restaurant: Restaurant) -> None:
    """Only as many in a row as DEAD_LETTER_LIMIT says stop a consumer, however they come."""
    restaurant.make_topic()
    cook = restaurant.start("cook", {"DEAD_LETTER_LIMIT": "4"})
    cook.wait_for_error("cook was given partitions")
    for count in (3, 3, 4):
        for _ in range(count):
            publish(restaurant, b"noise")
        if count == 3:
            assert restaurant.waiter("napoli", "3").returncode == 0
    assert cook.process.wait(40) == 2
    assert len(cook.lines()) == 2
    assert "4 messages in a row could not be read" in cook.errors()


def test_what_is_good_before_a_row_of_letters_is_handled_before_it_ends_the_consumer(restaurant: Restaurant) -> None:
    """However many polls it comes in; when it is started again, only what is left of the row is there."""
    restaurant.make_topic()
    publish(restaurant, b"noise")
    assert restaurant.waiter("napoli", "3").returncode == 0
    for _ in range(8):  # up to three of a row may come in a poll of their own, and are letters then
        publish(restaurant, b"noise")
    for _ in range(2):
        cook = restaurant.start("cook", {"DEAD_LETTER_LIMIT": "4"})
        assert cook.process.wait(40) == 2
        assert "4 messages in a row could not be read" in cook.errors()
    assert [len(service.lines()) for service in restaurant.services] == [1, 0]
    assert committed(restaurant, "cook") >= 2


def test_a_registry_that_has_forgotten_our_subject_is_waited_for(restaurant: Restaurant) -> None:
    """An id that it does not know is then no message's fault: no letter, and with the subject back, it goes on."""
    cook = start_cook(restaurant)
    for permanent in (False, True):
        restaurant.registry.delete_subject(restaurant.subject.name, permanent)
    publish(restaurant, b"\x00\x7f\xff\xff\xff\x0cnapoli\x06")
    cook.wait_for_error("cook waits, try 1 failed: the registry does not hold version 1")
    assert command(restaurant, "list", "cook")[1].startswith(f"{restaurant.topic}.cook.dead-letters: 0 letters")
    assert restaurant.register().returncode == 0
    assert letters(restaurant, "cook", 1)[0]["reason"] == "unknown-id"
    assert cook.process.poll() is None


def test_a_header_whose_name_is_no_text_stops_nobody(restaurant: Restaurant) -> None:
    """Clients of Kafka in other languages can write it, and Python's cannot read it."""
    restaurant.make_topic()
    _publish_with_header_name(restaurant, b"\xff\xfe")
    restaurant.waiter("napoli", "3")
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"], cook.errors()
    (message,) = read(restaurant, f"{restaurant.topic}.cook.dead-letters", 1)
    assert message.value() == b"noise"
    assert letters(restaurant, "cook", 1)[0]["sentence"] == "the name of one of its headers is not UTF-8"


def _publish_with_header_name(restaurant: Restaurant, name: bytes) -> None:
    """Publish through librdkafka itself, which takes any bytes for a name."""
    found = [*Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*.so*")]
    if not found:
        pytest.skip("librdkafka is not a file beside confluent_kafka here")
    kafka = ctypes.CDLL(str(found[0]))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    error = ctypes.create_string_buffer(512)

    def call(function: str, result: Any, *arguments: Any) -> Any:
        native = kafka[function]
        native.restype = result
        return native(*arguments)

    conf = pointer(call("rd_kafka_conf_new", pointer))
    servers = text(restaurant.bootstrap_servers.encode())
    call("rd_kafka_conf_set", ctypes.c_int, conf, text(b"bootstrap.servers"), servers, error, size(512))
    client = pointer(call("rd_kafka_new", pointer, ctypes.c_int(0), conf, error, size(512)))
    headers = pointer(call("rd_kafka_headers_new", pointer, size(1)))
    call(
        "rd_kafka_header_add", ctypes.c_int, headers, text(name), ctypes.c_ssize_t(-1), text(b"v"), ctypes.c_ssize_t(1)
    )
    topic, value, given, end = (ctypes.c_int(kind) for kind in (1, 4, 10, 0))  # rd_kafka_vtype_t
    parts = [topic, text(restaurant.topic.encode()), value, text(b"noise"), size(5), given, headers, end]
    assert call("rd_kafka_producev", ctypes.c_int, client, *parts) == 0
    assert call("rd_kafka_flush", ctypes.c_int, client, ctypes.c_int(10_000)) == 0
    call("rd_kafka_destroy", None, client)


@pytest.fixture(autouse=True)
def _no_traceback(open_restaurant: Callable[..., Restaurant], restaurant: Restaurant) -> Any:  # noqa: ARG001 - its order
    """Whatever comes, no consumer ends in a traceback."""
    yield
    for service in restaurant.services:
        assert "Traceback" not in service.errors()
