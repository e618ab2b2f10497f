"""The gate beside a real registry: the same verdicts at every level, and what --live finds."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from contract.compatibility import Level, compare, required_reads
from tests.integration.conftest import ServerAddresses
from tests.restaurant import ROOT, Restaurant

pytestmark = pytest.mark.integration
SHOP = ROOT / "tests" / "fixtures" / "shop"


def record(*fields: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """Return a record."""
    return {"type": "record", "name": "R", "fields": list(fields), **attributes}


A = {"name": "a", "type": "int"}
B = {"name": "b", "type": "string", "default": ""}
ENUM = {"type": "enum", "name": "E", "symbols": ["X", "Y"]}
# What was released, oldest first, and the schema to judge.
CHANGES: dict[str, tuple[list[Any], Any]] = {
    "nothing": ([record(A)], record(A)),
    "a field with a default": ([record(A)], record(A, B)),
    "a field without one": ([record(A)], record(A, {"name": "c", "type": "int"})),
    "a field that is gone": ([record(A, B)], record(A)),
    "a field without a default that is gone": ([record(A, B)], record(B)),
    "a default that is gone after a version without the field": (
        [record(A), record(A, B)],
        record(A, {"name": "b", "type": "string"}),
    ),
    "a wider type": ([record(A)], record({"name": "a", "type": "long"})),
    "a narrower type": ([record({"name": "a", "type": "long"})], record(A)),
    "another type": ([record(A)], record({"name": "a", "type": "boolean"})),
    "a type that comes back": ([record(A), record({"name": "a", "type": "long"})], record(A)),
    "an optional field": ([record(A)], record({"name": "a", "type": ["null", "int"]})),
    "a renamed field with its alias": ([record(A)], record({"name": "z", "type": "int", "aliases": ["a"]})),
    "a renamed record": ([record(A)], record(A, name="S")),
    "a record in another namespace": ([record(A)], record(A, namespace="n")),
    "one more symbol": (
        [record({"name": "e", "type": ENUM})],
        record({"name": "e", "type": {**ENUM, "symbols": ["X", "Y", "Z"]}}),
    ),
    "another size": (
        [{"type": "fixed", "name": "F", "size": 1}],
        {"type": "fixed", "name": "F", "size": 2},
    ),
    "one more branch": (["int", ["null", "int"]], ["null", "int", "string"]),
    "a limit": ([record({**A, "maximum": 9})], record({**A, "maximum": 8})),
}


@pytest.fixture(scope="module")
def client(servers: ServerAddresses) -> Iterator[SchemaRegistryClient]:
    """The registry's own client."""
    with SchemaRegistryClient({"url": servers.registry_url}) as opened:
        yield opened


@pytest.mark.parametrize("change", CHANGES)
def test_the_registry_gives_the_same_answer_at_every_level(client: SchemaRegistryClient, change: str) -> None:
    """Asked as the gate asks: of all versions, by the level that the subject has."""
    history, candidate = CHANGES[change]
    subject = f"gate-{uuid.uuid4().hex[:12]}-value"
    for schema in history:
        client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        client.set_compatibility(subject, "NONE")
    theirs, ours = {}, {}
    for level in Level:
        client.set_compatibility(subject, level.value)
        ask = client.test_compatibility_all_versions if "TRANSITIVE" in level else client.test_compatibility
        theirs[level] = ask(subject, Schema(json.dumps(candidate), "AVRO"))
        ours[level] = not any(compare(*pair) for pair in required_reads(level, history, candidate))
    assert ours == theirs


@pytest.fixture
def bare(open_restaurant: Callable[..., Restaurant]) -> Restaurant:
    """A restaurant whose contract is not registered."""
    return open_restaurant()


