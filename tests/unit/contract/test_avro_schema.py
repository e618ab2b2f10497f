"""What is an Avro schema, what its names mean, and what is refused and where."""

from typing import Any

import pytest

from contract.avro_schema import MAX_DEPTH, SchemaError, parse


def record(*fields: Any, name: str = "R", **attributes: Any) -> dict[str, Any]:
    """Return a record."""
    return {"type": "record", "name": name, "fields": list(fields), **attributes}


def field(type_: Any, name: str = "f", **attributes: Any) -> dict[str, Any]:
    """Return a field of a record."""
    return {"name": name, "type": type_, **attributes}


FIXED = {"type": "fixed", "name": "F", "size": 2}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}


def test_namespace() -> None:
    """A name without dots is in the namespace of the type around it."""
    parsed = parse(record(field(FIXED), field("F", "g"), field("a.F", "h"), namespace="a"))
    assert parsed.name == "a.R"
    assert {each.type.name for each in parsed.fields.values()} == {"a.F"}


def test_full_name() -> None:
    """A name with dots has its namespace in it."""
    parsed = parse(record(field({**FIXED, "name": "b.F", "namespace": "c"}), name="a.R", namespace="d"))
    assert (parsed.name, parsed.fields["f"].type.name) == ("a.R", "b.F")


def test_empty_namespace() -> None:
    """The empty namespace is none."""
    parsed = parse(record(field({**FIXED, "namespace": ""}), namespace="a"))
    assert parsed.fields["f"].type.name == "F"


def test_name_without_namespace() -> None:
    """A name that is not found in its namespace may be one without, as Java has it."""
    inner = record(field("F"), name="a.Inner")
    parsed = parse(record(field(FIXED), field(inner, "g")))
    assert parsed.fields["g"].type.fields["f"].type is parsed.fields["f"].type


def test_identity() -> None:
    """A name is the very type that it names."""
    parsed = parse(record(field(["null", "R"]), field({"type": "R"}, "g")))
    assert parsed.fields["f"].type.parts[1] is parsed.fields["g"].type is parsed


def test_references() -> None:
    """A type of another file is used by its name, and knows its file."""
    money = record(field("long"), name="shop.Money")
    order = record(field("shop.Money"))
    parsed = parse(order, {"money.avsc": money})
    assert (parsed.fields["f"].type.name, parsed.fields["f"].type.at) == ("shop.Money", "money.avsc#")
    assert parsed.fields["f"].type.fields["f"].at == "money.avsc#/fields/0"


def test_aliases() -> None:
    """Aliases are full names."""
    assert parse({**FIXED, "name": "a.F", "aliases": ["G", "b.H"]}).aliases == ("a.G", "b.H")


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        (5, "", "a type is a name"),
        (None, "", "a type is a name"),
        ({}, "", "a type is a name"),
        ({"type": ["int"]}, "", "a type is a name"),
        ("strin", "", "unknown type `strin`"),
        ("record", "", "unknown type `record`"),
        (record(field("R2"), field(record(name="R2"), "g")), "/fields/0/type", "unknown type `R2`"),
        ({"type": "array"}, "/items", "a type is a name"),
        ({"type": "map"}, "/values", "a type is a name"),
        (["int", ["null"]], "/1", "as `union` here"),
        (["int", {"type": "int"}], "/1", "a union may hold no other union and no type twice, as `int` here"),
        ([FIXED, "F"], "/1", "as fixed `F` here"),
        ({"type": "fixed", "size": 1}, "", "a fixed has a `name` of letters, digits and _, not ``"),
        (record(name="pizza-order"), "", "a record has a `name` .* not `pizza-order`"),
        (record(name="R", namespace="a..b"), "", r"not `a\.\.b\.R`"),
        (record(name="R", namespace="1"), "", r"not `1\.R`"),
        (record(name="int"), "", "the name `int` is taken"),
        (record(field(FIXED), field(FIXED, "g")), "/fields/1/type", "the name `F` is taken"),
        ({**FIXED, "size": None}, "", "the `size` of `F` is a number of bytes, not None"),
        ({**FIXED, "size": -1}, "", "not -1"),
        ({**FIXED, "size": True}, "", "not True"),
        ({**ENUM, "symbols": None}, "", "`symbols` is a list of names"),
        ({"type": "enum", "name": "E"}, "", "`symbols` is a list of names"),
        ({**ENUM, "symbols": ["A", 1]}, "", "`symbols` is a list of names"),
        ({**ENUM, "symbols": ["A", "A"]}, "/symbols", "the symbols of `E` are names, each once"),
        ({**ENUM, "symbols": ["A-B"]}, "/symbols", "the symbols of `E` are names, each once"),
        ({**ENUM, "aliases": "F"}, "", "`aliases` is a list of names"),
        ({"type": "record", "name": "R"}, "", "record `R` has no list of `fields`"),
        (record("int"), "/fields/0", "a field has a `name` of its own .* not None"),
        (record(field("int", "a b")), "/fields/0", "not 'a b'"),
        (record(field("int"), field("string")), "/fields/1", "not 'f'"),
        (record({"name": "f"}), "/fields/0/type", "a type is a name"),
        (record(field("int", aliases=[1])), "/fields/0", "`aliases` is a list of names"),
    ],
)
def test_no_schema(schema: Any, path: str, message: str) -> None:
    """What is no schema is refused where it is wrong."""
    with pytest.raises(SchemaError, match=message) as error:
        parse(schema)
    assert error.value.path == path
    assert str(error.value).endswith(f"(at {path or '/'})")


