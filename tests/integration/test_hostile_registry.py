"""Whatever a registry answers, or fails to: a sentence, within REQUEST_TIMEOUT, and nothing is lost by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from contract import lookups
from contract.errors import Forbidden, NotRegistered, SettingError, Unavailable
from contract.registry import check_live, plan
from contract.subjects import Subject, load_contract
from runtime.aside import Aside
from runtime.clients import registry_client
from runtime.settings import Settings
from tests.hostile_registry import ANSWERS, DRIPS, NUMBERS, SCHEMAS, Answer, HostileRegistry, found, hostile_registry
from tests.integration.conftest import ServerAddresses
from tests.restaurant import Restaurant, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ASKING: dict[str, Callable[[SchemaRegistryClient, Subject], object]] = {
    "require": lambda client, subject: lookups.require(client, subject.name, subject.newest.text, 2),
    "schema_of": lambda client, _: lookups.schema_of(client, 1),
    "plan": lambda client, subject: plan(subject, client),
    "check_live": lambda client, subject: check_live(subject, client, None),
}


@pytest.fixture
def hostile() -> Iterator[HostileRegistry]:
    """A registry with nothing behind it."""
    with hostile_registry("http://localhost:1") as registry:
        yield registry


@pytest.fixture
def between(servers: ServerAddresses) -> Iterator[HostileRegistry]:
    """A registry with the session's behind it."""
    with hostile_registry(servers.registry_url) as registry:
        yield registry


def client_of(url: str, properties: Mapping[str, str] | None = None) -> SchemaRegistryClient:
    """Make a client whose questions take half a second at most."""
    return registry_client(Settings(schema_registry_url=url, request_timeout=0.5, registry=properties or {}))


class TestEveryAnswer:
    """The real client on real sockets."""

    @pytest.mark.parametrize(
        ("asking", "name", "answer"),
        [
            *((asking, *one) for asking in ASKING for one in ANSWERS.items()),
            *((asking, *one) for asking in ASKING if asking != "schema_of" for one in NUMBERS.items()),
            *(("schema_of", *one) for one in SCHEMAS.items()),
        ],
    )
    def test_it_ends_in_one_of_our_errors(
        self, hostile: HostileRegistry, name: str, answer: Answer, asking: str
    ) -> None:
        hostile.answer = answer
        client = client_of(hostile.url)
        # 422 is what Confluent's answers to a look-up by a text that it calls no schema.
        absent = (NotRegistered,) if name == "422" else ()
        with pytest.raises((Unavailable, Forbidden, *absent)) as raised:
            ASKING[asking](client, load_contract().subject("order"))
        sentence = str(raised.value)
        assert sentence.isprintable()
        assert len(sentence) < 600
        client.close()


