"""The gate: what keeps a contract from being merged or released, and that the shipped one is clean."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract import codegen
from contract.errors import ContractError
from contract.gate import Finding, check, check_release, is_compatible
from contract.golden import golden_path, write_golden
from contract.released import record_files
from contract.subjects import Contract, load_contract

PROJECT = Path(__file__).parents[3]


def edit(schemas: Path, change: Callable[[list[dict[str, Any]]], object], name: str = "order.avsc") -> Contract:
    """Change the fields of a schema file and read the contract again."""
    path = schemas / name
    schema = json.loads(path.read_text("utf-8"))
    change(schema["fields"])
    path.write_text(json.dumps(schema), "utf-8")
    return load_contract(schemas)


def settings(schemas: Path, old: str, new: str) -> None:
    """Change subjects.yaml."""
    path = schemas / "subjects.yaml"
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def release(schemas: Path, change: Callable[[list[dict[str, Any]]], object], *, record: bool = True) -> None:
    """Release a changed schema without asking the gate."""
    subject = edit(schemas, change).subject("order")
    path = schemas / f"released/order.v{subject.next_number}.avsc"
    shutil.copy(subject.current.path, path)
    written = [path, write_golden(replace(subject.current, path=path))]
    if record:
        record_files(schemas, written)


def rules(contract: Contract) -> set[str]:
    """Give the rules that a contract breaks."""
    return {finding.rule for finding in check(contract)}


def texts(findings: Sequence[Finding]) -> list[str]:
    """Give each finding in a line."""
    return [f"{Path(one.file).name}:{one.line} {one.rule} {one.path}: {one.message}; {one.fix}" for one in findings]


def field(name: str, type_: Any, **attributes: Any) -> dict[str, Any]:
    """Give a field with a doc."""
    return {"name": name, "type": type_, "doc": "What it is.", **attributes}


def add(name: str, type_: Any, **attributes: Any) -> Callable[[list[dict[str, Any]]], object]:
    """Give an edit that adds a field."""
    return lambda fields: fields.append(field(name, type_, **attributes))


add_required = add("size", "string")  # breaks BACKWARD: a new reader cannot read what is there


def drop_table(fields: list[dict[str, Any]]) -> None:
    """Break FORWARD: old readers cannot read what comes."""
    fields[:] = [each for each in fields if each["name"] != "table"]


def test_the_shipped_contract_has_no_findings(contract: Contract) -> None:
    assert check(contract) == ()


def test_a_schema_that_is_not_released_says_how_to_release_it(schemas: Path) -> None:
    contract = edit(schemas, add("note", "string", default=""))
    assert texts(check(contract)) == [
        "order.avsc:1 NOT_RELEASED : it is not the newest released version; run: python scripts/release_schema.py order"
    ]
    assert check_release(contract.subject("order")) == ()


def test_types_that_are_out_of_date(contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generated module that was edited by hand or is missing."""
    monkeypatch.setattr(codegen, "GENERATED", tmp_path)
    assert rules(contract) == {"STALE_TYPES"}
    shutil.copy(PROJECT / "contract" / "order.py", tmp_path)
    assert rules(contract) == set()
    (tmp_path / "order.py").write_text((tmp_path / "order.py").read_text("utf-8").replace("ge=1", "ge=0"), "utf-8")
    (finding,) = texts(check(contract))
    assert finding == (
        "order.py:1 STALE_TYPES : contract/order.py is not what the released schemas generate; "
        "run: python scripts/generate_types.py"
    )


@pytest.mark.parametrize(
    ("level", "change", "breaks"),
    [
        ("BACKWARD", add_required, True),
        ("BACKWARD", drop_table, False),
        ("FORWARD", add_required, False),
        ("FORWARD", drop_table, True),
        ("FULL", add_required, True),
        ("FULL", drop_table, True),
        ("NONE", add_required, False),
        ("NONE", drop_table, False),
    ],
)
def test_a_level_is_kept(
    schemas: Path, level: str, change: Callable[[list[dict[str, Any]]], None], *, breaks: bool
) -> None:
    """Without readers of its own, a contract is held by its level alone."""
    settings(schemas, "FULL_TRANSITIVE", level)
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{}")
    settings(schemas, "key: table ", "key: pizza ")
    found = check_release(edit(schemas, change).subject("order"))
    assert {finding.rule for finding in found} == ({"READER_FIELD_MISSING_DEFAULT_VALUE"} if breaks else set())
    assert is_compatible(found) is not breaks


