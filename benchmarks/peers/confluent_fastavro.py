# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka==2.16.0", "fastavro==1.13.1"]
# ///
"""By hand: confluent-kafka's Producer and Consumer in batches, fastavro in between."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from benchmarks.peers.harness import Acknowledgements, Job, Meter, Send, as_dict, main


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    producer = Producer(job.producer_properties())
    schema, frame = parse_schema(json.loads(job.schema)), job.frame

    def message_of(order: dict[str, Any]) -> dict[str, Any]:
        buffer = io.BytesIO()
        buffer.write(frame)
        schemaless_writer(buffer, schema, order)
        return {"key": str(order["table"]), "value": buffer.getvalue()}

    def send(orders: Sequence[dict[str, Any]]) -> int:
        acknowledged = Acknowledgements()
        for first in range(0, len(orders), 1_000):
            messages = [message_of(order) for order in orders[first : first + 1_000]]
            while messages:
                producer.produce_batch(job.topic, messages, on_delivery=acknowledged)
                messages = [message for message in messages if message.pop("_error", None)]
                producer.poll(0.1 if messages else 0)
        producer.flush()
        return acknowledged.count

    yield as_dict, send


def consume(job: Job) -> None:
    consumer = Consumer(job.consumer_properties())
    consumer.subscribe([job.topic])
    writer = parse_schema(json.loads(job.schema))
    frame = job.frame
    meter = Meter(job)
    done = False
    while not done:
        order: Any = None
        messages = consumer.consume(500, 1.0)
        for message in messages:
            value = message.value() or b""
            if value[:5] != frame:
                raise ValueError(f"{value!r} has another schema")
            order = schemaless_reader(io.BytesIO(value[5:]), writer, None)
        done = order is not None and meter.add(len(messages), order["order_id"])
    consumer.close()


if __name__ == "__main__":
    main(publisher, consume)
