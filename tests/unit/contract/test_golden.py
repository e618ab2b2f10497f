"""Golden bytes: the two ends of what a schema allows, and the files that were released with them."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import fastavro
import pytest

from contract.avro_schema import parse
from contract.binary import resolve
from contract.errors import ContractError
from contract.golden import MOST_BYTES, Golden, decode_golden, golden_path, make_golden, read_golden, write_golden
from contract.subjects import SchemaFile, Subject


def record(*types: Any, **attributes: Any) -> dict[str, Any]:
    """Give a record with a field of each type, `f0`, `f1`, ...; attributes go to every field."""
    fields = [{"name": f"f{place}", "type": type_, **attributes} for place, type_ in enumerate(types)]
    return {"type": "record", "name": "R", "fields": fields}


def ends(type_: Any, **limits: Any) -> tuple[Any, Any]:
    """Give the smallest and the largest value of a type."""
    least, *_, most = [*make_golden(record(type_, **limits))] * 2
    return least.value["f0"], most.value["f0"]


def test_released_golden_bytes_are_never_made_anew(subject: Subject) -> None:
    """What making them gives today is what was committed: schema, limits and encoder are as they were."""
    for version in subject.released:
        assert read_golden(version) == make_golden(version.schema)


@pytest.mark.parametrize(
    ("type_", "limits", "expected"),
    [
        ("null", {}, (None, None)),
        ("boolean", {}, (False, True)),
        ("int", {}, (-(2**31), 2**31 - 1)),
        ("long", {}, (-(2**63), 2**63 - 1)),
        ("int", {"minimum": 3, "maximum": 5}, (3, 5)),
        ("double", {"minimum": -2, "maximum": 2}, (-2.0, 2.0)),
        ("string", {"minLength": 1, "maxLength": 2}, ("a", "éé")),
        ("bytes", {"minLength": 1, "maxLength": 2}, (b"\x00", b"\xff\xff")),
        (["null", "int"], {"minimum": 1}, (None, 2**31 - 1)),
        ({"type": "array", "items": "boolean", "minItems": 1, "maxItems": 2}, {}, ([False], [True, True])),
        ({"type": "map", "values": "boolean"}, {}, ({}, {"key": True})),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, {}, ("A", "B")),
        ({"type": "fixed", "name": "F", "size": 2}, {}, (b"\x00\x00", b"\xff\xff")),
        ({"type": "int", "logicalType": "date"}, {}, (-719_162, 2_932_896)),
        ({"type": "int", "logicalType": "time-millis"}, {}, (0, 86_399_999)),
        ({"type": "long", "logicalType": "timestamp-millis"}, {}, (-62_135_596_800_000, 253_402_300_799_999)),
    ],
)
def test_the_ends_of_each_type(type_: Any, limits: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """Of dates and times only those that Python has."""
    assert ends(type_, **limits) == expected


def test_every_golden_record_is_read_back_as_it_was() -> None:
    schema = record("int", {"type": "array", "items": {"type": "fixed", "name": "F", "size": 1}}, ["null", "F"])
    for golden in make_golden(schema):
        assert fastavro.schemaless_reader(io.BytesIO(golden.avro), schema, None) == golden.value


def test_a_record_inside_itself_has_an_end() -> None:
    linked = record(["null", "R"], {"type": "array", "items": "R"}, {"type": "map", "values": "R"})
    least, most = make_golden(linked)
    assert least.value == {"f0": None, "f1": [], "f2": {}}
    assert most.value == {"f0": least.value, "f1": [least.value] * 3, "f2": {"key": least.value}}


def test_every_branch_every_symbol_and_both_ends_of_every_limit_are_met() -> None:
    """At least once each, in as many records as the place with the most of them has."""
    color = {"type": "enum", "name": "Color", "symbols": ["RED", "GREEN", "BLUE"]}
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "int", "minimum": 3, "maximum": 5}]}
    schema = record(
        ["null", "boolean", color], "Color", {"type": "array", "items": inner}, {"type": "map", "values": "Color"}
    )
    golden = make_golden(schema)
    assert [one.value["f0"] for one in golden] == [None, False, True, "RED", "GREEN", "BLUE"]
    assert {one.value["f1"] for one in golden} == {"RED", "GREEN", "BLUE"}
    assert {item["x"] for one in golden for item in one.value["f2"]} == {3, 5}
    assert {len(one.value["f2"]) for one in golden} == {0, 1, 3}
    assert {value for one in golden for value in one.value["f3"].values()} == {"RED", "GREEN", "BLUE"}
    assert len({one.avro for one in golden}) == len(golden)


def test_a_branch_is_written_as_itself_where_another_could_hold_it() -> None:
    """A library that looks for a branch takes the first that fits."""
    golden = make_golden(record(["int", "long", "string", {"type": "enum", "name": "E", "symbols": ["A"]}]))
    assert [one.avro[0] // 2 for one in golden] == [0, 0, 1, 1, 2, 2, 3]


def chain(length: int, *, optional: bool) -> dict[str, Any]:
    """Give records of two fields that each hold the next one."""
    schema: Any = {"type": "record", "name": f"R{length}", "fields": [{"name": "x", "type": "int"}]}
    for number in range(length - 1, 0, -1):
        uses: list[Any] = [schema, f"R{number + 1}"]
        fields = [{"name": f"f{n}", "type": ["null", use] if optional else use} for n, use in enumerate(uses)]
        schema = {"type": "record", "name": f"R{number}", "fields": fields}
    return dict(schema)


@pytest.mark.parametrize("length", [19, 60])
def test_values_that_double_with_each_record(length: int) -> None:
    """Where they need not be there, each is met once; where they must, there is no golden record."""
    optional = make_golden(chain(length, optional=True))
    assert len(optional) == length + 1
    assert sum(len(one.avro) for one in optional) < 10_000
    assert str(optional).count("'x'") >= 2  # the last of the chain, with both ends of its field
    assert make_golden(chain(length, optional=False)) == ()


def test_the_golden_bytes_of_a_very_large_schema_are_bounded() -> None:
    """A thousand records in records, each with optional fields and an enum of its own."""

    def nested(number: int, depth: int) -> dict[str, Any]:
        symbols = [f"SYMBOL_{n}" for n in range(number % 20 + 1)]
        enum = {"type": "enum", "name": f"E{number}", "symbols": symbols}
        inner = [["null", nested(10 * number + n, depth - 1)] for n in range(10)] if depth else []
        types = [enum, ["null", "string"], {"type": "array", "items": "long"}, *inner]
        fields = [{"name": f"f{n}", "type": type_, "doc": "x" * 200} for n, type_ in enumerate(types)]
        return {"type": "record", "name": f"N{number}", "fields": fields}

    schema = nested(1, 3)
    assert len(json.dumps(schema)) > 386_000
    golden = make_golden(schema)
    assert len(golden) > 2
    assert sum(len(one.avro) for one in golden) <= MOST_BYTES


def enum(count: int) -> dict[str, Any]:
    """Give an enum, for whose symbols there are as many records."""
    return {"type": "enum", "name": "E", "symbols": [f"S{n}" for n in range(count)]}


def empties(count: int) -> list[dict[str, Any]]:
    """Give records without fields."""
    return [{"type": "record", "name": f"X{n}", "fields": []} for n in range(count)]


ITEM = {"type": "record", "name": "I", "fields": [{"name": f"f{n}", "type": "null"} for n in range(1000)]}
SCHEMAS_WITHOUT_BYTES = {
    "null": record(*["null"] * 6000, enum(2000)),
    "fixed": record({"type": "fixed", "name": "F", "size": 0}, *["F"] * 3000, enum(2000)),
    "records": record(*empties(3000), enum(2000)),
    "a long name": {
        "type": "record",
        "name": "R",
        "fields": [{"name": "n" * 100_000, "type": "null"}, {"name": "e", "type": enum(2000)}],
    },
    "items": record({"type": "array", "items": "null", "minItems": 4000}, enum(2000)),
    "records as items": record({"type": "array", "items": ITEM, "minItems": 15}, enum(2000)),
    "arrays as items": record(
        {"type": "array", "items": {"type": "array", "items": "null", "minItems": 100}, "minItems": 100}, enum(2000)
    ),
}


@pytest.mark.parametrize("kind", SCHEMAS_WITHOUT_BYTES)
def test_values_without_bytes_are_bounded_too(kind: str) -> None:
    """All of a version's golden records together: as written, 6,000 nulls and an enum of 2,000 took 178 MB and 20 s."""
    golden = make_golden(SCHEMAS_WITHOUT_BYTES[kind])
    assert golden
    assert sum(len(json.dumps(one.value, default=bytes.hex)) for one in golden) < 10_000_000


