"""The contract against a registry as Confluent's is, where that differs from the one that the stack runs."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.serialization import MessageField, SerializationContext

from contract.codec import RecordDeserializer, RecordSerializer
from contract.errors import NotRegistered, Reason, Unavailable, Unreadable
from contract.order import OrderV1, OrderV2
from contract.registry import plan
from tests.confluent import Registry, confluent_registry
from tests.integration.conftest import ServerAddresses
from tests.restaurant import ROOT, Restaurant

pytestmark = pytest.mark.integration

SHOP = ROOT / "tests" / "fixtures" / "shop"
METADATA = {"metadata": {"properties": {"owner": "kitchen"}, "tags": {"Order.pizza": ["PUBLIC"]}}}
RULES = {
    "ruleSet": {"domainRules": [{"name": "short", "kind": "CONDITION", "type": "CEL", "mode": "WRITE", "expr": "1"}]}
}


@pytest.fixture
def standing() -> Iterator[tuple[str, Registry]]:
    """An empty registry of its own for each test."""
    with confluent_registry() as found:
        yield found


@pytest.fixture
def held(standing: tuple[str, Registry]) -> Registry:
    """What it holds."""
    return standing[1]


@pytest.fixture
def bare(standing: tuple[str, Registry], tmp_path: Path) -> Iterator[Restaurant]:
    """A restaurant without a broker, whose contract is not registered."""
    restaurant = Restaurant(tmp_path, "localhost:1", standing[0])
    yield restaurant
    restaurant.close()


@pytest.fixture
def restaurant(bare: Restaurant) -> Restaurant:
    """A restaurant whose contract is registered."""
    assert bare.register().returncode == 0
    return bare


def name_of(restaurant: Restaurant) -> str:
    """Return the subject of a restaurant's orders."""
    return f"{restaurant.topic}-value"


def text(restaurant: Restaurant, number: int) -> dict[str, Any]:
    """Return what registers a released version once more."""
    return {"schema": restaurant.subject.version(number).text}


def state(held: Registry, restaurant: Restaurant) -> list[tuple[int, int, bool]]:
    """Return version, id and whether it is deleted, of a restaurant's subject."""
    return [(one.number, one.id, one.deleted) for one in held.versions.get(name_of(restaurant), [])]


def told(restaurant: Restaurant, *flags: str) -> list[str]:
    """Run the script, which is to find nothing; gives what it has said of each version."""
    done = restaurant.register(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix(f"{name_of(restaurant)} ") for line in done.stdout.splitlines()]


def live(restaurant: Restaurant) -> list[str]:
    """Return the rules by which the gate finds something with --live, generated types aside: they are of one topic."""
    done = restaurant.run("scripts/check_compatibility.py", "--live", "--format", "json")
    assert done.returncode in {0, 1}, done.stderr
    found = [finding["rule"] for finding in json.loads(done.stdout)["findings"]]
    return [rule for rule in found if rule not in {"STALE_TYPES", "GOLDEN_BYTES"}]