def live(restaurant: Restaurant, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the gate with --live and the findings as JSON."""
    return restaurant.run("scripts/check_compatibility.py", "--live", "--format", "json", *arguments, env=environ)


def rules(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    """Give rule and file of each error that is the registry's."""
    assert done.returncode in {0, 1}, done.stderr
    return [
        (finding["rule"], Path(finding["file"]).name)
        for finding in json.loads(done.stdout)["findings"]
        if finding["severity"] == "error" and finding["rule"] not in {"STALE_TYPES", "NOT_RELEASED"}
    ]


def edit(restaurant: Restaurant, old: str, new: str) -> None:
    """Change order.avsc."""
    path = restaurant.schemas / "order.avsc"
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def add_note(restaurant: Restaurant, default: str = ', "default": ""') -> None:
    """Add a field to order.avsc."""
    edit(restaurant, '"fields": [', f'"fields": [{{"name": "note", "type": "string"{default}, "doc": "A wish."}},')


class TestLive:
    """Its versions are the released files, its level is ours, and it agrees on the edited schema."""

    def test_a_registry_that_is_as_the_files_are(self, restaurant: Restaurant) -> None:
        assert rules(live(restaurant)) == []

    def test_an_unknown_subject_is_not_registered_though_a_registry_calls_all_compatible_with_it(
        self, bare: Restaurant
    ) -> None:
        assert rules(live(bare)) == [
            ("NOT_REGISTERED", "order.v1.avsc"),
            ("NOT_REGISTERED", "order.v2.avsc"),
            ("REGISTRY_LEVEL", "order.avsc"),
        ]

    def test_another_level(self, restaurant: Restaurant) -> None:
        restaurant.registry.set_compatibility(f"{restaurant.topic}-value", "BACKWARD")
        done = live(restaurant)
        assert rules(done) == [("REGISTRY_LEVEL", "order.avsc")]
        assert "the registry's level is BACKWARD, ours is FULL_TRANSITIVE" in done.stdout

    def test_a_version_that_is_in_no_file(self, restaurant: Restaurant) -> None:
        """Between the released ones it is drift; after them, a warning as long as all can read it."""
        schema = json.loads(restaurant.subject.newest.text)
        schema["fields"].append({"name": "note", "type": "string", "default": ""})
        restaurant.registry.register_schema(f"{restaurant.topic}-value", Schema(json.dumps(schema), "AVRO"))
        done = live(restaurant)
        assert rules(done) == []
        assert "its version 3 is not among the released files" in done.stdout

    def test_an_edited_schema_on_which_both_agree(self, restaurant: Restaurant) -> None:
        add_note(restaurant)
        assert rules(live(restaurant)) == []

    def test_an_edited_schema_that_both_refuse_is_told_once(self, restaurant: Restaurant) -> None:
        """Avro's rule says more than that the registry refuses it too."""
        add_note(restaurant, default="")
        assert {rule for rule, _ in rules(live(restaurant))} == {"READER_FIELD_MISSING_DEFAULT_VALUE"}

    def test_a_registry_that_holds_more_than_we_know_may_disagree(self, restaurant: Restaurant) -> None:
        """Its newest version has the field `note` as a number."""
        schema = json.loads(restaurant.subject.newest.text)
        schema["fields"].append({"name": "note", "type": "int", "default": 0})
        restaurant.registry.register_schema(f"{restaurant.topic}-value", Schema(json.dumps(schema), "AVRO"))
        add_note(restaurant)
        done = live(restaurant)
        assert rules(done) == [("REGISTRY_DISAGREES", "order.avsc")]
        assert "the registry calls the new schema incompatible, the gate compatible" in done.stdout

    def test_a_version_that_this_change_releases_need_not_be_registered_yet(self, restaurant: Restaurant) -> None:
        """Which one that is, the reference says that the change is compared with."""
        for command in (
            ["init", "--quiet", "--initial-branch", "main"],
            ["add", "."],
            ["-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", "m"],
        ):
            subprocess.run(["git", *command], cwd=restaurant.schemas, check=True)
        add_note(restaurant)
        path = restaurant.schemas / "released" / "order.v3.avsc"
        shutil.copy(restaurant.schemas / "order.avsc", path)
        for kind in (".golden.json",):
            shutil.copy(restaurant.schemas / f"released/order.v2{kind}", path.with_suffix(kind))
        assert ("NOT_REGISTERED", "order.v3.avsc") in rules(live(restaurant))
        assert "NOT_REGISTERED" not in {rule for rule, _ in rules(live(restaurant, "--against", "main"))}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "refused our credentials (401)"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", "not a registry's JSON"),
        (b"", "does not answer"),
    ],
)
def test_what_answers_but_is_no_registry_is_a_sentence(bare: Restaurant, answer: bytes, sentence: str) -> None:
    """Refused credentials, a web page, and one who takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                connection.recv(65536)
                if answer:
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = live(bare, SCHEMA_REGISTRY_URL=address, STARTUP_TIMEOUT="1", REQUEST_TIMEOUT="0.5")
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.fixture
def shop(bare: Restaurant) -> Restaurant:
    """Many subjects, with names of their own: keys, references, and unions of records."""
    shutil.rmtree(bare.schemas)
    shutil.copytree(SHOP, bare.schemas)
    path = bare.schemas / "subjects.yaml"
    text = path.read_text("utf-8")
    for name in ("invoice-key", "invoice-value", "payment-value", "money-value"):
        text = text.replace(f"  {name}:", f"  {bare.topic}-{name}:")
    path.write_text(text, "utf-8")
    return bare


def test_schemas_that_refer_to_each_other_are_registered_with_their_references(shop: Restaurant) -> None:
    """By name, subject and version, those that are referred to first; again is a no-op."""
    first = shop.register()
    assert first.returncode == 0, first.stderr
    assert [line.split()[0].rpartition(f"{shop.topic}-")[2] for line in first.stdout.splitlines()[::2]] == [
        "invoice-key",
        "money-value",
        "invoice-value",
        "payment-value",
    ]
    again = shop.register()
    assert again.returncode == 0
    assert all("was there already" in line for line in again.stdout.splitlines())
    held = shop.registry.get_version(f"{shop.topic}-payment-value", 1).schema
    assert [reference.to_dict() for reference in held.references or ()] == [
        {"name": "shop.Invoice", "subject": f"{shop.topic}-invoice-value", "version": 1}
    ]
    assert rules(live(shop)) == []


def test_two_machines_may_register_at_the_same_time(shop: Restaurant) -> None:
    """Both succeed, and each version is there once."""
    command = [sys.executable, "scripts/register_schema.py"]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=shop.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [machine.communicate(timeout=60) for machine in both]
    assert [machine.returncode for machine in both] == [0, 0], said
    for name in ("invoice-key", "invoice-value", "payment-value", "money-value"):
        assert shop.registry.get_versions(f"{shop.topic}-{name}") == [1]


def test_two_machines_with_different_versions_are_told(open_restaurant: Callable[..., Restaurant]) -> None:
    """Each has a version 3 of its own: who comes second finds what is there instead, and exits 1."""
    first, second = open_restaurant(), open_restaurant()
    first.schemas.joinpath("subjects.yaml").write_bytes(second.schemas.joinpath("subjects.yaml").read_bytes())
    for restaurant, name in ((first, "note"), (second, "wish")):
        edit(restaurant, '"fields": [', f'"fields": [{{"name": "{name}", "type": "string", "default": ""}},')
        shutil.copy(restaurant.schemas / "order.avsc", restaurant.schemas / "released" / "order.v3.avsc")
    command = [sys.executable, "scripts/register_schema.py"]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=each.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for each in (first, second)
    ]
    said = [machine.communicate(timeout=60)[1].decode() for machine in both]
    assert 1 in [machine.returncode for machine in both]
    assert any("has another text than every released file" in one or "registry is ahead" in one for one in said)


def test_a_level_of_none_is_set_too_and_again_is_a_no_op(bare: Restaurant) -> None:
    """Some registries keep no NONE for a subject that they do not hold yet."""
    bare.edit_subjects("FULL_TRANSITIVE", "NONE")
    assert bare.register().returncode == 0
    again = bare.register()
    assert again.returncode == 0
    assert "level" not in again.stdout