@pytest.mark.parametrize(("level", "breaks"), [("BACKWARD", False), ("BACKWARD_TRANSITIVE", True)])
def test_a_transitive_level_looks_further_back_than_one_version(schemas: Path, level: str, *, breaks: bool) -> None:
    """Version 2 has `order_id` and version 1 has not: a version 3 that demands it cannot read version 1."""
    settings(schemas, "FULL_TRANSITIVE", level)
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{}")
    contract = edit(schemas, lambda fields: fields[2].pop("default"))
    assert bool(check_release(contract.subject("order"))) is breaks


def test_a_deployed_reader_is_protected_whatever_the_level_says(schemas: Path) -> None:
    """It is named, with what it reads and what was written."""
    settings(schemas, "FULL_TRANSITIVE", "NONE")
    settings(schemas, "key: table ", "key: pizza ")
    found = check_release(edit(schemas, drop_table).subject("order"))
    assert [finding.message for finding in found] == [
        f"the {groups}, reading with version {version}, cannot read `order` records written with the new schema: "
        "the reader's field `table` is not written and has no default"
        for groups, version in (("cook", 1), ("manager and the board", 2))
    ]


def test_groups_that_read_with_the_same_version_are_named_together(schemas: Path) -> None:
    settings(schemas, "FULL_TRANSITIVE", "NONE")
    settings(schemas, "manager: 2, board: 2", "manager: 1")
    settings(schemas, "key: table ", "key: pizza ")
    (finding,) = check_release(edit(schemas, drop_table).subject("order"))
    assert finding.message.startswith("the cook and the manager, reading with version 1, cannot read")


def test_a_finding_says_where_who_and_how_to_mend_it(schemas: Path) -> None:
    """In the file that can be changed, with both files, at the field's place."""
    contract = edit(schemas, add_required)
    first, second = check_release(contract.subject("order"))
    assert first == Finding(
        rule="READER_FIELD_MISSING_DEFAULT_VALUE",
        severity="error",
        path="/fields/3",
        file=str(schemas / "order.avsc"),
        line=1,
        column=(schemas / "order.avsc").read_text("utf-8").index('{"name": "size"') + 1,
        reader=str(schemas / "order.avsc"),
        writer=str(schemas / "released/order.v1.avsc"),
        message="a reader with the new schema cannot read `order` records written with version 1: "
        "the reader's field `size` is not written and has no default",
        fix="give `size` a default",
    )
    assert second.writer == str(schemas / "released/order.v2.avsc")


def test_where_the_new_schema_writes_the_fix_is_for_the_writer(schemas: Path) -> None:
    settings(schemas, "key: table ", "key: pizza ")
    found = check_release(edit(schemas, drop_table).subject("order"))
    assert {(Path(one.file).name, one.fix) for one in found} == {("order.avsc", "keep the field `table`")}


def test_a_reader_that_is_moved_to_a_version_which_cannot_read_all(schemas: Path) -> None:
    """Both versions are released: only the reader's choice can be mended."""
    settings(schemas, "FULL_TRANSITIVE", "NONE")
    release(schemas, add_required)
    release(schemas, add("note", "string", default=""))
    settings(schemas, "manager: 2", "manager: 3")
    found = [one for one in check_release(load_contract(schemas).subject("order")) if one.rule.isupper()]
    assert {one.fix for one in found} == {"let manager read with another version"}
    assert {Path(one.file).name for one in found} == {"order.v3.avsc"}


def test_the_newest_released_version_is_judged_by_those_before_it(schemas: Path) -> None:
    """Whoever releases by hand does not get round the gate."""
    release(schemas, add_required)
    found = check(load_contract(schemas))
    assert "a reader with version 3 cannot read `order` records written with version 1" in found[0].message
    assert {one.rule for one in found} == {"READER_FIELD_MISSING_DEFAULT_VALUE", "STALE_TYPES"}


def test_every_version_that_a_baseline_lacks_is_judged(schemas: Path) -> None:
    """At a level that looks one version back, the last of two releases alone does not show what the first broke."""
    settings(schemas, "FULL_TRANSITIVE", "BACKWARD")
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{}")
    baseline = {path.name: path.read_bytes() for path in (schemas / "released").iterdir()}
    release(schemas, add_required)
    release(schemas, add("note", "string", default=""))
    contract = load_contract(schemas)
    assert rules(contract) == {"STALE_TYPES"}
    found = check(contract, baseline)
    assert {Path(one.file).name for one in found if one.rule == "READER_FIELD_MISSING_DEFAULT_VALUE"} == {
        "order.v3.avsc"
    }


