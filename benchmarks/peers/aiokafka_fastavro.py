# /// script
# requires-python = ">=3.11"
# dependencies = ["aiokafka==0.14.0", "fastavro==1.13.1"]
# ///
"""asyncio: aiokafka with fastavro, by its documentation's fastest interfaces, create_batch/send_batch and getmany."""

import asyncio
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from benchmarks.peers.harness import BATCH_BYTES, Job, Meter, Send, as_dict, main


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    schema, frame = parse_schema(json.loads(job.schema)), job.frame
    loop = asyncio.new_event_loop()

    async def start() -> AIOKafkaProducer:
        # max_batch_size: 16 KiB by default.
        producer = AIOKafkaProducer(
            bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
        )
        await producer.start()
        return producer

    producer = loop.run_until_complete(start())

    async def send_all(orders: Sequence[dict[str, Any]]) -> int:
        """As docs/examples/batch_produce does it, which chooses partitions itself: the topic of this case has one."""
        acknowledged = []
        batch = producer.create_batch()
        counts = []
        for order in orders:
            buffer = io.BytesIO()
            buffer.write(frame)
            schemaless_writer(buffer, schema, order)
            key, value = str(order["table"]).encode(), buffer.getvalue()
            if batch.append(key=key, value=value, timestamp=None) is None:
                counts.append(batch.record_count())
                acknowledged.append(await producer.send_batch(batch, job.topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        counts.append(batch.record_count())
        acknowledged.append(await producer.send_batch(batch, job.topic, partition=0))
        await asyncio.gather(*acknowledged)
        return sum(counts)

    yield as_dict, lambda orders: loop.run_until_complete(send_all(orders))
    loop.run_until_complete(producer.stop())


def consume(job: Job) -> None:
    asyncio.run(_consume(job))


async def _consume(job: Job) -> None:
    consumer = AIOKafkaConsumer(
        job.topic, bootstrap_servers=job.bootstrap, group_id=job.group, auto_offset_reset="earliest"
    )
    await consumer.start()
    writer, frame = parse_schema(json.loads(job.schema)), job.frame
    meter = Meter(job)
    done = False
    while not done:
        for messages in (await consumer.getmany(timeout_ms=1_000)).values():
            order: Any = None
            for message in messages:
                if message.value[:5] != frame:
                    raise ValueError(f"{message.value!r} has another schema")
                order = schemaless_reader(io.BytesIO(message.value[5:]), writer, None)
            done = meter.add(len(messages), order["order_id"]) or done
    await consumer.stop()


if __name__ == "__main__":
    main(publisher, consume)