class TestRegistration:
    """Plan and apply agree, and nothing is registered twice."""

    def test_register_again_and_look(self, bare: Restaurant, held: Registry) -> None:
        """A subject has no level and no mode of its own at first, which is no error."""
        assert told(bare, "--plan")[0] == "level FULL_TRANSITIVE to be set, now default"
        assert told(bare) == ["level FULL_TRANSITIVE set", "version 1 id 1 registered", "version 2 id 2 registered"]
        there = ["version 1 id 1 was there already", "version 2 id 2 was there already"]
        assert told(bare, "--plan") == told(bare) == there
        assert state(held, bare) == [(1, 1, False), (2, 2, False)]
        assert live(bare) == []

    @pytest.mark.parametrize("numbers", [[1], [2], [1, 2], [2, 1]])
    def test_versions_that_are_deleted_are_there(
        self, restaurant: Restaurant, held: Registry, numbers: list[int]
    ) -> None:
        """They were the bar to everything, and the way out that was told lost records."""
        for number in numbers:
            held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/{number}", None)
        before = state(held, restaurant)
        there = [f"version {n} id {n} was there already{', deleted there' if n in numbers else ''}" for n in (1, 2)]
        assert told(restaurant, "--plan")[-2:] == told(restaurant)[-2:] == there
        assert state(held, restaurant) == before
        assert live(restaurant) == []

    def test_a_deleted_subject_is_there_and_gets_its_level_again(self, restaurant: Restaurant, held: Registry) -> None:
        held.answer("DELETE", f"/subjects/{name_of(restaurant)}", None)
        planned = told(restaurant, "--plan")
        assert planned[0] == "level FULL_TRANSITIVE to be set, now default"
        assert told(restaurant) == ["level FULL_TRANSITIVE set", *planned[1:]]
        assert planned[1:] == [f"version {n} id {n} was there already, deleted there" for n in (1, 2)]

    def test_a_version_that_came_back_behind_a_later_one_is_there(self, restaurant: Restaurant, held: Registry) -> None:
        """With the id that it had."""
        held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/1", None)
        assert held.register(name_of(restaurant), text(restaurant, 1)) == 1
        assert state(held, restaurant) == [(2, 2, False), (3, 1, False)]
        there = ["version 3 id 1 was there already", "version 2 id 2 was there already"]
        assert told(restaurant, "--plan") == told(restaurant) == there

    def test_a_version_that_was_deleted_for_good_is_registered_behind_the_later_one(
        self, restaurant: Restaurant, held: Registry
    ) -> None:
        for permanent in ("false", "true"):
            held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/1?permanent={permanent}", None)
        assert told(restaurant, "--plan")[-1].startswith("version 1 to be registered, from order.v1.avsc")
        assert told(restaurant) == ["version 3 id 3 registered", "version 2 id 2 was there already"]

    @pytest.mark.parametrize("field", ["int", "pizza"])
    def test_a_version_of_somebody_elses_hinders_until_it_is_deleted_softly(
        self, restaurant: Restaurant, held: Registry, field: str
    ) -> None:
        """It is told what to do, and that helps; what a reader cannot read is warned of, for it may be in the topic."""
        schema = json.loads(restaurant.subject.newest.text)
        if field == "pizza":
            held.levels[name_of(restaurant)] = "NONE"
            schema["fields"].pop(0)
        else:
            schema["fields"].append({"name": "x", "type": "int", "default": 0})
        held.register(name_of(restaurant), {"schema": json.dumps(schema)})
        held.levels[name_of(restaurant)] = "FULL_TRANSITIVE"
        _release(restaurant, "note")
        refused = restaurant.register()
        assert refused.returncode == 1
        assert "version 3 in the registry has another text than every released file" in refused.stderr
        assert "or delete it there softly, which leaves what was written with it readable" in refused.stderr
        assert "permanent" not in refused.stderr
        held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/3", None)
        for flags in (["--plan"], []):
            done = restaurant.register(*flags)
            assert done.returncode == 0, done.stderr
            warning = "warning REGISTRY_AHEAD" in done.stderr
            assert warning is (field == "pizza")
            assert ("version 3, deleted in the registry, is not among the released files" in done.stderr) is warning
        assert state(held, restaurant)[-1][:2] == (4, 4)

    @pytest.mark.parametrize("extra", [METADATA, RULES, METADATA | RULES])
    def test_versions_that_are_there_with_metadata_or_rules_only_are_there(
        self, bare: Restaurant, held: Registry, extra: dict[str, Any]
    ) -> None:
        """As a Java producer with `use.latest.version`, or a tool for data contracts, has registered them."""
        for number in (1, 2):
            held.register(name_of(bare), text(bare, number) | extra)
        there = [f"version {n} id {n} was there already" for n in (1, 2)]
        assert told(bare, "--plan")[1:] == told(bare)[1:] == there
        assert len(state(held, bare)) == 2
        assert live(bare) == []

    def test_a_version_to_which_the_registry_gives_the_metadata_of_the_last_one_is_found(
        self, bare: Restaurant, held: Registry
    ) -> None:
        """It is not asked for, and a look-up by text does not find it: it was taken, and then said not to be there."""
        held.register(name_of(bare), text(bare, 1) | METADATA)
        assert told(bare)[1:] == ["version 1 id 1 was there already", "version 2 id 2 registered"]
        assert "kitchen" in held.schemas[".", 2].metadata
        assert told(bare) == [f"version {n} id {n} was there already" for n in (1, 2)]

    def test_a_version_that_was_registered_again_with_metadata_is_no_drift(
        self, restaurant: Restaurant, held: Registry
    ) -> None:
        held.register(name_of(restaurant), text(restaurant, 1) | METADATA)
        held.register(name_of(restaurant), text(restaurant, 2) | RULES)
        assert told(restaurant) == [f"version {n} id {n} was there already" for n in (1, 2)]

    @pytest.mark.parametrize("mode", ["READONLY", "READONLY_OVERRIDE", "IMPORT"])
    @pytest.mark.parametrize("everywhere", [True, False])
    def test_a_mode_that_takes_nothing_is_told_before_anything_is_changed(
        self, bare: Restaurant, held: Registry, mode: str, *, everywhere: bool
    ) -> None:
        """By the plan and by applying it, in the same words."""
        held.modes["" if everywhere else name_of(bare)] = mode
        planned, applied = bare.register("--plan"), bare.register()
        for done in (planned, applied):
            assert done.returncode == 1
            assert "error REGISTRY_MODE" in done.stderr
            assert f"the registry is in the mode {mode} for this subject, and does not take what it" in done.stderr
            assert "nothing was changed" in done.stderr
        assert applied.stdout == ""
        assert not any(one.startswith(("PUT", f"POST /subjects/{name_of(bare)}/versions")) for one in held.asked)
        (shown,) = json.loads(bare.register("--plan", "--format", "json").stdout)
        assert (shown["refused"], shown["findings"][0]["rule"]) == (True, "REGISTRY_MODE")

    def test_of_several_subjects_none_is_touched_when_one_may_not_be(self, bare: Restaurant, held: Registry) -> None:
        _shop(bare)
        held.modes[f"{bare.topic}-payment-value"] = "READONLY"
        assert bare.register().returncode == 1
        assert not held.versions

    def test_a_read_only_registry_that_has_everything_is_fine(self, restaurant: Restaurant, held: Registry) -> None:
        held.modes[""] = "READONLY"
        assert told(restaurant, "--plan") == told(restaurant)

    def test_a_subjects_own_mode_is_above_that_of_all(self, bare: Restaurant, held: Registry) -> None:
        held.modes |= {"": "READONLY", name_of(bare): "READWRITE"}
        assert told(bare, "--plan")
        assert told(bare)[-1] == "version 2 id 2 registered"

    def test_a_subject_of_a_context_is_refused(self, bare: Restaurant, held: Registry) -> None:
        """Its topic cannot exist."""
        bare.edit_subjects(f"{name_of(bare)}:", f'":.kitchen:{name_of(bare)}":')
        for flags in (["--plan"], []):
            done = bare.register(*flags)
            assert done.returncode == 2
            assert "is a subject of a context, and no topic can have that name" in done.stderr
        assert not held.asked

    def test_the_url_of_a_context_is_the_way_to_one(
        self, standing: tuple[str, Registry], held: Registry, tmp_path: Path
    ) -> None:
        """There the registry calls a subject by its context; ids of other contexts are none of ours."""
        url, _ = standing
        restaurant = Restaurant(tmp_path, "localhost:1", f"{url}/contexts/.kitchen")
        held.register("other-value", {"schema": '"int"'})
        assert restaurant.register().returncode == 0
        assert [*held.versions] == ["other-value", f":.kitchen:{name_of(restaurant)}"]
        read = TestRecords().read
        assert read(restaurant, b"\0\0\0\0\2\x02a\x06") == OrderV1("a", 3)
        assert read(restaurant, b"\0\0\0\0\1\x02a\x06") is Reason.UNKNOWN_ID
        (tmp_path / "plain").mkdir()
        plain = Restaurant(tmp_path / "plain", "localhost:1", url)
        plain.topic = restaurant.topic
        with pytest.raises(NotRegistered):
            read(plain, b"\0\0\0\0\2\x02a\x06")
        for one in (restaurant, plain):
            one.close()

    @pytest.mark.parametrize("level", ["BACKWARD", "BACKWARD_TRANSITIVE"])
    def test_an_order_in_which_the_registry_would_refuse_a_version_is_told_before(
        self, bare: Restaurant, held: Registry, level: str
    ) -> None:
        """It holds version 3 alone, and would take version 1 for a newer one; what it is told to do mends that."""
        bare.edit_subjects("FULL_TRANSITIVE", level)
        bare.edit_subjects("{cook: 1, manager: 2, board: 2}", "{cook: 3}")
        schema = json.loads(bare.subject.newest.text)
        schema["fields"].pop(1)
        (bare.schemas / "released" / "order.v3.avsc").write_text(json.dumps(schema), "utf-8")
        held.register(name_of(bare), text(bare, 3))
        for done in (bare.register("--plan"), bare.register()):
            assert done.returncode == 1
            assert "error REGISTRY_ORDER" in done.stderr
            assert f"take version 1 for newer than version 3, and refuse it at {level}" in done.stderr
        assert state(held, bare) == [(1, 1, False)]
        held.levels[name_of(bare)] = "NONE"
        for number in (1, 2):
            held.register(name_of(bare), text(bare, number))
        done = bare.register()
        assert (done.returncode, done.stderr) == (0, "")
        assert held.levels[name_of(bare)] == level

    def test_dotted_names_and_references_are_found_again(self, bare: Restaurant, held: Registry) -> None:
        """The registry writes each in its own way, and knows references by name, subject and version."""
        _shop(bare)
        first = bare.register()
        assert first.returncode == 0, first.stderr
        held.versions[f"{bare.topic}-money-value"][0].deleted = True  # as registries have it that allow that
        again = bare.register()
        assert (again.returncode, again.stderr) == (0, "")
        assert all("was there already" in line for line in again.stdout.splitlines())
        assert live(bare) == []

    def test_a_version_ahead_that_refers_to_another_subject_is_judged(
        self, restaurant: Restaurant, held: Registry
    ) -> None:
        uses = _note(restaurant, held)
        held.versions[f"{restaurant.topic}-note-value"][0].deleted = True
        done = restaurant.register()
        assert done.returncode == 0
        assert "the registry is ahead, its version 3" in done.stderr
        assert "every reader here can read it" in done.stderr
        assert uses