def test_a_version_that_was_released_before_cannot_be_released_again(schemas: Path) -> None:
    """A registry has one version for one text."""
    shutil.copy(schemas / "released/order.v1.avsc", schemas / "order.avsc")
    settings(schemas, "identity: order_id", "identity: table")
    (finding,) = [one for one in check_release(load_contract(schemas).subject("order")) if one.severity == "error"]
    assert (finding.rule, finding.message) == (
        "SAME_AS_RELEASED",
        "it is version 1 again, which no registry takes for a new one",
    )


def test_an_edit_is_judged_by_the_version_before_it_until_it_is_released(schemas: Path) -> None:
    """Who reads is no matter: old records would be read with another value than before."""
    baseline = {path.name: path.read_bytes() for path in (schemas / "released").iterdir()}

    def change(fields: list[dict[str, Any]]) -> None:
        fields[2]["default"] = "none"

    (finding,) = check_release(edit(schemas, change).subject("order"))
    assert (finding.rule, finding.severity, finding.path) == ("default-changed", "warning", "/fields/2/default")
    assert finding.writer == str(schemas / "released/order.v2.avsc")
    release(schemas, change)
    contract = load_contract(schemas)
    assert check_release(contract.subject("order")) == ()
    assert "default-changed" in {one.rule for one in check(contract, baseline)}


class TestReleasedFiles:
    """They are as they were, by their fingerprints and by the reference that a pull request is compared with."""

    def test_one_that_was_changed_is_found(self, schemas: Path) -> None:
        contract = edit(schemas, drop_table, "released/order.v1.avsc")
        assert texts(check(contract))[0] == (
            "order.v1.avsc:1 RELEASED_CHANGED : order.v1.avsc is not what was released; restore it"
        )

    def test_one_that_is_gone_is_found_and_so_is_the_gap(self, schemas: Path) -> None:
        settings(schemas, "cook: 1", "cook: 2")
        (schemas / "released/order.v1.avsc").unlink()
        gone, gap, *_ = texts(check(load_contract(schemas)))
        assert gone == "order.v1.avsc:1 RELEASED_CHANGED : order.v1.avsc is gone; restore it"
        assert gap == (
            "order.v2.avsc:1 NUMBERING : the released versions of order are [2], and are to be numbered from 1 "
            "without a gap; restore the missing file, or number the new one"
        )

    def test_golden_bytes_are_released_files_too(self, schemas: Path) -> None:
        path = schemas / "released/order.v2.golden.json"
        path.write_text(path.read_text("utf-8") + " ", "utf-8")
        assert rules(load_contract(schemas)) == {"RELEASED_CHANGED"}

    def test_one_that_no_command_has_released_is_found(self, schemas: Path) -> None:
        """Else a change of the fingerprints by hand would be all it takes."""
        release(schemas, add("note", "string", default=""), record=False)
        assert "order.v3.avsc is not in released.sha256, where each release is recorded" in str(
            check(load_contract(schemas))
        )

    def test_a_baseline_wins_over_fingerprints_that_were_changed_with_the_file(self, schemas: Path) -> None:
        """The line that differs is named."""
        path = schemas / "released/order.v1.avsc"
        baseline = {path.name: path.read_bytes() for path in (schemas / "released").iterdir()}
        path.write_text(path.read_text("utf-8").replace("Its name", "The name"), "utf-8")
        record_files(schemas, [path])
        contract = load_contract(schemas)
        assert rules(contract) == {"STALE_TYPES"}
        finding = check(contract, baseline)[0]
        assert (finding.rule, finding.line) == ("RELEASED_CHANGED", 7)

    def test_fingerprints_that_are_none(self, schemas: Path) -> None:
        (schemas / "released.sha256").write_text("one two three")
        with pytest.raises(ContractError, match=r"released\.sha256 is not a list of fingerprints.*; restore it$"):
            check(load_contract(schemas))


def test_golden_bytes_that_a_reader_cannot_read(contract: Contract) -> None:
    """Really decoded, by each reader: a change of the codec or of the file is found without a broker."""
    path = golden_path(contract.subject("order").version(2))
    path.write_text(path.read_text("utf-8").replace('"02610200"', '"026102"'), "utf-8")
    record_files(contract.directory, [path])
    found = check(contract)
    assert [(finding.rule, Path(finding.file).name) for finding in found] == [("GOLDEN_BYTES", path.name)] * 2
    assert (
        "the cook, reading with version 1, cannot read golden bytes of version 2: its 3 bytes end" in found[0].message
    )


