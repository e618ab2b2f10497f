"""Few bytes that would become many, and files that are none: refused at once, in bounded memory."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.binary import resolve
from contract.codec import RecordDeserializer
from contract.errors import Reason, RecordFileError, Unreadable
from contract.order import OrderV1, OrderV2
from contract.varint import varint
from producer.record_files import LONGEST_LINE, RecordFile

CONTEXT = SerializationContext("pizza-order", MessageField.VALUE)
BILLION = varint(1_000_000_000)
NULLS = {"type": "array", "items": "null"}
FIELDS = [{"name": "pizza", "type": NULLS}, {"name": "table", "type": "int"}]
BOMB = json.dumps({"type": "record", "name": "Order", "namespace": "restaurant", "fields": FIELDS})


@pytest.fixture
def measured() -> Iterator[None]:
    """Whatever happens takes a moment and little memory."""
    began = time.monotonic()
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert time.monotonic() - began < 60


@pytest.mark.usefixtures("measured")
def test_a_billion_nulls_under_a_foreign_schema_are_not_even_decoded(registered: SchemaRegistryClient) -> None:
    """An id counts only in its own subject, where nobody but the release registers anything."""
    schema_id = registered.register_schema("anybodys-value", Schema(BOMB, "AVRO"))
    with pytest.raises(Unreadable) as unreadable:
        RecordDeserializer(OrderV1, registered)(b"\0" + schema_id.to_bytes(4, "big") + BILLION + b"\0\x02", CONTEXT)
    assert unreadable.value.reason == Reason.FOREIGN_SCHEMA


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "x", "type": "null"}]}
LINKED: dict[str, Any] = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}
TREE = {"type": "record", "name": "T", "fields": [{"name": "more", "type": {"type": "array", "items": "T"}}]}


def doubled(levels: int) -> Any:
    """Give records that each hold the next one twice, and a null at the end."""
    schema: Any = "null"
    for level in range(levels):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"D{level - 1}" if level else "null"}]
        schema = {"type": "record", "name": f"D{level}", "fields": fields}
    return schema


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", ["pizza", "more"], ids=["read", "dropped"])
@pytest.mark.parametrize(
    ("type_", "value", "reasons"),
    [
        (NULLS, BILLION + b"\0", {Reason.MALFORMED}),
        (NULLS, varint(2**63 - 1) + b"\0", {Reason.MALFORMED}),
        (NULLS, varint(-(10**9)) + b"\0\0", {Reason.MALFORMED}),
        ({"type": "array", "items": NOTHING}, BILLION + b"\0", {Reason.MALFORMED}),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, BILLION + b"\0", {Reason.MALFORMED}),
        (
            {"type": "array", "items": NULLS},
            varint(1_000) + (varint(1_000) + b"\0") * 1_000 + b"\0",
            {Reason.MALFORMED},
        ),
        (doubled(40), b"", {Reason.MALFORMED}),
        ({"type": "array", "items": "int"}, BILLION + b"\0", {Reason.TRUNCATED}),
        ({"type": "map", "values": "null"}, BILLION + b"\0", {Reason.TRUNCATED}),
        ("bytes", BILLION, {Reason.TRUNCATED}),
        (LINKED, b"\2" * 5_000_000, {Reason.NOT_READABLE}),
        (TREE, b"\2" * 5_000_000, {Reason.NOT_READABLE}),
        ({"type": "array", "items": ["null", LINKED]}, b"\2" * 5_000_000, {Reason.NOT_READABLE}),
    ],
    ids=lambda value: ascii(value)[:40] if not isinstance(value, set) else "",
)
def test_a_bomb_under_a_schema_of_our_own_subject(
    registered: SchemaRegistryClient, type_: Any, value: bytes, reasons: set[Reason], name: str
) -> None:
    """Whoever registered it, and whether its field is one that the reader wants: a moment, little memory, a letter."""
    # Where it is wanted, and resolves to no string, nobody reads that far.
    reasons = reasons if name == "more" else {*reasons, Reason.NOT_READABLE}
    fields = [{"name": "table", "type": "int"}, {"name": name, "type": type_}]
    fields += [{"name": "pizza", "type": "string"}] if name == "more" else []
    schema = {"type": "record", "name": "Order", "namespace": "restaurant", "fields": fields}
    schema_id = registered.register_schema("pizza-order-value", Schema(json.dumps(schema), "AVRO"))
    with pytest.raises(Unreadable) as unreadable:
        RecordDeserializer(OrderV1, registered)(b"\0" + schema_id.to_bytes(4, "big") + b"\2" + value, CONTEXT)
    assert unreadable.value.reason in reasons
    text = json.dumps(schema)
    with pytest.raises(Unreadable) as unreadable:
        resolve(b"\2" + value, text, text)
    assert unreadable.value.reason in reasons


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("record", [OrderV1, OrderV2])
def test_a_string_that_claims_a_gigabyte_is_truncated(
    registered: SchemaRegistryClient, record: type[OrderV1 | OrderV2]
) -> None:
    """Memory is taken for what is there, not for what the bytes say."""
    schema_id = registered.lookup_schema("pizza-order-value", Schema(record.SCHEMA, "AVRO")).schema_id or 0
    with pytest.raises(Unreadable) as unreadable:
        RecordDeserializer(record, registered)(b"\0" + schema_id.to_bytes(4, "big") + BILLION + b"pizza", CONTEXT)
    assert unreadable.value.reason in {Reason.TRUNCATED, Reason.MALFORMED}


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
@pytest.mark.parametrize(
    "line",
    [
        b"[" * (LONGEST_LINE - 1),
        b'{"a":' * 100_000,
        b'"' * (LONGEST_LINE - 1),
        b"\0" * (LONGEST_LINE - 1),
        b"1" * 100_000,
    ],
    ids=["lists", "objects", "quotes", "zeros", "digits"],
)
def test_a_line_of_depth_or_length_is_a_bad_line(tmp_path: Path, name: str, line: bytes) -> None:
    """It is named, or the file is refused; nothing overflows."""
    path = tmp_path / name
    path.write_bytes(line + b"\n" + line)
    _read(path)


@settings(
    derandomize=True, max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.one_of(
        st.binary(max_size=400),
        st.lists(st.sampled_from([*b'{}[]",:\\\n\r\0\x1b\xff\xc3e1-']), max_size=200).map(bytes),
        st.tuples(st.binary(max_size=20), st.binary(max_size=20)).map(
            lambda ends: ends[0].join([b'{"pizza":"a","table":1}\n'] * 3) + ends[1]
        ),
    ),
    name=st.sampled_from(["orders.jsonl", "orders.csv"]),
)
def test_any_bytes_are_read_or_refused_in_words(tmp_path: Path, content: bytes, name: str) -> None:
    """No traceback, and no control character in what is said of them."""
    path = tmp_path / name
    path.write_bytes(content)
    for sentence in _read(path):
        assert sentence.isprintable(), sentence


def _read(path: Path) -> list[str]:
    """Check a file and read it; gives what is said of its bad lines, or of itself."""
    with closing(RecordFile(path, OrderV2)) as file:
        try:
            summary = file.check()
            assert summary.valid == len(list(itertools.chain.from_iterable(records for _, records in file.chunks())))
        except RecordFileError as error:
            return [str(error)]
        return summary.invalid
