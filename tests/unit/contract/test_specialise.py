"""The generated encoders and decoders against fastavro's bytes and the careful reader: equal in bytes and refusals."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.binary import decode, encode
from contract.codec import NOT_PLAIN
from contract.codec import encode as codec_encode
from contract.codegen import generate
from contract.errors import Reason, Refused, Unreadable
from contract.order import Order, OrderV1
from contract.records import Record
from contract.subjects import SchemaFile, load_contract
from contract.varint import TABLE, read_varint, varint

ORDER = load_contract().subject("order")
LENGTHS = [0, 1, 2, 63, 64, 65, 127, 128, 8191, 8192, 8193]
NUMBERS = [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
ALPHABETS = ["a", "é", "ピ", "\U0001f355", "\x00", "\ud800"]

PRIMITIVES = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["int", "long"])}, optional={"minimum": st.integers(-70, 70)}),
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": st.integers(0, 3), "maxLength": st.integers(3, 9000)}
    ),
    st.fixed_dictionaries({"type": st.just("bytes")}, optional={"maxLength": st.integers(0, 9000)}),
    st.fixed_dictionaries({"type": st.sampled_from(["float", "double"])}, optional={"maximum": st.integers(-9, 9)}),
    st.just({"type": "boolean"}),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**32), 2**32)),
    "long": st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**64), 2**64)),
    "string": st.one_of(
        st.builds(lambda letter, length: letter * length, st.sampled_from(ALPHABETS), st.sampled_from(LENGTHS)),
        st.text(max_size=80),
    ),
    "bytes": st.one_of(st.builds(bytes, st.sampled_from(LENGTHS)), st.binary(max_size=80)),
    "float": st.floats(),
    "double": st.floats(),
    "boolean": st.booleans(),
}
ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.binary(max_size=3), st.floats())


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Records of primitives with limits, in any order."""
    fields = draw(st.lists(PRIMITIVES, min_size=1, max_size=5))
    return {"type": "record", "name": "R", "fields": [{"name": f"f{i}", **one} for i, one in enumerate(fields)]}


def make(*schemas: dict[str, Any]) -> type[Record]:
    """Generate the types of a schema's versions, import them, and give the newest."""
    versions = tuple(
        SchemaFile(Path(f"r.v{number}.avsc"), number, json.dumps(schema, separators=(",", ":")))
        for number, schema in enumerate(schemas, 1)
    )
    current = SchemaFile(Path("r.avsc"), None, versions[-1].text)
    readers = {f"reader-{version.number}": version.number or 0 for version in versions}
    subject = replace(ORDER, current=current, released=versions, readers=readers)
    module = types.ModuleType("generated_r")
    sys.modules["generated_r"] = module
    exec(compile(generate(subject), "generated_r", "exec"), module.__dict__)  # noqa: S102 - what it is for
    record: type[Record] = module.R
    return record


def fast_encode(value: Record) -> bytes | None:
    """Encode as the serializer does first."""
    try:
        return value.encode_fast(b"")
    except NOT_PLAIN:
        return None


def fast_decode(record: type[Record], data: bytes, writer: str = "") -> Record | None:
    """Decode as the deserializer does first."""
    decode_fast = record.DECODERS.get(writer or record.SCHEMA)
    try:
        value: Record | None = decode_fast(data, 0) if decode_fast is not None else None
    except NOT_PLAIN:
        return None
    return value


def reference_encode(value: Record) -> bytes | None:
    """Encode with fastavro, None for what is refused."""
    try:
        return encode(value)
    except Refused:
        return None


