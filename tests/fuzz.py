"""Random and mutated messages through the deserializer: each ends in a record or a typed error, and memory is flat.

    python -m tests.fuzz [--count 1000000] [--seed 1]

What breaks it is printed in hexadecimal, to be kept as a test.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter

from confluent_kafka.schema_registry import Schema
from confluent_kafka.serialization import MessageField, SerializationContext

from contract.binary import decode
from contract.codec import RecordDeserializer, RecordSerializer
from contract.errors import Unreadable
from contract.order import OrderV1, OrderV2
from contract.records import Record
from contract.subjects import load_contract
from contract.varint import varint
from runtime.embedded import EmbeddedRegistry

BATCH = 500
TEXT = "napoli größe 🍕\0\n\u202e"
GROWTH_MIB = 8.0
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
DROPPED = [
    {"type": "array", "items": "null"},
    {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
    ["string", "null", "boolean"],
    {"type": "enum", "name": "Size", "symbols": ["SMALL", "LARGE"]},
    {"type": "map", "values": {"type": "array", "items": "int"}},
    {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 5},
    {"type": "fixed", "name": "Digest", "size": 4},
    "boolean",
    "float",
    NODE,
]
"""What a version of somebody else's writes behind the fields that we read, one of each."""
NEWEST = 4  # its id


def main() -> int:
    """Run the command; exit 1 when a message ends in anything else, or memory grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    began = time.perf_counter()
    outcomes, growth = fuzz(flags.count, flags.seed)
    print(f"{outcomes.total()} messages in {time.perf_counter() - began:.0f} s, memory grew by {growth:.1f} MiB")
    for outcome, count in outcomes.most_common():
        print(f"  {outcome:<16} {count:>8}")
    return int(growth > GROWTH_MIB)


def fuzz(count: int, seed: int) -> tuple[Counter[str], float]:
    """Read `count` messages as both versions; give how they ended and by how many MiB memory has grown since a tenth.

    Raises AssertionError, with the message in hexadecimal, for one that ends in anything but a record or Unreadable,
    or that is read in bulk as something else than alone.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    subject = load_contract().subject("order")
    registry = EmbeddedRegistry({"url": "mock://fuzz"})
    for version in subject.released:
        registry.register_schema(subject.name, Schema(version.text, "AVRO"))
    registry.register_schema("other-value", Schema('"string"', "AVRO"))
    newest = json.loads(subject.newest.text)
    newest["fields"] += [{"name": f"dropped_{number}", "type": type_} for number, type_ in enumerate(DROPPED)]
    assert registry.register_schema(subject.name, Schema(json.dumps(newest), "AVRO")) == NEWEST
    context = SerializationContext(subject.topic, MessageField.VALUE)
    records: tuple[type[Record], ...] = (OrderV1, OrderV2)
    readers = [RecordDeserializer(record, registry) for record in records]
    writers = {record: RecordSerializer(record, registry) for record in records}
    frames = {record: writer.frame(subject.name) for record, writer in writers.items()}
    outcomes: Counter[str] = Counter()
    before = 0.0
    for done in range(0, count, BATCH):
        if done <= count // 10:
            before = peak_mib()
        messages = [_message(chance, writers, context) for _ in range(min(BATCH, count - done))]
        for reader in readers:
            for message, plain in zip(messages, reader.plainly(messages, subject.name), strict=True):
                outcome = _read(reader, message, context, frames[reader.record])
                known = plain is None or plain == outcome
                assert known, f"{reader.record.__name__}: {message!r} is {plain} in bulk and {outcome} alone"
                if reader is readers[-1]:
                    outcomes[outcome.reason if isinstance(outcome, Unreadable) else "a record"] += 1
    return outcomes, peak_mib() - before


