"""The shortest script that publishes one order with an idempotent SerializingProducer; runs where its peer does."""

import json
import sys
import uuid

from confluent_kafka import SerializingProducer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer

job = json.loads(sys.argv[1])
conf = {"auto.register.schemas": False, "subject.name.strategy": topic_subject_name_strategy}
serializer = AvroSerializer(SchemaRegistryClient({"url": job["registry"]}), job["schema"], conf=conf)
producer = SerializingProducer(
    {
        "bootstrap.servers": job["bootstrap"],
        "acks": "all",
        "enable.idempotence": True,
        "key.serializer": lambda key, _context: key.encode(),
        "value.serializer": serializer,
    }
)
order = {"pizza": "margherita", "table": 17, "order_id": str(uuid.uuid4())}
producer.produce(
    job["topic"], key="17", value=order, on_delivery=lambda error, message: print(error or message.offset())
)
producer.flush()
