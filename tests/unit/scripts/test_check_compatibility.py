"""The gate as a command: what it prints in each format, its exit codes, any schema files, and what it cannot read."""

import json
import logging
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import check_compatibility
import pytest
import release_schema

from contract import codegen
from contract.released import record_files
from contract.subjects import load_contract
from tests.unit.contract.test_compatibility_conformance import CASES

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    """Return a record."""
    return {"type": "record", "name": name, "fields": list(fields)}


OLD = record({"name": "a", "type": "int"})
NEW = record({"name": "a", "type": "int"}, {"name": "b", "type": "string"})


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command configures logging for its process."""
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a repository with keys, references and unions of records, and nothing generated from it."""
    generated = tmp_path / "generated"
    generated.mkdir()
    monkeypatch.setattr(codegen, "GENERATED", generated)
    copied = Path(shutil.copytree(SHOP, tmp_path / "shop"))
    (generated / "money.py").write_text(codegen.generate(load_contract(copied).subject("money")))
    return copied


def check(*arguments: str | Path) -> int:
    """Run the command and give its exit code, also where argparse ends it."""
    try:
        return check_compatibility.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def write(path: Path, schema: Any) -> Path:
    """Write a schema file."""
    path.write_text(json.dumps(schema, indent=1), "utf-8")
    return path