class TestLimits:
    """Of a whole question, however its answer comes, and whoever else is asked for it."""

    @pytest.mark.parametrize("name", DRIPS)
    def test_a_question_that_is_given_up_ends(self, hostile: HostileRegistry, name: str) -> None:
        """Or each try would leave a thread and a connection behind."""
        hostile.answer = DRIPS[name]
        client = client_of(hostile.url)
        with pytest.raises(Unavailable, match=r"does not answer in full within 0\.5 s \(REQUEST_TIMEOUT\)"):
            lookups.schema_of(client, 1)
        wait_until(
            lambda: not any(isinstance(one, Aside) for one in threading.enumerate()), what="the end of its thread"
        )

    def test_a_client_asks_again_after_a_question_that_was_given_up(self, hostile: HostileRegistry) -> None:
        client = client_of(hostile.url)
        for name in DRIPS:
            hostile.answer = DRIPS[name]
            with pytest.raises(Unavailable):
                lookups.schema_of(client, 1)
        hostile.answer = found()
        assert lookups.schema_of(client, 1) == Schema('"string"', "AVRO", [])

    def test_a_wrong_answer_is_not_kept(self, hostile: HostileRegistry) -> None:
        """The client remembers what it once was told."""
        client = client_of(hostile.url)
        for name in ("schema 7", "schema None"):
            hostile.answer = SCHEMAS[name]
            with pytest.raises(Unavailable, match="is not a schema registry"):
                lookups.schema_of(client, 1)
        hostile.answer = found()
        assert lookups.schema_of(client, 1) == Schema('"string"', "AVRO", [])
        hostile.answer = NUMBERS["id '7'"]
        with pytest.raises(Unavailable, match="is not a schema registry"):
            lookups.lookup(client, "x-value", '"int"')
        hostile.answer = found()
        registered = lookups.lookup(client, "x-value", '"int"')
        assert registered is not None
        assert registered.id == 1

    @pytest.mark.parametrize("name", ["headers that drip", "no answer", "reset", "503", "deep JSON"])
    def test_the_next_url_is_asked_in_the_same_time(self, hostile: HostileRegistry, name: str) -> None:
        hostile.answer = ANSWERS[name]
        with hostile_registry("http://localhost:1") as good:
            good.answer = found()
            client = registry_client(Settings(schema_registry_url=f"{hostile.url},{good.url}", request_timeout=4))
            assert lookups.schema_of(client, 1) == Schema('"string"', "AVRO", [])

    @pytest.mark.parametrize("name", DRIPS)
    def test_a_token_is_part_of_the_question(self, hostile: HostileRegistry, name: str) -> None:
        hostile.answer = DRIPS[name]
        words = {"client.id": "x", "client.secret": "x", "scope": "x", "logical.cluster": "-", "identity.pool.id": "-"}
        properties = {f"bearer.auth.{word}": value for word, value in words.items()} | {
            "bearer.auth.credentials.source": "OAUTHBEARER",
            "bearer.auth.issuer.endpoint.url": hostile.url,
        }
        with pytest.raises((Unavailable, Forbidden)):
            lookups.schema_of(client_of("http://localhost:1", properties), 1)

    @pytest.mark.parametrize("name", ["headers that drip", "no HTTP", "a redirect in a circle", "401"])
    @pytest.mark.parametrize("url", ["http://registry.invalid", "https://registry.invalid"])
    def test_a_proxy_is_part_of_the_question(self, hostile: HostileRegistry, name: str, url: str) -> None:
        hostile.answer = ANSWERS[name]
        with pytest.raises((Unavailable, Forbidden)):
            lookups.schema_of(client_of(url, {"proxy": hostile.url}), 1)

    @pytest.mark.parametrize("name", ["headers that drip", "no HTTP", "reset"])
    def test_what_speaks_no_tls(self, hostile: HostileRegistry, name: str) -> None:
        hostile.answer = ANSWERS[name]
        with pytest.raises((Unavailable, SettingError)):
            lookups.schema_of(client_of(hostile.url.replace("http:", "https:")), 1)


COMMANDS = {
    "waiter": ("-m", "producer.waiter"),
    "cook": ("-m", "consumers.cook"),
    "manager": ("-m", "consumers.manager"),
    "register_schema": ("scripts/register_schema.py",),
    "plan": ("scripts/register_schema.py", "--plan"),
    "check_compatibility": ("scripts/check_compatibility.py", "--live"),
}
SOON = {"STARTUP_TIMEOUT": "1", "REQUEST_TIMEOUT": "1"}
PATIENT = {"STARTUP_TIMEOUT": "600", "REQUEST_TIMEOUT": "300"}
"""So that whoever ended by a time limit would not end within a test's."""


