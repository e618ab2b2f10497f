"""A locked restaurant on a real broker and registry: it works, and nobody can do more than access.yaml says."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.cimpl import NewTopic
from dev_certificates import Authority

from contract.subjects import SCHEMAS
from runtime.acls import set_passwords
from runtime.settings import load_settings
from stack.local import Registry
from stack.secure import Proxy, SecureStack
from tests.locked import TOPIC, Locked
from tests.restaurant import LIMIT, wait_until
from tests.servers import running

pytestmark = [pytest.mark.integration, pytest.mark.secure, pytest.mark.timeout(300)]

LETTERS = {group: f"{TOPIC}.{group}.dead-letters" for group in ("cook", "manager")}
REPLAYS = {group: f"{TOPIC}.{group}.replays" for group in ("cook", "manager")}
TOPICS = [TOPIC, *LETTERS.values(), *REPLAYS.values()]
GROUPS = ["cook", "cook.replays", "manager", "manager.replays"]
PRINCIPALS = ["waiter", "cook", "manager", "board", "operator", "release", "stranger"]
SUBJECT = f"{TOPIC}-value"

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
WATCHING = {f"read {topic}" for topic in TOPICS}
# By hand, and not from access.yaml: what everybody may do, of all that everybody tries.
ALLOWED: Mapping[str, set[str]] = {
    "waiter": {f"write {TOPIC}"},
    "cook": {
        f"read {TOPIC}",
        f"read {REPLAYS['cook']}",
        f"read {LETTERS['cook']}",
        f"write {LETTERS['cook']}",
        "move cook",
        "move cook.replays",
    },
    "manager": {
        f"read {TOPIC}",
        f"read {REPLAYS['manager']}",
        f"read {LETTERS['manager']}",
        f"write {LETTERS['manager']}",
        "move manager",
        "move manager.replays",
    },
    "board": WATCHING,
    "operator": WATCHING | {f"write {topic}" for topic in REPLAYS.values()},
    "release": {f"make {topic}" for topic in TOPICS},
    "stranger": set(),
}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """A locked stack whose release has registered the contract and made the topics."""
    directory = tmp_path_factory.mktemp("locked")
    with running(SecureStack(directory / "stack")) as stack:
        restaurant = Locked(directory, stack.bootstrap_servers, stack.registry_url, stack=stack)
        for script in ("register_schema", "make_topics"):
            done = restaurant.run_as("release", f"scripts/{script}.py")
            assert done.returncode == 0, done.stderr
        secret = (stack.secrets / "waiter.password").read_bytes()
        settings = load_settings(restaurant.environment(restaurant.settings("admin")))
        set_passwords({"stranger": secret}, restaurant.admin, settings)
        yield restaurant
        restaurant.close()


def test_the_whole_restaurant_works(locked: Locked) -> None:
    """Order, cook, ledger, dead letter and replay, each as a principal with no permission too many."""
    cook, manager = locked.start_as("cook"), locked.start_as("manager")
    assert locked.run_as("waiter", "-m", "producer.waiter", "margherita", "17").stdout.startswith("message published")
    assert cook.wait_for_lines(1) == ["Received an order for a pizza margherita at table 17 !"]
    locked.wait_for_rows(1)
    # The waiter may write, whatever he writes: bytes that would paint a terminal and forge a line.
    producer = Producer(locked.properties("waiter"))
    producer.produce(TOPIC, b"\x1b[31m\nReceived an order", headers=[("\x1b[31m", b"\x1b[31m")])
    assert producer.flush(10) == 0
    cook.wait_for_error("goes to the dead letters of cook")
    manager.wait_for_error("goes to the dead letters of manager")

    def listed() -> str:
        return locked.run_as("operator", "-m", "consumers.dead_letters", "list").stdout

    wait_until(lambda: listed().count("not-framed") == 2, what="a letter of each")
    shown = locked.run_as("operator", "-m", "consumers.dead_letters", "show", "cook", "0")
    assert "\x1b" not in listed() + shown.stdout + cook.errors() + manager.errors()
    replayed = locked.run_as("operator", "-m", "consumers.dead_letters", "replay", "cook")
    assert replayed.stdout.startswith("1 letter replayed")
    cook.wait_for_error(f"{REPLAYS['cook']} partition 0 offset 0 goes to the dead letters of cook")
    verified = locked.run_as("operator", "-m", "consumers.ledger", "verify")
    assert verified.stdout == "1 rows, 0 duplicates, 1 letters, 0 missing\n", verified.stderr
    assert [cook.stop(), manager.stop()] == [0, 0]
    locked.said += [cook.errors(), manager.errors()]


def test_a_ledgers_consumer_may_do_all_that_the_ledgers_commands_do(locked: Locked) -> None:
    """The sentences that name such a command are read where the manager runs, with the manager's password."""
    record_all(locked)
    verified = ledger(locked, "manager", "verify")
    assert (verified[0], verified[1].splitlines()[-1].endswith(" missing"), verified[2]) == (0, True, "")
    assert ledger(locked, "manager", "duplicates")[::2] == (0, "")
    listed = locked.run_as("manager", "-m", "consumers.dead_letters", "list", "manager")
    assert (listed.returncode, listed.stdout.startswith(f"{LETTERS['manager']}: ")) == (0, True), listed.stderr
    locked.run_as("waiter", "-m", "producer.waiter", "tonno", "8")
    skipped = ledger(locked, "manager", "skip", "0", str(end(locked)))
    assert (skipped[0], "1 record that is in the topic is passed over" in skipped[1]) == (0, True), skipped
    assert ledger(locked, "manager", "adopt", "manager")[0] == 0


