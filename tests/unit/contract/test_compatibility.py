"""Schema resolution as the gate judges it: what each rule refuses, where Java Avro says it is, and what mends it."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.avro_schema import Schema, SchemaError, parse
from contract.compatibility import Incompatibility, Level, Rule, compare, required_reads

EVOLUTION = Path(__file__).parents[1] / "evolution"


class Field(dict[str, Any]):
    """A field of a record, as JSON has it."""


def field(name: str, type_: Any, **attributes: Any) -> Field:
    """Return a field of a record."""
    return Field(name=name, type=type_, **attributes)


def record(*fields: Any, name: str = "R", **attributes: Any) -> dict[str, Any]:
    """Return a record; where a field's name is no matter, its type is enough."""
    whole = [each if isinstance(each, Field) else field(f"f{place}", each) for place, each in enumerate(fields)]
    return {"type": "record", "name": name, "fields": whole, **attributes}


def enum(*symbols: str, name: str = "E", **attributes: Any) -> dict[str, Any]:
    """Return an enum."""
    return {"type": "enum", "name": name, "symbols": list(symbols), **attributes}


def fixed(size: int, name: str = "F", **attributes: Any) -> dict[str, Any]:
    """Return a fixed."""
    return {"type": "fixed", "name": name, "size": size, **attributes}


def found(reader: Schema, writer: Schema) -> list[tuple[str, str]]:
    """Return what Java Avro tells: rules and locations."""
    return [(each.rule, each.path) for each in compare(reader, writer)]


def the_one(reader: Schema, writer: Schema) -> Incompatibility:
    """Return the only break there is."""
    (only,) = compare(reader, writer)
    return only


def judge(folder: str) -> list[str]:
    """Return the rules that the new schema in the folder breaks as a reader of the old one."""
    old, new = (json.loads((EVOLUTION / folder / f"{each}.avsc").read_text("utf-8")) for each in ("old", "new"))
    return [each.rule for each in compare(reader=new, writer=old)]


@pytest.mark.parametrize("rule", Rule)
def test_rule(rule: Rule) -> None:
    """The folder named after a rule breaks that rule, and no other."""
    assert judge(rule.lower().replace("_", "-")) == [rule]


@pytest.mark.parametrize("rule", Rule)
def test_mended_rule(rule: Rule) -> None:
    """Its mended twin breaks none."""
    assert judge(rule.lower().replace("_", "-") + "-mended") == []


READABLE = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "string": {"bytes"},
    "bytes": {"string"},
}
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


@pytest.mark.parametrize("reader", PRIMITIVES)
@pytest.mark.parametrize("writer", PRIMITIVES)
def test_promotion(reader: str, writer: str) -> None:
    """A primitive type reads itself and what is promoted to it."""
    readable = reader == writer or writer in READABLE.get(reader, ())
    assert found(reader, writer) == ([] if readable else [("TYPE_MISMATCH", "/")])


def test_primitive_object() -> None:
    """A primitive type may be written as an object."""
    assert found({"type": "long"}, "int") == []


def test_logical_types() -> None:
    """Logical types are ignored, as by Java; the gate has a rule of its own for them."""
    money = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    assert found(money, {**money, "precision": 4, "scale": 0}) == []
    assert found({"type": "long", "logicalType": "timestamp-millis"}, "int") == []


def test_missing_default() -> None:
    """A field that is not written needs a default."""
    reader = record(field("pizza", "string"), field("note", "string"))
    broken = the_one(reader, record(field("pizza", "string")))
    assert broken == Incompatibility(
        rule=Rule.READER_FIELD_MISSING_DEFAULT_VALUE,
        path="/fields/1",
        message="the reader's field `note` is not written and has no default",
        fix_reader="give `note` a default",
        fix_writer="keep the field `note`",
        reader_at="/fields/1",
        writer_at="/fields",
    )


def test_null_default() -> None:
    """Null is a default."""
    assert found(record(field("note", "null", default=None)), record()) == []


def test_removed_field() -> None:
    """A field that is not read is skipped."""
    assert found(record(), record("string")) == []


def test_field_order() -> None:
    """Fields may change places."""
    a, b = field("a", "int"), field("b", "string")
    assert found(record(a, b), record(b, a)) == []


