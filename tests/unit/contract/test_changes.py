"""A change of a schema in words."""

from typing import Any

import pytest

from contract.avro_schema import parse
from contract.changes import describe_changes


def record(*fields: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """Return a record."""
    return {"type": "record", "name": "R", "fields": list(fields), **attributes}


PIZZA = {"name": "pizza", "type": "string", "maxLength": 64}
ENUM = {"type": "enum", "name": "E", "symbols": ["A"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
SUB = record({"name": "street", "type": "string"}, name="Address")
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
NEXT = {"name": "next", "type": ["null", "R"]}


@pytest.mark.parametrize(
    ("old", "new", "phrases"),
    [
        (
            record(PIZZA),
            record(PIZZA, {"name": "order_id", "type": "string", "default": ""}),
            ('added `order_id` string default ""',),
        ),
        (record(PIZZA, {"name": "x", "type": ["null", "int"]}), record(PIZZA), ("removed `x` null or int",)),
        (record(PIZZA), record({**PIZZA, "doc": "Its name."}), ("documentation only",)),
        (
            record(PIZZA),
            record(PIZZA, {"name": "b", "type": "int", "aliases": ["never_there"]}),
            ("added `b` int",),
        ),
        (record(PIZZA), record({**PIZZA, "name": "dish", "aliases": ["pizza"]}), ("renamed `pizza` to `dish`",)),
        (
            record(PIZZA),
            record({"name": "pizza", "type": {"type": "array", "items": "bytes"}, "maxLength": 9}),
            ("`pizza` was string and is array of bytes", "`pizza` maxLength was 64 and is 9"),
        ),
        (
            record(PIZZA),
            record({**PIZZA, "minLength": 1, "default": "x"}),
            ("`pizza` minLength was not set and is 1", '`pizza` default was not set and is "x"'),
        ),
        (
            record({"name": "a", "type": SUB}),
            record({"name": "a", "type": record({"name": "zip", "type": FIXED}, name="Address")}),
            ("added `a.zip` F (2 bytes)", "removed `a.street` string"),
        ),
        (record({"name": "e", "type": ENUM}), record({"name": "e", "type": {**ENUM, "symbols": ["A", "B"]}}),
         ("`e` was E (A) and is E (A, B)",)),
        (record(PIZZA), record(PIZZA, namespace="n"), ("the schema was R and is n.R",)),
        (record(NEXT), record(NEXT, {"name": "m", "type": {"type": "map", "values": "R"}}), ("added `m` map of R",)),
        (record(PIZZA), record({**PIZZA, "aliases": ["dish"]}), ("`pizza` has the alias dish",)),
        (record({**PIZZA, "aliases": ["dish"]}), record(PIZZA), ("`pizza` lost the alias dish",)),
        (
            record({"name": "at", "type": ["null", MILLIS]}),
            record({"name": "at", "type": ["null", {**MILLIS, "logicalType": "timestamp-micros"}]}),
            ('`at` logicalType was "timestamp-millis" and is "timestamp-micros"',),
        ),
        (
            record({"name": "tags", "type": {"type": "array", "items": {"type": "string", "maxLength": 5}}}),
            record({"name": "tags", "type": {"type": "array", "items": {"type": "string", "maxLength": 50}}}),
            ("`tags` items' maxLength was 5 and is 50",),
        ),
        (
            record({"name": "e", "type": {**ENUM, "symbols": ["A", "B"], "default": "A"}, "default": "B"}),
            record({"name": "e", "type": {**ENUM, "symbols": ["A", "B"], "default": "B"}, "default": "B"}),
            ("`e` symbols' default was \"A\" and is \"B\"",),
        ),
        ("int", "long", ("the schema was int and is long",)),
        (None, "int", ("the first version",)),
    ],
)  # fmt: skip
def test_change(old: Any, new: Any, phrases: tuple[str, ...]) -> None:
    """A phrase for each, in the order of the fields."""
    assert describe_changes(None if old is None else parse(old), parse(new)) == phrases
