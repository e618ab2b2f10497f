"""What Avro binary is read and what is refused, against a decoder written for these tests alone, and case by case."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.binary import resolve
from contract.errors import Reason, Unreadable
from contract.varint import varint
from contract.wire import FREE_VALUES, MAX_NESTING


def record(*types: Any, name: str = "R") -> dict[str, Any]:
    """Give a record with a field of each type, `f0`, `f1`, ..."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{n}", "type": type_} for n, type_ in enumerate(types)],
    }


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def refused(schema: Any, data: bytes, reader: Any = None) -> Unreadable:
    """Give the error with which bytes are refused."""
    with pytest.raises(Unreadable) as unreadable:
        resolve(data, json.dumps(schema), json.dumps(reader or schema))
    return unreadable.value


NONE = record()
"""As a reader: all is dropped."""

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
LINKED = record("int", ["null", "R"])
TREE = record(array("R"))


@pytest.mark.parametrize("reader", [None, NONE], ids=["read", "dropped"])
class TestRefused:
    """Each refusal, where the value is read and where it is dropped."""

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            (["string", "null"], b"\x01"),  # the last branch, were it counted from the end
            (["string", "null"], b"\x04"),
            (["string", "null"], varint(-(2**31))),
            ([], b"\x00"),
            (ENUM, b"\x01"),
            (ENUM, b"\x04"),
            ("boolean", b"\x02"),
            ("boolean", b"\x7f"),
            ("boolean", b"\xff"),
            ("int", b"\x80" * 5 + b"\x00"),  # Java reads five bytes at most
            ("int", b"\x80" * 4 + b"\x10"),  # and drops what is above 32 bits
            ("int", varint(2**31)),
            ("int", varint(-(2**31) - 1)),
            ("long", b"\x80" * 10 + b"\x00"),
            ("long", b"\x80" * 9 + b"\x02"),
            ("string", b"\x01" + b"x" * 9),
            ("bytes", varint(-(2**63)) + b"x" * 9),
            (array("int"), b"\x01\x03"),  # a block of -1 bytes
            (array("int"), b"\x01\x04\x02\x00"),  # a block of two bytes, and one of an item
            (array("int"), b"\x03\x02\x02\x02\x00"),
            ({"type": "map", "values": "int"}, b"\x02\x01a\x02\x00"),
        ],
    )
    def test_malformed(self, reader: Any, type_: Any, data: bytes) -> None:
        for more in (b"", b"\0" * 40):  # nor is it read as something longer
            error = refused(record(type_), data + more, reader)
            assert error.reason is Reason.MALFORMED
            assert str(error).startswith("no writer of its schema wrote these bytes: ")

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            (["null", "int"], b"\x02\x80\x01"),
            (ENUM, b"\x02"),
            (FIXED, b"ab"),
            ("boolean", b"\x01"),
            ("int", varint(2**31 - 1)),
            ("long", varint(-(2**63))),
            ("float", bytes(4)),
            ("double", bytes(8)),
            ("string", b"\x06abc"),
            ("bytes", varint(70) + bytes(70)),
            (array("int"), b"\x04\x02\x02\x02\x02\x00"),
            (array("int"), b"\x03\x04\x02\x02\x02\x02\x00"),
            ({"type": "map", "values": "string"}, b"\x02\x02k\x02v\x00"),
            (record("int", "string", name="Inner"), b"\x02\x04xy"),
        ],
    )
    def test_truncated(self, reader: Any, type_: Any, data: bytes) -> None:
        """Wherever it is cut, also behind what the reader wants."""
        schema, data = json.dumps(record("int", type_)), b"\x02" + data
        wanted = json.dumps(reader or json.loads(schema))
        resolve(data, schema, wanted)
        for end in range(1, len(data)):
            error = refused(json.loads(schema), data[:end], reader)
            assert (error.reason, str(error)) == (Reason.TRUNCATED, f"its {end} bytes end inside the record")

    @pytest.mark.parametrize("count", [10**9, 2**63 - 1, -(10**9), -(2**63), FREE_VALUES + 100])
    @pytest.mark.parametrize("items", ["null", {**FIXED, "size": 0}, record(name="E"), record("null", name="E")])
    def test_values_without_bytes(self, reader: Any, items: Any, count: int) -> None:
        """As many as a message of its length may have."""
        block = varint(count) + (b"\0" if count < 0 else b"") + b"\0"
        error = refused(record(array(items)), block, reader)
        assert error.reason is Reason.MALFORMED
        assert str(error) == (
            f"it has more values without bytes than the {FREE_VALUES + len(block)} "
            "that a message of its length may have"
        )

    def test_values_without_bytes_are_counted_in_all_blocks(self, reader: Any) -> None:
        """Else a message had as many blocks as bytes, and each its thousands."""
        assert refused(record(array("null")), varint(1_000) * 10 + b"\0", reader).reason is Reason.MALFORMED
        resolve(
            varint(1_000) * 4 + b"\0", json.dumps(record(array("null"))), json.dumps(reader or record(array("null")))
        )

    def test_records_that_double_at_each_level(self, reader: Any) -> None:
        """Not a byte, and a billion values."""
        schema = record("null", name="R30")
        for level in range(29, 0, -1):
            schema = record(schema, f"R{level + 1}", name=f"R{level}" if level > 1 else "R")
        assert refused(schema, b"", reader).reason is Reason.MALFORMED

    @pytest.mark.parametrize(
        ("schema", "opening", "closing", "containers"), [(LINKED, b"\2\2", b"\2\0", 1), (TREE, b"\2", b"\0", 2)]
    )
    def test_nesting(self, reader: Any, schema: Any, opening: bytes, closing: bytes, containers: int) -> None:
        """Also a million levels, which would end a process that called itself for each."""
        text, most = json.dumps(schema), MAX_NESTING // containers
        ends = b"\0" * most if schema is TREE else b""
        resolve(opening * (most - 1) + closing + ends[1:], text, json.dumps(reader or schema))
        for levels in (most, 1_000_000):
            error = refused(schema, opening * levels + closing + ends, reader)
            assert error.reason is Reason.NOT_READABLE
            assert str(error).startswith("it nests deeper than 500 records, arrays and maps, at byte ")

    def test_items_that_cannot_be_there(self, reader: Any) -> None:
        assert refused(record(array("int")), varint(10**9) + bytes(100), reader).reason is Reason.TRUNCATED
        assert refused(record({"type": "map", "values": "null"}), varint(10**9), reader).reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("type_", "data", "value"),
    [
        ("int", b"\x80\x80\x80\x80\x00", 0),  # of more bytes than it needs, as Java takes it
        ("long", b"\x82" + b"\x80" * 8 + b"\x00", 1),
        ("string", b"\x82\x00a", "a"),
        (array("int"), b"\x03\x04\x02\x04\x02\x06\x00", [1, 2, 3]),
        (array("null"), b"\x05\x00\x00", [None] * 3),
        (["null", "string"], b"\x82\x00\x02a", "a"),
        (array(array("boolean")), b"\x04\x02\x01\x00\x00\x00", [[True], []]),
        (
            {"type": "map", "values": {"type": "map", "values": "int"}},
            b"\x02\x02a\x02\x02b\x02\x00\x00",
            {"a": {"b": 1}},
        ),
    ],
)
def test_read(type_: Any, data: bytes, value: Any) -> None:
    schema = json.dumps(record(type_, "int"))
    assert resolve(data + b"\x0e", schema, schema) == {"f0": value, "f1": 7}
    dropping = json.dumps({"type": "record", "name": "R", "fields": [{"name": "f1", "type": "int"}]})
    assert resolve(data + b"\x0e", schema, dropping) == {"f1": 7}


