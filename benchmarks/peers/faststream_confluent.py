# /// script
# requires-python = ">=3.11"
# dependencies = ["faststream[confluent]==0.7.8", "confluent-kafka==2.16.0", "fastavro==1.13.1"]
# ///
"""A framework: FastStream's Confluent broker with fastavro; messages in batches, each with its key."""

import asyncio
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from faststream.confluent import KafkaBroker, KafkaPublishMessage
from faststream.confluent.message import KafkaMessage

from benchmarks.peers.harness import BATCH_BYTES, Job, Meter, Send, as_dict, main


def _broker(job: Job) -> KafkaBroker:
    # logger: a line for each message is its default. apply_types: the handler's arguments need no validation.
    return KafkaBroker(
        job.bootstrap,
        acks="all",
        enable_idempotence=True,
        config={"fetch.queue.backoff.ms": 5, "batch.size": BATCH_BYTES},
        logger=None,
        apply_types=False,
    )


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    schema, frame = parse_schema(json.loads(job.schema)), job.frame
    loop = asyncio.new_event_loop()
    broker = _broker(job)
    loop.run_until_complete(broker.start())

    def message_of(order: dict[str, Any]) -> KafkaPublishMessage:
        buffer = io.BytesIO()
        buffer.write(frame)
        schemaless_writer(buffer, schema, order)
        return KafkaPublishMessage(buffer.getvalue(), key=str(order["table"]).encode())

    async def send_all(orders: Sequence[dict[str, Any]]) -> int:
        for first in range(0, len(orders), 5_000):
            # Returns when each of them is acknowledged, else raises.
            await broker.publish_batch(*map(message_of, orders[first : first + 5_000]), topic=job.topic)
        return len(orders)

    yield as_dict, lambda orders: loop.run_until_complete(send_all(orders))
    loop.run_until_complete(broker.stop())


def consume(job: Job) -> None:
    asyncio.run(_consume(job))


async def _consume(job: Job) -> None:
    broker = _broker(job)
    writer, frame = parse_schema(json.loads(job.schema)), job.frame
    meter = Meter(job)
    done = asyncio.Event()

    async def decode(message: KafkaMessage) -> list[Any]:
        values: list[bytes] = message.body
        if any(value[:5] != frame for value in values):
            raise ValueError("a message has another schema")
        return [schemaless_reader(io.BytesIO(value[5:]), writer, None) for value in values]

    @broker.subscriber(
        job.topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        batch=True,
        max_records=500,
        decoder=decode,
    )
    async def handle(orders: list[Any]) -> None:
        if meter.add(len(orders), orders[-1]["order_id"]):
            done.set()

    await broker.start()
    await done.wait()
    await broker.stop()


if __name__ == "__main__":
    main(publisher, consume)
