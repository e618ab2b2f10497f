"""Other people's clients on the other end: Confluent's serializers, a Java producer's partitions, foreign bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer, DeserializingConsumer, Producer, SerializingProducer
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import StringSerializer

from contract.codec import RecordDeserializer, RecordSerializer
from contract.errors import Reason
from contract.order import Order, OrderV1
from producer.waiter import create_producer, publish_order
from tests.restaurant import Restaurant

pytestmark = pytest.mark.integration

# The partition, of seven, that Kafka 3.9's Java producer gives to each key: BuiltInPartitioner.partitionForKey.
JAVA_PARTITIONS = {
    "1": 2, "2": 2, "3": 5, "4": 6, "5": 1, "6": 3, "7": 1, "8": 2, "9": 1, "10": 6, "11": 2, "12": 4, "13": 5, "14": 0,
    "15": 1, "16": 6, "17": 4, "18": 5, "19": 0, "20": 1, "99": 0, "100": 3, "12345": 3, "2147483647": 3,
}  # fmt: skip


def test_our_serializer_fits_confluents_producer_and_their_deserializer_reads_it(restaurant: Restaurant) -> None:
    """RecordSerializer in SerializingProducer, AvroDeserializer in DeserializingConsumer."""
    registry = restaurant.registry
    ours = SerializingProducer(
        {
            "bootstrap.servers": restaurant.bootstrap_servers,
            "key.serializer": StringSerializer(),
            "value.serializer": RecordSerializer(Order, registry),
        }
    )
    publish_order(create_producer(restaurant.servers), Order("napoli", 3, "id-1"))
    ours.produce(restaurant.topic, key="4", value=Order("diavola", 4, "id-2"))
    assert ours.flush(10) == 0
    theirs = _deserializing(restaurant, AvroDeserializer(registry, conf={"subject.name.strategy.type": "TOPIC"}))
    assert _read(theirs, 2) == [
        {"pizza": "napoli", "table": 3, "order_id": "id-1"},
        {"pizza": "diavola", "table": 4, "order_id": "id-2"},
    ]


def test_confluents_serializer_feeds_our_consumers(restaurant: Restaurant) -> None:
    """AvroSerializer's records, of either version, reach the cook, and our deserializer fits DeserializingConsumer."""
    registry = restaurant.registry
    restaurant.make_topic()
    for record, value in (
        (OrderV1, {"pizza": "napoli", "table": 3}),
        (Order, {"pizza": "bufala", "table": 5, "order_id": "x"}),
    ):
        theirs = SerializingProducer(
            {
                "bootstrap.servers": restaurant.bootstrap_servers,
                "key.serializer": StringSerializer(),
                "value.serializer": AvroSerializer(
                    registry,
                    record.SCHEMA,
                    conf={"auto.register.schemas": False, "subject.name.strategy.type": "TOPIC"},
                ),
            }
        )
        theirs.produce(restaurant.topic, key="3", value=value)
        assert theirs.flush(10) == 0
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(2) == [
        "Received an order for a pizza napoli at table 3 !",
        "Received an order for a pizza bufala at table 5 !",
    ]
    ours = _deserializing(restaurant, RecordDeserializer(Order, registry))
    assert _read(ours, 2) == [Order("napoli", 3), Order("bufala", 5, "x")]


def test_one_tables_orders_go_to_the_partition_that_a_java_producer_gives_them(
    open_restaurant: Callable[..., Restaurant],
) -> None:
    """The key is the table's number in decimal, the partitioner Java's murmur2."""
    restaurant = open_restaurant(partitions=7)
    restaurant.register()
    producer = create_producer(restaurant.servers)
    for key, partition in JAVA_PARTITIONS.items():
        delivery = publish_order(producer, Order("napoli", int(key), key))
        assert (key, delivery.partition) == (key, partition)


