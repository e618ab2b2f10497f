"""What `schemas/` says, and that whatever is wrong with it is one sentence that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import ContractError
from contract.subjects import SCHEMAS, Subject, load_contract

YAML = "subjects.yaml"
AVSC = "order.avsc"
V1 = "released/order.v1.avsc"


def test_the_shipped_contract(subject: Subject) -> None:
    assert (subject.topic, subject.stem, subject.compatibility) == ("pizza-order", "order", "FULL_TRANSITIVE")
    assert (subject.partitions, subject.replication) == (1, 1)
    assert (subject.key, subject.identity) == ("table", "order_id")
    assert subject.readers == {"cook": 1, "manager": 2, "board": 2}
    assert [version.number for version in subject.released] == [1, 2]
    assert subject.newest is subject.released[-1]
    assert subject.current.text == subject.newest.text


def test_a_schema_is_compact_json_with_the_files_own_order_of_keys(subject: Subject) -> None:
    """Every registry finds a text by comparing it, so there is one text for each schema."""
    text = subject.version(1).text
    assert text.startswith('{"type":"record","name":"Order","namespace":"restaurant","doc":"A pizza that')
    assert json.loads(text) == json.loads(subject.version(1).path.read_text("utf-8"))
    assert "\n" not in text


def test_letters_beyond_ascii_stay_as_they_are(schemas: Path) -> None:
    (schemas / AVSC).write_text((schemas / AVSC).read_text("utf-8").replace("A pizza", "Ein Stück"), "utf-8")
    assert "Ein Stück" in load_contract(schemas).subject("order").current.text


def test_whitespace_in_a_file_makes_no_other_schema(schemas: Path) -> None:
    (schemas / AVSC).write_text(json.dumps(json.loads((schemas / AVSC).read_text("utf-8")), indent=8), "utf-8")
    subject = load_contract(schemas).subject("order")
    assert subject.current.text == subject.newest.text


def test_what_subjects_yaml_leaves_out_has_a_default(schemas: Path) -> None:
    (schemas / YAML).write_text("subjects: {pizza-order-value: {schema: order.avsc, compatibility: BACKWARD}}")
    subject = load_contract(schemas).subject("order")
    assert (subject.partitions, subject.key, subject.identity, subject.readers) == (1, None, None, {})


def test_names_as_long_as_kafka_takes_them_and_with_every_sign(schemas: Path) -> None:
    """The longest topic beside it has 249 characters."""
    topic = "A-z._" + "0" * (249 - len("A-z._.manager.dead-letters"))
    path = schemas / YAML
    path.write_text(path.read_text("utf-8").replace("pizza-order-value", f"{topic}-key"), "utf-8")
    subject = load_contract(schemas).subject("order")
    assert max(map(len, [subject.topic, *subject.topics_beside])) == 249


def test_an_edit_that_says_the_same_in_another_way_is_no_new_version(schemas: Path) -> None:
    """A registry takes it for the version that it has."""
    schema = json.loads((schemas / AVSC).read_text("utf-8"))
    schema["name"] = f"{schema.pop('namespace')}.{schema['name']}"
    schema["fields"] = [dict(reversed(field.items())) for field in schema["fields"]]
    (schemas / AVSC).write_text(json.dumps(schema), "utf-8")
    assert load_contract(schemas).subject("order").is_released


@pytest.mark.parametrize("change", ['"doc": "Its name', '"maxLength": 64', '"default": ""'])
def test_an_edit_that_says_anything_else_is_a_new_version(schemas: Path, change: str) -> None:
    path = schemas / AVSC
    assert change in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(change, f'"x": 1, {change}', 1), "utf-8")
    assert not load_contract(schemas).subject("order").is_released


def test_a_version_that_is_not_released_says_how_to_release_it(subject: Subject) -> None:
    for number in (0, 3, -1):
        with pytest.raises(ContractError, match=r"run: python scripts/release_schema\.py order"):
            subject.version(number)


def test_a_contract_has_one_subject_for_a_schema(schemas: Path) -> None:
    contract = load_contract(schemas)
    assert contract.subject("order").name == "pizza-order-value"
    with pytest.raises(ContractError, match=r"subjects.yaml has no subjects whose schema is payment.avsc"):
        contract.subject("payment")


def test_versions_beyond_the_ninth_are_in_the_order_of_their_numbers(schemas: Path) -> None:
    for number in range(3, 12):
        shutil.copy(schemas / V1, schemas / f"released/order.v{number}.avsc")
    assert [version.number for version in load_contract(schemas).subject("order").released] == list(range(1, 12))


def test_files_of_another_schema_are_not_versions_of_this_one(schemas: Path) -> None:
    for name in ("orders.v1.avsc", "order.v3.avsc.orig", "order.v03.avsc", "order.v1.golden.json"):
        (schemas / "released" / name).write_text("not read")
    assert len(load_contract(schemas).subject("order").released) == 2


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Give an edit that writes a file."""
    raw = content.encode() if isinstance(content, str) else content

    def write(schemas: Path) -> None:
        (schemas / name).write_bytes(raw)

    return write


def changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Give an edit that replaces a text in a file as it is shipped."""
    original = (SCHEMAS / name).read_text("utf-8")
    assert old in original
    return text(name, original.replace(old, new, 1))


def removed(name: str) -> Callable[[Path], None]:
    """Give an edit that removes a file."""
    return lambda schemas: (schemas / name).unlink()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"minimum": 1', '"order": "up"'), ('"minimum": 1', '"minimum": NaN'), ("A pizza", r"\ud83c\udf55 pizza")],
)
def test_what_was_released_is_read_as_it_is(schemas: Path, old: str, new: str) -> None:
    """It is in topics and registries, whatever would be said of it today."""
    changed(V1, old, new)(schemas)
    assert load_contract(schemas).subject("order").released


@pytest.mark.parametrize(
    ("edit", "file", "sentence"),
    [
        (removed(YAML), YAML, "cannot be read: No such file or directory; SCHEMAS_DIR names its directory"),
        (text(YAML, b"subjects: \xff"), YAML, "not a list of subjects"),
        (text(YAML, "subjects: [a"), YAML, "line 1, column 11"),
        (text(YAML, ""), YAML, "got `null`"),
        (text(YAML, "- a"), YAML, "got `array`"),
        (text(YAML, "subjects: {}"), YAML, "length >= 1 - at `$.subjects`"),
        (changed(YAML, "key:", "keys:"), YAML, "unknown field `keys`"),
        (changed(YAML, "FULL_TRANSITIVE", "FULLY"), YAML, "Invalid enum value 'FULLY'"),
        (changed(YAML, "partitions: 1", "partitions: 0"), YAML, "Expected `int` >= 1"),
        (changed(YAML, "partitions: 1", "partitions: 1000000000000"), YAML, "Expected `int` <= 10000"),
        (changed(YAML, "limit-changed: error", "limit-changed: fatal"), YAML, "Invalid enum value 'fatal'"),
        (changed(YAML, "pizza-order-value", "pizza-order"), YAML, "must end with -value or -key"),
        (changed(YAML, "pizza-order-value", '":.kitchen:pizza-order-value"'), YAML, "is a subject of a context, and no topic can have that name; name it without the context, which SCHEMA_REGISTRY_URL may end with"),  # noqa: E501
        (changed(YAML, "pizza-order-value", "pizza order-value"), YAML, "needs a topic that Kafka cannot have, 'pizza order'"),  # noqa: E501
        (changed(YAML, "pizza-order-value", "größe-value"), YAML, "a topic that Kafka cannot have, 'größe'"),
        (changed(YAML, "pizza-order-value", "pizza/order-value"), YAML, "a topic that Kafka cannot have, 'pizza/order'"),  # noqa: E501
        (changed(YAML, "pizza-order-value", '"pizza-order\\n-value"'), YAML, "a topic that Kafka cannot have, 'pizza-order\\n'"),  # noqa: E501
        (changed(YAML, "pizza-order-value", ".-value"), YAML, "a topic that Kafka cannot have, '.'"),
        (changed(YAML, "pizza-order-value", "..-key"), YAML, "a topic that Kafka cannot have, '..'"),
        (changed(YAML, "pizza-order-value", f"{'a' * 250}-value"), YAML, "at most 249 of them"),
        (changed(YAML, "pizza-order-value", f"{'a' * 235}-value"), YAML, "aaa.cook.dead-letters': letters"),
        (changed(YAML, "cook: 1", "the cook: 1"), YAML, "cannot have, 'pizza-order.the cook.dead-letters'"),
        (changed(YAML, "order.avsc", "nothing.avsc"), "nothing.avsc", "cannot be read: No such file or directory; restore it, or name another schema"),  # noqa: E501
        (text(AVSC, '{"type":\n  oops}'), AVSC, "order.avsc:2:3: not JSON"),
        (text(AVSC, ""), AVSC, "order.avsc:1:1: not JSON"),
        (text(AVSC, b'"\xff"'), AVSC, "is not UTF-8"),
        (text(AVSC, "3"), AVSC, "no Avro schema: a type is a name"),
        (text(AVSC, "[" * 100_000), AVSC, "cannot be read as JSON: maximum recursion depth"),
        (text(AVSC, '{"a": ' + "9" * 5_000 + "}"), AVSC, "cannot be read as JSON: Exceeds the limit"),
        (changed(AVSC, '"string"', '"strin"'), AVSC, "unknown type `strin`: neither one of Avro's own nor defined before (at /fields/0/type)"),  # noqa: E501
        (changed(AVSC, '"name": "pizza", ', ""), AVSC, "(at /fields/0)"),
        (text(AVSC, '{"type": "record", "name": "Order", "fields": 3}'), AVSC, "has no list of `fields`"),
        (changed(AVSC, '"minimum": 1', '"minimum": NaN'), AVSC, "order.avsc:8:49: not JSON: NaN is no number of JSON"),
        (changed(AVSC, '"minimum": 1', '"minimum": -Infinity'), AVSC, "not JSON: -Infinity is no number of JSON"),
        (changed(AVSC, '"minimum": 1', '"x": [{"y": 1e999}]'), AVSC, "not JSON: 1e999 is larger than any double"),
        (changed(AVSC, '"minimum": 1', '"x": 9223372036854775808'), AVSC, "is larger than any long"),
        (changed(AVSC, '"A pizza', r'"\ud800 A pizza'), AVSC, "holds half of a surrogate pair: no text"),
        (changed(AVSC, '"minimum"', r'"a\udfff"'), AVSC, "holds half of a surrogate pair: no text"),
        (changed(AVSC, "]\n}", "]\n} {}"), AVSC, "not JSON: Extra data"),
        (changed(AVSC, '"name": "Order"', '"name": "Order", "aliases": ["old-order"]'), AVSC, "the alias 'restaurant.old-order' of `restaurant.Order` is no name"),  # noqa: E501
        (changed(AVSC, '"minimum": 1', '"order": "up"'), AVSC, "order.avsc:8:47: no Avro schema: the order of"),
        (text(V1, "{"), "order.v1.avsc", "order.v1.avsc:1:2: not JSON"),
        (changed(V1, '"int"', '"integer"'), "order.v1.avsc", "unknown type `integer`"),
        (lambda schemas: (schemas / "released/order.v3.avsc").mkdir(), "order.v3.avsc", "Is a directory"),
    ],
)  # fmt: skip
def test_bad_input_is_a_sentence_that_names_the_file(
    schemas: Path, edit: Callable[[Path], None], file: str, sentence: str
) -> None:
    edit(schemas)
    with pytest.raises(ContractError) as refused:
        load_contract(schemas)
    assert file in str(refused.value)
    assert sentence in str(refused.value)