class Refused(Exception):  # noqa: N818 - of the model
    """The model does not read it."""


class Model:
    """Avro binary read as the specification says it, by calls of itself: slow, and of nothing that the product uses."""

    def __init__(self, data: bytes) -> None:
        self.rest = data
        self.names: dict[str, Any] = {}
        self.free = len(data) + FREE_VALUES

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.rest):
            raise Refused
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def number(self, longest: int, bits: int) -> int:
        digits: list[int] = []
        while not digits or digits[-1] > 127:
            if len(digits) == longest:
                raise Refused
            digits += self.take(1)
        number = sum((digit & 127) << 7 * place for place, digit in enumerate(digits))
        if number >= 2**bits:
            raise Refused
        return -(number + 1) // 2 if number % 2 else number // 2

    def index(self, most: int) -> int:
        index = self.number(5, 32)
        if not 0 <= index < most:
            raise Refused
        return index

    def blocks(self, item: Any) -> list[Any]:
        items: list[Any] = []
        while count := self.number(10, 64):
            end = None
            if count < 0:
                count, size = -count, self.number(10, 64)
                if not 0 <= size <= len(self.rest):
                    raise Refused
                end = len(self.rest) - size
            items += [item() for _ in range(count)]
            if end not in {None, len(self.rest)}:
                raise Refused
        return items

    def value(self, type_: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - one for each type
        if isinstance(type_, list):
            branch = type_[self.index(len(type_))]
            return None if branch == "null" else self.value(branch)
        if isinstance(type_, str) and type_ in self.names:
            return self.value(self.names[type_])
        kind = type_ if isinstance(type_, str) else type_["type"]
        if isinstance(type_, dict) and "name" in type_:
            self.names[type_["name"]] = type_
        match kind:
            case "null":
                return self.spend(None)
            case "boolean":
                return bool(self.byte_of({0, 1}))
            case "int":
                return self.number(5, 32)
            case "long":
                return self.number(10, 64)
            case "float" | "double":
                return struct.unpack("<f" if kind == "float" else "<d", self.take(4 if kind == "float" else 8))[0]
            case "bytes":
                return self.take(self.number(10, 64))
            case "string":
                try:
                    return self.take(self.number(10, 64)).decode()
                except UnicodeDecodeError:
                    raise Refused from None
            case "fixed":
                return self.take(type_["size"]) if type_["size"] else self.spend(b"")
            case "enum":
                return type_["symbols"][self.index(len(type_["symbols"]))]
            case "array":
                return self.blocks(lambda: self.value(type_["items"]))
            case "map":
                return dict(self.blocks(lambda: (self.value("string"), self.value(type_["values"]))))
            case _:
                if not type_["fields"]:
                    self.spend(None)
                return {field["name"]: self.value(field["type"]) for field in type_["fields"]}

    def byte_of(self, allowed: set[int]) -> int:
        (byte,) = self.take(1)
        if byte not in allowed:
            raise Refused
        return byte

    def spend(self, value: Any) -> Any:
        self.free -= 1
        if self.free < 0:
            raise Refused
        return value


PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]