def test_types_of_one_short_name_in_a_union_are_told_apart(schemas: Path) -> None:
    """As Avro has it, by their full names."""
    branches = [
        {"type": "record", "name": f"{space}.P", "fields": [field(name, "int")]} for space, name in ("ax", "by")
    ]
    release(schemas, add("either", branches, default={"x": 0}))
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{cook: 3}")
    assert check_release(edit(schemas, add("note", "string", default="")).subject("order")) == ()


def test_golden_bytes_say_what_is_the_matter(schemas: Path) -> None:
    """A file that nobody has touched is not to be restored: bytes are promoted to a string, and are no text."""
    release(schemas, add("raw", "bytes", default=""))
    release(schemas, lambda fields: fields[-1].update(type="string"))
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{cook: 4}")
    settings(schemas, "FULL_TRANSITIVE", "NONE")
    found = [one for one in check(load_contract(schemas)) if one.rule == "GOLDEN_BYTES"]
    assert [(Path(one.file).name, one.fix) for one in found] == [
        ("order.v3.golden.json", "let the cook read with another version")
    ]
    assert "raw is b'" in found[0].message
    path = golden_path(load_contract(schemas).subject("order").version(3))
    path.write_text(path.read_text("utf-8").replace('"avro": "02', '"avro": "03', 1), "utf-8")
    record_files(schemas, [path])
    found = [one for one in check(load_contract(schemas)) if one.rule == "GOLDEN_BYTES"]
    assert {one.fix for one in found} == {"restore the file as it was released"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "[3]", '[{"value": {}}]', '[{"value": {}, "avro": "0"}]'])
def test_golden_bytes_that_are_none(contract: Contract, content: str) -> None:
    """An emptied file must not pass as one that holds, nor when its fingerprint was changed with it."""
    path = golden_path(contract.subject("order").version(1))
    path.write_text(content)
    assert [(one.rule, one.file) for one in check(contract)] == [("RELEASED_CHANGED", str(path))]
    record_files(contract.directory, [path])
    with pytest.raises(ContractError, match=r"order\.v1\.golden\.json"):
        check(contract)


def test_a_reader_of_a_version_that_nobody_has_released(schemas: Path) -> None:
    settings(schemas, "manager: 2", "manager: 7")
    with pytest.raises(ContractError, match="has no released version 7"):
        check(load_contract(schemas))


def test_the_first_version_can_be_released_with_its_readers_named(schemas: Path) -> None:
    """Otherwise a new contract could not be written down before its first release."""
    for path in (schemas / "released").iterdir():
        path.unlink()
    (schemas / "released.sha256").unlink()
    settings(schemas, "{cook: 1, manager: 2, board: 2}", "{cook: 1}")
    contract = load_contract(schemas)
    assert check_release(contract.subject("order")) == ()
    assert rules(contract) == {"NOT_RELEASED"}


def test_a_new_version_is_judged_by_its_golden_bytes_too(schemas: Path) -> None:
    """A compatible version 3 leaves nothing but stale types."""
    release(schemas, add("note", ["null", "string"], default=None))
    assert rules(load_contract(schemas)) == {"STALE_TYPES"}


@pytest.mark.parametrize(("setting", "gone", "rule"), [
    ("key: table ", "table", "KEY_MISSING"),
    ("identity: order_id ", "order_id", "IDENTITY_MISSING"),
])  # fmt: skip
def test_the_field_that_records_are_keyed_or_known_by_must_stay(
    schemas: Path, setting: str, gone: str, rule: str
) -> None:
    """A finding as every other, and whoever only reads the contract is not stopped by an edit."""
    settings(schemas, setting, setting)
    found = check(edit(schemas, lambda fields: fields.remove(next(one for one in fields if one["name"] == gone))))
    (missing,) = (finding for finding in found if finding.rule == rule)
    assert missing.severity == "error"
    assert f"is `{gone}`, which is no field of order.avsc" in missing.message


@pytest.mark.parametrize(
    "broken",
    [
        field("encode_fast", "string", default=""),
        field("class", "int", default=0),
        field("__x", "int", default=0),
        field("x", "double", default=float("inf")),
    ],
)
def test_a_field_that_would_break_the_import_of_the_types_is_not_released(
    schemas: Path, broken: dict[str, Any]
) -> None:
    """The types are made and tried before anybody else has to."""

    def make() -> None:
        release(schemas, lambda fields: fields.append(broken), record=False)
        codegen.generate(load_contract(schemas).subject("order"))

    with pytest.raises(ContractError):  # what is no JSON, when it is read
        make()
