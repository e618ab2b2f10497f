# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka==2.16.0"]
# ///
"""The limit: bytes that were made before, by produce_batch; counted, not decoded, by consume. Plain latency, too."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer

from benchmarks.peers.harness import Acknowledgements, Job, Latencies, Meter, Order, Send, main, paced, stamp
from contract.varint import varint


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    producer = Producer(job.producer_properties())

    def send(messages: Sequence[dict[str, Any]]) -> int:
        acknowledged = Acknowledgements()
        for first in range(0, len(messages), 1_000):
            waiting = list(messages[first : first + 1_000])
            while waiting:
                producer.produce_batch(job.topic, waiting, on_delivery=acknowledged)
                waiting = [message for message in waiting if message.pop("_error", None)]
                producer.poll(0.1 if waiting else 0)
        producer.flush()
        return acknowledged.count

    yield lambda order: {"key": str(order[1]), "value": value_of(job, order)}, send


def consume(job: Job) -> None:
    consumer = Consumer(job.consumer_properties())
    consumer.subscribe([job.topic])
    meter = Meter(job)
    value = None
    done = False
    while not done:
        messages = consumer.consume(500, 1.0)
        for message in messages:
            value = message.value()
        done = value is not None and meter.add(len(messages), value[-36:].decode())
    consumer.close()


def latency_send(job: Job) -> None:
    # linger.ms: nothing waits for company, the lowest latency that librdkafka gives; but in bulk, a request for
    # each order is more than this client or a broker keeps up with.
    producer = Producer(job.producer_properties() | {"linger.ms": int(job.is_bulk)})
    producer.list_topics(job.topic)  # connected before the first order, or it waits half a second for a producer id
    begin = value_of(job, ("margherita", 17, stamp()))[:-36]
    acknowledged = Acknowledgements()
    seconds = time.perf_counter()
    for count in paced(job):
        for _ in range(count):
            value = begin + stamp().encode()
            while True:
                try:
                    producer.produce(job.topic, key="17", value=value, on_delivery=acknowledged)
                    break
                except BufferError:  # a machine that does not keep up with the rate
                    producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    print(f"sent at {acknowledged.count / (time.perf_counter() - seconds):.0f} orders/s")


def latency_receive(job: Job) -> None:
    consumer = Consumer(job.consumer_properties())
    consumer.subscribe([job.topic])
    latencies = Latencies(job)
    done = False
    while not done:
        message = consumer.poll(1.0)
        done = message is not None and latencies.add((one.value() or b"")[-36:] for one in [message])
    consumer.close()


def value_of(job: Job, order: Order) -> bytes:
    """Give an order's bytes as every peer writes them."""
    pizza, identity = order[0].encode(), order[2].encode()
    return job.frame + varint(len(pizza)) + pizza + varint(order[1]) + varint(len(identity)) + identity


if __name__ == "__main__":
    main(publisher, consume, latency_send=latency_send, latency_receive=latency_receive)
