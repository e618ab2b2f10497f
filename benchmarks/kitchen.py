"""Where the benchmark runs: servers, a topic of its own with a registered contract, peers and commands as processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread, Timer
from typing import IO, Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.peers.harness import Job
from contract.order import Order
from contract.registry import apply, plan
from contract.subjects import SCHEMAS, load_contract
from runtime.settings import load_settings
from runtime.topics import Servers, connect
from stack.local import LocalStack

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".venv" / "bench"
LIMIT = 900.0
"""Seconds after which a process counts as stuck and is killed."""


class BenchmarkError(Exception):
    """A peer or command failed, or did not do what it was measured for; says what it printed."""


@dataclass(frozen=True)
class Used:
    """What a process took from start to end, in seconds and, at most at once, in MB; and what it said."""

    wall: float
    cpu: float
    mb: float
    errors: str


class Process:
    """A process whose use of time and memory is known when it ends."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], output: IO[bytes] | int) -> None:
        self._name = " ".join(map(str, command[:3]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process
        self._kilobytes = 0
        self._began = time.perf_counter()
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=self._errors)  # noqa: S603 - our own
        Thread(target=self._watch, daemon=True).start()

    def wait(self) -> Used:
        """Wait for its end; raises BenchmarkError when that is none by its leave."""
        stuck = Timer(LIMIT, self._process.kill)
        stuck.daemon = True  # or an interrupted benchmark waits for it
        stuck.start()
        _, status, used = os.wait4(self._process.pid, 0)
        wall = time.perf_counter() - self._began
        stuck.cancel()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.check(ended=self._process.returncode != 0)
        return Used(wall, used.ru_utime + used.ru_stime, self._kilobytes / 1024, self._said())

    def stop(self) -> Used:
        """End it as its user would."""
        self.send(signal.SIGTERM)
        return self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def check(self, *, ended: bool | None = None) -> None:
        """Raise BenchmarkError, with what it said, when it has ended and should not have."""
        if ended or (ended is None and self._process.poll() is not None):
            raise BenchmarkError(f"{self._name} ended with {self._process.returncode}:\n{self._said()[-2000:]}")

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def _watch(self) -> None:
        """Look at its memory: what wait4 gives as the most is never less than what this process had when it forked."""
        status = Path(f"/proc/{self._process.pid}/status")
        with suppress(OSError):
            while self._process.returncode is None and (found := re.search(r"VmHWM:\s*(\d+)", status.read_text())):
                self._kilobytes = int(found[1])
                time.sleep(0.02)


@dataclass
class Place:
    """A topic that nobody else has, its contract registered, and a DATA_DIR."""

    kitchen: Kitchen
    directory: Path
    partitions: int
    topic: str = field(init=False)
    schema_id: int = field(init=False)

    def __post_init__(self) -> None:
        """Make the topic and register both versions of its subject."""
        self.topic = f"bench-{uuid.uuid4().hex[:12]}"
        shutil.copytree(SCHEMAS, self.directory / "schemas")
        subjects = self.directory / "schemas" / "subjects.yaml"
        subjects.write_text(subjects.read_text("utf-8").replace("pizza-order", self.topic), "utf-8")
        servers = self.servers
        subject = load_contract(self.directory / "schemas").subject("order")
        *_, newest = apply(plan(subject, servers.registry), servers.registry)
        self.schema_id = newest.id
        servers.ensure_topics(subject)

    @property
    def servers(self) -> Servers:
        """The servers, with this place's contract."""
        return connect(load_settings(self.environment))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "SCHEMA_REG"))}
        return kept | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kitchen.bootstrap,
            "SCHEMA_REGISTRY_URL": self.kitchen.registry,
            "SCHEMAS_DIR": str(self.directory / "schemas"),
            "DATA_DIR": str(self.directory / "data"),
            "TOPIC_PARTITIONS": str(self.partitions),
            "PYTHONPATH": str(ROOT),  # for what peers import: their harness, and how Avro writes a number
        }

    def job(self, orders: int = 0, warm_up: int = 0, rate: float = 0) -> Job:
        """Give a peer's job at this place."""
        servers, group = (self.kitchen.bootstrap, self.kitchen.registry), f"bench-{uuid.uuid4().hex[:12]}"
        schemas = str(self.directory / "schemas")
        return Job(*servers, self.topic, Order.SCHEMA, self.schema_id, group, orders, warm_up, rate, schemas)

    def start_peer(self, peer: str, what: str, job: Job) -> Process:
        """Start a peer; `results` gives what it has measured once it has ended."""
        with (self.directory / f"{what}.json").open("wb") as results:
            command: list[str | Path] = [python_of(peer), PEERS / f"{peer}.py", what, json.dumps(asdict(job))]
            return self.kitchen.start(command, self.environment, results)

    def results(self, what: str) -> dict[str, Any]:
        """Give what a peer has printed last."""
        *_, last = ["", *(self.directory / f"{what}.json").read_text("utf-8").splitlines()]
        if not last.startswith("{"):
            raise BenchmarkError(f"a peer gave no result for {what}: {last}")
        found: dict[str, Any] = json.loads(last)
        return found

    def run_peer(self, peer: str, what: str, job: Job) -> dict[str, Any]:
        """Run a peer to its end and give what it has measured."""
        self.start_peer(peer, what, job).wait()
        return self.results(what)

    def command(self, name: str, *arguments: str | Path) -> Process:
        """Start `waiter`, `cook` or `manager` as a person would."""
        return self.kitchen.start(
            [Path(sys.executable).parent / name, *arguments], self.environment, subprocess.DEVNULL
        )

    def rewind(self, group: str) -> None:
        """Let a group read this topic from its beginning once more, and the manager begin a new ledger."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        offsets = [TopicPartition(self.topic, number, 0) for number in range(self.partitions)]
        request = [ConsumerGroupTopicPartitions(group, offsets)]
        wait_until(lambda: _succeeds(self.kitchen.admin.alter_consumer_group_offsets(request)[group].result))

    def wait_for_members(self, group: str, count: int, process: Process) -> None:
        """Wait until so many members of a group have this topic's partitions."""

        def joined() -> bool:
            process.check()
            with suppress(KafkaException):  # a group's first coordinator takes a moment to be found
                described = self.kitchen.admin.describe_consumer_groups([group])[group].result()
                places = [member.assignment.topic_partitions for member in described.members]
                having = [member for member in places if any(place.topic == self.topic for place in member)]
                return described.state.name == "STABLE" and len(having) == count
            return False

        wait_until(joined)

    def committed(self, group: str) -> int:
        """Give how many of this topic's messages a group has handled."""
        request = [ConsumerGroupTopicPartitions(group, [TopicPartition(self.topic, n) for n in range(self.partitions)])]
        with suppress(KafkaException):
            found = self.kitchen.admin.list_consumer_group_offsets(request)[group].result()
            return sum(max(0, place.offset) for place in found.topic_partitions)
        return 0

    def recorded(self) -> int:
        """Give how many of this topic's messages the manager has recorded."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{self.directory}/data/ledger.db?mode=ro", uri=True)) as db,
        ):
            return int(db.execute("SELECT coalesce(sum(next_offset), 0) FROM partitions").fetchone()[0])
        return 0


class Kitchen:
    """The servers that the environment names, else a stack of our own; and all that was started on them."""

    def __init__(self, bootstrap: str, registry: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.registry = registry
        self.directory = directory
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._processes: list[Process] = []

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], output: IO[bytes] | int) -> Process:
        """Start a process, which ends with the benchmark at the latest."""
        self._processes.append(Process(command, environment, output))
        return self._processes[-1]

    @contextmanager
    def place(self, partitions: int = 1) -> Iterator[Place]:
        """Give a topic of its own; it and its files are gone afterwards."""
        directory = self.directory / uuid.uuid4().hex
        directory.mkdir()
        place = Place(self, directory, partitions)
        try:
            yield place
        finally:
            for process in self._processes:
                process.kill()
            self._processes = []
            registry = place.servers.registry
            registry.delete_subject(f"{place.topic}-value")
            topics = [name for name in self.admin.list_topics(timeout=10).topics if name.startswith(place.topic)]
            for future in self.admin.delete_topics(topics).values():
                future.result()
            shutil.rmtree(directory)


@contextmanager
def open_kitchen(directory: Path) -> Iterator[Kitchen]:
    """Find or start the servers."""
    bootstrap, registry = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("SCHEMA_REGISTRY_URL")
    if bootstrap and registry:
        yield Kitchen(bootstrap, registry, directory)
        return
    with LocalStack(directory / "stack") as stack:
        yield Kitchen(stack.bootstrap_servers, stack.registry_url, directory)


def python_of(peer: str) -> Path:
    """Give the interpreter of a peer's environment; raises BenchmarkError when it was not made."""
    python = Path(sys.executable) if peer == "ours" else ENVIRONMENTS / peer / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(f"{peer} has no environment; run: make .venv/bench/{peer}/made")
    return python


def wait_until(true: Callable[[], object], limit: float = 60.0) -> None:
    """Wait until something is true; raises BenchmarkError when it is not so within a limit."""
    deadline = time.monotonic() + limit
    while not true():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the servers or a command did not get on within {limit:g} s")
        time.sleep(0.01)


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except KafkaException:
        return False
    return True
