"""What Avro calls compatible and still hurts: each rule with its mended twin, and limits in both directions."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.avro_schema import parse
from contract.compatibility import Rule, compare
from contract.rules import AgreedRule, check_schema, compare_agreed, compare_edited, compare_limits

EVOLUTION = Path(__file__).parents[1] / "evolution"


def field(type_: Any, name: str = "f", **attributes: Any) -> dict[str, Any]:
    """Return a field."""
    return {"name": name, "type": type_, "doc": "What it is.", **attributes}


def record(*fields: Any, name: str = "R", **attributes: Any) -> dict[str, Any]:
    """Return a record."""
    return {"type": "record", "name": name, "fields": list(fields), **attributes}


def judge(folder: str) -> list[str]:
    """Return the agreed rules that a folder's edit breaks as a reader, as an edit, and by itself."""
    old, new = (parse(json.loads((EVOLUTION / folder / f"{each}.avsc").read_text("utf-8"))) for each in ("old", "new"))
    assert compare(new, old) == ()
    return [each.rule for each in (*compare_agreed(new, old), *compare_edited(new, old), *check_schema(new))]


@pytest.mark.parametrize("rule", AgreedRule)
def test_rule(rule: AgreedRule) -> None:
    """The folder named after a rule breaks that rule, and no other."""
    assert judge(rule) == [rule]


@pytest.mark.parametrize("rule", AgreedRule)
def test_mended_rule(rule: AgreedRule) -> None:
    """Its mended twin breaks none."""
    assert judge(f"{rule}-mended") == []


def test_folders() -> None:
    """The folders are the rules: nobody adds one without the other."""
    rules = [rule.lower().replace("_", "-") for rule in (*Rule, *AgreedRule)]
    assert sorted(path.name for path in EVOLUTION.iterdir()) == sorted([*rules, *(f"{rule}-mended" for rule in rules)])


def limits(reader: dict[str, Any], writer: dict[str, Any], type_: Any = "string") -> list[str]:
    """Return where a reader's limits on a field refuse what the writer's allow."""
    pair = (parse(record(field(type_, **each))) for each in (reader, writer))
    return [each.reader_at for each in compare_limits(*pair)]


@pytest.mark.parametrize(
    ("type_", "least", "most"),
    [
        ("int", "minimum", "maximum"),
        ("long", "minimum", "maximum"),
        ("float", "minimum", "maximum"),
        ("double", "minimum", "maximum"),
        ("string", "minLength", "maxLength"),
        ("bytes", "minLength", "maxLength"),
        ({"type": "array", "items": "int"}, "minItems", "maxItems"),
    ],
)
class TestLimits:
    """JSON Schema's words, for the types that they are about."""

    def test_a_narrower_reader_refuses(self, type_: Any, least: str, most: str) -> None:
        assert limits({least: 2}, {least: 1}, type_) == [f"/fields/0/{least}"]
        assert limits({most: 8}, {most: 9}, type_) == [f"/fields/0/{most}"]

    def test_a_limit_where_the_writer_has_none_refuses(self, type_: Any, least: str, most: str) -> None:
        assert limits({least: 2, most: 8}, {}, type_) == [f"/fields/0/{least}", f"/fields/0/{most}"]

    def test_a_wider_reader_takes_all(self, type_: Any, least: str, most: str) -> None:
        assert limits({least: 1, most: 9}, {least: 2, most: 8}, type_) == []
        assert limits({}, {least: 2, most: 8}, type_) == []
        assert limits({least: 1, most: 9}, {least: 1, most: 9}, type_) == []


def test_a_limit_may_be_at_the_type_or_at_the_field() -> None:
    """The field's own wins."""
    inner = {"type": "string", "maxLength": 5}
    assert limits({"maxLength": 6}, {}, inner) == []
    assert limits({}, {"maxLength": 6}, inner) == ["/fields/0/type/maxLength"]
    pair = parse(record(field(inner))), parse(record(field("string", maxLength=6)))
    assert [each.reader_at for each in compare_limits(*pair)] == ["/fields/0/type/maxLength"]


def test_a_bound_of_avros_own_is_no_narrowing() -> None:
    """An int of the reader with all that an int may be."""
    assert limits({"maximum": 2**31 - 1}, {}, "int") == []
    assert limits({"minLength": 0}, {}) == []


def test_a_limit_that_is_no_number_is_none() -> None:
    assert limits({"maxLength": "5"}, {}) == []
    assert limits({"maxLength": True}, {}) == []