class TestRecords:
    """Whether an id is our subject's is asked by the id."""

    def read(self, restaurant: Restaurant, data: bytes) -> object:
        """Read one message as version 1, in bulk and alone; gives its reason when it cannot be."""
        context = SerializationContext(restaurant.topic, MessageField.VALUE)
        reader = RecordDeserializer(OrderV1, restaurant.registry)
        try:
            found = reader(data, context)
        except Unreadable as unreadable:
            return unreadable.reason
        assert reader.plainly([data], name_of(restaurant)) in ([found], [None])
        return found

    @pytest.mark.parametrize("extra", [METADATA, RULES, METADATA | RULES])
    @pytest.mark.parametrize("deleted", [False, True])
    def test_the_same_text_under_another_id_is_read(
        self, restaurant: Restaurant, held: Registry, extra: dict[str, Any], *, deleted: bool
    ) -> None:
        again = held.register(name_of(restaurant), text(restaurant, 1) | extra)
        assert again == 3
        if deleted:
            held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/3", None)
        assert self.read(restaurant, b"\0\0\0\0\3\x02a\x06") == OrderV1("a", 3)

    @pytest.mark.parametrize("numbers", [[1], [1, 2]])
    def test_what_was_written_with_a_deleted_version_is_read(
        self, restaurant: Restaurant, held: Registry, numbers: list[int]
    ) -> None:
        for number in numbers:
            held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/{number}", None)
        assert self.read(restaurant, b"\0\0\0\0\1\x02a\x06") == OrderV1("a", 3)
        assert RecordSerializer(OrderV1, restaurant.registry).frame(name_of(restaurant)) == b"\0\0\0\0\1"

    def test_a_writer_whose_version_is_there_with_metadata_only_finds_its_id(
        self, bare: Restaurant, held: Registry
    ) -> None:
        for number in (1, 2):
            held.register(name_of(bare), text(bare, number) | METADATA)
        assert RecordSerializer(OrderV2, bare.registry).frame(name_of(bare)) == b"\0\0\0\0\2"

    def test_the_same_text_in_another_subject_only_is_foreign(self, restaurant: Restaurant, held: Registry) -> None:
        theirs = held.register("theirs-value", text(restaurant, 1) | METADATA)
        reason = self.read(restaurant, b"\0" + theirs.to_bytes(4, "big") + b"\x02a\x06")
        assert reason is Reason.FOREIGN_SCHEMA

    def test_the_same_text_in_another_subject_too_is_ours(self, restaurant: Restaurant, held: Registry) -> None:
        """One id for both."""
        assert held.register("theirs-value", text(restaurant, 1)) == 1
        assert self.read(restaurant, b"\0\0\0\0\1\x02a\x06") == OrderV1("a", 3)

    def test_a_writer_that_refers_to_another_subject_is_read(self, restaurant: Restaurant, held: Registry) -> None:
        """Deleted or not, for its records stay."""
        writer = _note(restaurant, held)
        held.versions[f"{restaurant.topic}-note-value"][0].deleted = True
        data = b"\0" + writer.to_bytes(4, "big") + b"\x02a\x06\0\x02n"
        assert self.read(restaurant, data) == OrderV1("a", 3)
        assert self.read(restaurant, data[:7]) is Reason.TRUNCATED

    def test_a_version_that_was_deleted_for_good_is_unknown(self, restaurant: Restaurant, held: Registry) -> None:
        for permanent in ("false", "true"):
            held.answer("DELETE", f"/subjects/{name_of(restaurant)}/versions/2?permanent={permanent}", None)
        assert self.read(restaurant, b"\0\0\0\0\2\x02a\x06\0") is Reason.UNKNOWN_ID

    @pytest.mark.parametrize("schema_id", [99, 2**31 - 1, 2**31, 2**32 - 1])
    def test_an_id_that_is_nowhere_is_unknown(self, restaurant: Restaurant, schema_id: int) -> None:
        """Also one that is no Java int, to which the registry answers with another 404."""
        data = b"\0" + schema_id.to_bytes(4, "big") + b"\x02a\x06"
        assert self.read(restaurant, data) is Reason.UNKNOWN_ID

    @pytest.mark.parametrize("lacks", ["/schemas/ids/1$", "/schemas/ids/1/versions$", "/subjects/.*-value$"])
    def test_a_registry_without_a_path_is_none_that_does_not_know_the_id(
        self, restaurant: Restaurant, held: Registry, lacks: str
    ) -> None:
        """A good message is not to become a dead letter, nor a bad one while nobody can say what is in the registry."""
        held.lacks = lacks
        data = b"\0\0\0\0\x63\x02a\x06" if "subjects" in lacks else b"\0\0\0\0\1\x02a\x06"
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"\(404\), it has no /\S+: is its path missing in the URL"):
                self.read(restaurant, data)
        held.lacks = ""
        assert self.read(restaurant, data) in (OrderV1("a", 3), Reason.UNKNOWN_ID)

    def test_dotted_names_keep_the_generated_decoder(self, restaurant: Restaurant, held: Registry) -> None:
        """The registry has split `shop.Coin`, and written attributes in its own order."""
        schema = json.loads(restaurant.subject.version(1).text)
        schema = {"name": f"{schema.pop('namespace')}.{schema.pop('name')}", "x": 1, **schema}
        schema_id = held.register(name_of(restaurant), {"schema": json.dumps(schema)})
        reader = RecordDeserializer(OrderV1, restaurant.registry)
        data = b"\0" + schema_id.to_bytes(4, "big") + b"\x02a\x06"
        assert reader(data, SerializationContext(restaurant.topic, MessageField.VALUE)) == OrderV1("a", 3)
        assert reader.plainly([data], name_of(restaurant)) == [OrderV1("a", 3)]

    def test_the_board_knows_each_id_of_a_version(self, restaurant: Restaurant, held: Registry) -> None:
        held.register(name_of(restaurant), text(restaurant, 1) | METADATA)
        assert plan(restaurant.subject, restaurant.registry).ids == {1: 1, 2: 2, 3: 1}