def reference_decode(record: type[Record], data: bytes, writer: str = "") -> Record | None:
    """Decode the careful way, None for what is refused."""
    try:
        return decode(data, record, writer or record.SCHEMA)
    except Unreadable:
        return None


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_what_the_fast_encoder_takes_is_what_fastavro_writes(data: st.DataObject) -> None:
    """For any schema and value: the same bytes, or None; and never bytes for what is refused."""
    record = make(data.draw(schemas()))
    for _ in range(5):
        values = [data.draw(st.one_of(VALUES[field["type"]], ODD)) for field in json.loads(record.SCHEMA)["fields"]]
        value = record(*values)
        fast = fast_encode(value)
        assert fast is None or fast == reference_encode(value)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_the_fast_decoder_reads_what_was_written_and_nothing_that_the_careful_reader_refuses(
    data: st.DataObject,
) -> None:
    """Whole bytes give the record; cut, lengthened or changed ones what the careful reader makes of them, or None."""
    record = make(data.draw(schemas()))
    values = [data.draw(VALUES[field["type"]]) for field in json.loads(record.SCHEMA)["fields"]]
    written = reference_encode(record(*values))
    if written is None:
        return
    assert repr(fast_decode(record, written)) == repr(reference_decode(record, written))
    for _ in range(5):
        bad = bytearray(written)
        if bad:
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        changed = bytes(bad[: data.draw(st.integers(0, len(bad)))]) + data.draw(st.binary(max_size=3))
        fast = fast_decode(record, changed)
        assert fast is None or repr(fast) == repr(reference_decode(record, changed))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_what_another_version_wrote_is_read_as_it_resolves(data: st.DataObject) -> None:
    """Fields that only one version has are passed over or filled in, and the reader's limits are those that count."""
    # A default of bytes has no Python type.
    drawn = [one for one in data.draw(schemas())["fields"] if not {"minLength", "minimum"} & {*one}]
    drawn = [one for one in drawn if one["type"] != "bytes"]
    defaults = {"int": 7, "long": 7, "string": "x", "float": 0.5, "double": 0.5, "boolean": True}
    fields = [
        {**one, "default": one.get("maximum", "" if "maxLength" in one else defaults[one["type"]])} for one in drawn
    ]
    kept = data.draw(st.lists(st.sampled_from(range(len(fields))), unique=True) if fields else st.just([]))
    limits = [{word: limit for word, limit in one.items() if not word.startswith("max")} for one in fields]
    chosen = [data.draw(st.sampled_from([fields[index], limits[index]])) for index in kept]
    old, new = [{"type": "record", "name": "R", "fields": one} for one in data.draw(st.permutations([fields, chosen]))]
    values = {field["name"]: data.draw(VALUES[field["type"]]) for field in old["fields"]}
    written = reference_encode(make(old)(**values))
    record = make(old, new)
    text = json.dumps(old, separators=(",", ":"))
    if old["fields"] and new["fields"]:
        assert text in record.DECODERS
    if written is None:
        return
    read = reference_decode(record, written, text)
    assert not (old["fields"] and new["fields"]) or repr(fast_decode(record, written, text)) == repr(read)
    for _ in range(5):
        bad = bytearray(written)
        if bad:
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        changed = bytes(bad[: data.draw(st.integers(0, len(bad)))]) + data.draw(st.binary(max_size=3))
        fast = fast_decode(record, changed, text)
        assert fast is None or repr(fast) == repr(reference_decode(record, changed, text))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("letter", ["a", "é", "ピ", "\U0001f355"])
@pytest.mark.parametrize("limit", [{}, {"maxLength": 64}, {"maxLength": 9000}])
def test_strings_of_every_length_of_their_length(length: int, letter: str, limit: dict[str, int]) -> None:
    """Where the length's own bytes become one more, 64 and 8192, both ways are equal."""
    record = make({"type": "record", "name": "R", "fields": [{"name": "f", "type": "string", **limit}]})
    value = record(letter * length)
    written = reference_encode(value)
    assert fast_encode(value) == written
    if written is not None:
        assert fast_decode(record, written) == value


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_at_the_ends(number: int) -> None:
    """Every number of a long is written as the specification says, and read back."""
    record = make({"type": "record", "name": "R", "fields": [{"name": "f", "type": "long"}]})
    written = reference_encode(record(number))
    assert written is not None
    assert varint(number) == written == fast_encode(record(number))
    assert read_varint(written, 0, 64)[1] == len(written)
    assert fast_decode(record, written) == record(number)
    if 0 <= number < len(TABLE):
        assert TABLE[number] == written


def test_a_float_beyond_its_32_bits_is_left_to_fastavro() -> None:
    """Packing it raises what is neither a ValueError nor struct's own error."""
    record = make({"type": "record", "name": "R", "fields": [{"name": "f", "type": "float"}]})
    assert fast_encode(record(3.4028235677973366e38)) is None


def test_orders_take_the_fast_way() -> None:
    """Else nothing here would show anything about the product."""
    for order in (OrderV1("napoli", 3), Order("napoli", 10_000, "x" * 36), Order("é" * 64, 2**31 - 1)):
        fast = fast_encode(order)
        assert fast is not None
        assert fast == reference_encode(order)
        assert fast_decode(type(order), fast) == order
    newest = fast_encode(Order("napoli", 3, "x"))
    assert newest is not None
    assert fast_decode(OrderV1, newest, Order.SCHEMA) == OrderV1("napoli", 3)