@pytest.mark.parametrize(
    ("name", "action", "lacking"),
    [
        ("waiter", "verify", f"READ on the topic {TOPIC}, DESCRIBE on the group onlookers, DESCRIBE on the group cook"),
        ("waiter", "duplicates", f"READ on the topic {TOPIC}, DESCRIBE on the group onlookers"),
        ("waiter", "skip 0 0", f"READ on the topic {TOPIC}, DESCRIBE on the group onlookers;"),
        ("waiter", "adopt manager", "READ on the group manager;"),
        ("cook", "verify", f"READ on the topic {LETTERS['manager']};"),
        ("cook", "adopt manager", "READ on the group manager;"),
        ("operator", "adopt manager", "READ on the group manager;"),
    ],
)
def test_who_may_not_is_told_what_is_lacking_and_who_may(locked: Locked, name: str, action: str, lacking: str) -> None:
    """At once, and before anything is changed."""
    if not locked.rows():
        record_all(locked)
    ids = locked.rows("SELECT id FROM ids")
    code, _, told = ledger(locked, name, *action.split())
    assert (code, f"User:{name} lacks {lacking}" in told) == (2, True), told
    assert "python scripts/apply_acls.py" in told
    assert "or run this as the principal of the consumer that records here" in told
    assert "does not answer" not in told
    assert locked.rows("SELECT id FROM ids") == ids


def test_what_is_lacking_to_look_at_letters_is_named(locked: Locked) -> None:
    """Also of a topic that may be written, and so be seen."""
    name = "pizza-order.manager.dead-letters"
    for action in ("list", "show", "replay"):
        offset = ["0"] if action == "show" else []
        refused = locked.run_as("cook", "-m", "consumers.dead_letters", action, "manager", *offset)
        assert (refused.returncode, f"User:cook lacks READ on the topic {name}" in refused.stderr) == (2, True)


def ledger(locked: Locked, name: str, *action: str) -> tuple[int, str, str]:
    """Run a command on the manager's ledger as somebody."""
    done = locked.run_as(name, "-m", "consumers.ledger", *action)
    return done.returncode, done.stdout, done.stderr


