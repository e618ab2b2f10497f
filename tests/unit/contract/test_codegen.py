"""The generator: a schema of everything becomes types that import, type-check and travel; the rest is refused."""

import datetime
import decimal
import importlib.util
import json
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema
from confluent_kafka.serialization import MessageField, SerializationContext

from contract.binary import decode, encode
from contract.codec import RecordDeserializer, RecordSerializer
from contract.codegen import generate, module_path
from contract.errors import ContractError, Refused
from contract.golden import make_golden
from contract.records import Record, build
from contract.subjects import Subject, load_contract
from tests.unit.conftest import CountingRegistry

PROJECT = Path(__file__).parents[3]

RICH: dict[str, Any] = {
    "type": "record",
    "name": "Parcel",
    "namespace": "depot",
    "doc": 'Everything at once: a "quoted" \\ doc that goes on for so long that it has to be wrapped, '
    "as a good description of a field may have to be.",
    "fields": [
        {"name": "code", "type": "string", "default": "new", "minLength": 1, "maxLength": 8},
        {"name": "count", "type": "int", "minimum": 0, "maximum": 1000000},
        {"name": "weight", "type": "double", "minimum": 0.5},
        {"name": "total", "type": "long", "default": -1},
        {"name": "ratio", "type": "float", "default": 0.25},
        {"name": "fragile", "type": "boolean", "default": False},
        {"name": "label", "type": "bytes", "default": "", "maxLength": 16},
        {"name": "note", "type": ["null", "string"], "default": None, "maxLength": 5},
        {"name": "limit", "type": ["int", "null"], "default": 7, "minimum": 1},
        {"name": "nothing", "type": "null", "default": None},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "SENT"]}, "default": "NEW"},
        {"name": "before", "type": ["null", "State"], "default": None},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 4}},
        {"name": "other", "type": ["null", "Digest"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["a", "b"], "maxItems": 3},
        {"name": "empty", "type": {"type": "array", "items": "int"}, "default": []},
        {"name": "sizes", "type": {"type": "map", "values": "int"}, "default": {"x": 1}},
        {
            "name": "stops",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Stop",
                    "fields": [
                        {"name": "place", "type": "string", "minLength": 1},
                        {"name": "depth", "type": {"type": "int", "minimum": 1}},
                    ],
                },
            },
        },
        {"name": "last", "type": ["null", "Stop"], "default": None},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "time", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "moment", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "sent", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "a_name_of_many_letters", "type": {"type": "map", "values": "long"}, "default": {"x": 1, "it's": -2}},
        {"name": "quoted", "type": "string", "default": 'a "b" \\', "doc": 'It is "so"'},
        {"name": "odd", "type": {"type": "int", "logicalType": "no-such-type"}},
    ],
}
VALUES: dict[str, Any] = {
    "count": 3,
    "weight": 0.5,
    "digest": b"abcd",
    "stops": [{"place": "Ulm", "depth": 1}],
    "price": decimal.Decimal("12.50"),
    "day": datetime.date(2026, 11, 23),
    "time": datetime.time(12, 30, 15),
    "moment": datetime.time(12, 30, 15, 7),
    "sent": datetime.datetime(2026, 11, 23, 9, 0, tzinfo=datetime.UTC),
    "seen": datetime.datetime(2026, 11, 23, 9, 0, 0, 7, tzinfo=datetime.UTC),
    "id": uuid.UUID(int=1),
    "odd": 5,
}
CONTEXT = SerializationContext("parcel", MessageField.VALUE)


def release(directory: Path, *schemas: Any, readers: str = "{}") -> Subject:
    """Make a contract whose one subject has these released versions."""
    (directory / "released").mkdir(parents=True, exist_ok=True)
    for number, schema in enumerate(schemas, 1):
        (directory / f"released/parcel.v{number}.avsc").write_text(json.dumps(schema), "utf-8")
    (directory / "parcel.avsc").write_text(json.dumps(schemas[-1]), "utf-8")
    (directory / "subjects.yaml").write_text(
        f"subjects: {{parcel-value: {{schema: parcel.avsc, compatibility: NONE, readers: {readers}}}}}"
    )
    return load_contract(directory).subject("parcel")


