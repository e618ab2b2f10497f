"""Plan and apply against a registry, and what each answer that a registry gives becomes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Metadata,
    MetadataTags,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

from contract import lookups
from contract.errors import ContractError, Forbidden, NotRegistered, SettingError, Unavailable
from contract.lookups import Registered
from contract.registry import Plan, apply, check_live, plan
from contract.subjects import Contract, Subject, load_contract
from tests.unit.conftest import CountingRegistry

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"


def register(registry: SchemaRegistryClient, subject: Subject, *texts: str) -> None:
    """Put schemas into a registry past every check, as somebody else might."""
    for text in texts:
        registry.register_schema(subject.name, Schema(text, "AVRO"))


def with_field(text: str, **field: Any) -> str:
    """Give a schema with one more field."""
    schema = json.loads(text)
    schema["fields"].append(field)
    return json.dumps(schema, separators=(",", ":"))


def refer_to_notes(registry: SchemaRegistryClient, subject: Subject, depth: int = 1) -> int:
    """Register a version that uses a type of another subject, which uses one of another, and so on; give its id."""
    kind, references = "string", list[SchemaReference]()
    for number in range(depth):
        note = {"type": "record", "name": f"kitchen.Note{number}", "fields": [{"name": "text", "type": kind}]}
        registry.register_schema(f"note{number}-value", Schema(json.dumps(note), "AVRO", references))
        kind = f"kitchen.Note{number}"
        references = [SchemaReference(kind, f"note{number}-value", 1)]
    schema = json.loads(subject.newest.text)
    schema["fields"].append({"name": "note", "type": ["null", kind], "default": None})
    return registry.register_schema(subject.name, Schema(json.dumps(schema), "AVRO", references))


class TestPlan:
    """What a registry lacks, and what keeps it from being put there; nothing is changed."""

    def test_an_empty_registry_lacks_level_and_every_version(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        planned = plan(subject, registry)
        assert planned == Plan(subject, None, {}, subject.released, (), ())
        assert not planned.is_refused
        assert planned.sets_level
        assert planned.missing
        assert registry.get_subjects() == []
        assert set(registry.counts) == {"lookup_schema"}

    def test_a_registry_that_has_the_first_version_lacks_the_second(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        register(registry, subject, subject.version(1).text)
        planned = plan(subject, registry)
        assert planned.present == {1: Registered(subject.name, 1, 1, already=True)}
        assert planned.missing == (subject.version(2),)
        assert not planned.findings

    def test_a_registry_at_another_level_is_to_be_set(self, registry: CountingRegistry, subject: Subject) -> None:
        list(apply(plan(subject, registry), registry))
        registry.configurations[subject.name].compatibility = ConfigCompatibilityLevel.BACKWARD
        planned = plan(subject, registry)
        assert planned.level_now == "BACKWARD"
        assert planned.sets_level
        assert not planned.missing

    def test_another_text_for_a_released_version_is_a_finding(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        """Drift: somebody registered something else as version 1."""
        register(registry, subject, with_field(subject.version(1).text, name="x", type="int", default=0))
        (finding,) = plan(subject, registry).findings
        assert finding.rule == "REGISTRY_DRIFT"
        assert finding.message == (
            "pizza-order-value: version 1 in the registry has another text than every released file"
        )

    def test_drift_between_released_versions_is_a_finding(self, registry: CountingRegistry, subject: Subject) -> None:
        foreign = with_field(subject.version(1).text, name="x", type="int", default=0)
        register(registry, subject, subject.version(1).text, foreign, subject.version(2).text)
        (finding,) = plan(subject, registry).findings
        assert "version 2 in the registry has another text" in finding.message

    def test_the_released_versions_in_another_order_are_there(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        """As where one was deleted softly, and came back behind the others."""
        register(registry, subject, subject.version(2).text, subject.version(1).text)
        planned = plan(subject, registry)
        assert {number: known.version for number, known in planned.present.items()} == {1: 2, 2: 1}
        assert not planned.findings

    def test_a_version_that_is_missing_before_another_one_may_come_behind_it(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        """At a level at which the registry takes it there."""
        register(registry, subject, subject.version(2).text)
        assert [known.version for known in apply(plan(subject, registry), registry)] == [2, 1]

    @pytest.mark.parametrize("form", ["dotted", "turned round", "spaced", "with metadata", "with an order"])
    def test_a_schema_that_is_written_in_another_way_is_there(
        self, registry: CountingRegistry, subject: Subject, form: str
    ) -> None:
        """A registry finds by text what it keeps as that very text; the rest is compared as it is parsed."""
        for file in subject.released:
            schema = json.loads(file.text)
            if form == "dotted":
                schema["name"] = f"{schema.pop('namespace')}.{schema['name']}"
            if form == "turned round":
                schema = dict(reversed([*schema.items()]))
            if form == "with an order":
                schema["fields"] = [field | {"order": "ascending", "aliases": []} for field in schema["fields"]]
            text = json.dumps(schema, indent=1 if form == "spaced" else None)
            metadata = Metadata(MetadataTags({"Order.pizza": ["PUBLIC"]}), None, None)
            registry.register_schema(
                subject.name, Schema(text, "AVRO", metadata=metadata if form == "with metadata" else None)
            )
        planned = plan(subject, registry)
        assert {number: known.version for number, known in planned.present.items()} == {1: 1, 2: 2}
        assert planned.ids == {1: 1, 2: 2}
        assert not planned.findings
        assert not planned.missing
        for number in (1, 2):
            text = subject.version(number).text
            assert lookups.require(registry, subject.name, text, number) == planned.present[number]

    def test_another_doc_is_another_version(self, registry: CountingRegistry, subject: Subject) -> None:
        register(registry, subject, subject.version(1).text.replace("Its name on the menu.", "Another."))
        planned = plan(subject, registry)
        assert planned.missing == subject.released
        assert [finding.rule for finding in planned.findings] == ["REGISTRY_DRIFT"]

    def test_a_version_ahead_that_refers_to_another_subject_is_judged_with_it(
        self, registered: CountingRegistry, subject: Subject
    ) -> None:
        refer_to_notes(registered, subject, 3)
        (finding,) = plan(subject, registered).findings
        assert (finding.rule, finding.severity) == ("REGISTRY_AHEAD", "warning")
        assert "every reader here can read it" in finding.message

    def test_a_version_ahead_of_another_type_is_a_finding(self, registered: CountingRegistry, subject: Subject) -> None:
        registered.register_schema(subject.name, Schema(subject.newest.text, "JSON"))
        (finding,) = plan(subject, registered).findings
        assert finding.severity == "error"
        assert "cannot be read by anyone: " in finding.message
        assert "its type is JSON" in finding.message

    @pytest.mark.parametrize("mode", ["READONLY", "READONLY_OVERRIDE", "IMPORT", "FORWARD"])
    def test_a_mode_in_which_nothing_is_taken_is_a_finding_where_something_is_missing(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        with monkeypatch.context() as closed:
            closed.setattr(registry, "get_mode", lambda _: mode)
            planned = plan(subject, registry)
            assert [finding.rule for finding in planned.findings] == ["REGISTRY_MODE"]
            assert planned.is_refused
        list(apply(plan(subject, registry), registry))
        monkeypatch.setattr(registry, "get_mode", lambda _: mode)
        assert not plan(subject, registry).findings

    @pytest.mark.parametrize("status", [403, 404, 405, 501])
    def test_a_registry_that_does_not_tell_its_mode_is_taken_to_take_everything(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        def refuse(*_: object) -> str:
            raise SchemaRegistryError(status, -1, "no")

        monkeypatch.setattr(registry, "get_global_mode", refuse)
        monkeypatch.setattr(registry, "get_mode", refuse)
        assert not plan(subject, registry).findings

    def test_a_registry_ahead_that_all_can_read_is_a_warning(
        self, registered: CountingRegistry, subject: Subject
    ) -> None:
        """After a rollback of the code."""
        register(registered, subject, with_field(subject.newest.text, name="x", type="int", default=0))
        planned = plan(subject, registered)
        (finding,) = planned.findings
        assert (finding.rule, finding.severity) == ("REGISTRY_AHEAD", "warning")
        assert finding.message == (
            "pizza-order-value: the registry is ahead, its version 3 is not among the released files; "
            "every reader here can read it"
        )
        assert not planned.is_refused

    def test_a_registry_ahead_that_somebody_cannot_read_is_a_finding(
        self, registered: CountingRegistry, subject: Subject
    ) -> None:
        register(registered, subject, subject.newest.text.replace('"int"', '"string"'))
        planned = plan(subject, registered)
        assert planned.is_refused
        (finding,) = planned.findings
        assert "its version 3 is not among the released files and cannot be read by cook (version 1): " in (
            finding.message
        )
        assert "; manager (version 2): " in finding.message

    def test_a_registry_ahead_with_a_wider_limit_is_a_finding(
        self, registered: CountingRegistry, subject: Subject
    ) -> None:
        """A reader would refuse what its own version's limits do not allow."""
        register(registered, subject, subject.newest.text.replace('"maxLength":64,"doc":"Its', '"doc":"Its'))
        (finding,) = plan(subject, registered).findings
        assert "cannot be read by cook (version 1): `pizza` has the maxLength 64" in finding.message

    def test_what_the_gate_refuses_is_not_registered(self, registry: CountingRegistry, schemas: Path) -> None:
        """At the level that will be in force, whatever the registry has now."""
        path = schemas / "released/order.v2.avsc"
        path.write_text(path.read_text("utf-8").replace('"default": "",', ""), "utf-8")
        subject = load_contract(schemas).subject("order")
        planned = plan(subject, registry)
        assert planned.is_refused
        assert {finding.rule for finding in planned.findings} == {"READER_FIELD_MISSING_DEFAULT_VALUE"}

    @pytest.mark.parametrize("text", ['syntax = "proto3";', '{"type": "object"}', ""])
    def test_a_registry_ahead_with_what_is_no_avro_is_a_finding(
        self, registered: CountingRegistry, subject: Subject, text: str
    ) -> None:
        register(registered, subject, text)
        (finding,) = plan(subject, registered).findings
        assert "version 3 is not among the released files and cannot be read by anyone" in finding.message