@pytest.mark.parametrize(
    "other", [{"type": "long"}, {"type": "int", "aliases": ["f"], "name": "g", "default": 1}, {"name": "g"}]
)
def test_what_needs_more_than_passing_over_is_left_to_the_careful_reader(other: dict[str, Any]) -> None:
    """A promotion, an alias, a field without a default."""
    first = {"name": "f", "type": "int"}
    record = make(*({"type": "record", "name": "R", "fields": [one]} for one in (first, {**first, **other})))
    assert list(record.DECODERS) == [record.SCHEMA]


NAMES = [
    "data", "at", "byte", "size", "end", "cls", "frame", "len", "type", "bool", "int", "float", "str", "bytes",
    "list", "dict", "classmethod", "TABLE", "MAGNITUDE", "NON_NEGATIVE", "FLOAT", "DOUBLE", "varint", "read_varint",
    "Record", "Meta", "field", "Annotated", "Literal", "Self", "datetime", "decimal", "uuid", "f", "f_utf8",
    "decode_fast", "value", "at_utf8",
]  # fmt: skip


def test_no_field_hides_what_the_methods_use() -> None:
    """Also all at once, each with a default, which is in the class under its name."""
    for type_, value in (("int", 9_000), ("string", "x" * 9_000), ("float", 0.5), ("bytes", b"y"), ("boolean", True)):
        for fields in ([[name] for name in NAMES], [NAMES])[type_ == "int" :]:
            for names in fields:
                default = {} if type_ == "bytes" else {"default": value}
                record = make(
                    {
                        "type": "record",
                        "name": "R",
                        "fields": [{"name": one, "type": type_, **default} for one in names],
                    }
                )
                made = record(*[value] * len(names))
                written = fast_encode(made)
                assert written is not None
                assert written == reference_encode(made)
                assert fast_decode(record, written) == made


LONGEST = {"int": 5, "long": 10}  # bytes, as Java reads them


@pytest.mark.parametrize("type_", LONGEST)
@pytest.mark.parametrize("limits", [{}, {"minimum": 0}])
@pytest.mark.parametrize("kept", [True, False])
def test_numbers_of_more_bytes_or_bits_than_their_type_are_malformed(
    type_: str, limits: dict[str, int], *, kept: bool
) -> None:
    """Where they are read and where they are passed over, fast and carefully."""
    fields = [{"name": "it", "type": type_, **limits}, {"name": "end", "type": "boolean"}]
    wide = {"type": "record", "name": "R", "fields": fields}
    record = make(wide, {**wide, "fields": fields[not kept :]})
    writer = next(iter(record.DECODERS))
    longest, bits = LONGEST[type_], 32 if type_ == "int" else 64

    def read(number: bytes) -> Record | None:
        data = number + b"\x01"
        fast, careful = fast_decode(record, data, writer), reference_decode(record, data, writer)
        assert fast == careful
        return careful

    zero = b"\x80" * (longest - 1) + b"\0"
    assert read(zero) is not None
    assert read(b"\x80" + zero) is None
    most = varint((1 << bits - 1) - 1)
    assert read(most) is not None
    assert len(most) == longest
    assert read(most[:-1] + bytes([most[-1] << 1 | 1])) is None
    assert read(most[:-1]) is None


@pytest.mark.parametrize("cut", range(1, 19))
def test_a_record_cut_in_what_is_passed_over_is_truncated(cut: int) -> None:
    """As in what is read: nobody knows how much is missing."""
    fields = [{"name": "it", "type": "int"}]
    wide = [
        *fields,
        *({"name": f"f{n}", "type": type_} for n, type_ in enumerate(["string", "double", "bytes", "int"])),
    ]
    record = make({"type": "record", "name": "R", "fields": wide}, {"type": "record", "name": "R", "fields": fields})
    writer = next(iter(record.DECODERS))
    data = b"\x02\x06abc" + bytes(8) + b"\x04xy\x80\x01"
    assert fast_decode(record, data, writer) == record(1)
    assert fast_decode(record, data[:-cut], writer) is None
    with pytest.raises(Unreadable) as unreadable:
        decode(data[:-cut], record, writer)
    assert unreadable.value.reason is Reason.TRUNCATED


def test_a_float_that_holds_no_such_number_is_refused() -> None:
    """Fastavro writes infinity without a word; what is infinite already may be written."""
    record = make({"type": "record", "name": "R", "fields": [{"name": "f", "type": "float"}]})
    with pytest.raises(Refused, match="too large"):
        codec_encode(record(1e300))
    assert codec_encode(record(float("inf"))) == bytes.fromhex("0000807f")
