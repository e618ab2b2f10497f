"""A restaurant of its own for each test: real commands as processes, on a topic that nobody else has."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient

from contract.subjects import SCHEMAS, Subject, load_contract
from runtime.settings import load_settings
from runtime.topics import Servers, connect

ROOT = Path(__file__).parent.parent
LIMIT = 40.0


def wait_until(true: Callable[[], object], limit: float = LIMIT, what: str = "it") -> None:
    """Wait until something is true, and fail when it is not so within a limit."""
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {limit:g} s"
        time.sleep(0.02)


@dataclass
class Service:
    """A cook or manager that runs, or has run, as a process."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def lines(self) -> list[str]:
        """Give what it has printed."""
        return self.out.read_text("utf-8").splitlines()

    def errors(self) -> str:
        """Give what it has said on standard error."""
        return self.err.read_text("utf-8")

    def wait_for_lines(self, count: int, limit: float = LIMIT) -> list[str]:
        """Wait until it has printed so many lines."""
        wait_until(lambda: len(self.lines()) >= count or self.process.poll() is not None, limit, f"{count} lines")
        return self.lines()

    def wait_for_error(self, text: str, limit: float = LIMIT) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.errors(), limit, f"{text!r} in {self.err}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(LIMIT)


@dataclass
class Restaurant:
    """Commands that share one topic, one contract and one DATA_DIR."""

    directory: Path
    bootstrap_servers: str
    registry_url: str
    partitions: int = 1
    topic: str = field(init=False)
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Copy the contract, with a topic of this restaurant's own."""
        self.topic = f"pizza-order-{uuid.uuid4().hex[:12]}"
        self.schemas = self.directory / "schemas"
        self.data = self.directory / "data"
        shutil.copytree(SCHEMAS, self.schemas)
        self.edit_subjects("pizza-order-value", f"{self.topic}-value")

    def edit_subjects(self, old: str, new: str) -> None:
        """Change a text in subjects.yaml."""
        path = self.schemas / "subjects.yaml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give the environment in which the commands run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "SCHEMA_REG"))}
        return kept | {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.registry_url,
            "SCHEMAS_DIR": str(self.schemas),
            "DATA_DIR": str(self.data),
            "TOPIC_PARTITIONS": str(self.partitions),
            **(extra or {}),
        }

    @cached_property
    def servers(self) -> Servers:
        """The servers as a program in this process sees them."""
        return connect(load_settings(self.environment()))

    @property
    def registry(self) -> SchemaRegistryClient:
        """The registry's client of this process."""
        return self.servers.registry

    def make_topic(self) -> None:
        """Make the topic, for clients that do not do so by themselves."""
        self.servers.ensure_topics(self.subject)

    @property
    def subject(self) -> Subject:
        """The subject of this restaurant's orders."""
        return load_contract(self.schemas).subject("order")

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, limit: float = LIMIT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the project to its end."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def register(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/register_schema.py."""
        return self.run("scripts/register_schema.py", *flags)

    def waiter(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the waiter to its end."""
        return self.run("-m", "producer.waiter", *arguments, env=env)

    def start(self, name: str, env: Mapping[str, str] | None = None) -> Service:
        """Start a consumer, which runs until the test is over if nothing ends it before."""
        return self.start_program(name, "-m", f"consumers.{name}", env=env)

    def start_program(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Service:
        """Start any program of the project, in the same way."""
        base = self.directory / f"{name}-{len(self.services)}"
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self.environment(env), stdout=stdout, stderr=stderr
            )
        self.services.append(Service(process, out, err))
        return self.services[-1]

    def close(self) -> None:
        """End what still runs, by its leave: a killed member keeps the next test's group waiting for its session."""
        if "servers" in vars(self):
            self.registry.close()
        for service in self.services:
            service.process.terminate()
        for service in self.services:
            try:
                service.process.wait(10)
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait(LIMIT)

    def orders_file(self, name: str, *lines: str) -> Path:
        """Write a file of orders."""
        path = self.directory / name
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    def rows(self, query: str = "SELECT * FROM orders_by_field ORDER BY line") -> list[Any]:
        """Ask the manager's ledger; nothing while there is none."""
        try:
            with closing(sqlite3.connect(f"file:{self.data}/ledger.db?mode=ro", uri=True)) as db:
                return db.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def wait_for_rows(self, count: int, limit: float = LIMIT) -> list[Any]:
        """Wait until the ledger has so many rows."""
        wait_until(lambda: len(self.rows("SELECT 1 FROM orders")) >= count, limit, f"{count} rows")
        return self.rows()

    def log(self) -> list[str]:
        """Give the lines of log.txt."""
        return (self.data / "log.txt").read_text("utf-8").splitlines()