def peak_mib() -> float:
    """Give the most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024 / 1024


def _read(
    reader: RecordDeserializer[Record], message: bytes | None, context: SerializationContext, frame: bytes
) -> object:
    try:
        record = reader(message, context)
    except Unreadable as unreadable:
        return unreadable
    except BaseException as error:
        shown = message.hex() if message is not None else "None"
        raise AssertionError(f"{reader.record.__name__}: {shown} ends in {type(error).__name__}: {error}") from error
    assert type(record) is reader.record
    if message is not None and message[:5] == frame:  # what was decoded fast, Avro's own library reads too
        assert decode(message, reader.record, reader.record.SCHEMA, start=5) == record, message.hex()
    return record


def _message(
    chance: random.Random, writers: dict[type[Record], RecordSerializer[Record]], context: SerializationContext
) -> bytes | None:
    kind = chance.random()
    if kind < 0.001:
        return None
    if kind < 0.1:
        return chance.randbytes(chance.randint(0, 100))
    pizza, table = _text(chance, 1), chance.randint(1, 2 ** chance.randint(1, 31) - 1)
    record = OrderV1(pizza, table) if chance.random() < 0.5 else OrderV2(pizza, table, _text(chance, 0))
    message = bytearray(writers[type(record)](record, context) or b"")
    if isinstance(record, OrderV2) and chance.random() < 0.5:
        message[1:5] = NEWEST.to_bytes(4, "big")
        message += _dropped(chance)
    for mutate in chance.choices(_MUTATIONS, k=chance.randint(0, 3)):
        mutate(chance, message)
    return bytes(message)


def _dropped(chance: random.Random) -> bytes:
    """Give the bytes of the fields that no reader wants, now and then with a claim that nobody could hold."""
    many = chance.choice([1, 2, 3, 5, 8, 13, 21, 34, 2**30, -(2**62)])
    nulls = varint(many) + (b"\0" if many < 0 else b"") + b"\0" if chance.random() < 0.5 else b"\0"
    empty = varint(chance.randint(1, 9)) + b"\0"
    branch = chance.choice([b"\0\2a", b"\2", b"\4\1"] * 5 + [b"\1", b"\6"])
    symbol = varint(chance.choice([0, 1] * 8 + [2, -1]))
    table = b"\2\2k" + b"\3\4\2\4\0" + b"\0"
    digits = varint(2) + chance.randbytes(2) + chance.randbytes(4) + bytes([chance.choice([0, 1] * 9 + [2])])
    nodes = b"\2" * chance.choice([0, 1, 5, 20, 100_000 if chance.random() < 0.01 else 3]) + b"\0"
    return nulls + empty + branch + symbol + table + digits + chance.randbytes(4) + nodes


def _text(chance: random.Random, shortest: int) -> str:
    return "".join(chance.choices(TEXT, k=chance.randint(shortest, 64)))


def _flip(chance: random.Random, message: bytearray) -> None:
    if message:
        message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, message: bytearray) -> None:
    del message[chance.randint(0, len(message)) :]


def _insert(chance: random.Random, message: bytearray) -> None:
    place = chance.randint(0, len(message))
    message[place:place] = chance.randbytes(chance.randint(1, 8))


def _remove(chance: random.Random, message: bytearray) -> None:
    place = chance.randint(0, len(message))
    del message[place : place + chance.randint(1, 8)]


def _lengthen(chance: random.Random, message: bytearray) -> None:
    """Put a number that is far too large, or negative, where a length may be: Avro's zigzag of up to ten bytes."""
    place = min(5, len(message))
    message[place : place + 1] = bytes([0x80 | chance.randrange(128)] * chance.randint(1, 10) + [chance.randrange(128)])


def _other_id(chance: random.Random, message: bytearray) -> None:
    message[1:5] = chance.choice([0, 1, 2, 3, 4, 5, 2**31, 2**32 - 1]).to_bytes(4, "big")


_MUTATIONS = (_flip, _flip, _cut, _insert, _remove, _lengthen, _other_id)


if __name__ == "__main__":
    sys.exit(main())