def test_what_cannot_be_read_is_named_with_its_reason_and_the_next_order_is_prepared(restaurant: Restaurant) -> None:
    """Every reason why bytes are no order, one message each, from a client that knows no contract."""
    registry = restaurant.registry
    ours = RecordSerializer(Order, registry).frame(f"{restaurant.topic}-value")
    v1 = RecordSerializer(OrderV1, registry).frame(f"{restaurant.topic}-value")
    foreign = registry.register_schema(f"foreign-{uuid.uuid4().hex}-value", Schema(_unique_schema(), "AVRO"))
    draft = "http://json-schema.org/draft-07/schema#"
    other = Schema(f'{{"$schema":"{draft}","type":"object","title":"{uuid.uuid4().hex}"}}', "JSON")
    no_avro = registry.register_schema(f"foreign-{uuid.uuid4().hex}-value", other)
    bad: list[tuple[Reason, bytes | None, list[tuple[str, str | bytes | None]]]] = [
        (Reason.TOMBSTONE, None, []),
        (Reason.TOO_SHORT, b"\x00\x00", []),
        (Reason.NOT_FRAMED, b'{"pizza":"napoli","table":3}', []),
        (Reason.UNKNOWN_ID, b"\x00\x00\xff\xff\xff\x02a\x02", []),
        (Reason.FOREIGN_SCHEMA, b"\x00" + foreign.to_bytes(4, "big") + b"\x02a", []),
        (Reason.FOREIGN_SCHEMA, b"\x00" + no_avro.to_bytes(4, "big") + b"{}", []),
        (Reason.TRUNCATED, v1 + b"\x0cnap", []),
        (Reason.TRAILING_BYTES, v1 + b"\x02a\x02\x00\x00", []),
        (Reason.MALFORMED, v1 + b"\x02\xff\x02", []),
        (Reason.BREAKS_LIMIT, v1 + b"\x02a\x00", []),
        (Reason.ID_IN_HEADERS, b"\x02a\x02\x00", [("__value_schema_id", b"\x01" + uuid.uuid4().bytes)]),
    ]
    restaurant.make_topic()
    raw = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    for _, value, headers in bad:
        raw.produce(restaurant.topic, value, headers=headers)
    raw.produce(restaurant.topic, ours + b"\x0cnapoli\x06\x04id")
    assert raw.flush(10) == 0
    cook = restaurant.start("cook")
    manager = restaurant.start("manager")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
    assert [row[3] for row in restaurant.wait_for_rows(1)] == [len(bad)]
    for service in (cook, manager):
        assert service.stop() == 0
        said = [line for line in service.errors().splitlines() if "goes to the dead letters" in line]
        for offset, ((reason, _, _), line) in enumerate(zip(bad, said, strict=True)):
            assert f"partition 0 offset {offset} goes" in line
            assert line.endswith(f"({reason})")


def test_a_record_that_its_reader_cannot_resolve_is_named_as_such(restaurant: Restaurant) -> None:
    """A version that slipped past the gate into our own subject is not read as something else."""
    registry = restaurant.registry
    registry.set_compatibility(f"{restaurant.topic}-value", "NONE")
    schema = '{"type":"record","name":"Order","fields":[{"name":"pizza","type":"string"}]}'
    slipped = registry.register_schema(f"{restaurant.topic}-value", Schema(schema, "AVRO"))
    restaurant.make_topic()
    raw = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    raw.produce(restaurant.topic, b"\x00" + slipped.to_bytes(4, "big") + b"\x02a")
    assert raw.flush(10) == 0
    cook = restaurant.start("cook")
    cook.wait_for_error(f"({Reason.NOT_READABLE})")
    assert cook.stop() == 0


def _unique_schema() -> str:
    return f'{{"type":"record","name":"Other{uuid.uuid4().hex}","fields":[{{"name":"a","type":"string"}}]}}'


def _deserializing(restaurant: Restaurant, deserializer: Any) -> DeserializingConsumer:
    consumer = DeserializingConsumer(
        {
            "bootstrap.servers": restaurant.bootstrap_servers,
            "group.id": f"test-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "value.deserializer": deserializer,
        }
    )
    consumer.subscribe([restaurant.topic])
    return consumer


def _read(consumer: Consumer, count: int) -> list[object]:
    values: list[object] = []
    with closing(consumer):
        for _ in range(100):
            message = consumer.poll(0.5)
            if message is not None:
                values.append(message.value())
            if len(values) == count:
                break
    return values