def test_field_type() -> None:
    """Paths count the reader's fields; the pointers find the type in each of the documents."""
    a, b = field("a", "int"), field("b", "string")
    broken = the_one(record(b, a), record(field("a", "string"), b))
    assert (broken.rule, broken.path) == ("TYPE_MISMATCH", "/fields/1/type")
    assert (broken.reader_at, broken.writer_at) == ("/fields/1/type", "/fields/0/type")
    assert broken.message == "the reader's `int` cannot be read from the writer's `string`"
    assert broken.fix_reader == "keep `string`, and add a new field with a default for `int`"
    assert broken.fix_writer == "keep `int`, and add a new field for `string`"


def test_every_break() -> None:
    """Every break is found, in the order of the reader."""
    reader = record("int", enum("A"), fixed(4), field("new", "int"), name="New")
    writer = record("string", enum("A", "B"), fixed(8))
    assert found(reader, writer) == [
        ("NAME_MISMATCH", "/name"),
        ("TYPE_MISMATCH", "/fields/0/type"),
        ("MISSING_ENUM_SYMBOLS", "/fields/1/type/symbols"),
        ("FIXED_SIZE_MISMATCH", "/fields/2/type/size"),
        ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/3"),
    ]


def test_field_alias() -> None:
    """A renamed field is read by its alias."""
    old = field("note", "string")
    assert found(record(field("remark", "string", aliases=["x", "note", "note"])), record(old)) == []
    assert found(record(field("remark", "int", aliases=["note"])), record(old)) == [("TYPE_MISMATCH", "/fields/0/type")]


def test_alias_of_the_writer() -> None:
    """Only the reader's aliases matter."""
    old = field("note", "string", aliases=["remark"])
    assert found(record(field("remark", "string")), record(old)) == [
        ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/0")
    ]


def test_ambiguous_field() -> None:
    """A field with two sources is refused: Java throws, and a registry answers that they are incompatible."""
    writer = record(field("a", "int"), field("b", "int"))
    broken = the_one(record(field("b", "int", aliases=["a"])), writer)
    assert (broken.rule, broken.path) == ("NAME_MISMATCH", "/fields/0")
    assert broken.message == "the reader's field `b` could be any of the writer's `b` and `a`"
    assert (broken.fix_reader, broken.fix_writer) == ("drop the aliases of `b`", "write only one of `b` and `a`")


def test_enum_default_and_missing_field() -> None:
    """Java compares an enum that has a default with the record; what a person is told is the field."""
    broken = the_one(record(field("size", enum("S", default="S"))), record())
    assert (broken.rule, broken.path) == ("TYPE_MISMATCH", "/fields/0/type")
    assert (broken.reader_at, broken.fix_reader) == ("/fields/0", "give `size` a default")


def test_error() -> None:
    """An error is a record."""
    assert found(record("int"), {**record("int"), "type": "error"}) == []


def test_namespace() -> None:
    """Names are compared without their namespaces."""
    assert found(record(name="a.R"), record(name="R", namespace="b")) == []


def test_name() -> None:
    """Another name is refused."""
    broken = the_one(record(name="a.New"), record(name="a.Old"))
    assert (broken.rule, broken.path) == ("NAME_MISMATCH", "/name")
    assert broken.message == "the reader's record `a.New` is not the writer's record `a.Old`"
    assert broken.fix_reader == "give record `a.New` the alias `a.Old`"
    assert broken.fix_writer == "keep the name `a.New`"
    assert (broken.reader_at, broken.writer_at) == ("/name", "/name")


@pytest.mark.parametrize("alias", ["a.Old", "Old"])
def test_alias(alias: str) -> None:
    """An alias without dots is in the namespace of its type."""
    assert found(record(name="a.New", aliases=[alias]), record(name="a.Old")) == []


def test_alias_of_another_namespace() -> None:
    """An alias counts with its namespace."""
    assert found(record(name="a.New", aliases=["Old"]), record(name="b.Old")) == [("NAME_MISMATCH", "/name")]


