"""Releasing a schema: gated first, then golden bytes, types and, last, its file, whole or not at all."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import release_schema

from contract import codegen
from contract.gate import check, is_compatible
from contract.golden import make_golden, read_golden
from contract.subjects import load_contract

PROJECT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Generated modules are written here, not into the project."""
    directory = tmp_path / "contract"
    directory.mkdir()
    shutil.copy(PROJECT / "contract" / "order.py", directory)
    monkeypatch.setattr(codegen, "GENERATED", directory)
    handlers = logging.getLogger().handlers[:]
    yield directory
    logging.getLogger().handlers[:] = handlers


def release(schemas: Path, name: str = "order") -> int:
    """Run the command."""
    return release_schema.main(["--schemas-dir", str(schemas), name])


def edit(schemas: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the fields of the edited schema."""
    path = schemas / "order.avsc"
    schema = json.loads(path.read_text("utf-8"))
    change(schema["fields"])
    path.write_text(json.dumps(schema, indent=2) + "\n", "utf-8")


def content(*directories: Path) -> dict[str, bytes]:
    """Give every file below some directories."""
    return {str(path): path.read_bytes() for top in directories for path in top.rglob("*") if path.is_file()}


def add_note(fields: list[dict[str, Any]]) -> None:
    """Change what every level allows."""
    fields.append({"name": "note", "type": ["null", "string"], "default": None, "maxLength": 80, "doc": "A wish."})


def test_a_compatible_change_becomes_the_next_version(
    schemas: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(schemas, add_note)
    assert release(schemas) == 0
    assert capsys.readouterr().out == (
        "released version 3: order.v3.avsc, order.v3.golden.json, contract/order.py\n"
        "next: commit them, deploy readers, then run: python scripts/register_schema.py\n"
    )
    assert (schemas / "released/order.v3.avsc").read_bytes() == (schemas / "order.avsc").read_bytes()
    contract = load_contract(schemas)
    version = contract.subject("order").version(3)
    assert read_golden(version) == make_golden(version.schema)
    source = (generated / "order.py").read_text("utf-8")
    assert "class OrderV3(" in source
    assert "\nOrder = OrderV3\n" in source
    assert check(contract) == ()


def test_earlier_versions_are_not_touched(schemas: Path) -> None:
    before = content(schemas / "released")
    edit(schemas, add_note)
    release(schemas)
    assert {name: raw for name, raw in content(schemas / "released").items() if name in before} == before


def test_again_releases_nothing(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(schemas)
    assert release(schemas) == 0
    assert capsys.readouterr().out == "order.avsc is released already, as version 2\n"
    assert content(schemas) == before


def test_a_change_that_breaks_a_reader_is_refused_and_nothing_written(
    schemas: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(schemas, lambda fields: fields.append({"name": "size", "type": "string"}))
    before = content(schemas, generated)
    assert release(schemas) == 1
    output = capsys.readouterr()
    assert "error READER_FIELD_MISSING_DEFAULT_VALUE at /fields/3" in output.out
    assert output.err == "nothing was written\n"
    assert content(schemas, generated) == before


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"name": "class", "type": "string", "default": ""}, "class cannot be a field's name in Python"),
        (
            {"name": "both", "type": ["null", "string", "int"], "default": None},
            "both is a union of 2 types besides null",
        ),
    ],
)
def test_a_schema_that_has_no_python_type_is_refused_and_nothing_written(
    schemas: Path, generated: Path, field: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate finds nothing wrong with it, the generator does."""
    edit(schemas, lambda fields: fields.append(field))
    before = content(schemas, generated)
    assert release(schemas) == 2
    assert sentence in capsys.readouterr().err
    assert content(schemas, generated) == before


@pytest.mark.parametrize("blocked", ["order.py", "order.v3.new"])
def test_what_stops_half_way_is_done_again(
    schemas: Path, generated: Path, blocked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no version before all that belongs to it is there, and nothing stays of a try that failed."""
    edit(schemas, add_note)
    path = (generated if blocked == "order.py" else schemas / "released") / blocked
    path.unlink(missing_ok=True)
    path.mkdir()
    assert release(schemas) == 2
    assert f"{path} cannot be written: Is a directory; mend that" in capsys.readouterr().err
    assert not (schemas / "released/order.v3.avsc").exists()
    path.rmdir()
    stale = schemas / "released/order.v3.references.json"
    stale.write_text('{"menu.avsc": 1}\n', "utf-8")
    assert release(schemas) == 0
    assert not stale.exists()
    assert check(load_contract(schemas)) == ()


def test_the_first_version_of_a_new_schema(schemas: Path, generated: Path) -> None:
    """With its reader named from the start."""
    (schemas / "payment.avsc").write_text(
        '{"type": "record", "name": "Payment", "fields": [{"name": "cents", "type": "long", "minimum": 1}]}'
    )
    path = schemas / "subjects.yaml"
    subject = "  payment-value: {schema: payment.avsc, compatibility: FULL, readers: {accountant: 1}}\nrules:"
    path.write_text(path.read_text("utf-8").replace("rules:", subject), "utf-8")
    assert release(schemas, "payment") == 0
    assert "class PaymentV1(" in (generated / "payment.py").read_text("utf-8")
    assert is_compatible(check(load_contract(schemas)))


def test_a_name_that_is_no_schemas(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release(schemas, "payment") == 2
    assert "has no subjects whose schema is payment.avsc, and one is needed" in capsys.readouterr().err
