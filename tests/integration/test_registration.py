"""The registry script against a real registry: what it plans is what it does, and what it refuses changes nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest
from confluent_kafka.schema_registry import Schema

from stack.local import free_port
from tests.restaurant import Restaurant

pytestmark = pytest.mark.integration


@pytest.fixture
def bare(open_restaurant: Callable[..., Restaurant]) -> Restaurant:
    """A restaurant whose contract is not registered."""
    return open_restaurant()


def test_registration_sets_the_level_first_then_registers_in_order_and_again_is_a_no_op(bare: Restaurant) -> None:
    """Each line tells subject, version, id and whether it was there."""
    name = f"{bare.topic}-value"
    first = bare.register()
    assert first.returncode == 0
    lines = first.stdout.splitlines()
    assert lines[0] == f"{name} level FULL_TRANSITIVE set"
    ids = [line.split()[4] for line in lines[1:]]
    assert lines[1:] == [f"{name} version {n} id {ids[n - 1]} registered" for n in (1, 2)]
    again = bare.register()
    assert again.returncode == 0
    assert again.stdout.splitlines() == [f"{name} version {n} id {ids[n - 1]} was there already" for n in (1, 2)]
    assert bare.register("--plan").stdout == again.stdout
    client = bare.registry
    assert client.get_compatibility(name) == "FULL_TRANSITIVE"
    assert client.get_versions(name) == [1, 2]


def test_a_plan_shows_each_step_and_changes_nothing(bare: Restaurant) -> None:
    """The steps of a plan are those that applying it reports, in the same order."""
    name = f"{bare.topic}-value"
    plan = bare.register("--plan")
    assert plan.returncode == 0
    assert plan.stdout.splitlines() == [
        f"{name} level FULL_TRANSITIVE to be set, now default",
        f"{name} version 1 to be registered, from order.v1.avsc: the first version",
        f'{name} version 2 to be registered, from order.v2.avsc: added `order_id` string default "" maxLength 64',
    ]
    assert name not in bare.registry.get_subjects()


def test_a_plan_as_json_has_what_is_there_what_is_missing_and_what_that_changes(restaurant: Restaurant) -> None:
    """For a program that shows it in a pull request."""
    _release(restaurant, '{"name": "note", "type": "string", "default": "", "doc": "A wish."}')
    done = restaurant.register("--plan", "--format", "json")
    assert done.returncode == 0
    (plan,) = json.loads(done.stdout)
    assert plan["subject"] == f"{restaurant.topic}-value"
    assert plan["level"] == {"now": "FULL_TRANSITIVE", "planned": "FULL_TRANSITIVE"}
    assert [one["version"] for one in plan["present"]] == [1, 2]
    assert plan["missing"] == [
        {"version": 3, "file": "order.v3.avsc", "changes": ['added `note` string default ""']},
    ]
    assert (plan["refused"], plan["findings"]) == (False, [])


def test_what_the_gate_refuses_is_not_registered_whatever_the_registry_would_take(restaurant: Restaurant) -> None:
    """It judges at the level that will be in force, not at the one that is."""
    name = f"{restaurant.topic}-value"
    _release(restaurant, '{"name": "size", "type": "string", "doc": "How large."}')
    restaurant.registry.set_compatibility(name, "NONE")
    refused = restaurant.register()
    assert refused.returncode == 1
    assert "error READER_FIELD_MISSING_DEFAULT_VALUE at /fields/" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert restaurant.registry.get_versions(name) == [1, 2]
    (plan,) = json.loads(restaurant.register("--plan", "--format", "json").stdout)
    assert plan["refused"] is True
    assert {one["rule"] for one in plan["findings"]} == {"READER_FIELD_MISSING_DEFAULT_VALUE"}


def test_another_text_for_a_released_version_is_a_finding_and_nothing_is_changed(bare: Restaurant) -> None:
    """Somebody registered a version 1 of their own: neither level nor versions are touched."""
    name = f"{bare.topic}-value"
    theirs = '{"type":"record","name":"Order","fields":[{"name":"pizza","type":"string"}]}'
    bare.registry.register_schema(name, Schema(theirs, "AVRO"))
    for flags in ([], ["--plan"]):
        refused = bare.register(*flags)
        assert refused.returncode == 1
        assert " to be " not in refused.stdout
        assert (f"{name} version 1 would be registered" in refused.stdout) is bool(flags)
        assert f"{name}: version 1 in the registry has another text" in refused.stderr
        assert "nothing was changed" in refused.stderr
    assert bare.registry.get_versions(name) == [1]
    assert bare.registry.get_compatibility(name) != "FULL_TRANSITIVE"


def test_a_registry_that_is_ahead_is_a_warning_while_every_reader_can_read_it(restaurant: Restaurant) -> None:
    """As after a rollback of the code: version 3 stays registered."""
    schema = json.loads(restaurant.subject.newest.text)
    schema["fields"].append({"name": "note", "type": "string", "default": ""})
    restaurant.registry.register_schema(f"{restaurant.topic}-value", Schema(json.dumps(schema), "AVRO"))
    ahead = restaurant.register()
    assert ahead.returncode == 0
    assert "the registry is ahead, its version 3 is not among the released files" in ahead.stderr


def test_a_registry_that_is_ahead_with_what_a_reader_cannot_read_is_a_finding(restaurant: Restaurant) -> None:
    """The reader and the reason are named."""
    name = f"{restaurant.topic}-value"
    schema = json.loads(restaurant.subject.newest.text)
    schema["fields"][1]["type"] = "string"
    client = restaurant.registry
    client.set_compatibility(name, "NONE")
    client.register_schema(name, Schema(json.dumps(schema), "AVRO"))
    ahead = restaurant.register()
    assert ahead.returncode == 1
    assert "cannot be read by cook (version 1)" in ahead.stderr
    assert "nothing was changed" in ahead.stderr
    assert client.get_compatibility(name) == "NONE"


def test_a_registry_that_is_not_up_is_waited_for_up_to_the_limit(bare: Restaurant) -> None:
    """Nobody listens there: exit 2, with the address and the cause."""
    address = f"http://127.0.0.1:{free_port()}"
    refused = bare.run("scripts/register_schema.py", env={"SCHEMA_REGISTRY_URL": address, "STARTUP_TIMEOUT": "2"})
    assert refused.returncode == 2
    assert "trying again for 2 s" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("register_schema: the schema registry does not answer")
    assert address in refused.stderr


def test_a_registry_that_never_answers_is_given_up_in_time(bare: Restaurant) -> None:
    """It takes the connection and says nothing: every request has a timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = {"SCHEMA_REGISTRY_URL": address, "STARTUP_TIMEOUT": "1", "REQUEST_TIMEOUT": "0.5"}
        refused = bare.run("scripts/register_schema.py", env=settings, limit=20)
    assert refused.returncode == 2
    assert "does not answer" in refused.stderr


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "refused our credentials (401)"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refused our credentials (403)"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "answered 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", "not a registry's JSON"),
    ],
)
def test_what_answers_but_is_no_registry_is_a_sentence(bare: Restaurant, answer: bytes, sentence: str) -> None:
    """Refused credentials, a failing server and a web page, none of them a traceback; no password is shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"http://chef:tiramisu@127.0.0.1:{server.getsockname()[1]}"
        refused = bare.run("scripts/register_schema.py", env={"SCHEMA_REGISTRY_URL": address, "STARTUP_TIMEOUT": "1"})
        server.shutdown(socket.SHUT_RDWR)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "tiramisu" not in refused.stderr + refused.stdout


def _release(restaurant: Restaurant, field: str) -> None:
    """Put a version 3 with one more field among the released files, past the gate."""
    newest = restaurant.schemas / "released" / "order.v2.avsc"
    text = newest.read_text("utf-8").replace('"fields": [', f'"fields": [{field},')
    newest.with_name("order.v3.avsc").write_text(text, "utf-8")
