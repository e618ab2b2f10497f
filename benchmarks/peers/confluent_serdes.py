# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka[avro]==2.16.0"]
# ///
"""Confluent's own way: SerializingProducer and DeserializingConsumer with its Avro serdes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import DeserializingConsumer, SerializingProducer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import StringSerializer

from benchmarks.peers.harness import Acknowledgements, Job, Meter, Send, as_dict, main

# The schema is registered already; the topic's name names the subject, as every other peer has it.
STRATEGY = {"subject.name.strategy": topic_subject_name_strategy}


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    registry = SchemaRegistryClient({"url": job.registry})
    serializer = AvroSerializer(registry, job.schema, conf={"auto.register.schemas": False, **STRATEGY})
    properties = job.producer_properties() | {"value.serializer": serializer, "key.serializer": StringSerializer()}
    producer = SerializingProducer(properties)

    def send(orders: Sequence[dict[str, Any]]) -> int:
        acknowledged = Acknowledgements()
        for number, order in enumerate(orders):
            key = str(order["table"])
            while True:
                try:
                    producer.produce(job.topic, key=key, value=order, on_delivery=acknowledged)
                    break
                except BufferError:
                    producer.poll(0.1)
            # Confluent's example polls for every order; now and then does the same and is faster.
            if number % 500 == 0:
                producer.poll(0)
        producer.flush()
        return acknowledged.count

    yield as_dict, send


def consume(job: Job) -> None:
    registry = SchemaRegistryClient({"url": job.registry})
    # With a reader's schema, even the writer's own, it is a fifth slower.
    deserializer = AvroDeserializer(registry, conf=STRATEGY)
    consumer = DeserializingConsumer(job.consumer_properties() | {"value.deserializer": deserializer})
    consumer.subscribe([job.topic])
    meter = Meter(job)
    while True:
        message = consumer.poll(1.0)  # it has no consume(): one message a call is all there is
        if message is None:
            continue
        order: Any = message.value()
        if meter.add(1, order["order_id"]):
            break
    consumer.close()


if __name__ == "__main__":
    main(publisher, consume)