def test_a_record_that_is_too_large_leaves_room_for_those_behind_it() -> None:
    many = {"type": "array", "items": "string", "minItems": 1, "maxItems": 20_000}
    golden = make_golden(record(many, enum(5)))
    assert {one.value["f1"] for one in golden} == {f"S{n}" for n in (0, 2, 3, 4)}


@pytest.mark.parametrize(
    "type_",
    [
        {"type": "fixed", "name": "F", "size": 2**30},
        {"type": "array", "items": "string", "minItems": 10**9},
        {"type": "array", "items": "null", "minItems": 10**9},
    ],
)
def test_a_value_that_must_be_too_large_has_no_golden_bytes(type_: Any, tmp_path: Path) -> None:
    """An empty list is then what its file holds, and only then."""
    assert make_golden(record(type_)) == ()
    version = SchemaFile(tmp_path / "thing.v1.avsc", 1, json.dumps(record(type_)))
    assert write_golden(version).read_text("utf-8") == "[]\n"
    assert read_golden(version) == ()
    with pytest.raises(ContractError, match="holds no golden records; restore the file"):
        read_golden(SchemaFile(version.path, 1, json.dumps(record("int"))))
    assert make_golden(record(["null", type_]))[0].value == {"f0": None}


def test_a_limit_that_no_float_has_ends_at_the_last_one() -> None:
    assert ends("float", maximum=1e300)[1] == struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


