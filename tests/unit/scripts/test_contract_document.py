"""docs/contract.md is true: its table of levels, and what it says the gate says."""

import json
import re
from pathlib import Path
from typing import Any

import check_compatibility
import pytest

DOCUMENT = (Path(__file__).parents[3] / "docs" / "contract.md").read_text("utf-8")
ENUM = {"type": "enum", "name": "Size", "symbols": ["S", "L"]}
DEFAULTED = {**ENUM, "default": "S"}
LARGER = {"symbols": ["S", "L", "XL"]}


def record(*fields: tuple[str, Any], **attributes: Any) -> dict[str, Any]:
    """Return a record of one field that stays and some that are given; attributes go to those."""
    given = [{"name": name, "type": type_, **attributes} for name, type_ in fields]
    return {"type": "record", "name": "R", "fields": [{"name": "stays", "type": "int"}, *given]}


NONE, TEXT, PLAIN = record(), record(("f", "string"), default=""), record(("f", "string"))
# The schemas of each row, before and after; where a row says "only if it had a default", that case and the other.
ROWS: dict[str, tuple[tuple[Any, Any], tuple[Any, Any] | None]] = {
    "add a field with a default": ((NONE, TEXT), None),
    "add a field without": ((NONE, PLAIN), None),
    "remove a field that has a default": ((TEXT, NONE), None),
    "remove a field without": ((PLAIN, NONE), None),
    "rename a field, with the old name as its alias": (
        (TEXT, record(("g", "string"), default="", aliases=["f"])),
        (PLAIN, record(("g", "string"), aliases=["f"])),
    ),
    "widen a type (`int` to `long`, a type to a union with it)": ((record(("f", "int")), record(("f", "long"))), None),
    "narrow a type": ((record(("f", ["null", "int"])), record(("f", "int"))), None),
    "add a symbol to an enum": (
        (record(("f", DEFAULTED)), record(("f", DEFAULTED | LARGER))),
        (record(("f", ENUM)), record(("f", ENUM | LARGER))),
    ),
    "remove a symbol": (
        (record(("f", DEFAULTED | LARGER)), record(("f", DEFAULTED))),
        (record(("f", ENUM | LARGER)), record(("f", ENUM))),
    ),
    "widen a limit (a higher `maxLength`)": (
        (record(("f", "string"), maxLength=1), record(("f", "string"), maxLength=2)),
        None,
    ),
    "narrow a limit": ((record(("f", "string"), maxLength=2), record(("f", "string"), maxLength=1)), None),
    "change a `doc`": ((PLAIN, record(("f", "string"), doc="What it is.")), None),
}
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.partition("## What each level allows")[2]
    .partition("\n\n")[2]
    .split("\n\n")[0]
    .splitlines()[2:]
]


def allows(tmp_path: Path, level: str, old: Any, new: Any) -> bool:
    """Ask the gate."""
    paths = tmp_path / "old.avsc", tmp_path / "new.avsc"
    for path, schema in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(schema), "utf-8")
    return check_compatibility.main(["--level", level, "--old", str(paths[0]), "--new", str(paths[1])]) == 0


def test_the_table_has_every_row() -> None:
    assert [row[0] for row in TABLE] == [*ROWS, "deploy first"]


@pytest.mark.parametrize("row", TABLE[:-1], ids=lambda row: row[0])
@pytest.mark.parametrize(("column", "level"), [(1, "BACKWARD"), (2, "FORWARD"), (3, "FULL")])
def test_the_gate_does_as_the_table_says(tmp_path: Path, row: list[str], column: int, level: str) -> None:
    """What is said to need a default is allowed with one, and not without."""
    usual, without_default = ROWS[row[0]]
    said = row[column]
    assert allows(tmp_path, level, *usual) is (said != "no")
    if without_default is not None:
        assert allows(tmp_path, level, *without_default) is (said == "yes")


@pytest.mark.parametrize(
    ("heading", "old", "new"),
    [
        ("Remove a field", r'\{"name": "table".*\n', ""),
        ("Rename a field", '"name": "pizza"', '"name": "dish", "aliases": ["pizza"]'),
        ("Widen a type", '"type": "int"', '"type": "long"'),
        ("Move a limit", '"maxLength": 64, "doc": "Its', '"maxLength": 100, "doc": "Its'),
    ],
)
def test_what_the_gate_says_to_a_bad_change(
    schemas: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], heading: str, old: str, new: str
) -> None:
    """Word for word, and first."""
    monkeypatch.chdir(schemas.parent)
    for name, pattern, text in (("order.avsc", old, new), ("subjects.yaml", "key: table", "key: order_id")):
        path = schemas / name
        path.write_text(re.sub(pattern, text, path.read_text("utf-8"), count=1), "utf-8")
    assert check_compatibility.main(["--schemas-dir", "schemas"]) == 1
    shown = DOCUMENT.partition(f"### {heading}\n")[2].partition("```text\n")[2].partition("```")[0]
    assert capsys.readouterr().out.startswith(shown)