def numbered(type_: Any, numbers: Iterator[int]) -> Any:
    """Give each name of a type a number."""
    if isinstance(type_, dict):
        is_named = "symbols" in type_ or "size" in type_ or "fields" in type_
        named = {key: numbered(value, numbers) for key, value in type_.items()}
        return {**named, "name": f"T{next(numbers)}"} if is_named else named
    return [numbered(one, numbers) for one in type_] if isinstance(type_, list) else type_


@st.composite
def types(draw: st.DrawFn, depth: int = 3) -> Any:
    """Any type; names are to be numbered."""
    kinds = [*PRIMITIVES, "enum", "fixed", *(["array", "map", "union", "record"] * 2 if depth else [])]
    kind = draw(st.sampled_from(kinds))
    name = "T"
    match kind:
        case "enum":
            return {"type": "enum", "name": name, "symbols": ["A", "B", "C"][: draw(st.integers(1, 3))]}
        case "fixed":
            return {"type": "fixed", "name": name, "size": draw(st.integers(0, 3))}
        case "array" | "map":
            return {"type": kind, "items" if kind == "array" else "values": draw(types(depth - 1))}
        case "union":
            return draw(st.lists(st.sampled_from(PRIMITIVES), max_size=3, unique=True))
        case "record":
            return record(*draw(st.lists(types(depth - 1), max_size=3)), name=name)
        case primitive:
            return primitive


@settings(max_examples=1_500, derandomize=True, deadline=None)
@given(
    type_=types().map(lambda type_: numbered(type_, itertools.count())),
    data=st.one_of(
        st.binary(max_size=24),
        st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 0x7F, 0x80, 0x81, 0x82, 0xFF, 97]), max_size=24).map(bytes),
    ),
)
def test_any_bytes_are_what_the_model_makes_of_them(type_: Any, data: bytes) -> None:
    """The same value, or refused by both; and dropped it ends where the model ends."""
    model = Model(data)
    try:
        value, is_whole = model.value(type_), not model.rest
    except Refused:
        value, is_whole = None, False
    if is_whole:
        text = json.dumps(record(type_))
        assert same(resolve(data, text, text)["f0"], value)
        assert resolve(data, text, json.dumps(NONE)) == {}
    else:
        refused(record(type_), data)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where NaN is itself."""
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)
