"""How a value is checked against its contract, and what the sentence says when it is refused."""

from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from contract.errors import Refused
from contract.order import Order, OrderV1, OrderV2
from contract.records import Record, build, check, shorten


class Item(Record, frozen=True):
    """A record inside another."""

    count: Annotated[int, msgspec.Meta(ge=1)]


class Basket(Record, frozen=True):
    """A record with others in it."""

    items: list[Item]
    first: Item | None = None
    by_name: dict[str, Item] = msgspec.field(default_factory=dict)

    VERSION: ClassVar[int] = 1
    SCHEMA: ClassVar[str] = '"null"'


def refusal(values: object, record: type[Record] = OrderV2, *, from_text: bool = False) -> str:
    """Give the sentence with which values are refused."""
    with pytest.raises(Refused) as refused:
        build(record, values, from_text=from_text)
    return str(refused.value)


@pytest.mark.parametrize("table", [1, 2**31 - 1])
def test_the_ends_of_a_32_bit_integer_are_taken(table: int) -> None:
    assert build(OrderV1, {"pizza": "a", "table": table}) == OrderV1("a", table)


@pytest.mark.parametrize(
    ("table", "limit"),
    [
        (0, "int >= 1"),
        (-3, "int >= 1"),
        (2**31, "int <= 2147483647"),
        (2**40, "int <= 2147483647"),
        (-(2**31) - 1, "int >= 1"),
        (17.5, "int, got float"),
        (True, "int, got bool"),
        ("17", "int, got str"),
        (None, "int, got null"),
    ],
)
def test_a_refusal_names_field_value_and_limit(table: object, limit: str) -> None:
    assert refusal({"pizza": "a", "table": table}) == f"table is {table!r}, expected {limit}"


@pytest.mark.parametrize("characters", [1, 64])
def test_a_text_as_short_or_long_as_its_limits_is_taken(characters: int) -> None:
    """The limit counts characters, not bytes: 64 letters of two bytes each are 64."""
    pizza = "é" * characters
    assert build(OrderV1, {"pizza": pizza, "table": 1}).pizza == pizza


def test_an_empty_text_is_refused() -> None:
    assert refusal({"pizza": "", "table": 1}) == "pizza is '', expected str of length >= 1"


def test_a_long_value_is_shortened_and_its_length_given() -> None:
    sentence = refusal({"pizza": "x" * 10_000, "table": 1})
    assert sentence == f"pizza is '{'x' * 38}… (10000 characters), expected str of length <= 64"


def test_control_characters_are_escaped_in_a_refusal() -> None:
    """What was sent by somebody else must not paint the terminal of who reads the error."""
    assert shorten("\x1b[2J") == r"'\x1b[2J'"
    assert shorten("\ud800") == r"'\ud800'"
    assert refusal({"pizza": "\n" * 65, "table": 1}).isprintable()


def test_a_missing_and_an_unknown_field_are_named() -> None:
    assert refusal({"pizza": "a"}) == "object missing required field table"
    assert refusal({"pizza": "a", "table": 1, "tabel": 2}) == "object contains unknown field tabel"


@pytest.mark.parametrize("values", ["margherita", 3, None, [1]])
def test_values_that_are_no_mapping_are_shown(values: object) -> None:
    assert refusal(values).endswith(f": {values!r}")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"items": [{"count": 1}, {"count": 0}]}, "items[1].count is 0,"),
        ({"items": [], "first": {"count": -1}}, "first.count is -1,"),
        ({"items": [], "by_name": {"a": {"count": 0}}}, "by_name[...].count is {'a': {'count': 0}},"),
    ],
)
def test_a_refusal_names_the_place_in_nested_values(values: dict[str, Any], place: str) -> None:
    """In a mapping the key is not known, so all of it is shown."""
    assert refusal(values, Basket) == f"{place} expected int >= 1"


def test_text_is_taken_as_a_number_only_where_asked_for() -> None:
    assert build(OrderV1, {"pizza": "a", "table": "17"}, from_text=True) == OrderV1("a", 17)
    assert refusal({"pizza": "a", "table": "abc"}, from_text=True) == "table is 'abc', expected int, got str"
    assert refusal({"pizza": "a", "table": "1.5"}, from_text=True).startswith("table is '1.5', ")
    assert refusal({"pizza": "a", "table": str(2**40)}, from_text=True).endswith("expected int <= 2147483647")


def test_check_gives_the_fields_as_plain_values() -> None:
    assert check(OrderV2("a", 1, "x")) == {"pizza": "a", "table": 1, "order_id": "x"}


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (OrderV1("a", 0), "table is 0, expected int >= 1"),
        (OrderV1("a", 2**40), f"table is {2**40}, expected int <= 2147483647"),
        (OrderV2("a", 1, "i" * 65), f"order_id is '{'i' * 38}… (65 characters), expected str of length <= 64"),
        (OrderV1("a", "17"), "table is '17', expected int, got str"),  # type: ignore[arg-type]  # what mypy refuses
        (OrderV1("a", object()), "OrderV1 holds a value that no schema describes"),  # type: ignore[arg-type]
    ],
)
def test_a_record_is_checked_again_because_its_constructor_checks_nothing(order: Record, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        check(order)
    assert str(refused.value).startswith(sentence)


def test_a_record_is_frozen_and_equal_by_its_values() -> None:
    order = OrderV1("a", 1)
    with pytest.raises(AttributeError):
        order.table = 2  # type: ignore[misc]  # what is tested
    assert order == OrderV1("a", 1)


def test_order_is_the_newest_version_and_a_reader_sees_the_fields_of_its_own() -> None:
    assert Order is OrderV2
    assert (OrderV1.VERSION, OrderV2.VERSION) == (1, 2)
    assert "order_id" not in OrderV1.__struct_fields__