def of_field(directory: Path, type_: Any, **attributes: Any) -> Subject:
    """Make a contract of one field."""
    field = {"name": "it", "type": type_, **attributes}
    return release(directory, {"type": "record", "name": "Thing", "fields": [field]})


def nested(type_: Any, levels: int) -> Any:
    """Put a type into so many maps."""
    for _ in range(levels):
        type_ = {"type": "map", "values": type_}
    return type_


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module that the rich schema generates, in a file."""
    path = tmp_path_factory.mktemp("generated") / "parcel.py"
    path.write_text(generate(release(path.parent / "schemas", RICH)), "utf-8")
    return path


@pytest.fixture(scope="module")
def module(source: Path) -> ModuleType:
    """That module, imported."""
    spec = importlib.util.spec_from_file_location("parcel_for_this_test", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec resolves annotations through it
    spec.loader.exec_module(module)
    return module


def parcel(module: ModuleType, **values: Any) -> Any:
    """Make a parcel; every field that has a default may be left out."""
    record: type[Record] = module.Parcel
    return build(record, {**VALUES, **values})


class TestRich:
    """A schema that has everything."""

    @pytest.mark.parametrize("command", [["format", "--check"], ["check", "--ignore=INP001"]])
    def test_the_formatter_and_the_linter_take_the_generated_module(self, source: Path, command: list[str]) -> None:
        """With the project's own rules, but for the one about the folder that it is in here."""
        ruff = [str(Path(sys.executable).parent / "ruff"), *command, "--config", str(PROJECT / "pyproject.toml")]
        run = subprocess.run([*ruff, str(source)], check=False, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr

    def test_the_generated_module_passes_mypy_strict(self, source: Path, tmp_path: Path) -> None:
        """Also in use: mypy knows that the field of one version is none of another's."""
        user = tmp_path / "user.py"
        user.write_text("from parcel import Parcel\n\n\ndef use(parcel: Parcel) -> int:\n    return parcel.count\n")
        run = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", source, user],
            env={"MYPYPATH": f"{PROJECT}:{source.parent}", "MYPY_CACHE_DIR": str(PROJECT / ".mypy_cache" / "unit")},
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr

    def test_a_record_of_defaults_and_required_values(self, module: ModuleType) -> None:
        made = parcel(module)
        assert (made.code, made.total, made.ratio, made.fragile) == ("new", -1, 0.25, False)
        assert (made.label, made.note, made.limit, made.nothing) == (b"", None, 7, None)
        assert (made.state, made.tags, made.empty, made.sizes) == ("NEW", ["a", "b"], [], {"x": 1})

    def test_a_default_list_is_nobody_elses(self, module: ModuleType) -> None:
        first, second = parcel(module), parcel(module)
        first.tags.append("c")
        first.sizes["y"] = 2
        assert (second.tags, second.sizes) == (["a", "b"], {"x": 1})

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"note": "short", "limit": None, "state": "SENT", "before": "NEW", "other": b"wxyz"},
            {"tags": [], "empty": [1, 2], "sizes": {}, "stops": []},
            {"last": {"place": "Bonn", "depth": 2}, "total": 2**63 - 1, "label": b"\x00\xff"},
            {"price": decimal.Decimal("-9999999.99"), "fragile": True},
        ],
    )
    def test_it_travels_through_the_codec(
        self, module: ModuleType, registry: CountingRegistry, values: dict[str, Any]
    ) -> None:
        record: type[Record] = module.Parcel
        registry.register_schema("parcel-value", Schema(record.SCHEMA, "AVRO"))
        made = parcel(module, **values)
        data = RecordSerializer(record, registry)(made, CONTEXT)
        assert RecordDeserializer(record, registry)(data, CONTEXT) == made

    def test_its_golden_bytes_are_read(self, module: ModuleType) -> None:
        """The ends of every limit are within what the types take."""
        record: type[Record] = module.Parcel
        golden = make_golden(json.loads(record.SCHEMA))
        assert len(golden) > 2
        for one in golden:
            value = decode(one.avro, record, record.SCHEMA)
            assert decode(encode(value), record, record.SCHEMA) == value

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"code": ""}, "code is '', expected str of length >= 1"),
            ({"count": 1_000_001}, "count is 1000001, expected int <= 1000000"),
            ({"weight": 0.25}, "weight is 0.25, expected float >= 0.5"),
            ({"total": 2**63}, f"total is {2**63}, expected int <= {2**63 - 1}"),
            ({"label": b"x" * 17}, "label is b'xxxxxxxxxxxxxxxxx', expected bytes of length <= 16"),
            ({"note": "longer"}, "note is 'longer', expected str of length <= 5"),
            ({"limit": 0}, "limit is 0, expected int >= 1"),
            ({"limit": 2**31}, f"limit is {2**31}, expected int <= 2147483647"),
            ({"state": "LOST"}, "state is 'LOST', invalid enum value 'LOST'"),
            ({"digest": b"abc"}, "digest is b'abc', expected bytes of length >= 4"),
            ({"tags": ["a"] * 4}, "tags is ['a', 'a', 'a', 'a'], expected array of length <= 3"),
            ({"stops": [{"place": "", "depth": 1}]}, "stops[0].place is '', expected str of length >= 1"),
            ({"stops": [{"place": "a", "depth": 0}]}, "stops[0].depth is 0, expected int >= 1"),
            ({"sent": datetime.datetime(2026, 11, 23)}, "sent is datetime.datetime(2026, 11, 23"),  # noqa: DTZ001
        ],
    )
    def test_every_limit_is_enforced(self, module: ModuleType, values: dict[str, Any], sentence: str) -> None:
        with pytest.raises(Refused) as refused:
            parcel(module, **values)
        assert str(refused.value).startswith(sentence)

    def test_a_decimal_beyond_its_precision_is_refused(self, module: ModuleType) -> None:
        with pytest.raises(Refused, match="does not fit its schema"):
            encode(parcel(module, price=decimal.Decimal("12.505")))

    def test_the_schema_is_the_released_text(self, module: ModuleType, tmp_path: Path) -> None:
        assert release(tmp_path, RICH).newest.text == module.Parcel.SCHEMA