@pytest.mark.parametrize("items", ["null", {"type": "record", "name": "E", "fields": []}])
def test_no_golden_record_has_more_values_without_bytes_than_a_message_may(items: Any) -> None:
    schema = record({"type": "array", "items": items, "maxItems": 100_000})
    for golden in make_golden(schema):
        resolve(golden.avro, json.dumps(schema), json.dumps(schema))


def test_a_record_that_cannot_end_has_no_golden_bytes() -> None:
    assert make_golden(record("R")) == ()


def test_they_are_written_beside_the_schema_and_read_again(tmp_path: Path) -> None:
    schema = record("bytes", "string", maxLength=3)
    parse(schema)
    version = SchemaFile(tmp_path / "thing.v1.avsc", 1, json.dumps(schema))
    path = write_golden(version)
    assert path == golden_path(version) == tmp_path / "thing.v1.golden.json"
    assert [golden.avro for golden in read_golden(version)] == [golden.avro for golden in make_golden(schema)]


def test_missing_golden_bytes_name_their_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"thing\.v1\.golden\.json.*; restore the file$"):
        read_golden(SchemaFile(tmp_path / "thing.v1.avsc", 1, "{}"))


def test_a_name_without_a_namespace_is_found_from_inside_one() -> None:
    """As Java finds it; fastavro does not."""
    inner = {"type": "record", "name": "a.Inner", "fields": [{"name": "f", "type": "F"}]}
    least, _ = make_golden(record({"type": "fixed", "name": "F", "size": 2}, inner))
    assert least.avro == bytes(4)


@pytest.mark.parametrize(
    ("avro", "reason"),
    [
        (b"\x02", None),
        (b"", "its 0 bytes end inside the record"),
        (b"\x02\x00\x00", "2 bytes are left behind the record"),
        (b"\xff" * 12, ""),
    ],
)
def test_golden_bytes_are_really_decoded(avro: bytes, reason: str | None) -> None:
    """All of them, and no more than there are; what fastavro says where they are nothing."""
    version = SchemaFile(Path("thing.v1.avsc"), 1, json.dumps(record("int")))
    said = decode_golden(Golden({"f0": 1}, avro), version, version)
    assert said == reason if reason != "" else said