def test_depth() -> None:
    """Nesting has a limit, which is Java's."""

    def nested(levels: int) -> dict[str, Any] | str:
        schema: dict[str, Any] | str = "int"
        for _ in range(levels):
            schema = {"type": "array", "items": schema}
        return schema

    parse(nested(MAX_DEPTH))
    with pytest.raises(SchemaError, match="deeper than 1000 levels"):
        parse(nested(MAX_DEPTH + 1))


UNION = ["null", "int", {"type": "array", "items": "string"}]
INNER = record(field("int"), field("string", "g", default=""), name="Inner")


@pytest.mark.parametrize(
    ("type_", "fitting", "unfitting"),
    [
        ("null", [None], ["", False, 0]),
        ("boolean", [True, False], [0, None, "true"]),
        ("int", [0, -(2**31), 2**31 - 1], [2**31, -(2**31) - 1, 1.0, True, "1", None]),
        ("long", [2**31, -(2**63), 2**63 - 1], [2**63, -(2**63) - 1, 1.5, False]),
        ("float", [0, 1.5, -1], ["1.5", True, None]),
        ("double", [0, 1.5], ["NaN", False]),
        ("string", ["", "x"], [0, None, ["x"]]),
        ("bytes", ["", "\u00ff"], [0, None]),
        (FIXED, ["xx"], [0, None]),
        (ENUM, ["A", "B"], ["C", "", 0, None]),
        ({"type": "array", "items": "int"}, [[], [1, 2]], [["x"], [1, None], {}, 1]),
        ({"type": "map", "values": "int"}, [{}, {"x": 1}], [{"x": "y"}, [], 1]),
        (UNION, [None, 1, ["x"]], ["x", 1.5, [1]]),
        (INNER, [{"f": 1}, {"f": 1, "g": "x"}], [{}, {"f": 1, "g": 2}, {"g": "x"}, []]),
    ],
)
def test_default(type_: Any, fitting: list[Any], unfitting: list[Any]) -> None:
    """A default is a value of its type; of any branch of a union."""
    for default in fitting:
        parse(record(field(type_, default=default)), check_defaults=True)
    for default in unfitting:
        with pytest.raises(SchemaError, match=r"the default .* of `f` is no value of") as error:
            parse(record(field(type_, default=default)), check_defaults=True)
        assert error.value.path == "/fields/0"