def end(locked: Locked) -> int:
    """Return the topic's end."""
    consumer = Consumer(locked.properties("operator") | {"group.id": "onlookers"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=LIMIT)[1]
    finally:
        consumer.close()


def record_all(locked: Locked) -> None:
    """Let a manager record what is in the topic, and an order at least."""
    locked.run_as("waiter", "-m", "producer.waiter", "margherita", "17")
    manager = locked.start_as("manager")
    last = [(end(locked),)]
    wait_until(lambda: locked.rows("SELECT next_offset FROM partitions") == last, what=f"{last}; {manager.errors()}")
    assert manager.stop() == 0


def test_the_board_sees_it_all_and_shows_it_to_who_has_its_token(locked: Locked) -> None:
    """With no permission but to look: the topic's orders, the groups, the contract and the letters."""
    path = locked.stack.secrets / "board.token"
    locked.run_as("waiter", "-m", "producer.waiter", "funghi", "4")
    board = locked.start("board", env=locked.settings("board") | {"BOARD_PORT": "0", "BOARD_TOKEN_FILE": str(path)})
    address = board.wait_for_lines(1)[0].rpartition(" ")[2]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/events", timeout=10)  # noqa: S310 - our own
    refused.value.close()
    assert refused.value.code == 401
    token = path.read_text("utf-8")
    request = urllib.request.Request(f"{address}/events", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - our own
    missing = {'"funghi"', '"cook"', '"manager"', '"FULL_TRANSITIVE"'}
    deadline = time.monotonic() + LIMIT
    with urllib.request.urlopen(request, timeout=LIMIT) as events:  # noqa: S310
        while missing and time.monotonic() < deadline:
            line = events.readline().decode()
            missing = {word for word in missing if word not in line}
    assert missing == set()
    assert board.stop() == 0
    assert "may not" not in board.errors()
    assert token not in board.errors()
    locked.said += [board.errors()]


@pytest.mark.parametrize("name", PRINCIPALS)
def test_nobody_can_do_more_on_the_broker_than_the_table_says(locked: Locked, name: str) -> None:
    """Everybody tries everything with clients of their own; who is not named may do nothing."""
    credentials = locked.properties("waiter" if name == "stranger" else name) | {"sasl.username": name}
    assert {what for what, refused in tries(credentials) if not refused} == ALLOWED[name]


def tries(credentials: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Try it all; gives what was tried and whether it was refused for want of a permission."""
    yield from _writing(credentials)
    yield from _reading(credentials)
    admin = AdminClient(dict(credentials))
    for group in GROUPS:
        place = TopicPartition(REPLAYS[group.split(".")[0]] if group.endswith(".replays") else TOPIC, 0, 0)
        moved = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])
        yield f"move {group}", _refused(moved[group])
        yield f"delete {group}", _refused(admin.delete_consumer_groups([group])[group])
    for topic in TOPICS:
        # Who may make it is told that it is there.
        yield f"make {topic}", _refused(admin.create_topics([NewTopic(topic, 1, 1)])[topic])
        yield f"delete {topic}", _refused(admin.delete_topics([topic])[topic])
    yield "make another", _refused(admin.create_topics([NewTopic("another", 1, 1)])["another"])
    acl = AclBinding(
        ResourceType.TOPIC,
        TOPIC,
        ResourcePatternType.LITERAL,
        "User:stranger",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    yield "grant", _refused(admin.create_acls([acl])[acl])
    password = UserScramCredentialUpsertion(
        "cook", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"tiramisu"
    )
    yield "change a password", _refused(admin.alter_user_scram_credentials([password])["cook"])
    entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    short = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
    yield "change a setting", _refused(admin.incremental_alter_configs([short])[short])


def _writing(credentials: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    reports: dict[str, KafkaError | None] = {}

    def on_report(error: KafkaError | None, message: Message) -> None:
        reports[message.topic() or ""] = error

    producer = Producer({**credentials, "message.timeout.ms": 10_000})
    for topic in TOPICS:
        with contextlib.suppress(KafkaException):
            producer.produce(topic, b"", on_delivery=on_report)
    producer.flush(15)
    assert set(reports) == set(TOPICS)
    for topic, error in reports.items():
        assert error is None or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
        yield f"write {topic}", error is not None


def _reading(credentials: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for topic in TOPICS:
        reading = {"group.id": "onlookers", "enable.partition.eof": True, "enable.auto.commit": False}
        consumer = Consumer({**credentials, **reading})
        try:
            # Who may not even describe it does not learn where it is.
            unseen = consumer.list_topics(topic, timeout=LIMIT).topics[topic].error
            consumer.assign([TopicPartition(topic, 0, 0)])
            yield (
                f"read {topic}",
                unseen is not None or _first_answer(consumer) == KafkaError.TOPIC_AUTHORIZATION_FAILED,
            )
        finally:
            consumer.close()


def _first_answer(consumer: Consumer) -> int:
    """Give the code of what comes first of a topic, whatever is said of the group: only its offsets need that."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is None or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            return KafkaError.NO_ERROR if error is None else error.code()
    pytest.fail("the broker gave no answer")


def _refused(future: Any) -> bool:
    failure = future.exception(15)
    if failure is not None:
        code = failure.args[0].code()
        assert code in DENIED | {KafkaError.TOPIC_ALREADY_EXISTS}, failure
        return code in DENIED
    errors = [place.error for place in getattr(future.result(), "topic_partitions", ()) if place.error]
    assert all(error.code() in DENIED for error in errors)
    return bool(errors)


CHANGES = [
    ("POST", f"/subjects/{SUBJECT}/versions"),
    ("POST", "/subjects/another-value/versions"),
    ("PUT", f"/config/{SUBJECT}"),
    ("PUT", "/config"),
    ("PUT", "/mode"),
    ("DELETE", f"/subjects/{SUBJECT}"),
    ("DELETE", f"/subjects/{SUBJECT}/versions/1"),
    ("DELETE", f"/config/{SUBJECT}"),
    # What is a look-up only at first sight.
    ("POST", f"/subjects/{SUBJECT}%2Fversions"),
    ("POST", f"/subjects/{SUBJECT}/versions/../versions"),
    ("POST", f"/subjects/x/../{SUBJECT}/versions"),
    ("POST", f"/subjects/{SUBJECT}/versions;x=y"),
    ("POST", f"/subjects/{SUBJECT}/versions?x=/subjects/x"),
    ("POST", "/compatibility/subjects/x/versions/../../../subjects/x/versions"),
]


@pytest.mark.parametrize("name", [name for name in PRINCIPALS if name not in {"release", "stranger"}])
def test_only_the_release_changes_the_registry(locked: Locked, name: str) -> None:
    """Everybody else reads, looks up and asks for compatibility; a change is refused before the registry sees it."""
    schema = {"schema": (SCHEMAS / "released" / "order.v2.avsc").read_text("utf-8")}
    compact = {"schema": json.dumps(json.loads(schema["schema"]), separators=(",", ":"))}
    assert ask(locked, name, "GET", "/subjects") == 200
    assert ask(locked, name, "POST", f"/subjects/{SUBJECT}", compact) == 200
    assert ask(locked, name, "POST", f"/compatibility/subjects/{SUBJECT}/versions/latest", compact) == 200
    assert {change: ask(locked, name, *change, compact) for change in CHANGES} == dict.fromkeys(CHANGES, 403)
    assert ask(locked, name, "GET", "/subjects", headers={"X-HTTP-Method-Override": "DELETE"}) == 200


def test_the_registry_has_no_other_way_in(locked: Locked) -> None:
    """No credentials, wrong ones, another's name, or another API of the registry: nothing of it answers."""
    compact = {"schema": '"null"'}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"release:wrong").decode()}
    token = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
    for headers in ({}, wrong, token):
        assert ask(locked, "", "GET", "/subjects", headers=headers) == 401
        assert ask(locked, "", "POST", "/subjects/x/versions", compact, headers=headers) == 401
    for path in ("/../../registry/v3/groups/default/artifacts", "/../v6/subjects"):
        assert ask(locked, "waiter", "POST", path, compact) in {403, 404}


UPGRADES = {
    "h2c": {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
    "case": {"connection": "close, upgrade", "upgrade": "H2C", "http2-settings": "AAMAAABkAAQAAP__"},
    "websocket": {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
}


@pytest.mark.parametrize("kind", UPGRADES)
def test_no_tunnel_leads_past_the_proxy(locked: Locked, kind: str) -> None:
    """A reader's permitted GET that asks for another protocol is answered in this one, and what follows is not served.

    HTTP/2 in a tunnel would reach the registry unfiltered: RFC 7540 section 3.2, h2c by `Upgrade`.
    """
    path = f"{Registry.PATH}/subjects/tunnel-{kind}-value/versions"
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    fields.append(("content-type", "application/json"))
    head = b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields)
    smuggled = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(
        # Settings, the request's header fields as literals, its body: length, type, flags, stream (section 4.1).
        len(payload).to_bytes(3) + bytes([kind_of_frame, flags]) + stream.to_bytes(4) + payload
        for kind_of_frame, flags, stream, payload in (
            (4, 0, 0, b""),
            (1, 4, 3, head),
            (0, 1, 3, b'{"schema":"\\"null\\""}'),
        )
    )
    with connected(locked) as connection:
        connection.sendall(request_bytes(locked, "waiter", f"{Registry.PATH}/subjects", UPGRADES[kind]))
        answered = connection.recv(65_536)
        with contextlib.suppress(OSError):  # whatever the proxy does with it
            connection.sendall(smuggled)
            connection.settimeout(3)
            while connection.recv(65_536):
                pass
    registered = f"tunnel-{kind}-value" in exchange(locked, "waiter", f"{Registry.PATH}/subjects")
    assert (answered[:13], registered) == (b"HTTP/1.1 200 ", False)


class SpyRegistry:
    """In the registry's place behind a proxy: keeps what each connection has brought, and gives one answer to all."""

    def __init__(self, locked: Locked) -> None:
        self.locked = locked
        self.seen: list[bytes] = []
        self.answer = SERVED
        self.proxy_port = 0
        self.listener = socket.create_server(("127.0.0.1", 0))

    def serve(self) -> None:
        """Answer one connection after another until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(1)
                    place, answered = len(self.seen), False
                    self.seen.append(b"")
                    while received := connection.recv(65_536):
                        self.seen[place] += received
                        if not answered and b"\r\n\r\n" in self.seen[place]:
                            connection.sendall(self.answer)
                            answered = True

    def asked(self, name: str, target: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> str:
        """Ask the proxy as a principal; give the whole answer."""
        return exchange(self.locked, name, target, headers, method, port=self.proxy_port)


SERVED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


@pytest.fixture(scope="module")
def spied(locked: Locked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpyRegistry]:
    """The proxy of the locked stack once more, before a registry that keeps what it is asked."""
    directory = tmp_path_factory.mktemp("spied")
    (directory / "secrets").symlink_to(locked.stack.secrets)
    spy = SpyRegistry(locked)
    thread = threading.Thread(target=spy.serve, daemon=True)
    thread.start()
    with spy.listener, running(Proxy(directory, 0, spy.listener.getsockname()[1])) as proxy:
        spy.proxy_port = proxy.port
        yield spy
        spy.listener.shutdown(socket.SHUT_RDWR)
    thread.join(LIMIT)


def test_the_registry_is_told_the_question_and_nothing_else(spied: SpyRegistry) -> None:
    """No credentials, no other protocol or method, no header that a server might believe: whatever else was sent."""
    spied.seen.clear()
    sent = {
        **UPGRADES["h2c"],
        "Accept": "application/json",
        "Connection": "close, Upgrade, HTTP2-Settings, Host, Accept",
        "X-HTTP-Method-Override": "DELETE",
        "X_Forwarded-Host": "elsewhere.test",
        "X-Forward": "true",
        "X-Original-URL": "/apis/registry/v3",
        "TE": "trailers",
        "Expect": "200-ok",
    }
    spied.asked("waiter", f"{Registry.PATH}/subjects?deleted=true", sent)
    lines = spied.seen[0].decode().lower().split("\r\n")
    assert lines[0] == f"get {Registry.PATH}/subjects?deleted=true http/1.1"
    assert sorted(lines[1:]) == ["", "", "accept: application/json", "connection: close", "host: localhost"]


def test_an_answer_that_leaves_the_protocol_is_not_passed_on(spied: SpyRegistry) -> None:
    """Not even from a registry that leaves it unasked."""
    spied.answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    try:
        answer = spied.asked("waiter", f"{Registry.PATH}/subjects")
    finally:
        spied.answer = SERVED
    assert answer.startswith("HTTP/1.1 502 ")
    assert "upgrade" not in answer.lower()


QUESTIONS = [
    "/subjects", "/subjects?subjectPrefix=%3A*%3A", "/subjects/a-value/versions", "/subjects/a.b_C:d-value/versions/-1",
    "/subjects/.a/versions/latest", "/subjects/a/versions/12/schema", "/subjects/a/versions/1/referencedby",
    "/subjects/a/metadata?key=k", "/schemas", "/schemas/types", "/schemas/ids/7?subject=a", "/schemas/ids/7/schema",
    "/schemas/ids/7/subjects", "/schemas/ids/7/versions", "/schemas/guids/0b2ccdaf-5e0c-4a4f-9a6a-9f6f0a0a0a0a",
    "/config", "/config/a-value", "/mode", "/mode/a-value", "/contexts",
    "/contexts/.kitchen/subjects", "/contexts/.kitchen/subjects/a-value/versions/1?deleted=true",
    "/contexts/.kitchen/schemas/ids/7", "/contexts/.kitchen/schemas/ids/7/versions?deleted=true",
    "/contexts/.kitchen/config/a-value", "/contexts/.A.b-c_9/mode",
]  # fmt: skip
NO_QUESTIONS = [
    "", "/", "//subjects", "/subjects/", "/subjects//versions", "/SUBJECTS", "/subjects/.", "/subjects/..",
    "/subjects/...", "/subjects/a/..", "/subjects/../../v6/subjects", "/../../../health", "/../v7/subjects",
    "/./subjects", "/subjects/%2e%2e", "/subjects/%2E%2E/%2E%2E/%2E%2E/health", "/subjects/a%2Fversions",
    "/subjects%2Fa", "/%73ubjects", "/subjects/a%00", "/subjects/a%0d%0aX:y", "/subjects/a%5c..",
    "/subjects\\..\\health", "/subjects/..;/health", "/subjects;a=b", "/subjects/a;b=c/versions",
    "/subjects/a/versions/1;b", "/subjects/a/versions/x", "/subjects/a b", "/subjects/\x00", "/subjects/\x80",
    "/subjects/a\tb", "/subjects#a", "/schemas/ids/-1", "/schemas/ids/1/../2", "/exporters", "/health",
    "/v1/metadata/id", "/contexts/a/subjects", "/dek-registry/v1/keks", "/subjects/a/versions/1/x",
    "/contexts/", "/contexts/.a", "/contexts/.a/", "/contexts//subjects", "/contexts/./subjects",
    "/contexts/../subjects", "/contexts/.../subjects", "/contexts/.a/../subjects", "/contexts/.a//subjects",
    "/contexts/.a/subjects/..", "/contexts/.a/subjects/a/../b", "/contexts/.a/contexts", "/contexts/:.a:/subjects",
    "/contexts/.a/contexts/.b/subjects", "/contexts/.a%2Fsubjects", "/contexts/.a%2f..%2fsubjects/a",
    "/contexts/.a;b/subjects", "/contexts/.a/exporters", "/contexts/.a/health", "/contexts/.a/schemas/ids/-1",
]  # fmt: skip


@pytest.mark.parametrize("target", QUESTIONS)
def test_what_a_client_may_ask_reaches_the_registry(spied: SpyRegistry, target: str) -> None:
    spied.seen.clear()
    assert spied.asked("waiter", f"{Registry.PATH}{target}").startswith("HTTP/1.1 200 ")
    assert spied.seen[0].startswith(f"GET {Registry.PATH}{target} HTTP/1.1".encode())


def test_below_a_context_the_same_is_a_question_and_the_same_a_change(spied: SpyRegistry) -> None:
    """A reader looks schemas up and asks for compatibility; what changes something is refused, and the release's."""
    spied.seen.clear()
    base = f"{Registry.PATH}/contexts/.kitchen"
    asks = [f"{base}/subjects/a-value", f"{base}/compatibility/subjects/a-value/versions/latest"]
    changes = [
        ("POST", f"{base}/subjects/a-value/versions"),
        ("POST", f"{base}/subjects"),
        ("POST", f"{base}/schemas/ids/7"),
        ("PUT", f"{base}/config/a-value"),
        ("PUT", f"{base}/mode"),
        ("DELETE", f"{base}/subjects/a-value"),
    ]
    assert [spied.asked("waiter", target, method="POST")[9:12] for target in asks] == ["200"] * 2
    assert len(spied.seen) == len(asks)
    assert {change: spied.asked("waiter", change[1], method=change[0])[9:12] for change in changes} == dict.fromkeys(
        changes, "403"
    )
    assert len(spied.seen) == len(asks)
    assert spied.asked("release", changes[0][1], method="POST")[9:12] == "200"


@pytest.mark.parametrize("name", ["waiter", "release"])
def test_what_is_not_on_the_list_is_answered_by_the_proxy(spied: SpyRegistry, name: str) -> None:
    """Also to who may change everything: the list is what there is."""
    spied.seen.clear()
    targets = [f"{Registry.PATH}{target}" for target in NO_QUESTIONS]
    targets += ["/", "*", "/health/live", "/apis/registry/v3/groups", "/q/metrics", f"/{Registry.PATH}/subjects"]
    targets += [
        f"http://localhost{Registry.PATH}/subjects",
        f"https://other.test:80{Registry.PATH}/subjects",
        "localhost:1",
    ]
    answers = {
        (method, target): spied.asked(name, target, method=method)[:13]
        for target in targets
        for method in ("GET", "POST")
    }
    others = {
        (method, target): spied.asked(name, target, method=method)[:13]
        for method in ("CONNECT", "TRACE", "OPTIONS", "PATCH", "PRI", "get", "BREW")
        for target in (f"{Registry.PATH}/subjects", "*", "localhost:1")
    }
    refusals = {"HTTP/1.1 400 ", "HTTP/1.1 403 ", "HTTP/1.1 404 "}
    assert {question: answer for question, answer in (answers | others).items() if answer not in refusals} == {}
    assert spied.seen == []


FOLLOWED = f"DELETE {Registry.PATH}/subjects/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
FRAMINGS = {
    "length, then chunked": f"Content-Length: 4\r\n{CHUNKED}\r\n0\r\n\r\n",
    "chunked, then length": f"{CHUNKED}Content-Length: {5 + len(FOLLOWED)}\r\n\r\n0\r\n\r\n",
    "chunked and identity": f"{CHUNKED}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "a folded line": "Transfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "a bare line feed": f"X: y\n{CHUNKED}Content-Length: 0\r\n\r\n0\r\n\r\n",
    "two lengths": f"Content-Length: 0\r\nContent-Length: {len(FOLLOWED)}\r\n\r\n",
    "a list of lengths": f"Content-Length: 0, {len(FOLLOWED)}\r\n\r\n",
    "a signed length": "Content-Length: +0\r\n\r\n",
    "a length of this hop": f"Connection: Content-Length\r\nContent-Length: {len(FOLLOWED)}\r\n\r\n",
    "a coding of this hop": f"Connection: keep-alive, Transfer-Encoding\r\n{CHUNKED}\r\n0\r\n\r\n",
    "an expectation": "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "a trailer": f"{CHUNKED}\r\n0\r\nUpgrade: h2c\r\n\r\n",
    "a pipeline": "\r\n",
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_hidden_behind_a_permitted_question(spied: SpyRegistry, method: str, framing: str) -> None:
    """What follows is a part of its body for the registry, too, or a question of its own, which the proxy answers."""
    spied.seen.clear()
    question = request_bytes(spied.locked, "waiter", f"{Registry.PATH}/subjects/a", method=method)[:-2]
    with connected(spied.locked, spied.proxy_port) as connection, contextlib.suppress(OSError):
        connection.sendall(question + FRAMINGS[framing].encode() + FOLLOWED.encode())
        connection.settimeout(1)
        while connection.recv(65_536):
            pass
    for seen in spied.seen:
        head, _, body = seen.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert b"transfer-encoding" not in head
        assert len(body) == int(length[1] if length else 0), seen


@contextlib.contextmanager
def connected(locked: Locked, port: int = 0) -> Iterator[ssl.SSLSocket]:
    """Connect to the proxy, to send it what no client's library would."""
    trusted = ssl.create_default_context(cafile=str(locked.stack.secrets / "ca.pem"))
    with (
        socket.create_connection(("localhost", port or locked.stack.proxy.port), 10) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def request_bytes(
    locked: Locked, name: str, target: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> bytes:
    """Give a request as a principal, its target and headers as they stand."""
    secret = (locked.stack.secrets / f"{name}.registry").read_bytes()
    known = {"Host": "localhost", "Authorization": "Basic " + base64.b64encode(secret).decode(), **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in known.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def exchange(
    locked: Locked,
    name: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    port: int = 0,
) -> str:
    """Send such a request and give the whole answer."""
    with connected(locked, port) as connection:
        connection.sendall(request_bytes(locked, name, target, {"Connection": "close", **(headers or {})}, method))
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode("latin-1")


def ask(
    locked: Locked,
    name: str,
    method: str,
    path: str,
    body: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Ask the registry as a principal, or as nobody, and give the status."""
    known = dict(headers or {})
    if name:
        secret = (locked.stack.secrets / f"{name}.registry").read_bytes()
        known["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    known["Content-Type"] = "application/json"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{locked.registry_url}{path}", data, known, method=method)  # noqa: S310 - https
    trusted = ssl.create_default_context(cafile=str(locked.stack.secrets / "ca.pem"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:  # noqa: S310 - https
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (ResourceType.GROUP, "READ on the group cook"),
        (ResourceType.TOPIC, f"WRITE on the topic {LETTERS['cook']}"),
        (ResourceType.TOPIC, f"READ on the topic {REPLAYS['cook']}"),
    ],
)
def test_what_a_service_lacks_it_says_when_it_starts(locked: Locked, kind: ResourceType, what: str) -> None:
    """Not at the first order or the first dead letter; and the command that it names grants it."""
    operation, name = AclOperation[what.split(" ", 1)[0]], what.rsplit(" ", 1)[1]
    taken = AclBindingFilter(
        kind, name, ResourcePatternType.LITERAL, "User:cook", "*", operation, AclPermissionType.ALLOW
    )
    admin = locked.admin
    assert len(admin.delete_acls([taken])[taken].result(15)) == 1
    refused = locked.run_as("cook", "-m", "consumers.cook")
    assert (refused.returncode, refused.stdout) == (2, "")
    # Who may not even ask about a topic lacks the other permissions on it, too, as far as a client can know.
    others = f"(, DESCRIBE_CONFIGS on the topic {re.escape(name)})?"
    assert re.search(
        f"cook: User:cook lacks {what}{others}; to grant that: python scripts/apply_acls.py", refused.stderr
    )
    planned = locked.run_as("admin", "scripts/apply_acls.py", "--plan")
    assert f"User:cook {what} to be granted\n" in planned.stdout
    applied = locked.run_as("admin", "scripts/apply_acls.py")
    assert [line for line in applied.stdout.splitlines() if line.endswith(" granted")] == [f"User:cook {what} granted"]
    again = locked.run_as("admin", "scripts/apply_acls.py", "--plan")
    assert "granted" not in again.stdout
    assert again.returncode == 0


def test_a_permission_too_many_is_a_finding_until_it_is_taken_away(locked: Locked) -> None:
    """Also one by a prefix or for everybody; --plan changes nothing, --prune takes away what it said."""
    everybody = AclBinding(
        ResourceType.TOPIC,
        "pizza-",
        ResourcePatternType.PREFIXED,
        "User:*",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    admin = locked.admin
    admin.create_acls([everybody])[everybody].result(15)
    line = "User:* READ on the topic prefixed pizza- "
    wait_until(lambda: line in locked.run_as("admin", "scripts/apply_acls.py", "--plan").stderr)
    found = locked.run_as("admin", "scripts/apply_acls.py")
    assert found.returncode == 1
    assert f"{line}is more than {locked.schemas / 'access.yaml'} says; --prune takes it away" in found.stderr
    planned = locked.run_as("admin", "scripts/apply_acls.py", "--plan", "--prune")
    assert f"{line}to be taken away" in planned.stdout
    assert locked.run_as("admin", "scripts/apply_acls.py", "--prune").returncode == 0
    assert locked.run_as("admin", "scripts/apply_acls.py", "--plan").returncode == 0


def test_permissions_are_the_admins(locked: Locked) -> None:
    """Not even the release may change who may do what."""
    refused = locked.run_as("release", "scripts/apply_acls.py")
    assert refused.returncode == 2
    assert "User:release may not see who may do what; run it as the admin" in refused.stderr


@contextlib.contextmanager
def tls_server(directory: Path, hosts: list[str], until: datetime.timedelta) -> Iterator[tuple[str, str]]:
    """A server that has a certificate and says nothing; gives its address and the file of its CA."""
    authority = Authority(datetime.timedelta(days=1))
    files = directory / "server.pem", directory / "ca.pem"
    files[0].write_bytes(b"".join(authority.issue("x", hosts, until=datetime.datetime.now(datetime.UTC) + until)))
    files[1].write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[0])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"localhost:{server.getsockname()[1]}", str(files[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT)


DAY = datetime.timedelta(days=1)
TRUST = "the broker's certificate is not to be trusted: it has expired, or its name is not the one"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"KAFKA_SASL_PASSWORD_FILE": "{wrong}"},
            "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD:",
        ),
        ({"KAFKA_SASL_USERNAME": "nobody"}, "the broker does not take who we say we are"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "broker's supported mechanisms: SCRAM-SHA-512"),
        ({"KAFKA_SSL_CA_LOCATION": "{other_ca}"}, TRUST),
        ({"KAFKA_BOOTSTRAP_SERVERS": "{expired}", "KAFKA_SSL_CA_LOCATION": "{expired_ca}"}, TRUST),
        ({"KAFKA_BOOTSTRAP_SERVERS": "{misnamed}", "KAFKA_SSL_CA_LOCATION": "{misnamed_ca}"}, TRUST),
        ({"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "(is KAFKA_SECURITY_PROTOCOL, PLAINTEXT, what it speaks at that"),
        (
            {"KAFKA_BOOTSTRAP_SERVERS": "{plain}"},
            "the broker speaks no TLS at that port, check KAFKA_SECURITY_PROTOCOL",
        ),
        (
            {"KAFKA_BOOTSTRAP_SERVERS": "{certificates}"},
            "does not take our certificate, check KAFKA_SSL_CERTIFICATE_LOC",
        ),
        ({"SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO_FILE": "{wrong}"}, "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO"),
        (
            {
                "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO_FILE": "",
                "SCHEMA_REGISTRY_BEARER_AUTH_CREDENTIALS_SOURCE": "STATIC_TOKEN",
                "SCHEMA_REGISTRY_BEARER_AUTH_TOKEN_FILE": "{wrong}",
                "SCHEMA_REGISTRY_BEARER_AUTH_LOGICAL_CLUSTER": "lsrc-1",
                "SCHEMA_REGISTRY_BEARER_AUTH_IDENTITY_POOL_ID": "pool-1",
            },
            "the token of SCHEMA_REGISTRY_BEARER_AUTH_…, which may have expired",
        ),
        ({"SCHEMA_REGISTRY_SSL_CA_LOCATION": "{other_ca}"}, "not to be trusted, see SCHEMA_REGISTRY_SSL_CA_LOCATION"),
        (
            {"SCHEMA_REGISTRY_URL": "https://{expired}", "SCHEMA_REGISTRY_SSL_CA_LOCATION": "{expired_ca}"},
            "has expired",
        ),
        ({"SCHEMA_REGISTRY_URL": "https://{misnamed}", "SCHEMA_REGISTRY_SSL_CA_LOCATION": "{misnamed_ca}"}, "mismatch"),
    ],
    ids=lambda value: "+".join(sorted(value.values())) if isinstance(value, dict) else None,
)
def test_what_keeps_the_door_shut_is_one_sentence_with_its_setting(
    locked: Locked, tmp_path: Path, settings: Mapping[str, str], sentence: str
) -> None:
    """And exit code 2 within the time limits, and no secret in it, however much is logged."""
    secret = "tiramisu:tiramisu"  # noqa: S105 - made up
    (tmp_path / "wrong").write_text(secret)
    (tmp_path / "other_ca.pem").write_bytes(Authority(DAY).pem)
    for name in ("expired", "misnamed"):
        (tmp_path / name).mkdir()
    with (
        tls_server(tmp_path / "expired", ["localhost"], -DAY) as (expired, expired_ca),
        tls_server(tmp_path / "misnamed", ["elsewhere.test"], DAY) as (misnamed, misnamed_ca),
    ):
        places = {
            "wrong": str(tmp_path / "wrong"),
            "other_ca": str(tmp_path / "other_ca.pem"),
            "expired": expired,
            "expired_ca": expired_ca,
            "misnamed": misnamed,
            "misnamed_ca": misnamed_ca,
            "plain": f"localhost:{locked.stack.registry.port}",
            "certificates": f"localhost:{locked.stack.kafka.admin_port}",
        }
        given = {name: value.format(**places) for name, value in settings.items()}
        limits = {
            "REQUEST_TIMEOUT": "2",
            "STARTUP_TIMEOUT": "3",
            "LOG_LEVEL": "DEBUG",
            "KAFKA_DEBUG": "security,broker",
        }
        began = time.monotonic()
        done = locked.run_as("waiter", "-m", "producer.waiter", **limits, **given)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, "")
    assert last.startswith("waiter: ")
    assert sentence in last
    assert time.monotonic() - began < 20
    assert "Traceback" not in done.stderr
    assert "tiramisu" not in done.stderr


def test_no_secret_is_in_any_output(locked: Locked) -> None:
    """Nor in the servers' logs, nor as base64 in a header that was logged."""
    debug = {"LOG_LEVEL": "DEBUG", "KAFKA_DEBUG": "all"}
    locked.run_as("waiter", "-m", "producer.waiter", **debug)
    locked.run_as("release", "scripts/register_schema.py", "--plan", **debug)
    said = "".join(
        [*locked.said, *(path.read_text("utf-8", "replace") for path in locked.stack.directory.glob("*.log"))]
    )
    assert "margherita" in said or "message published" in said
    secrets = [
        path.read_bytes() for pattern in ("*.password", "*.registry") for path in locked.stack.secrets.glob(pattern)
    ]
    passwords = {secret.rpartition(b":")[2] for secret in secrets}
    encoded = {base64.b64encode(secret) for secret in secrets}
    assert len(passwords) == 12
    assert [secret for secret in passwords | encoded if secret.decode() in said] == []
