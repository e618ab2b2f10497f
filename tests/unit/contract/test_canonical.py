"""When two schemas are the same, however they are written."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.avro_schema import parse
from contract.canonical import is_laid_out_alike, is_same
from contract.subjects import load_contract

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"
COIN: dict[str, Any] = {
    "type": "record",
    "name": "Coin",
    "namespace": "shop",
    "aliases": ["Piece"],
    "fields": [
        {"name": "cents", "type": "int", "default": 1, "minimum": 1},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A"}},
        {"name": "twin", "type": ["null", "Coin"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "more", "type": {"type": "array", "items": {"type": "map", "values": "shop.Kind"}}},
    ],
}


def changed(**words: Any) -> dict[str, Any]:
    """Return the coin with its first field, or itself, changed."""
    field = {**COIN["fields"][0], **words.pop("field", {})}
    return {**COIN, "fields": [field, *COIN["fields"][1:]], **words}


@pytest.mark.parametrize(
    "other",
    [
        {name: COIN[name] for name in reversed(COIN)},
        {"type": "record", "name": "shop.Coin", "aliases": ["Piece"], "fields": COIN["fields"]},
        changed(aliases=["shop.Piece"], namespace="shop"),
        changed(field={"type": {"type": "int"}, "order": "ascending", "aliases": []}),
        changed(field={"default": 1.0}),
    ],
    ids=["turned round", "dotted", "full alias", "what is so by itself", "another way to write a number"],
)
def test_what_is_written_otherwise_is_the_same(other: dict[str, Any]) -> None:
    assert is_same(parse(COIN), parse(other))
    assert is_laid_out_alike(parse(COIN), parse(other))


@pytest.mark.parametrize(
    "other",
    [
        changed(doc="x"),
        changed(aliases=[]),
        changed(field={"default": 2}),
        changed(field={"minimum": 0}),
        changed(field={"order": "ignore"}),
        changed(field={"aliases": ["c"]}),
    ],
    ids=["doc", "alias", "default", "limit", "order", "field alias"],
)
def test_what_says_anything_else_is_laid_out_alike_and_not_the_same(other: dict[str, Any]) -> None:
    assert not is_same(parse(COIN), parse(other))
    assert is_laid_out_alike(parse(COIN), parse(other))


@pytest.mark.parametrize(
    "other",
    [
        json.loads(json.dumps(COIN).replace('"Coin"', '"Token"')),
        json.loads(json.dumps(COIN).replace("shop", "shop2")),
        changed(field={"name": "cent"}),
        changed(field={"type": "long"}),
        changed(field={"type": ["int"]}),
        changed(field={"type": ["null", "int"]}),
        changed(field={"type": {"type": "int", "logicalType": "date"}}),
        changed(field={"type": {"type": "fixed", "name": "F", "size": 1}}),
        changed(fields=COIN["fields"][:-1]),
        changed(fields=[*COIN["fields"][1:], COIN["fields"][0]]),
        {"type": "array", "items": COIN},
    ],
    ids=["name", "namespace", "field", "type", "union", "null", "logical type", "fixed", "fewer", "order", "array"],
)
def test_what_has_other_bytes_or_names_is_neither(other: dict[str, Any]) -> None:
    assert not is_same(parse(COIN), parse(other))
    assert not is_laid_out_alike(parse(COIN), parse(other))


def test_a_schema_is_the_same_with_what_it_refers_to_written_into_it() -> None:
    """A registry may be given either."""
    purse = {"type": "record", "name": "shop.Purse", "fields": [{"name": "coin", "type": "shop.Coin"}]}
    whole = {**purse, "fields": [{"name": "coin", "type": COIN}]}
    assert is_same(parse(purse, {"coin": COIN}), parse(whole))
    assert not is_same(parse(purse, {"coin": changed(doc="x")}), parse(whole))


def test_schemas_that_nest_as_deep_as_java_takes_them_are_compared() -> None:
    def nested(kind: str) -> Any:
        schema: Any = kind
        for _ in range(990):
            schema = {"type": "array", "items": schema}
        return parse(schema)

    assert is_same(nested("int"), nested("int"))
    assert not is_same(nested("int"), nested("long"))


def test_no_two_released_versions_are_the_same() -> None:
    """Of the examples, each with itself alone."""
    for contract in (load_contract(), load_contract(SHOP)):
        files = [file for subject in contract.subjects.values() for file in subject.released]
        for one in files:
            assert [other.path for other in files if is_same(one.parsed, other.parsed)] == [one.path]
            assert is_same(parse(json.loads(json.dumps(one.schema)), _used(one)), one.parsed)


def _used(file: Any) -> dict[str, Any]:
    return {name: used.schema for name, used in file.bundle.items()}