def replace(path: Path, old: str, new: str) -> None:
    """Change a file."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def judge(tmp_path: Path, *schemas: Any, level: str = "BACKWARD") -> int:
    """Judge the last of some schemas by those before it, with the answer as JSON."""
    paths = [write(tmp_path / f"{number}.avsc", schema) for number, schema in enumerate(schemas)]
    old = [argument for path in paths[:-1] for argument in ("--old", path)]
    return check("--level", level, *old, "--new", paths[-1], "--format", "json")


class TestFormats:
    """A finding for a person, for a program, and beside a line of a pull request."""

    @pytest.fixture(autouse=True)
    def broken(self, schemas: Path) -> None:
        """The table's number becomes text."""
        replace(schemas / "order.avsc", '"type": "int", "minimum": 1', '"type": "string"')
        replace(schemas / "subjects.yaml", "readers: {cook: 1, manager: 2, board: 2}", "readers: {cook: 1}")
        replace(schemas / "subjects.yaml", "FULL_TRANSITIVE", "NONE")

    def test_text_groups_findings_under_their_file_and_quotes_the_line(
        self, schemas: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(schemas)
        assert check("--schemas-dir", schemas) == 1
        assert capsys.readouterr().out == (
            "order.avsc\n"
            "  8:31 error TYPE_MISMATCH at /fields/1/type\n"
            '    > {"name": "table", "type": "string", "doc": "The number of the table."},\n'
            "    the cook, reading with version 1, cannot read `order` records written with the new schema: "
            "the reader's `int` cannot be read from the writer's `string`\n"
            "    to mend it: keep `int`, and add a new field for `string`\n"
            "  1:1 error NOT_RELEASED\n"
            "    it is not the newest released version\n"
            "    to mend it: run: python scripts/release_schema.py order\n"
        )

    def test_json_has_every_field_of_a_finding(self, schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("--schemas-dir", schemas, "--format", "json") == 1
        answer = json.loads(capsys.readouterr().out)
        assert answer["compatible"] is False
        assert answer["findings"][0] == {
            "rule": "TYPE_MISMATCH",
            "severity": "error",
            "path": "/fields/1/type",
            "file": str(schemas / "order.avsc"),
            "line": 8,
            "column": 31,
            "reader": str(schemas / "released/order.v1.avsc"),
            "writer": str(schemas / "order.avsc"),
            "message": "the cook, reading with version 1, cannot read `order` records written with the new schema: "
            "the reader's `int` cannot be read from the writer's `string`",
            "fix": "keep `int`, and add a new field for `string`",
        }

    def test_github_gets_an_annotation_for_each(
        self, schemas: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With what would end a property or the message escaped."""
        monkeypatch.chdir(schemas)
        shutil.move(schemas / "order.avsc", schemas / "order,100%.avsc")
        replace(schemas / "subjects.yaml", "order.avsc", "order,100%.avsc")
        assert check("--schemas-dir", schemas, "--format", "github") == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("::error file=order%2C100%25.avsc,line=1,col=1,title=NOT_RELEASED::it is not the newest")
        assert line.endswith("; to mend it: run: python scripts/release_schema.py order,100%25")


def test_a_contract_without_findings_says_who_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == 0
    assert capsys.readouterr().out == (
        "pizza-order-value: 2 released versions, FULL_TRANSITIVE; "
        "every version can be read by cook (version 1), manager (version 2), board (version 2)\n"
    )


def test_warnings_alone_let_it_pass(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of rules decides what is one."""
    replace(shop / "money.avsc", '"doc": "ISO 4217."', '"doc": ""')
    for path in (shop / "released.sha256", *(shop / "released").iterdir()):
        path.unlink()
    replace(shop / "subjects.yaml", "    readers: {ledger: 1}\n", "")
    for name in ("money", "invoice", "payment", "invoice_key"):
        release_schema.main(["--schemas-dir", str(shop), name])
    capsys.readouterr()
    for severity, exit_code, shown in (("warning", 0, "::warning "), ("error", 1, "::error "), ("off", 0, "off")):
        original = (shop / "subjects.yaml").read_text("utf-8")
        (shop / "subjects.yaml").write_text(f"{original}rules: {{doc-missing: {severity}}}\n", "utf-8")
        assert check("--schemas-dir", shop, "--format", "github") == exit_code
        assert (capsys.readouterr().out or "off").startswith(shown)
        (shop / "subjects.yaml").write_text(original, "utf-8")


class TestAnyFiles:
    """--level, --old and --new: schema files that are in no contract."""

    def test_a_compatible_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert judge(tmp_path, OLD, OLD) == 0
        assert json.loads(capsys.readouterr().out) == {"compatible": True, "findings": []}

    def test_a_break_names_both_files_and_the_place(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert judge(tmp_path, OLD, NEW) == 1
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert (finding["rule"], finding["path"]) == ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/1")
        assert (finding["reader"], finding["writer"]) == (str(tmp_path / "1.avsc"), str(tmp_path / "0.avsc"))
        assert (finding["file"], finding["line"], finding["column"]) == (str(tmp_path / "1.avsc"), 9, 3)
        assert finding["message"] == (
            f"{tmp_path}/1.avsc cannot read what {tmp_path}/0.avsc wrote: "
            "the reader's field `b` is not written and has no default"
        )

    def test_a_break_in_a_type_that_is_used_twice_is_told_twice_to_a_program_and_once_to_a_person(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Java Avro tells it twice."""

        def twice(size: int) -> Any:
            fixed = {"type": "fixed", "name": "F", "size": size}
            return record({"name": "a", "type": fixed}, {"name": "b", "type": "F"})

        assert judge(tmp_path, twice(1), twice(2)) == 1
        assert len(json.loads(capsys.readouterr().out)["findings"]) == 2
        files = ("--level", "BACKWARD", "--old", tmp_path / "0.avsc", "--new", tmp_path / "1.avsc")
        for form in ("text", "github"):
            assert check(*files, "--format", form) == 1
            assert capsys.readouterr().out.count("FIXED_SIZE_MISMATCH") == 1

    def test_a_level_that_is_none_is_refused_with_those_that_there_are(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert judge(tmp_path, OLD, NEW, level="nonsense") == 2
        told = capsys.readouterr().err
        assert "(choose from 'NONE', 'BACKWARD', " in told
        assert "Level." not in told

    @pytest.mark.parametrize(("level", "exit_code"), [("BACKWARD", 0), ("BACKWARD_TRANSITIVE", 1), ("NONE", 0)])
    def test_the_newest_is_the_last_old_one(self, tmp_path: Path, level: str, exit_code: int) -> None:
        assert judge(tmp_path, OLD, NEW, NEW, level=level) == exit_code

    @pytest.mark.parametrize(("level", "exit_code"), [("BACKWARD", 1), ("FORWARD", 0), ("FULL", 1)])
    def test_a_narrower_limit_breaks_backward(self, tmp_path: Path, level: str, exit_code: int) -> None:
        """Nothing else of what is agreed counts here: no doc, no namespace."""
        wide, narrow = ({"type": "int", "maximum": most} for most in (9, 8))
        assert judge(tmp_path, wide, narrow, level=level) == exit_code
        assert judge(
            tmp_path, narrow, wide, level={"BACKWARD": "FORWARD", "FORWARD": "BACKWARD"}.get(level, level)
        ) == (exit_code)

    def test_a_file_may_be_a_pipe(self, tmp_path: Path) -> None:
        """As `<(git show main:order.avsc)` is: it is read once."""
        new, pipe = write(tmp_path / "new.avsc", NEW), tmp_path / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["sh", "-c", f"cat > {pipe}"], stdin=subprocess.PIPE) as writer:
            assert writer.stdin is not None
            writer.stdin.write(json.dumps(OLD).encode())
            writer.stdin.close()
            assert check("--level", "FORWARD", "--old", pipe, "--new", new) == 0

    def test_a_schema_of_5000_fields_is_judged_normally(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        old, new = (record(*({"name": f"f{n}", "type": type_} for n in range(5_000))) for type_ in ("int", "string"))
        assert judge(tmp_path, old, old, level="FULL") == 0
        capsys.readouterr()
        assert judge(tmp_path, old, new) == 1
        assert len(json.loads(capsys.readouterr().out)["findings"]) == 5_000

    def test_a_schema_of_200_levels_is_judged_normally(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def nested(innermost: str) -> Any:
            deep: Any = innermost
            for number in range(200):
                deep = record({"name": "f", "type": ["null", deep]}, name=f"R{number}")
            return deep

        assert judge(tmp_path, nested("int"), nested("int")) == 0
        capsys.readouterr()
        assert judge(tmp_path, nested("int"), nested("string")) == 1
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert finding["line"] > 200

    def test_a_record_inside_itself_is_judged_normally(self, tmp_path: Path) -> None:
        recursive = record({"name": "next", "type": ["null", "R"]})
        assert judge(tmp_path, recursive, recursive, level="FULL") == 0


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_case(case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, rules and paths are Java Avro's through the command too."""
    code = judge(tmp_path, *case["history"], case["candidate"], level=case["level"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["compatible"] is case["compatible"] is (code == 0)
    java = case["java_avro_1_12_1"]
    if "error" not in java:
        sides = {
            str(tmp_path / f"{number}.avsc"): f"reader=history[{number}]" for number in range(len(case["history"]))
        }
        assert Counter(
            (sides.get(one["reader"], "reader=candidate"), one["rule"], one["path"]) for one in answer["findings"]
        ) == Counter((each["direction"], each["type"], each["location"]) for each in java["incompatibilities"])


class TestBadInput:
    """A sentence on standard error and exit code 2."""

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "0.avsc:1:1: not JSON: "),
            ('{\n  "type": }', "0.avsc:2:11: not JSON: "),
            ("3", "0.avsc:1:1: no Avro schema: "),
            ('{"type":\n "recrod"}', "0.avsc:1:1: no Avro schema: unknown type `recrod`"),
            (
                '{"type": "record", "name": "R", "fields": [\n{"name": "a", "type": "int"},\n {"name": "a"}]}',
                "0.avsc:3:2: no Avro schema: a field has a `name` of its own",
            ),
            (
                '[{"type": "fixed", "name": "F", "size": 1},\n  {"type": "fixed", "name": "F", "size": 1}]',
                "0.avsc:2:3: no Avro schema: the name `F` is taken",
            ),
        ],
    )
    def test_what_is_no_schema_is_named_with_its_place(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
    ) -> None:
        (tmp_path / "0.avsc").write_text(text, "utf-8")
        assert check("--level", "FULL", "--new", tmp_path / "0.avsc") == 2
        output = capsys.readouterr()
        assert output.err.startswith("check_compatibility: ")
        assert sentence in output.err
        assert output.out == ""

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--level", "SIDEWAYS", "--new", "x"], "invalid choice: 'SIDEWAYS'"),
            (["--level", "FULL"], "--level and --new go together"),
            (["--new", "x"], "--level and --new go together"),
            (["--old", "x"], "--level and --new go together"),
            (["--level", "FULL", "--new", "nothing.avsc"], "nothing.avsc cannot be read: No such file"),
            (["--level", "FULL", "--new", ".", "--live"], "--level and --new go together"),
            (["--format", "yaml"], "invalid choice: 'yaml'"),
        ],
    )
    def test_arguments(self, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
        assert check(*arguments) == 2
        assert sentence in capsys.readouterr().err

    def test_a_default_that_is_none_is_named_with_its_place(
        self, schemas: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        replace(schemas / "order.avsc", '"default": ""', '"default": 3')
        assert check("--schemas-dir", schemas) == 2
        assert "order.avsc:9:5: no Avro schema: the default 3 of `order_id` is no value of `string`" in (
            capsys.readouterr().err
        )


class TestAgainst:
    """What was released on another branch is as it was."""

    @pytest.fixture(autouse=True)
    def committed(self, schemas: Path) -> None:
        """The contract as it is on a branch `main`."""
        for command in (
            ["init", "--quiet", "--initial-branch", "main"],
            ["add", "."],
            ["-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", "m"],
        ):
            subprocess.run(["git", *command], cwd=schemas, check=True)

    def test_nothing_has_changed(self, schemas: Path) -> None:
        assert check("--schemas-dir", schemas, "--against", "main") == 0

    def test_a_released_file_and_its_fingerprint_have_changed(
        self, schemas: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = schemas / "released/order.v1.golden.json"
        replace(path, '"table": 1\n', '"table": 1 \n')
        record_files(schemas, [path])
        assert check("--schemas-dir", schemas) == 0
        capsys.readouterr()
        assert check("--schemas-dir", schemas, "--against", "main", "--format", "json") == 1
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert (finding["rule"], finding["file"], finding["line"]) == ("RELEASED_CHANGED", str(path), 5)

    @pytest.mark.parametrize("reference", ["nowhere", "--output=x", ""])
    def test_a_reference_that_is_not_there(
        self, schemas: Path, capsys: pytest.CaptureFixture[str], reference: str
    ) -> None:
        code = check("--schemas-dir", schemas, f"--against={reference}")
        assert code == (2 if reference else 0)
        if reference:
            assert f"--against {reference} cannot be read here" in capsys.readouterr().err

    def test_a_directory_that_git_does_not_know(
        self, schemas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(schemas / ".git")
        assert tmp_path in schemas.parents
        assert check("--schemas-dir", schemas, "--against", "main") == 2
        assert "--against main cannot be read here: fatal: not a git repository" in capsys.readouterr().err

    def test_a_machine_without_git(
        self, schemas: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", "")
        assert check("--schemas-dir", schemas, "--against", "main") == 2
        assert "--against needs git" in capsys.readouterr().err


class TestManySubjects:
    """Keys and values, several records, references between schemas, and unions of records."""

    def test_they_are_judged_together(self, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("--schemas-dir", shop) == 0
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
            "invoice-key",
            "money-value",
            "invoice-value",
            "payment-value",
        ]

    def test_a_break_in_a_type_of_another_file_is_found_in_each_that_refers_to_it(
        self, shop: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And named where it is written."""
        replace(shop / "money.avsc", '"type": "long", "minimum": 0', '"type": "string"')
        assert check("--schemas-dir", shop, "--format", "json") == 1
        found = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["rule"] != "NOT_RELEASED"]
        assert {(one["file"], one["line"]) for one in found} == {(str(shop / "money.avsc"), 6)}
        assert {Path(one["reader"]).name for one in found} >= {"money.avsc", "invoice.avsc", "payment.avsc"}

    def test_a_key_and_a_union_at_the_top_are_judged(self, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(shop / "invoice_key.avsc", "int")
        replace(shop / "payment.avsc", '"name": "Cash"', '"name": "Cheque"')
        assert check("--schemas-dir", shop, "--format", "json") == 1
        found = {(Path(one["file"]).name, one["rule"]) for one in json.loads(capsys.readouterr().out)["findings"]}
        assert found >= {("invoice_key.avsc", "TYPE_MISMATCH"), ("payment.avsc", "MISSING_UNION_BRANCH")}

    def test_a_type_of_another_file_is_released_before_those_that_refer_to_it(
        self, shop: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They are released anew with it, and keep the version that they use."""
        replace(shop / "money.avsc", "In hundredths.", "Hundredths.")
        before = {path.name for path in (shop / "released").iterdir()}
        assert release_schema.main(["--schemas-dir", str(shop), "invoice"]) == 2
        assert "invoice.avsc refers to money.avsc, which must be released first" in capsys.readouterr().err
        assert {path.name for path in (shop / "released").iterdir()} == before
        for name in ("money", "invoice", "payment"):
            assert release_schema.main(["--schemas-dir", str(shop), name]) == 0
        assert json.loads((shop / "released/invoice.v2.references.json").read_text("utf-8")) == {"money.avsc": 2}
        assert check("--schemas-dir", shop) == 0

    @pytest.mark.parametrize(
        ("old", "new", "sentence"),
        [
            ("[money.avsc]", "[cash.avsc]", "references name cash.avsc, which is no subject's schema"),
            ("[money.avsc]", "[payment.avsc]", "schemas refer to each other in a circle"),
            ("    references: [invoice.avsc]\n", "", "payment.avsc:3:33: no Avro schema: unknown type `Invoice`"),
        ],
    )
    def test_references_that_lead_nowhere(
        self, shop: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, sentence: str
    ) -> None:
        replace(shop / "subjects.yaml", old, new)
        assert check("--schemas-dir", shop) == 2
        assert sentence in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["", "[]", '{"cash.avsc": 1}', '{"money.avsc": "1"}'])
    def test_a_released_version_that_does_not_name_its_references(
        self, shop: Path, capsys: pytest.CaptureFixture[str], text: str
    ) -> None:
        write(shop / "released/invoice.v1.references.json", text)
        assert check("--schemas-dir", shop) == 2
        assert "invoice.v1.references.json does not name versions" in capsys.readouterr().err
