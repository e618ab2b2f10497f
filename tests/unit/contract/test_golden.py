"""Golden bytes: the two ends of what a schema allows, and the files that were released with them."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from contract.avro_schema import parse
from contract.errors import ContractError
from contract.golden import Golden, decode_golden, golden_path, make_golden, read_golden, write_golden
from contract.subjects import SchemaFile, Subject


def record(*types: Any, **attributes: Any) -> dict[str, Any]:
    """Give a record with a field of each type, `f0`, `f1`, ...; attributes go to every field."""
    fields = [{"name": f"f{place}", "type": type_, **attributes} for place, type_ in enumerate(types)]
    return {"type": "record", "name": "R", "fields": fields}


def ends(type_: Any, **limits: Any) -> tuple[Any, Any]:
    """Give the smallest and the largest value of a type."""
    least, most = make_golden(record(type_, **limits))
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
    assert most.value == {"f0": None, "f1": [], "f2": {}}


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


def test_a_schema_that_fastavro_does_not_take_is_a_sentence() -> None:
    """Java finds a name without namespace from inside a namespace, fastavro does not."""
    inner = {"type": "record", "name": "a.Inner", "fields": [{"name": "f", "type": "F"}]}
    with pytest.raises(ContractError, match=r"fastavro does not take the schema: a\.F"):
        make_golden(record({"type": "fixed", "name": "F", "size": 2}, inner))


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
