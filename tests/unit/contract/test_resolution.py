"""How a reader's schema reads what a writer's wrote: as Java Avro, and as fastavro where both say the same."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import struct
import uuid
from fractions import Fraction
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.avro_schema import parse
from contract.binary import parse_writer, resolve
from contract.errors import Reason, Unreadable
from contract.resolution import to_float
from contract.varint import varint


def record(*fields: dict[str, Any], name: str = "R", **attributes: Any) -> dict[str, Any]:
    """Give a record."""
    return {"type": "record", "name": name, "fields": list(fields), **attributes}


def field(type_: Any, name: str = "f", **attributes: Any) -> dict[str, Any]:
    """Give a field of a record."""
    return {"name": name, "type": type_, **attributes}


def read(data: bytes, writer: Any, reader: Any) -> Any:
    """Read the field `f` of one type as that of another."""
    written, expected = (json.dumps(record(field(type_))) for type_ in (writer, reader))
    return resolve(data, written, expected)["f"]


def refused(data: bytes, writer: Any, reader: Any) -> Unreadable:
    """Give the error with which a record is refused."""
    with pytest.raises(Unreadable) as unreadable:
        resolve(data, json.dumps(writer), json.dumps(reader))
    return unreadable.value


def nearest(number: int) -> Any:
    """Give the 32-bit float nearest to a number, the even one of two, among those that are near."""
    bits = struct.unpack("<i", struct.pack("<f", number))[0]
    near = [
        struct.unpack("<f", struct.pack("<i", bits + step))[0] for step in (-1, 0, 1) if bits + step >= 0 or bits < 0
    ]
    return min(near, key=lambda one: (abs(Fraction(one) - number), struct.unpack("<i", struct.pack("<f", one))[0] % 2))


class TestFloats:
    """Integers as floats are of 32 bits, wherever they are."""

    @pytest.mark.parametrize(
        ("type_", "number", "value"),
        [
            ("int", 16_777_217, 16_777_216.0),
            ("int", 2**31 - 1, 2_147_483_648.0),
            ("long", 2**63 - 1, 2.0**63),
            ("long", -(2**63), -(2.0**63)),
            # By way of a double it would be rounded twice: to the middle of two floats, and then to the even one.
            ("long", 2**60 + 2**36 + 1, 2.0**60 + 2.0**37),
            ("long", -(2**60) - 2**36 - 1, -(2.0**60) - 2.0**37),
            ("long", 2**60 + 2**36, 2.0**60),
        ],
    )
    def test_an_integer_is_rounded_once(self, type_: str, number: int, value: float) -> None:
        data = varint(number)
        assert read(data, type_, "float") == value
        assert read(b"\2" + data + b"\0", {"type": "array", "items": type_}, {"type": "array", "items": "float"}) == [
            value
        ]
        values = [{"type": "map", "values": one} for one in (type_, "float")]
        assert read(b"\2\2k" + data + b"\0", *values) == {"k": value}
        assert read(b"\2" + data, ["null", type_], ["null", "float"]) == value
        assert read(data, type_, ["null", "float"]) == value
        assert read(b"\2" + data, ["null", type_], "float") == value
        inner = [record(field(one, "g"), name="Inner") for one in (type_, "float")]
        assert read(data, *inner) == {"g": value}

    @settings(derandomize=True, max_examples=2_000)
    @given(
        st.one_of(
            st.integers(-(2**63), 2**63 - 1),
            st.builds(lambda n, k: n << k | 1, st.integers(2**24, 2**25), st.integers(1, 38)),
        )
    )
    def test_every_long_becomes_the_nearest_float(self, number: int) -> None:
        assert to_float(number) == nearest(number)

    @pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
    def test_an_integer_as_a_double_is_rounded_once(self, number: int) -> None:
        assert read(varint(number), "long", "double") == float(number)

    def test_a_float_is_the_same_as_a_double(self) -> None:
        assert read(struct.pack("<f", 0.1), "float", "double") == struct.unpack("<f", struct.pack("<f", 0.1))[0]

    @pytest.mark.parametrize(("type_", "default", "value"), [("float", 0.1, 0.10000000149011612), ("float", 16_777_217, 16_777_216.0), ("double", 0.1, 0.1)])  # fmt: skip  # noqa: E501
    def test_a_default_is_rounded_too(self, type_: str, default: float, value: float) -> None:
        reader = record(field(type_, default=default), field({"type": "array", "items": type_}, "g", default=[default]))
        assert resolve(b"", json.dumps(record()), json.dumps(reader)) == {"f": value, "g": [value]}


class TestDefaults:
    """What was not written."""

    @pytest.mark.parametrize(
        ("type_", "default", "value"),
        [
            ("bytes", "\u00ffa", b"\xffa"),
            ({"type": "fixed", "name": "F", "size": 2}, "\u00fe\u0000", b"\xfe\x00"),
            (["null", "string"], "x", "x"),
            (["string", "null"], None, None),
            ({"type": "map", "values": "bytes"}, {"k": "\u0001"}, {"k": b"\x01"}),
            (record(field("int", "g"), field("string", "h", default="y"), name="I"), {"g": 1}, {"g": 1, "h": "y"}),
            ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
            (
                {"type": "long", "logicalType": "timestamp-millis"},
                0,
                datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
            ),
        ],
    )
    def test_a_default_is_a_value_of_its_type(self, type_: Any, default: Any, value: Any) -> None:
        reader = json.dumps(record(field(type_, default=default)))
        assert resolve(b"", json.dumps(record()), reader) == {"f": value}

    @pytest.mark.parametrize(("type_", "default"), [("int", "x"), ("R", {}), (["null"], 1)])
    def test_a_default_that_is_none_is_not_readable(self, type_: Any, default: Any) -> None:
        error = refused(b"", record(), record(field(type_, default=default)))
        assert error.reason is Reason.NOT_READABLE
        assert "the default of `f` cannot be used: " in str(error)


class TestNames:
    """Which of the writer's is which of the reader's."""

    WRITER = record(field("int", "a"), field("int", "b"))

    def test_fields_by_name_and_by_alias_in_any_order(self) -> None:
        reader = record(field("long", "c", aliases=["a"]), field("int", "b"))
        reader["fields"].reverse()
        assert resolve(b"\2\4", json.dumps(self.WRITER), json.dumps(reader)) == {"c": 1, "b": 2}

    def test_a_name_goes_before_an_alias(self) -> None:
        reader = record(field("int", "a"), field("int", "c", aliases=["a"], default=9))
        assert resolve(b"\2\4", json.dumps(self.WRITER), json.dumps(reader)) == {"a": 1, "c": 9}

    @pytest.mark.parametrize(
        ("reader", "said"),
        [
            (record(field("int", "c", aliases=["a", "b"])), "its field `c` could be any of a, b"),
            (record(field("int", "c")), "record `R` has no field `c`, which has no default"),
            (record(field("boolean", "a")), "`boolean` cannot be read from `int`"),
            (record(field("int", "a"), name="S"), "record `S` cannot be read from record `R`"),
        ],
    )
    def test_what_does_not_resolve_is_not_readable(self, reader: Any, said: str) -> None:
        error = refused(b"\2\4", self.WRITER, reader)
        assert (error.reason, str(error)) == (Reason.NOT_READABLE, f"this reader's schema does not resolve it: {said}")

    def test_a_branch_that_nobody_writes_breaks_nothing(self) -> None:
        """Only the one that is met must be read."""
        assert read(b"\2\2", ["string", "int"], "int") == 1
        with pytest.raises(Unreadable, match="`int` cannot be read from `string`"):
            read(b"\0\2a", ["string", "int"], "int")

    def test_the_same_type_goes_before_a_promotion(self) -> None:
        assert type(read(b"\2", "int", ["double", "int"])) is int
        assert type(read(b"\2", "int", ["double", "long"])) is float

    def test_a_full_name_goes_before_a_short_one(self) -> None:
        inner = [record(field("int", name), name=f"{space}.P") for space, name in (("x", "a"), ("y", "b"))]
        assert read(b"\2\2", inner, inner) == {"b": 1}
        assert read(b"\2", inner[1], inner) == {"b": 1}

    def test_a_symbol_that_the_reader_lacks(self) -> None:
        """Is its default, or is not readable, unless it is dropped."""
        writer = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
        reader = {**writer, "symbols": ["A", "C"]}
        assert read(b"\0", writer, reader) == "A"
        assert read(b"\2", writer, {**reader, "default": "C"}) == "C"
        assert refused(b"\2", record(field(writer)), record(field(reader))).reason is Reason.NOT_READABLE
        assert (
            refused(b"\2", record(field(writer)), record(field({**reader, "default": "X"}))).reason
            is Reason.NOT_READABLE
        )
        assert resolve(b"\2", json.dumps(record(field(writer))), json.dumps(record())) == {}

    def test_a_fixed_of_another_size(self) -> None:
        sizes = [{"type": "fixed", "name": "F", "size": size} for size in (2, 3)]
        assert refused(b"ab", *[record(field(one)) for one in sizes]).reason is Reason.NOT_READABLE

    def test_a_recursive_type_is_read_as_another(self) -> None:
        writer = record(field("int"), field(["null", "R"], "next"), field("string", "dropped"))
        reader = record(field("float"), field(["null", "R"], "next"))
        data = b"\2\2\4\0\2y\2x"
        assert resolve(data, json.dumps(writer), json.dumps(reader)) == {"f": 1.0, "next": {"f": 2.0, "next": None}}


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
INTS = {"type": "array", "items": "int"}
UUID = uuid.UUID(int=1)


class TestLogicalTypes:
    """They are the reader's, as Java has it; those that are not valid are nobody's."""

    @pytest.mark.parametrize(
        ("writer", "reader", "data", "value"),
        [
            ("long", MILLIS, b"\2", EPOCH + datetime.timedelta(milliseconds=1)),
            (MILLIS, "long", b"\2", 1),
            ("int", MILLIS, b"\2", EPOCH + datetime.timedelta(milliseconds=1)),
            (MILLIS, "double", b"\2", 1.0),
            (DECIMAL, DECIMAL, b"\4\4\xd2", decimal.Decimal("12.34")),
            ("bytes", DECIMAL, b"\2\xff", decimal.Decimal("-0.01")),
            (DECIMAL, "bytes", b"\4\4\xd2", b"\4\xd2"),
            ({**DECIMAL, "scale": 1}, DECIMAL, b"\4\4\xd2", decimal.Decimal("123.4")),  # what the writer meant
            ({**DECIMAL, "scale": 9}, DECIMAL, b"\4\4\xd2", decimal.Decimal("12.34")),  # the writer's is none
            (DECIMAL, {**DECIMAL, "scale": 9}, b"\4\4\xd2", b"\4\xd2"),
            (DECIMAL, DECIMAL, b"\0", decimal.Decimal("0.00")),
            ({"type": "int", "logicalType": "uuid"}, {"type": "int", "logicalType": "uuid"}, b"\2", 1),
            ("string", {"type": "string", "logicalType": "uuid"}, b"\x48" + str(UUID).encode(), UUID),
            ({"type": "string", "logicalType": "date"}, {"type": "string", "logicalType": "date"}, b"\2a", "a"),
            ({**INTS, "logicalType": "date"}, INTS, b"\2\2\0", [1]),
            ("int", {"type": "int", "logicalType": "time-millis"}, b"\2", datetime.time(0, 0, 0, 1000)),
        ],
    )  # fmt: skip
    def test_values(self, writer: Any, reader: Any, data: bytes, value: Any) -> None:
        assert read(data, writer, reader) == value

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            (DECIMAL, b"\6\1\0\0"),  # 65536 has five digits
            (DECIMAL, varint(1_000_000) + b"\x7f" * 1_000_000),
            ({**DECIMAL, "precision": 2**31 - 1}, varint(1_000_000) + b"\x7f" * 1_000_000),
            (MILLIS, varint(2**63 - 1)),
            (MILLIS, varint(253_402_300_800_000)),
            ({"type": "long", "logicalType": "local-timestamp-micros"}, varint(-(2**63))),
            ({"type": "int", "logicalType": "date"}, varint(2**31 - 1)),
            ({"type": "int", "logicalType": "date"}, varint(-(2**31))),
            ({"type": "int", "logicalType": "time-millis"}, varint(-1)),
            ({"type": "int", "logicalType": "time-millis"}, varint(86_400_000)),
            ({"type": "long", "logicalType": "time-micros"}, varint(2**63 - 1)),
            ({"type": "string", "logicalType": "uuid"}, b"\2a"),
        ],
    )
    def test_what_python_cannot_hold_breaks_a_limit(self, type_: Any, data: bytes) -> None:
        """In a moment, also for a number of a million bytes."""
        error = refused(data, record(field(type_)), record(field(type_)))
        assert error.reason is Reason.BREAKS_LIMIT
        assert str(error).startswith("f is ")

    @pytest.mark.parametrize(
        ("type_", "is_valid"),
        [
            (DECIMAL, True),
            ({**DECIMAL, "scale": 4}, True),
            ({**DECIMAL, "scale": 5}, False),
            ({**DECIMAL, "scale": -1}, False),
            ({**DECIMAL, "scale": 1.0}, False),
            ({**DECIMAL, "precision": 0, "scale": 0}, False),
            ({**DECIMAL, "precision": 2**31}, False),
            ({"type": "string", "logicalType": "decimal", "precision": 4}, False),
            ({"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4}, True),
            ({"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 5}, False),
            ({"type": "fixed", "name": "F", "size": 0, "logicalType": "decimal", "precision": 1}, False),
            ({"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}, True),
            ({"type": "fixed", "name": "F", "size": 15, "logicalType": "uuid"}, False),
            ({"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}, True),
            ({"type": "int", "logicalType": "timestamp-millis"}, False),
            ({"type": "int", "logicalType": "of-our-own"}, True),
            ({"type": "int", "logicalType": ["date"]}, False),
        ],
    )  # fmt: skip
    def test_which_are_valid(self, type_: Any, *, is_valid: bool) -> None:
        """As Java's LogicalTypes decides it."""
        assert bool(parse(type_).logical) is is_valid