def test_the_cook_prepares_what_a_java_producer_writes_with_use_latest_version(
    standing: tuple[str, Registry], servers: ServerAddresses, tmp_path: Path
) -> None:
    """The newest version is ours with metadata, under an id of its own; not one letter."""
    url, held = standing
    restaurant = Restaurant(tmp_path, servers.bootstrap_servers, url)
    assert restaurant.register().returncode == 0
    latest = held.register(name_of(restaurant), text(restaurant, 2) | METADATA)
    assert restaurant.waiter("margherita", "17").returncode == 0
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    value = b"\0" + latest.to_bytes(4, "big") + b"\x0cnapoli\x06\x04id"
    producer.produce(restaurant.topic, value, headers=[("__key_schema_id", b"\x01" + uuid.uuid4().bytes)])
    assert producer.flush(10) == 0
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(2) == [
        "Received an order for a pizza margherita at table 17 !",
        "Received an order for a pizza napoli at table 3 !",
    ]
    assert "dead letters" not in cook.errors()
    restaurant.close()


@pytest.mark.parametrize("path", ["/wrong", "/contexts/.kitchen/wrong"])
def test_a_url_with_a_wrong_path_is_told_as_that(
    standing: tuple[str, Registry], servers: ServerAddresses, tmp_path: Path, path: str
) -> None:
    """Not as a version that is to be registered, which could not work there."""
    restaurant = Restaurant(tmp_path, servers.bootstrap_servers, standing[0] + path)
    commands = ("producer.waiter", "margherita", "17"), ("consumers.cook",), ("consumers.manager",)
    said = [restaurant.run("-m", *command, env={"STARTUP_TIMEOUT": "1"}) for command in commands]
    said += [restaurant.register(*flags) for flags in (["--plan"], [])]
    for done in said:
        assert done.returncode == 2
        assert "is its path missing in the URL (SCHEMA_REGISTRY_URL)" in done.stderr
        assert "register_schema.py" not in done.stderr
    restaurant.close()


