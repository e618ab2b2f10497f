"""Limits beside Avro's own words: what may be stated, and what then holds."""

from __future__ import annotations

from typing import Any

import pytest

from contract.avro_schema import SchemaError, parse
from contract.limits import allows, bounds


def of_field(type_: Any, **attributes: Any) -> dict[str, Any]:
    """Return a record of one field."""
    return {"type": "record", "name": "R", "fields": [{"name": "f", "type": type_, **attributes}]}


@pytest.mark.parametrize(
    ("type_", "attributes", "sentence"),
    [
        ("string", {"maxLength": "64"}, "maxLength is '64', and is to be a whole number"),
        ("string", {"maxLength": 64.5}, "maxLength is 64.5, and is to be a whole number"),
        ("string", {"maxLength": None}, "maxLength is None, and is to be a whole number"),
        ("string", {"minLength": -1}, "minLength is -1, and is to be 0 or more"),
        ("string", {"minLength": 3, "maxLength": 2}, "minLength 3 and maxLength 2 leave no value"),
        ("int", {"maximum": 3_000_000_000}, "maximum is 3000000000, and is to be 2147483647 or less"),
        ("int", {"minimum": 1.5}, "minimum is 1.5, and is to be a whole number"),
        ("long", {"minimum": True}, "minimum is True, and is to be a whole number"),
        ("double", {"minimum": "x"}, "minimum is 'x', and is to be a number"),
        ({"type": "array", "items": "int"}, {"maxItems": "3"}, "maxItems is '3', and is to be a whole number"),
        ({"type": "array", "items": {"type": "int", "minimum": "3"}}, {}, "minimum is '3', and is to be"),
        (["null", "string"], {"maxLength": -2}, "minLength 0 and maxLength -2 leave no value"),
    ],
)
def test_what_is_no_limit_is_refused_where_a_schema_is_edited(
    type_: Any, attributes: dict[str, Any], sentence: str
) -> None:
    """With the field's name; what was released is as it is."""
    schema = of_field(type_, **attributes)
    parse(schema)
    with pytest.raises(SchemaError, match="a limit of `f`") as refused:
        parse(schema, check_defaults=True)
    assert sentence in str(refused.value)
    assert refused.value.path == "/fields/0"


def test_what_says_nothing_of_a_type_is_no_limit_of_it() -> None:
    """Avro lets a schema say anything beside its own words."""
    parse(of_field("int", maxLength="long", maxItems=-1), check_defaults=True)


def test_the_nearest_limit_counts_and_else_avros_own() -> None:
    """A field's before its type's."""
    assert bounds("int", {"minimum": 1}, {"minimum": 5, "maximum": 9}) == (("minimum", 1), ("maximum", 9))
    assert bounds("int") == (("minimum", -(2**31)), ("maximum", 2**31 - 1))
    assert bounds("boolean", {"minimum": 1}) is None


@pytest.mark.parametrize(
    ("kind", "value", "stated", "allowed"),
    [
        ("string", "abc", {"maxLength": 3}, True),
        ("string", "abcd", {"maxLength": 3}, False),
        ("array", [1], {"minItems": 2}, False),
        ("int", 2**31, {}, False),
        ("double", 0.5, {"minimum": 0.5}, True),
        ("boolean", True, {"minimum": 5}, True),
    ],
)
def test_a_value_keeps_its_bounds(kind: str, value: Any, stated: dict[str, Any], *, allowed: bool) -> None:
    """By its size, where it has one."""
    assert allows(kind, value, stated) is allowed