@pytest.mark.parametrize(("new", "old"), [(enum("A", name="N"), enum("A")), (fixed(1, name="N"), fixed(1))])
def test_names_of_enum_and_fixed(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Enums and fixeds have names that count, too."""
    assert found(new, old) == [("NAME_MISMATCH", "/name")]
    assert found({**new, "aliases": [old["name"]]}, old) == []


def test_missing_symbols() -> None:
    """Symbols that the reader does not know are refused."""
    broken = the_one(enum("A"), enum("A", "B", "C"))
    assert (broken.rule, broken.path) == ("MISSING_ENUM_SYMBOLS", "/symbols")
    assert broken.message == "the reader's enum `E` has neither the writer's `B`, `C` nor a default"
    assert broken.fix_reader == "keep `B`, `C`, or give enum `E` a default"
    assert broken.fix_writer == "leave `B`, `C` out"


def test_enum_default() -> None:
    """A default stands in for what is not known."""
    assert found(enum("A", default="A"), enum("A", "B")) == []


def test_wrong_enum_default() -> None:
    """A default that is no symbol stands in for nothing."""
    assert found(enum("A", default="X"), enum("A", "B")) == [("MISSING_ENUM_SYMBOLS", "/symbols")]


def test_symbol_order() -> None:
    """Symbols may be added and change places."""
    assert found(enum("C", "B", "A"), enum("A", "B")) == []


def test_fixed_size() -> None:
    """Sizes must be equal."""
    broken = the_one(fixed(4), fixed(8))
    assert (broken.rule, broken.path) == ("FIXED_SIZE_MISMATCH", "/size")
    assert broken.message == "the reader's fixed `F` has 4 bytes and the writer's 8"
    assert (broken.fix_reader, broken.fix_writer) == ("keep the size 8", "keep the size 4")


def test_items_and_values() -> None:
    """What is in an array or a map must fit."""
    reader = {"type": "array", "items": {"type": "map", "values": "int"}}
    writer = {"type": "array", "items": {"type": "map", "values": "string"}}
    assert found(reader, writer) == [("TYPE_MISMATCH", "/items/values")]
    assert found(reader, reader) == []


def test_array_and_map() -> None:
    """An array is no map."""
    assert found({"type": "array", "items": "int"}, {"type": "map", "values": "int"}) == [("TYPE_MISMATCH", "/")]


def test_missing_branch() -> None:
    """Each branch of the writer must be readable; the path counts the writer's branches."""
    broken = the_one(record(["null", "int"]), record(["null", "int", "string"]))
    assert (broken.rule, broken.path) == ("MISSING_UNION_BRANCH", "/fields/0/type/2")
    assert (broken.reader_at, broken.writer_at) == ("/fields/0/type", "/fields/0/type/2")
    assert broken.message == "the reader's union has no branch that reads the writer's `string`"
    assert (broken.fix_reader, broken.fix_writer) == ("add `string` to the union", "do not write `string` here")


def test_branches() -> None:
    """Branches may be added, change places and be promoted."""
    assert found(["double", "string", "null"], ["null", "int"]) == []


def test_type_to_union() -> None:
    """A type may become a union that has it."""
    assert found(["null", "string"], "string") == []
    assert found(["null", "string"], "int") == [("MISSING_UNION_BRANCH", "/")]


def test_union_to_type() -> None:
    """A union may become a type that reads all of its branches."""
    assert found("double", ["int", "float"]) == []
    assert found("string", ["null", "string", "int"]) == [("TYPE_MISMATCH", "/0"), ("TYPE_MISMATCH", "/2")]


def test_empty_union() -> None:
    """Nothing is ever written by the empty union, nor read."""
    assert found("int", []) == []
    assert found([], "int") == [("MISSING_UNION_BRANCH", "/")]


def test_cause_of_a_missing_branch() -> None:
    """Where Java says only that a branch is missing, the one of the same name says what it lacks."""
    new = record("int", field("price", "int"), name="Item")
    broken = the_one(["null", enum("A"), new, record(name="Other")], ["null", record("int", name="Item")])
    assert (broken.rule, broken.path) == ("MISSING_UNION_BRANCH", "/1")
    assert broken.message == "the reader's field `price` is not written and has no default"
    assert broken.fix_reader == "give `price` a default"
    assert broken.reader_at == "/2/fields/1"


@pytest.mark.parametrize(
    ("again", "path"), [(["null", "a.E"], "/fields/1/type/fields/0/type/1"), ("a.E", "/")], ids=["union", "type"]
)
def test_branch_met_twice(again: Schema, path: str) -> None:
    """A branch that lacks in two places is told with both; with the root, as Java does, where no union is written."""
    reader = record(record(["null"], name="P"), "P")
    writer = record(record(["null", enum("A", name="a.E")], name="a.P"), record(again, name="b.P"))
    assert found(reader, writer) == [
        ("MISSING_UNION_BRANCH", "/fields/0/type/fields/0/type/1"),
        ("MISSING_UNION_BRANCH", path),
    ]


ITEM = record("string", name="Item")


@pytest.mark.parametrize(
    ("written", "path"), [(["null", ITEM], "/fields/0/type/1"), (ITEM, "/fields/0/type")], ids=["union", "type"]
)
def test_type_met_in_a_union_first(written: Schema, path: str) -> None:
    """Java judges a branch as a schema of its own, and tells that path again; the pointers are right all the same."""
    branch, item = compare(record(["null", record("int", name="Item")], "Item"), record(written, "Item"))
    assert (branch.rule, branch.path) == ("MISSING_UNION_BRANCH", path)
    assert (item.rule, item.path) == ("TYPE_MISMATCH", "/fields/0/type")
    assert item.reader_at == "/fields/0/type/1/fields/0/type"


def test_any_branch() -> None:
    """One branch that reads it is enough, be it the second of that name."""
    strict, lenient = record("int", name="a.R"), record(name="b.R")
    assert found([strict, lenient], record(name="c.R")) == []


def tree(leaf: str, name: str = "Tree") -> dict[str, Any]:
    """Return a record that has itself in it."""
    children = field("children", {"type": "array", "items": name})
    return record(field("leaf", leaf), children, name=name)


def test_recursive_record() -> None:
    """A recursive record reads itself."""
    assert found(tree("int"), tree("int")) == []


def test_break_in_a_recursive_record() -> None:
    """A break in a recursive record is found once."""
    assert found(tree("int"), tree("string")) == [("TYPE_MISMATCH", "/fields/0/type")]


def test_type_used_twice() -> None:
    """A break is told for each use of its type, with the place of the first, as Java does."""
    assert found(record(tree("int"), "Tree"), record(tree("string"), "Tree")) == [
        ("TYPE_MISMATCH", "/fields/0/type/fields/0/type"),
        ("TYPE_MISMATCH", "/fields/0/type/fields/0/type"),
    ]


def test_types_that_use_types_twice() -> None:
    """Breaks do not double with each level of use; Java would tell this one 2**60 times."""

    def doubled(leaf: str) -> dict[str, Any]:
        schema = record(leaf, leaf, name="R0")
        for level in range(1, 60):
            schema = record(schema, f"R{level - 1}", name=f"R{level}")
        return schema

    assert 1_000 <= len(compare(doubled("int"), doubled("string"))) <= 60_000


def test_200_levels() -> None:
    """200 levels of optional records are judged like any schema."""

    def nested(leaf: str) -> Schema:
        schema: Schema = leaf
        for level in range(200):
            schema = record(field("inner", ["null", schema], default=None), name=f"R{level}")
        return schema

    broken = the_one(nested("int"), nested("string"))
    assert broken.path == "/fields/0/type/1"
    assert broken.writer_at == "/fields/0/type/1" * 200
    assert broken.message == "the reader's union has no branch that reads the writer's `string`"


def test_5000_fields() -> None:
    """5,000 fields are judged like any schema."""
    assert len(compare(record(*["int"] * 5_000), record(*["string"] * 5_000))) == 5_000


def test_parsed_schemas() -> None:
    """A parsed schema is compared as what it was parsed from."""
    assert compare(parse("int"), "string") == compare("int", "string")


def test_no_schema() -> None:
    """What is no schema is refused, with its place."""
    with pytest.raises(SchemaError, match=r"unknown type `strin`.*at /fields/0/type"):
        compare(record("strin"), "int")


@pytest.mark.parametrize(
    ("level", "pairs"),
    [
        ("NONE", []),
        ("BACKWARD", ["new<v2"]),
        ("BACKWARD_TRANSITIVE", ["new<v1", "new<v2"]),
        ("FORWARD", ["v2<new"]),
        ("FORWARD_TRANSITIVE", ["v1<new", "v2<new"]),
        ("FULL", ["new<v2", "v2<new"]),
        ("FULL_TRANSITIVE", ["new<v1", "new<v2", "v1<new", "v2<new"]),
    ],
)
def test_level(level: str, pairs: list[str]) -> None:
    """The newest counts, or all where the level is transitive, as Confluent Schema Registry decides."""
    demanded = required_reads(Level(level), ["v1", "v2"], "new")
    assert [f"{reader}<{writer}" for reader, writer in demanded] == pairs


@pytest.mark.parametrize("level", Level)
def test_first_version(level: Level) -> None:
    """A first version is always allowed."""
    assert required_reads(level, [], "new") == ()


def test_unknown_level() -> None:
    """There are no other levels."""
    with pytest.raises(ValueError, match="BACKWARDS"):
        Level("BACKWARDS")
