"""The stack itself: real servers that start, survive a crash with all that they hold, and leave nothing behind."""

import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from stack.local import HOME, LocalStack, StackError, fetch, find_java, free_port
from tests.servers import installed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TOPIC = "survivor"


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    """Fetch the servers, or skip with what to install (in CI: fail)."""
    with installed():
        find_java()
        fetch(HOME)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack that has not been started; it is stopped after the test."""
    stack = LocalStack(tmp_path)
    yield stack
    stack.stop()


def command(stack: LocalStack, action: str) -> subprocess.CompletedProcess[str]:
    """Run the command for a stack's folder and ports."""
    ports = ["--kafka-port", str(stack.kafka.port), "--registry-port", str(stack.registry.port)]
    return subprocess.run(
        [sys.executable, "-m", "stack.local", action, "--directory", stack.directory, *ports],
        capture_output=True,
        text=True,
        check=False,
    )


def publish(stack: LocalStack) -> None:
    """Make the topic and publish one message, acknowledged."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])[TOPIC].result(10)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "acks": "all"})
    producer.produce(TOPIC, b"still here")
    assert producer.flush(10) == 0


def first_message(stack: LocalStack) -> bytes | str | None:
    """Read the topic's first message."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": TOPIC})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    message = consumer.poll(20)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message.value()


def register(stack: LocalStack, name: str) -> int:
    """Register a record without fields; return its id."""
    with SchemaRegistryClient({"url": stack.registry_url, "timeout": 10}) as registry:
        return int(registry.register_schema(name, Schema(record(name), "AVRO")))


def schema(stack: LocalStack, schema_id: int) -> str:
    """Look an id up, with a client that remembers nothing."""
    with SchemaRegistryClient({"url": stack.registry_url, "timeout": 10}) as registry:
        return str(registry.get_schema(schema_id).schema_str)


def record(name: str) -> str:
    """Return the schema of a record without fields."""
    return f'{{"type":"record","name":"{name}","fields":[]}}'


def cluster(stack: LocalStack) -> str:
    """Return the cluster's id."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    return str(admin.describe_cluster(request_timeout=10).result().cluster_id)


def crash(stack: LocalStack) -> None:
    """Kill both servers."""
    stack.registry.kill()
    stack.kafka.kill()


def environment(line: str) -> list[str]:
    """Run the command that the last line of `up` gives; return what it sets."""
    source = line.removeprefix("to use them in this shell: ")
    shell = ["sh", "-c", f'{source} && echo "$KAFKA_BOOTSTRAP_SERVERS $SCHEMA_REGISTRY_URL"']
    return shlex.split(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)


def listens(port: int) -> bool:
    """Whether anything takes connections on the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_up_and_down(stack: LocalStack) -> None:
    """Both serve after `up`, a second `up` changes nothing, and `down` leaves neither process nor port."""
    up = command(stack, "up")
    assert up.returncode == 0, up.stderr
    assert environment(up.stdout.splitlines()[-1]) == [stack.bootstrap_servers, stack.registry_url]
    pids = [stack.kafka.pid, stack.registry.pid]
    assert None not in pids
    publish(stack)
    assert first_message(stack) == b"still here"
    assert register(stack, "One") == 1

    again = command(stack, "up")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("running already: ")
    assert [stack.kafka.pid, stack.registry.pid] == pids

    down = command(stack, "down")
    assert down.stdout == "stopped: registry and kafka\n", down.stderr
    assert down.returncode == 0
    assert not listens(stack.kafka.port)
    assert not listens(stack.registry.port)
    processes = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    assert str(stack.directory) not in processes


@pytest.mark.parametrize("end", [LocalStack.stop, crash])
def test_nothing_is_forgotten(stack: LocalStack, end: Callable[[LocalStack], None]) -> None:
    """What the servers have confirmed is there after a stop and after a crash: an id in a message keeps its schema."""
    stack.start()
    publish(stack)
    before = cluster(stack)
    one = register(stack, "One")
    end(stack)
    stack.start()
    assert cluster(stack) == before
    assert first_message(stack) == b"still here"
    assert register(stack, "Two") != one
    assert schema(stack, one) == record("One")


def test_one_server_killed(stack: LocalStack) -> None:
    """A killed broker comes back beside a registry that has noticed nothing."""
    stack.start()
    registry = stack.registry.pid
    stack.kafka.kill()
    assert stack.kafka.pid is None
    stack.kafka.start()
    assert stack.kafka.pid
    assert stack.registry.pid == registry


@pytest.mark.parametrize("name", ["kafka", "registry"])
def test_port_in_use(stack: LocalStack, name: str) -> None:
    """A port that is taken is named with the server that needs it, and neither server is started."""
    port = stack.kafka.port if name == "kafka" else stack.registry.port
    with socket.create_server(("127.0.0.1", port)):
        up = command(stack, "up")
    assert up.stderr.startswith(f"error: port {port} is not free for {name}: ")
    assert up.returncode == 2
    assert not list(stack.directory.glob("*.log"))


def test_one_cannot_start(tmp_path: Path) -> None:
    """When the broker ends at its start, the end of its log is shown and the registry is stopped again."""
    stack = LocalStack(tmp_path, properties={"authorizer.class.name": "no.such.Authorizer"})
    with pytest.raises(StackError, match=rf"(?s)^kafka has ended; {tmp_path}/kafka\.log ends with:\n.*no\.such"):
        stack.start()
    assert stack.registry.pid is None
    assert not listens(stack.registry.port)


def test_free_port() -> None:
    """A free port is none that the system could give to an outgoing connection."""
    assert all(20_000 <= free_port() < 32_768 for _ in range(50))