class TestVersions:
    """Which versions become types."""

    def test_each_that_a_reader_names_and_the_newest(self, tmp_path: Path) -> None:
        versions = [{"type": "record", "name": "Parcel", "doc": str(number), "fields": []} for number in range(1, 5)]
        source = generate(release(tmp_path, *versions, readers="{a: 1, b: 3}"))
        assert [f"class ParcelV{number}(" in source for number in range(1, 5)] == [True, False, True, True]
        assert source.endswith("\n\nParcel = ParcelV4\n")

    def test_the_shipped_types_are_current(self, subject: Subject) -> None:
        assert module_path(subject).read_text("utf-8") == generate(subject)


NAMES = [
    "self", "cls", "data", "at", "byte", "size", "end", "frame", "len", "type", "bool", "int", "float", "str",
    "bytes", "list", "dict", "classmethod", "property", "object", "TABLE", "MAGNITUDE", "NON_NEGATIVE", "FLOAT",
    "DOUBLE", "varint", "read_varint", "Record", "Meta", "field", "Annotated", "Literal", "Self", "datetime",
    "decimal", "uuid", "f", "builtins", "typing", "msgspec", "contract", "decode_fast", "l", "I", "O", "camelCase",
    "_x", "super", "match", "case",
]  # fmt: skip
OTHERS = [
    {"name": "int", "type": "int", "default": 1},
    {"name": "str", "type": "string", "default": "a"},
    {"name": "list", "type": {"type": "array", "items": "int"}, "default": []},
    {"name": "field", "type": {"type": "map", "values": "string"}, "default": {"x": "y"}},
    {"name": "datetime", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "Annotated", "type": ["null", "float"], "default": None},
]