@pytest.mark.parametrize("reader", ["string", ["null", "string"]])
def test_bytes_that_are_no_text_are_no_string(reader: Any) -> None:
    error = refused(b"\2\xff", record(field("bytes")), record(field(reader)))
    assert (error.reason, str(error)) == (Reason.BREAKS_LIMIT, "f is b'\\xff', which is no text in UTF-8")


MONEY = record(field(DECIMAL, "amount"), name="shop.Money")
INVOICE = record(field("shop.Money"), field({"type": "array", "items": "shop.Money"}, "g"), name="Invoice")
TOTAL = {"amount": decimal.Decimal("12.34")}


@pytest.mark.parametrize("money", [MONEY, {**MONEY, "fields": [field({**DECIMAL, "scale": 9}, "amount")]}])
def test_a_writer_with_references(money: Any) -> None:
    """With a logical type that is not valid, too."""
    data, value = b"\4\4\xd2\2\4\4\xd2\0", {"f": TOTAL, "g": [TOTAL]}
    reader = record(field(MONEY), field({"type": "array", "items": "shop.Money"}, "g"), name="Invoice")
    assert resolve(data, parse_writer(json.dumps(INVOICE), {"m": json.dumps(money)}), json.dumps(reader)) == value


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "3", '"strin"', '{"type":"record","name":"R","fields":[{"name":"f","type":"X"}]}']
)
def test_a_writers_schema_that_is_none_is_not_readable(text: str) -> None:
    with pytest.raises(Unreadable) as unreadable:
        resolve(b"", text, json.dumps(record()))
    assert unreadable.value.reason is Reason.NOT_READABLE


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=70),
    "bytes": st.binary(max_size=70),
}


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.data())
def test_what_fastavro_writes_and_reads_is_read_so(data: st.DataObject) -> None:
    """Fields kept, dropped, in another order; optional ones, arrays and maps of each type."""
    kinds = data.draw(st.lists(st.sampled_from([*VALUES]), min_size=1, max_size=5))
    fields, values = [], {}
    for number, kind in enumerate(kinds):
        form = data.draw(st.sampled_from(["plain", "array", "map", "union"] if kind != "null" else ["plain", "array"]))
        strategy = VALUES[kind]
        forms = {
            "plain": (kind, strategy),
            "array": ({"type": "array", "items": kind}, st.lists(strategy, max_size=3)),
            "map": ({"type": "map", "values": kind}, st.dictionaries(st.text(max_size=3), strategy, max_size=3)),
            "union": (["null", kind], st.one_of(st.none(), strategy)),
        }
        type_, strategy = forms[form]
        fields.append(field(type_, f"f{number}"))
        values[f"f{number}"] = data.draw(strategy)
    writer = record(*fields)
    reader = record(*data.draw(st.permutations(fields))[: data.draw(st.integers(0, len(fields)))])
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, writer, values)
    buffer.seek(0)
    expected = fastavro.schemaless_reader(buffer, writer, reader)
    assert resolve(buffer.getvalue(), json.dumps(writer), json.dumps(reader)) == expected