class TestApply:
    """Exactly what the plan said, in order."""

    def test_level_first_then_versions_oldest_first(self, registry: CountingRegistry, subject: Subject) -> None:
        planned = plan(subject, registry)
        registry.calls.clear()
        assert list(apply(planned, registry)) == [
            Registered(subject.name, 1, 1, already=False),
            Registered(subject.name, 2, 2, already=False),
        ]
        changes = [call for call in registry.calls if call[0] != "lookup_schema"]
        assert changes == [
            ("set_config", (subject.name, "FULL_TRANSITIVE")),
            ("register_schema", (subject.name, subject.version(1).text)),
            ("register_schema", (subject.name, subject.version(2).text)),
        ]

    def test_again_is_a_no_op(self, registry: CountingRegistry, subject: Subject) -> None:
        list(apply(plan(subject, registry), registry))
        planned = plan(subject, registry)
        assert not planned.missing
        assert not planned.sets_level
        registry.calls.clear()
        assert [(found.version, found.already) for found in apply(planned, registry)] == [(1, True), (2, True)]
        assert registry.calls == []

    def test_what_is_missing_is_registered_and_the_rest_told(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        register(registry, subject, subject.version(1).text)
        assert [(found.version, found.already) for found in apply(plan(subject, registry), registry)] == [
            (1, True),
            (2, False),
        ]

    def test_two_machines_may_apply_the_same_plan(self, registry: CountingRegistry, subject: Subject) -> None:
        first, second = plan(subject, registry), plan(subject, registry)
        numbers = [(found.version, found.id) for found in apply(first, registry)]
        assert [(found.version, found.id) for found in apply(second, registry)] == numbers
        assert sorted(registry.get_versions(subject.name)) == [1, 2]

    def test_a_plan_with_findings_is_not_applied(self, registry: CountingRegistry, subject: Subject) -> None:
        register(registry, subject, with_field(subject.version(1).text, name="x", type="int", default=0))
        planned = plan(subject, registry)
        registry.calls.clear()
        with pytest.raises(ValueError, match="a plan with findings is not applied"):
            list(apply(planned, registry))
        assert registry.calls == []

    def test_without_readers_nothing_ahead_can_hurt(self, registered: CountingRegistry, schemas: Path) -> None:
        path = schemas / "subjects.yaml"
        path.write_text(path.read_text("utf-8").replace("{cook: 1, manager: 2, board: 2}", "{}"), "utf-8")
        subject = load_contract(schemas).subject("order")
        register(registered, subject, subject.newest.text.replace('"int"', '"string"'))
        assert not plan(subject, registered).is_refused


class TestReferences:
    """Schemas that use the types of other subjects' schemas."""

    @pytest.fixture
    def shop(self) -> Contract:
        """Keys, values, references and unions of records."""
        return load_contract(SHOP)

    def test_they_are_registered_by_name_subject_and_version(self, registry: CountingRegistry, shop: Contract) -> None:
        for subject in shop.subjects.values():
            list(apply(plan(subject, registry), registry))
        schema = registry.get_version("payment-value", 1).schema
        assert schema.references == [SchemaReference("shop.Invoice", "invoice-value", 1)]
        assert not any(plan(subject, registry).missing for subject in shop.subjects.values())

    def test_what_refers_to_a_schema_that_is_not_there_is_missing_and_cannot_be_registered_before_it(
        self, registry: CountingRegistry, shop: Contract
    ) -> None:
        planned = plan(shop.subjects["invoice-value"], registry)
        assert [file.path.name for file in planned.missing] == ["invoice.v1.avsc"]
        with pytest.raises(
            NotRegistered, match=r"invoice\.v1\.avsc refers to a schema that the registry does not hold"
        ):
            list(apply(planned, registry))


class TestOtherMachines:
    """Somebody else changes the registry at the same time."""

    def test_a_level_that_somebody_else_has_just_set_is_set_again(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_once(registry, "set_config", SchemaRegistryError(409, 0, "A rule exists already"), monkeypatch)
        list(apply(plan(subject, registry), registry))
        assert not plan(subject, registry).missing

    def test_a_level_that_a_registry_takes_only_for_what_it_holds_is_set_at_the_end(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_once(registry, "set_config", SchemaRegistryError(404, 40401, "No such subject"), monkeypatch)
        list(apply(plan(subject, registry), registry))
        assert [name for name, _ in registry.calls if name != "lookup_schema"] == [
            "register_schema",
            "register_schema",
            "set_config",
        ]

    @pytest.mark.parametrize("status", [404, 500])
    def test_a_level_that_is_never_taken_is_told(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        def refuse(*_: object) -> None:
            raise SchemaRegistryError(status, 40401, "no")

        monkeypatch.setattr(registry, "set_config", refuse)
        with pytest.raises(Unavailable, match=r"does not take the level FULL_TRANSITIVE|answered 500"):
            list(apply(plan(subject, registry), registry))

    def test_a_version_that_somebody_else_has_just_registered_is_found(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The registry answers our attempt with an error, and holds it."""
        planned, original = plan(subject, registry), registry.register_schema

        def both(name: str, schema: Schema) -> int:
            original(name, schema)
            raise SchemaRegistryError(409, 409, "It exists already")

        monkeypatch.setattr(registry, "register_schema", both)
        assert [found.version for found in apply(planned, registry)] == [1, 2]

    def test_a_version_that_was_registered_since_the_plan_was_there_already(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        planned = plan(subject, registry)
        register(registry, subject, subject.version(1).text)
        assert [found.already for found in apply(planned, registry)] == [True, False]

    def test_a_version_that_is_taken_and_not_kept_is_told(
        self, registry: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "register_schema", lambda *_: 1)
        with pytest.raises(Unavailable, match=r"the registry took order\.v1\.avsc for pizza-order-value and does not"):
            list(apply(plan(subject, registry), registry))


def test_a_default_level_of_none_is_the_level_none(registry: CountingRegistry, schemas: Path) -> None:
    """Some registries keep no NONE for a subject."""
    path = schemas / "subjects.yaml"
    path.write_text(path.read_text("utf-8").replace("FULL_TRANSITIVE", "NONE"), "utf-8")
    subject = load_contract(schemas).subject("order")
    assert plan(subject, registry).sets_level
    registry.configurations[None] = ServerConfig(compatibility=ConfigCompatibilityLevel.NONE)
    assert not plan(subject, registry).sets_level


class TestLive:
    """What the gate finds when it asks a registry too."""

    @pytest.fixture
    def current(self, registered: CountingRegistry, subject: Subject) -> CountingRegistry:
        """A registry that is as the files are."""
        list(apply(plan(subject, registered), registered))
        return registered

    def found(
        self, subject: Subject, registry: CountingRegistry, baseline: list[str] | None = None
    ) -> list[tuple[str, str]]:
        """Give the rules and files of what is found."""
        return [(one.rule, Path(one.file).name) for one in check_live(subject, registry, baseline)]

    def test_nothing(self, current: CountingRegistry, subject: Subject) -> None:
        assert self.found(subject, current) == []

    def test_an_empty_registry(self, registry: CountingRegistry, subject: Subject) -> None:
        assert self.found(subject, registry) == [
            ("NOT_REGISTERED", "order.v1.avsc"),
            ("NOT_REGISTERED", "order.v2.avsc"),
            ("REGISTRY_LEVEL", "order.avsc"),
        ]

    def test_what_is_just_being_released_need_not_be_registered(
        self, registry: CountingRegistry, subject: Subject
    ) -> None:
        assert ("NOT_REGISTERED", "order.v2.avsc") not in self.found(subject, registry, ["order.v1.avsc"])

    @pytest.mark.parametrize(
        ("level", "asked"),
        [("FULL_TRANSITIVE", "test_compatibility_all_versions"), ("FULL", "test_compatibility")],
    )
    @pytest.mark.parametrize(("default", "ours"), [('"default": "x"', True), ('"doc": ""', False)])
    def test_the_edited_schema_is_asked_about_as_the_level_looks_back(
        self, current: CountingRegistry, schemas: Path, monkeypatch: pytest.MonkeyPatch, level: str, asked: str,
        default: str, *, ours: bool,
    ) -> None:  # fmt: skip
        """Of all versions, or of the newest; where registry and gate differ is a finding."""
        new = f'"fields": [{{"name": "note", "type": "string", {default}}},'
        for name, old, text in (("order.avsc", '"fields": [', new), ("subjects.yaml", "FULL_TRANSITIVE", level)):
            path = schemas / name
            path.write_text(path.read_text("utf-8").replace(old, text), "utf-8")
        subject = load_contract(schemas).subject("order")
        list(apply(plan(subject, current), current))
        for theirs in (True, False):
            monkeypatch.setattr(current, asked, lambda *_, theirs=theirs: theirs)
            assert self.found(subject, current) == ([] if theirs is ours else [("REGISTRY_DISAGREES", "order.avsc")])

    def test_an_edited_schema_that_refers_to_what_is_not_registered(
        self, registry: CountingRegistry, tmp_path: Path
    ) -> None:
        schemas = Path(shutil.copytree(SHOP, tmp_path / "shop"))
        contract = load_contract(schemas)
        for subject in contract.subjects.values():
            list(apply(plan(subject, registry), registry))
        path = schemas / "money.avsc"
        path.write_text(path.read_text("utf-8").replace("In hundredths.", "Hundredths."), "utf-8")
        subject = load_contract(schemas).subject("invoice")
        (finding,) = check_live(subject, registry, None)
        assert finding.message == "invoice-value: the registry does not hold the schemas that invoice.avsc refers to"


def fail_once(
    registry: CountingRegistry, method: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Let the first call of a method fail."""
    original, failures = getattr(registry, method), [error]

    def failing(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(*arguments)

    monkeypatch.setattr(registry, method, failing)


Answer = httpx2.Response | Exception


def server(answer: Callable[[httpx2.Request], Answer]) -> SchemaRegistryClient:
    """Make a real client whose requests are answered in this process, below its own HTTP code."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        found = answer(request)
        if isinstance(found, Exception):
            raise found
        return found

    client = SchemaRegistryClient({"url": "http://registry.invalid", "max.retries": 1, "retries.wait.ms": 1})
    client._rest_client.session = httpx2.Client(transport=httpx2.MockTransport(handle))  # noqa: SLF001 - its only door
    return client


def error(status: int, code: int, message: str = "no") -> httpx2.Response:
    """Give an error as Confluent's registry words it."""
    return httpx2.Response(status, json={"error_code": code, "message": message})


class TestAnswers:
    """What a registry answers or fails to answer ends in this project's errors, never in a traceback."""

    @pytest.mark.parametrize(
        ("answer", "raises", "sentence"),
        [
            (error(401, 40101, "Unauthorized"), Forbidden, "the schema registry refused our credentials (401)"),
            (error(403, 40301, "Denied"), Forbidden, "the schema registry refused our credentials (403)"),
            (httpx2.Response(401, text="<html>"), Forbidden, "refused our credentials (401)"),
            (error(500, 50001, "Error in the backend"), Unavailable, "answered 500: Error in the backend"),
            (httpx2.Response(503, text="starting"), Unavailable, "answered 503"),
            (httpx2.Response(200, text="<html>It works!</html>"), Unavailable, "its answer is not a registry's JSON"),
            (httpx2.Response(200, text="3"), Unavailable, "its answer is not a registry's JSON"),
            (httpx2.Response(200, text="[]"), Unavailable, "its answer is not a registry's JSON"),
            (httpx2.Response(404, text="<html>Not Found</html>"), Unavailable, "is not a schema registry (404)"),
            (httpx2.ConnectError("[Errno 111] Connection refused"), Unavailable, "does not answer: [Errno 111]"),
            (httpx2.ReadTimeout(""), Unavailable, "does not answer: ReadTimeout"),
            (httpx2.RemoteProtocolError("closed"), Unavailable, "does not answer: closed"),
            (httpx2.Response(409, json={"message": "no"}), Unavailable, "answered 409: no"),
            (httpx2.Response(302, headers={"Location": "/x"}), Unavailable, "answered 302: a redirect, which is not"),
            (httpx2.Response(404, json={"error_code": "40401"}), Unavailable, "is not a schema registry (404)"),
            (httpx2.Response(404, json={"error_code": [40401]}), Unavailable, "is not a schema registry (404)"),
            (httpx2.Response(500, json={"message": ["a\x1b"]}), Unavailable, r"answered 500: ['a\x1b']"),
            (httpx2.Response(200, text="[" * 100_000), Unavailable, "(maximum recursion depth exceeded"),
            (httpx2.DecodingError("incorrect header check"), Unavailable, "JSON (incorrect header check)"),
            (httpx2.InvalidURL("Invalid port"), SettingError, "SCHEMA_REGISTRY_URL is not usable: Invalid port"),
            (OAuthTokenError("no token"), Forbidden, "BEARER_AUTH_ISSUER_ENDPOINT_URL: no token"),
        ],
    )
    @pytest.mark.parametrize(
        "call",
        [
            lambda client, subject: plan(subject, client),
            lambda client, subject: lookups.require(client, subject.name, subject.newest.text, 2),
            lambda client, _: lookups.schema_of(client, 1),
        ],
        ids=["plan", "require", "schema_of"],
    )
    def test_answer(
        self,
        subject: Subject,
        call: Callable[[SchemaRegistryClient, Subject], object],
        answer: Answer,
        raises: type[Exception],
        sentence: str,
    ) -> None:
        with pytest.raises(raises) as raised:
            call(server(lambda _: answer), subject)
        assert sentence in str(raised.value)

    def test_a_failed_registration_is_told(self, subject: Subject) -> None:
        """A registry that refuses a text, as an incompatible one, is quoted."""

        def answer(request: httpx2.Request) -> Answer:
            if request.method == "POST" and request.url.path.endswith("/versions"):
                return error(409, 409, "Schema being registered is incompatible")
            return httpx2.Response(200, json={}) if request.method == "PUT" else error(404, 40401)

        client = server(answer)
        with pytest.raises(ContractError, match=r"refuses it \(409\): Schema being registered is incompatible"):
            list(apply(plan(subject, client), client))

    @pytest.mark.parametrize("code", [40401, 40403, 40400])
    def test_each_code_for_absent_is_understood(self, subject: Subject, code: int) -> None:
        """40401 an unknown subject, 40403 an unknown schema, 40400 what the in-process registry says."""
        client = server(lambda _: error(404, code))
        assert lookups.lookup(client, subject.name, subject.newest.text) is None
        assert lookups.schema_of(client, 1) is None
        assert not lookups.is_of_subject(client, 1, subject.name)
        with pytest.raises(NotRegistered, match=r"version 2 of pizza-order-value; run: python scripts/register_schema"):
            lookups.require(client, subject.name, subject.newest.text, 2)

    def test_a_404_that_is_json_but_no_registrys_is_not_taken_for_absent(self, subject: Subject) -> None:
        """As when the URL lacks the registry's path: else one would be told to register, which cannot work."""
        client = server(lambda _: httpx2.Response(404, json={"detail": "no such path"}))
        with pytest.raises(Unavailable, match="is its path missing in the URL"):
            lookups.lookup(client, subject.name, subject.newest.text)

    @pytest.mark.parametrize("code", [404, 0, -1, "40403", 40403.0, True, None, 40901])
    def test_a_404_without_a_registrys_code_is_a_path_that_is_not_there(self, subject: Subject, code: object) -> None:
        """Confluent's answers 404 with `error_code` 404 to each path that it does not have, as our proxy does."""
        client, name = server(lambda _: httpx2.Response(404, json={"error_code": code, "message": "no"})), subject.name
        questions: dict[str, Callable[[], object]] = {
            f"/subjects/{name}": lambda: lookups.require(client, name, subject.newest.text, 2),
            f"/subjects/{name}/versions": lambda: lookups.versions(client, name),
            f"/subjects/{name}/versions/3": lambda: lookups.version(client, name, 3),
            "/schemas/ids/1": lambda: lookups.schema_of(client, 1),
            "/schemas/ids/1/versions": lambda: lookups.is_of_subject(client, 1, name),
            f"/config/{name}": lambda: plan(subject, client),
        }
        for path, ask in questions.items():
            with pytest.raises(Unavailable, match=rf"\(404\), it has no {path}: is its path missing in the URL"):
                ask()

    @pytest.mark.parametrize("schema_id", [0, 2**31, 2**32 - 1])
    def test_an_id_that_no_registry_can_have_is_not_asked_for(self, schema_id: int) -> None:
        """To what is no Java int Confluent's answers as to a path that it does not have."""
        assert lookups.schema_of(server(lambda _: pytest.fail("it was asked")), schema_id) is None

    def test_an_answer_without_an_id_is_no_registrys(self, subject: Subject) -> None:
        """Else every message would be framed with id 0."""
        with pytest.raises(Unavailable, match="names no version and id"):
            lookups.lookup(server(lambda _: httpx2.Response(200, json={})), subject.name, subject.newest.text)

    @pytest.mark.parametrize("number", ["7", "", -1, 0, 1.5, True, 2**31, 2**64, [1], {}])
    @pytest.mark.parametrize("name", ["id", "version"])
    def test_a_number_that_is_none_is_no_registrys(self, subject: Subject, name: str, number: object) -> None:
        """An id has 32 bits in a message, and Java's are signed."""
        held = {"subject": subject.name, "version": 1, "id": 1, "schema": "{}"} | {name: number}
        with pytest.raises(Unavailable, match="is not a schema registry"):
            lookups.lookup(server(lambda _: httpx2.Response(200, json=held)), subject.name, subject.newest.text)

    def test_what_a_server_sends_is_quoted_in_part(self) -> None:
        client = server(lambda _: httpx2.Response(502, text="<html>\n" * 10_000))
        with pytest.raises(Unavailable, match="answered 502: Unknown Schema Registry Error") as raised:
            lookups.schema_of(client, 1)
        assert len(str(raised.value)) < 400
        assert str(raised.value).isprintable()

    def test_deleted_versions_are_found_too(self, subject: Subject) -> None:
        """What they wrote may still be in the topic."""
        asked: list[str] = []

        def answer(request: httpx2.Request) -> Answer:
            asked.append(str(request.url))
            return httpx2.Response(200, json={"subject": subject.name, "version": 2, "id": 7, "schema": "{}"})

        found = lookups.lookup(server(answer), subject.name, subject.newest.text)
        assert found == Registered(subject.name, 2, 7, already=True)
        assert "deleted=true" in asked[0].lower()