def names(top: str) -> dict[str, Any]:
    """Give a record called so, with fields, enums, symbols and records called as what a generated module needs."""
    fields: list[dict[str, Any]] = [{"name": name, "type": "int", "default": 3} for name in NAMES]
    for name in NAMES:
        symbols = {"type": "enum", "name": f"e.{name}", "symbols": ["TABLE", "None", "int", "def"]}
        literal = {"name": "Literal", "type": symbols, "default": "TABLE"}
        inner = {"type": "record", "name": f"n.{name}", "fields": [*OTHERS, literal]}
        fields.append({"name": f"of_{name}", "type": inner})
    return {"type": "record", "name": f"top.{top}", "fields": fields}


@pytest.mark.parametrize("top", ["FLOAT2", "TABLE3", "int2", "Order"])
def test_no_name_of_avro_hides_what_the_module_needs(tmp_path: Path, top: str) -> None:
    """Formatter, linter and mypy take it, and its records travel."""
    path = tmp_path / "generated_names.py"
    path.write_text(generate(release(tmp_path / "schemas", names(top))), "utf-8")
    for command in (["format", "--check"], ["check", "--ignore=INP001"]):
        ruff = [str(Path(sys.executable).parent / "ruff"), *command, "--config", str(PROJECT / "pyproject.toml")]
        run = subprocess.run([*ruff, path], check=False, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", path],
        env={"MYPYPATH": str(PROJECT), "MYPY_CACHE_DIR": str(PROJECT / ".mypy_cache" / "unit")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    spec = importlib.util.spec_from_file_location("generated_names", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    moment = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
    made: Record = build(getattr(module, top), {f"of_{name}": {"datetime": moment} for name in NAMES})
    assert decode(encode(made), type(made), made.SCHEMA) == made


@pytest.mark.parametrize("top", ["FLOAT", "DOUBLE", "TABLE", "Record", "Meta", "field", "datetime", "varint", "data"])
def test_a_record_may_be_called_as_what_its_module_needs(tmp_path: Path, top: str) -> None:
    """It is written and read the fast way, with numbers of every length."""
    fields = [{"name": name, "type": type_} for name, type_ in zip("abcd", ["float", "double", "string", "long"])]  # noqa: B905 - four each
    module: dict[str, Any] = {"__name__": "generated"}
    exec(generate(release(tmp_path, {"type": "record", "name": top, "fields": fields})), module)  # noqa: S102 - our own
    for length in (1, 63, 64, 8192):
        made = module[top](0.5, 0.25, "x" * length, 2**40)
        written = made.encode_fast(b"")
        assert written == encode(made)
        assert made.DECODERS[made.SCHEMA](written, 0) == made


@pytest.mark.parametrize(("top", "nested"), [("class", "A"), ("__name__", "A"), ("AV1", "A")])
def test_a_record_whose_name_python_cannot_have_is_refused(tmp_path: Path, top: str, nested: str) -> None:
    inner = {"name": "it", "type": {"type": "record", "name": nested, "fields": []}}
    with pytest.raises(ContractError, match=f"{top} cannot be a class's name in Python"):
        generate(release(tmp_path, {"type": "record", "name": top, "fields": [inner]}))


def test_a_default_of_a_float_is_the_float_that_is_written(tmp_path: Path) -> None:
    """As what is written and read is."""
    assert f"    it: float· = {0.10000000149011612!r}\n" in generate(of_field(tmp_path, "float", default=0.1))


@pytest.mark.parametrize("precision", [0, -1, 1.5, "4", None, True])
def test_an_invalid_logical_type_is_its_underlying_type(tmp_path: Path, precision: Any) -> None:
    """Avro ignores it, whatever a library says to it; encoder and decoder agree."""
    type_ = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 2}
    module: dict[str, Any] = {"__name__": "generated"}
    exec(generate(of_field(tmp_path, {"type": "array", "items": type_})), module)  # noqa: S102 - our own
    made = module["Thing"]([b"ab"])
    assert encode(made) == b"\x02\x04ab\0"
    assert decode(encode(made), type(made), made.SCHEMA) == made


ENUM = {"type": "enum", "name": "E", "symbols": ["A"]}
DATE = {"type": "int", "logicalType": "date"}
NESTED = {"type": "record", "name": "N", "fields": []}


@pytest.mark.parametrize(
    ("type_", "attributes", "sentence"),
    [
        (["string", "int"], {}, "it is a union of 2 types besides null"),
        (["null"], {}, "it is a union of 0 types besides null"),
        ("int", {"name": "class"}, "class cannot be a field's name in Python"),
        ("int", {"name": "SCHEMA"}, "SCHEMA cannot be a field's name in Python"),
        ("int", {"minLength": 1}, "it has minLength, which says nothing of a int"),
        ("string", {"minimum": 1}, "it has minimum, which says nothing of a string"),
        ("boolean", {"minimum": 1}, "it has minimum, which says nothing of a boolean"),
        (ENUM, {"maxLength": 1}, "it has maxLength, which says nothing of a enum"),
        (DATE, {"minimum": 1}, "it has a limit on a date, which is not supported"),
        (DATE, {"default": 0}, "it has a default of a date, not supported"),
        (NESTED, {"default": {}}, "it has a default of a record, not supported"),
        ("bytes", {"default": "a"}, "it has a default of bytes, not supported"),
        ({"type": "array", "items": "bytes"}, {"default": ["a"]}, "it has a default of bytes, not supported"),
        (["null", "bytes"], {"default": "a"}, "it has a default of bytes, not supported"),
        ({"type": "array", "items": {**NESTED, "name": "Thing", "namespace": "b"}}, {}, "two records called Thing"),
    ],
)
def test_what_has_no_python_type_is_refused_with_file_and_field(
    tmp_path: Path, type_: Any, attributes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ContractError) as refused:
        generate(of_field(tmp_path, type_, **attributes))
    assert str(refused.value).startswith(f"{tmp_path}/released/parcel.v1.avsc: {sentence}")


@pytest.mark.parametrize(
    ("type_", "attributes", "found"),
    [
        ("string", {"doc": "Any remark, a uuid."}, "    it: str·\n"),
        ("string", {"doc": "https://pizza.example/" + "a" * 100}, "    it: str·\n"),
        ("string", {"doc": "Price = net + tax."}, "class ThingV1(Record·, frozen=True):\n"),
        ("string", {"doc": "9 \u2013 17", "default": "\u2013"}, "    it: str· = '\u2013'\n"),
        ({"type": "record", "name": "n.Sub", "doc": "9 \u2013 17", "fields": []}, {}, "    it: SubV1\n"),
        ({"type": "enum", "name": "a.b.State", "symbols": ["NEW"]}, {}, "    it: Literal·['NEW']\n"),
        ({"type": "record", "name": "n.Sub", "fields": []}, {}, "    it: SubV1\n"),
    ],
)
def test_docs_and_namespaces_make_no_difference(
    tmp_path: Path, type_: Any, attributes: dict[str, Any], found: str
) -> None:
    """Whatever they hold, the module imports only what it uses, and the linter takes it."""
    path = tmp_path / "thing.py"
    path.write_text(generate(of_field(tmp_path / "schemas", type_, **attributes)), "utf-8")
    assert found in path.read_text("utf-8")
    ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--ignore=INP001"]
    run = subprocess.run([*ruff, f"--config={PROJECT / 'pyproject.toml'}", path], check=False, capture_output=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("type_", "sentence"),
    [
        (["null", "Thing"], "Thing is inside itself, which is not supported"),
        (nested("string", 400), "nests too deeply for a Python type"),
    ],
    ids=["recursive", "deep"],
)
def test_what_python_cannot_hold_is_refused(tmp_path: Path, type_: Any, sentence: str) -> None:
    """By its cause."""
    with pytest.raises(ContractError, match=sentence):
        generate(of_field(tmp_path, type_))


def test_a_contract_without_a_release_is_refused(tmp_path: Path) -> None:
    subject = of_field(tmp_path, "int")
    (tmp_path / "released/parcel.v1.avsc").unlink()
    with pytest.raises(ContractError, match=r"python scripts/release_schema\.py parcel"):
        generate(load_contract(tmp_path).subject(subject.stem))