def test_a_cook_waits_where_the_registry_cannot_say_whose_an_id_is(
    standing: tuple[str, Registry], servers: ServerAddresses, tmp_path: Path
) -> None:
    """Not one letter, and all is prepared once the proxy before it lets the question through."""
    url, held = standing
    restaurant = Restaurant(tmp_path, servers.bootstrap_servers, url)
    assert restaurant.register().returncode == 0
    held.lacks = "/schemas/ids/.*/versions$"
    cook = restaurant.start("cook")
    for table in range(1, 4):
        assert restaurant.waiter("margherita", str(table)).returncode == 0
    cook.wait_for_error("cook waits, try 2 failed: ")
    held.lacks = ""
    assert len(cook.wait_for_lines(3)) == 3
    assert cook.stop() == 0
    assert "dead letter" not in cook.errors()
    restaurant.close()


def test_a_letter_of_a_writer_that_refers_to_another_subject_is_shown_by_its_schema(
    standing: tuple[str, Registry], servers: ServerAddresses, tmp_path: Path
) -> None:
    """What is good of it is prepared, and what is not is a letter at once."""
    url, held = standing
    restaurant = Restaurant(tmp_path, servers.bootstrap_servers, url)
    assert restaurant.register().returncode == 0
    restaurant.make_topic()
    frame = b"\0" + _note(restaurant, held).to_bytes(4, "big")
    held.levels[name_of(restaurant)] = "NONE"
    unusable = b"\0" + held.register(name_of(restaurant), {"schema": "{}", "schemaType": "JSON"}).to_bytes(4, "big")
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    for value in (unusable + b"{}", frame + b"\x02a\0\0\x02n", frame + b"\x02a\x06\0\x02n"):
        producer.produce(restaurant.topic, value)
    assert producer.flush(10) == 0
    cook = restaurant.start("cook")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza a at table 3 !"]
    shown = [restaurant.run("-m", "consumers.dead_letters", "show", "cook", number).stdout for number in ("0", "1")]
    assert "reason      not-readable: what wrote it is no Avro schema that can be used: its type is JSON" in shown[0]
    assert "as schema   nothing: what wrote it is no Avro schema that can be used: its type is JSON" in shown[0]
    assert "reason      breaks-limit: table is 0" in shown[1]
    assert "as schema   {'pizza': 'a', 'table': 0" in shown[1]
    restaurant.close()