class TestCommands:
    """Real processes."""

    @pytest.mark.parametrize("name", ["headers that drip", "broken gzip", "deep JSON", "id '7'"])
    @pytest.mark.parametrize("command", COMMANDS)
    def test_at_start_it_is_a_sentence_and_exit_code_2(
        self, between: HostileRegistry, restaurant: Restaurant, command: str, name: str
    ) -> None:
        between.answer = {**ANSWERS, **NUMBERS}[name]
        done = restaurant.run(*COMMANDS[command], env=SOON | {"SCHEMA_REGISTRY_URL": between.url})
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        *_, last = done.stderr.splitlines()
        assert "schema registry" in last

    @pytest.mark.parametrize("name", ["headers that drip", "deep JSON", "schema 7"])
    def test_a_dead_letter_is_shown_without_what_its_schema_makes_of_it(
        self, between: HostileRegistry, restaurant: Restaurant, name: str
    ) -> None:
        order = '{"pizza": "napoli", "table": 3, "order_id": "x-1"}'
        other = '{"pizza": "napoli", "table": 4, "order_id": "x-1"}'
        assert restaurant.waiter("--orders", str(restaurant.orders_file("o.jsonl", order, other))).returncode == 0
        manager = restaurant.start("manager")
        manager.wait_for_error("goes to the dead letters")
        between.answer = {**ANSWERS, **SCHEMAS}[name]
        shown = restaurant.run(
            "-m", "consumers.dead_letters", "show", "manager", "0", env=SOON | {"SCHEMA_REGISTRY_URL": between.url}
        )
        assert shown.returncode == 0, shown.stderr
        assert shown.stderr == ""
        assert "as schema   nothing: " in shown.stdout

    @pytest.mark.parametrize("name", ["headers that drip", "broken gzip", "deep JSON", "schema None", "409", "reset"])
    def test_a_running_cook_waits_and_goes_on(
        self, between: HostileRegistry, restaurant: Restaurant, name: str
    ) -> None:
        """What a registry answers is no message's fault."""
        cook = restaurant.start("cook", {"SCHEMA_REGISTRY_URL": between.url, "REQUEST_TIMEOUT": "1"})
        cook.wait_for_error("reads")
        between.answer = {**ANSWERS, **SCHEMAS}[name]
        assert restaurant.waiter("napoli", "3").returncode == 0
        cook.wait_for_error("cook waits, try 2 failed: ")
        between.answer = None
        assert cook.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]
        assert cook.stop() == 0
        assert "Traceback" not in cook.errors()
        assert "dead letters of" not in cook.errors()


class TestStopping:
    """SIGTERM ends who waits for a registry, whatever REQUEST_TIMEOUT is."""

    @pytest.mark.parametrize(
        ("consumer", "name"), [("manager", "a body that drips"), *(("cook", name) for name in DRIPS)]
    )
    def test_a_running_consumer(
        self, between: HostileRegistry, restaurant: Restaurant, consumer: str, name: str
    ) -> None:
        """What it could not read comes again."""
        patient = PATIENT | {"SCHEMA_REGISTRY_URL": between.url}
        first = restaurant.start(consumer, patient)
        first.wait_for_error(f"{consumer} was given partitions")
        between.answer = DRIPS[name]
        assert restaurant.waiter("napoli", "3").returncode == 0
        wait_until(lambda: between.asked, what="a question")
        assert first.stop() == 0
        assert "Traceback" not in first.errors()
        second = restaurant.start(consumer)
        if consumer == "manager":
            assert len(restaurant.wait_for_rows(1)) == 1
        else:
            assert second.wait_for_lines(1) == ["Received an order for a pizza napoli at table 3 !"]

    @pytest.mark.parametrize("consumer", ["cook", "manager"])
    def test_one_that_starts(self, between: HostileRegistry, restaurant: Restaurant, consumer: str) -> None:
        between.answer = DRIPS["headers that drip"]
        started = restaurant.start(consumer, PATIENT | {"SCHEMA_REGISTRY_URL": between.url})
        wait_until(lambda: between.asked, what="a question")
        assert started.stop() == 1
        assert started.errors() == f"{consumer}: interrupted\n"

    @pytest.mark.parametrize("name", ["a body that drips", "no answer"])
    def test_the_board(self, between: HostileRegistry, restaurant: Restaurant, name: str) -> None:
        between.answer = DRIPS[name]
        restaurant.waiter("napoli", "3")
        patient = PATIENT | {"SCHEMA_REGISTRY_URL": between.url, "BOARD_PORT": "0"}
        board = restaurant.start_program("board", "-m", "consumers.board", env=patient)
        # The comparison's, and the order's.
        wait_until(lambda: len(between.asked) > 1, what="two questions")
        assert board.stop() == 0
        assert "Traceback" not in board.errors()
