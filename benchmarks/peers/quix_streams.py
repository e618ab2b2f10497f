# /// script
# requires-python = ">=3.11"
# dependencies = ["quixstreams[avro]==3.28.1"]
# ///
"""A framework: Quix Streams. It pins an older confluent-kafka, and its registry serdes wrap Confluent's.

So the fastest that its documentation gives is used: its Avro serdes with the schema at hand, framed here.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from quixstreams import Application
from quixstreams.models import SerializationContext
from quixstreams.models.serializers import Deserializer, Serializer
from quixstreams.models.serializers.avro import AvroDeserializer, AvroSerializer

from benchmarks.peers.harness import BATCH_BYTES, Acknowledgements, Job, Meter, Send, as_dict, main


class Framed(Serializer, Deserializer):
    """Quix Streams' Avro behind or in Confluent's frame."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._frame = job.frame
        self._serializer = AvroSerializer(json.loads(job.schema))
        self._deserializer = AvroDeserializer(json.loads(job.schema))

    def __call__(self, value: Any, ctx: SerializationContext) -> Any:
        if not isinstance(value, bytes):
            return self._frame + self._serializer(value, ctx)
        if value[:5] != self._frame:
            raise ValueError(f"{value!r} has another schema")
        return self._deserializer(value[5:], ctx)


def _application(job: Job) -> Application:
    properties = job.consumer_properties()
    return Application(
        job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        consumer_extra_config={"fetch.queue.backoff.ms": properties["fetch.queue.backoff.ms"]},
        producer_extra_config={"acks": "all", "enable.idempotence": True, "batch.size": BATCH_BYTES},
        auto_create_topics=False,
        loglevel="WARNING",
    )


@contextmanager
def publisher(job: Job) -> Iterator[tuple[Any, Send]]:
    topic = _application(job).topic(job.topic, value_serializer=Framed(job), key_serializer="string")
    producer = _application(job).get_producer()

    def send(orders: Sequence[dict[str, Any]]) -> int:
        acknowledged = Acknowledgements()
        for order in orders:
            message = topic.serialize(key=str(order["table"]), value=order)
            producer.produce(job.topic, message.value, message.key, on_delivery=acknowledged)  # polls by itself
        producer.flush()
        return acknowledged.count

    yield as_dict, send


def consume(job: Job) -> None:
    application = _application(job)
    meter = Meter(job)

    def handle(order: dict[str, Any]) -> None:
        if meter.add(1, order["order_id"]):
            application.stop()

    application.dataframe(application.topic(job.topic, value_deserializer=Framed(job))).update(handle)
    application.run()


if __name__ == "__main__":
    main(publisher, consume)