def test_a_limit_counts_in_a_union_a_promotion_and_under_an_alias() -> None:
    old = record(field("int", maximum=9))
    new = record(field(["null", "long"], "g", aliases=["f"], default=None, maximum=5))
    (broken,) = compare_limits(parse(new), parse(old))
    assert (broken.reader_at, broken.writer_at) == ("/fields/0/maximum", "/fields/0/maximum")


def test_a_limit_counts_wherever_a_type_is_nested() -> None:
    """In arrays, maps and records of records, once for each place."""

    def nested(most: int) -> Any:
        inner = record(field("string", maxLength=most), name="Inner")
        array = {"type": "array", "items": {"type": "map", "values": "Inner"}}
        return parse(record(field(inner), field(array, "g"), field(["null", "R"], "again", default=None)))

    (broken,) = compare_limits(nested(1), nested(2))
    assert broken.reader_at == "/fields/0/type/fields/0/maxLength"


def test_of_two_branches_that_could_be_read_the_one_of_the_same_name_or_type_is() -> None:
    """Of records of one name in two namespaces, and of numbers."""
    named = parse([record(field("int", maximum=1), name="a.P"), record(field("int", maximum=2), name="b.P")])
    assert compare_agreed(named, named) == ()
    numbers = parse([{"type": "long", "maximum": 1}, {"type": "int", "maximum": 2}])
    assert compare_limits(numbers, numbers) == ()


def test_what_mends_a_limit_depends_on_who_can_change() -> None:
    """A reader widens, a writer narrows."""
    (broken,) = compare_limits(parse(record(field("int", minimum=2))), parse(record(field("int", minimum=1))))
    assert broken.message == "`f` has the minimum 2 for the reader and the minimum 1 for the writer"
    assert broken.fix_reader == "keep the minimum 1, or set a lower one"
    assert broken.fix_writer == "keep the minimum 2, or set a higher one"
    (broken,) = compare_limits(parse(record(field("string", maxLength=2))), parse(record(field("string"))))
    assert broken.fix_reader == "keep no maxLength"


def test_a_decimal_without_a_scale_has_the_scale_0() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4}
    pair = parse(record(field(decimal))), parse(record(field({**decimal, "scale": 0})))
    assert compare_agreed(*pair) == ()


def test_an_enum_default_that_changes() -> None:
    """Unknown symbols would be read as another one than before."""
    enum = {"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "A"}
    pair = parse(record(field({**enum, "default": "B"}))), parse(record(field(enum)))
    assert [each.reader_at for each in compare_edited(*pair)] == ["/fields/0/type/default"]


def test_a_default_that_comes_or_goes_is_not_changed() -> None:
    """Avro's own rules judge that; null is a default as any other."""
    none, null = parse(record(field(["null", "int"]))), parse(record(field(["null", "int"], default=None)))
    one = parse(record(field(["int", "null"], default=1)))
    assert compare_edited(none, null) == compare_edited(null, none) == ()
    assert [each.rule for each in compare_edited(one, null)] == ["default-changed"]


def test_a_type_that_is_renamed_with_its_alias_keeps_its_namespace_rule() -> None:
    old, new = parse(record(name="a.R")), parse(record(name="b.S", aliases=["a.R"]))
    assert compare_agreed(new, old) == ()
    assert compare_edited(parse(record(name="c.T", aliases=["a.R", "b.S"])), new) == ()


def test_an_alias_that_becomes_the_name_is_not_dropped() -> None:
    """As when a rename is undone."""
    old, new = record(field("int", "g", aliases=["f"])), record(field("int", "f", aliases=["g"]))
    assert compare_edited(parse(new), parse(old)) == ()


def test_names_of_types_and_symbols_have_their_case_too() -> None:
    enum = {"type": "enum", "name": "size", "symbols": ["small", "LARGE"], "default": "LARGE"}
    found = [each.message for each in check_schema(parse(record(field(enum), name="order")))]
    assert found == [
        "the type `order` is not in PascalCase",
        "the type `size` is not in PascalCase",
        "the symbol `small` is not in UPPER_CASE",
    ]


def test_schemas_without_a_record_are_judged_too() -> None:
    assert check_schema(parse(["null", "int"])) == ()
    assert [each.reader_at for each in compare_limits(parse({"type": "int", "maximum": 1}), parse("int"))] == [
        "/maximum"
    ]