def _note(restaurant: Restaurant, held: Registry) -> int:
    """Register, past us, a version that uses another subject's type; gives its id."""
    note = {"type": "record", "name": "kitchen.Note", "fields": [{"name": "text", "type": "string"}]}
    held.register(f"{restaurant.topic}-note-value", {"schema": json.dumps(note)})
    uses = [{"name": "kitchen.Note", "subject": f"{restaurant.topic}-note-value", "version": 1}]
    schema = json.loads(restaurant.subject.newest.text)
    schema["fields"].append({"name": "note", "type": "kitchen.Note", "default": {"text": ""}})
    return held.register(name_of(restaurant), {"schema": json.dumps(schema), "references": uses})


def _shop(restaurant: Restaurant) -> None:
    """Give a restaurant many subjects, under names of its own: keys, references, unions of records."""
    shutil.rmtree(restaurant.schemas)
    shutil.copytree(SHOP, restaurant.schemas)
    for name in ("invoice-key", "invoice-value", "payment-value", "money-value"):
        restaurant.edit_subjects(f"  {name}:", f"  {restaurant.topic}-{name}:")


def _release(restaurant: Restaurant, name: str) -> None:
    """Put a version 3 with one more field among the released files."""
    newest = restaurant.schemas / "released" / "order.v2.avsc"
    field = json.dumps({"name": name, "type": "string", "default": "", "doc": "More."})
    changed = newest.read_text("utf-8").replace('"fields": [', f'"fields": [{field},')
    newest.with_name("order.v3.avsc").write_text(changed, "utf-8")