@pytest.mark.parametrize(
    ("type_", "fitting", "unfitting"),
    [
        ("bytes", ["\u00ff\u0000"], ["\u0100", "a\u20ac"]),
        (FIXED, ["\u00ff\u0000"], ["", "x", "xxx", "\u0100x"]),
        ({"type": "array", "items": FIXED}, [["xx"]], [["xx", "x"]]),
        ("float", [3.4e38, -3.4e38], [3.5e38, -3.5e38, 10**39, float("nan"), float("inf")]),
        ("double", [1e308, 2**62], [float("nan"), float("inf"), -float("inf"), 10**400]),
        (
            ["bytes", "string"],
            ["\u00ff", None][:1],
            ["\u0100"],
        ),  # as Java reads it: of the first branch that takes text
        (["string", "bytes"], ["\u0100"], [1]),
    ],
)
def test_a_default_that_stands_for_another_value(type_: Any, fitting: list[Any], unfitting: list[Any]) -> None:
    """Java's parser takes it, and its reader makes question marks, zeros or an infinity of it."""
    for default in fitting:
        parse(record(field(type_, default=default)), check_defaults=True)
    for default in unfitting:
        parse(record(field(type_, default=default)))
        with pytest.raises(SchemaError, match=r"the default .* of `f` is no value of"):
            parse(record(field(type_, default=default)), check_defaults=True)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (record(field("int"), aliases=["old-order"]), "the alias 'old-order' of `R` is no name"),
        (record(field("int"), aliases=["a..b"]), "the alias 'a..b' of `R` is no name"),
        (record(field("int"), aliases=[""]), "the alias '' of `R` is no name"),
        ({**ENUM, "aliases": ["1E"]}, "the alias '1E' of `E` is no name"),
        ({**FIXED, "aliases": ["größe"]}, "the alias 'größe' of `F` is no name"),
        (record(field("int", aliases=["old-table"])), "the alias 'old-table' of `f` is no name"),
        (record(field("int", aliases=["a.b"])), "the alias 'a.b' of `f` is no name"),
        (record(field("int", order="up")), "the order of `f` is ascending, descending or ignore, not 'up'"),
        (record(field("int", order=None)), "the order of `f` is ascending, descending or ignore, not None"),
        (record(field("int", order=["ignore"])), "the order of `f` is ascending, descending or ignore"),
        (record(namespace="a-b", name="x.R"), "the `namespace` of record `x.R` is names with dots between them"),
        (record(namespace=3), "the `namespace` of record `R` is names with dots between them, not 3"),
        ({**FIXED, "size": 2**31}, "the `size` of fixed `F` is 2147483648, and is to be 2147483647 or less"),
        (record(field("int", name="größe")), "a field has a `name` of its own of letters, digits and _"),
        (record(name="Größe"), "a record has a `name` of letters, digits and _"),
        (record(namespace="größe"), "a record has a `name` of letters, digits and _"),
        ({**ENUM, "symbols": ["É"]}, "the symbols of `E` are names, each once"),
    ],
)
def test_what_only_a_new_schema_must_not_have(schema: Any, said: str) -> None:
    """No registry takes it, wherever in the schema; what was released, or wrote a message, is read as it is."""
    for whole in (schema, record(field({"type": "array", "items": [schema]}), name="Around")):
        parse(whole)
        with pytest.raises(SchemaError, match=said):
            parse(whole, check_defaults=True)


@pytest.mark.parametrize("order", ["ascending", "descending", "ignore"])
def test_what_a_new_schema_may_have(order: str) -> None:
    parse(
        record(field("int", order=order, aliases=["g", "_h1"]), namespace="a.b", aliases=["C", "d.E"]),
        check_defaults=True,
    )
    parse(record(namespace=""), check_defaults=True)


def test_enum_default() -> None:
    """The default of an enum is one of its symbols."""
    parse({**ENUM, "default": "A"}, check_defaults=True)
    with pytest.raises(SchemaError, match="the default 'X' is no symbol of enum `E`"):
        parse({**ENUM, "default": "X"}, check_defaults=True)


def test_endless_default() -> None:
    """A default that begins itself again has no end and is refused."""
    with pytest.raises(SchemaError, match="is no value of record `R`"):
        parse(record(field("R", default={})), check_defaults=True)


def test_released_default() -> None:
    """What was released may have wrong defaults: a registry looks at them only when a schema is new."""
    assert parse(record(field("int", default="x"))).fields["f"].default == "x"
