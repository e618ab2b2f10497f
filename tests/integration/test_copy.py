"""The documents that walk through a change are run as a reader would: their files written, their commands entered.

    ```python producer/cashier.py                  writes the file
    ```yaml schemas/subjects.yaml below subjects:  adds to a file, below the first line that begins so
    ```yaml schemas/subjects.yaml for readers:     puts in place of the first line that begins so
    ```console                                     enters each line after `$ `; what is shown must come, in that order

A number shown stands for any number. A command whose output ends with `^C` is interrupted when all of it has come.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack.local import free_port
from tests.integration.conftest import ServerAddresses
from tests.restaurant import LIMIT, ROOT

pytestmark = pytest.mark.integration

BLOCK = re.compile(r"^```(?P<kind>\w+) ?(?P<where>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
TOPICS = re.compile("pizza-order|table-payment")


@dataclass(frozen=True)
class Copy:
    """A copy of the repository whose topics nobody else has."""

    directory: Path
    environ: Mapping[str, str]
    suffix: str
    port: int = field(default_factory=free_port)

    def follow(self, document: str) -> None:
        """Do all that a document says, in its order."""
        text = self.own((ROOT / "docs" / document).read_text("utf-8"))
        for block in BLOCK.finditer(text):
            if block["kind"] == "console":
                self._enter(block["text"])
            elif block["where"]:
                self._write(block["where"], block["text"])

    def own(self, text: str) -> str:
        """Put this copy's topics in place of the project's, and a free port in that of the document."""
        return TOPICS.sub(lambda name: name[0] + self.suffix, text).replace("9100", str(self.port))

    def run(self, *command: str) -> str:
        """Run a command that must succeed, and give what it says."""
        done = subprocess.run(
            command, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _write(self, where: str, text: str) -> None:
        name, how, line = where.partition(" below ") if " below " in where else where.partition(" for ")
        path = self.directory / name
        if not how:
            assert not path.exists(), f"{name} is there already"
            path.write_text(text, "utf-8")
            return
        lines = path.read_text("utf-8").splitlines(keepends=True)
        at = next(number for number, found in enumerate(lines) if found.strip().startswith(line))
        kept = [] if how == " for " else [lines[at]]
        path.write_text("".join([*lines[:at], *kept, text, *lines[at + 1 :]]), "utf-8")

    def _enter(self, console: str) -> None:
        if "\n^C\n" in console:
            self._interrupt(*_one_command(console))
            return
        commands = [line[2:] for line in console.splitlines() if line.startswith("$ ")]
        expected = [line for line in console.splitlines() if not line.startswith("$ ")]
        with self._bash("\n".join(commands)) as (process, output):
            process.wait(100)
            assert _missing(expected, output()) == [], output()

    def _interrupt(self, command: str, expected: list[str]) -> None:
        with self._bash(f"exec {command}") as (process, output):
            deadline = time.monotonic() + LIMIT
            while _missing(expected, output()) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, output()
            assert _missing(expected, output()) == [], output()

    @contextmanager
    def _bash(self, commands: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
        """Start commands, and give them and what they have said so far; none of them outlives the context."""
        said = self.directory / "said"
        with said.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", commands],
                cwd=self.directory, env=self.environ, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        try:
            yield process, lambda: said.read_text("utf-8")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _one_command(console: str) -> tuple[str, list[str]]:
    command, *expected = console.splitlines()
    return command.removeprefix("$ "), expected[: expected.index("^C")]


def _missing(expected: list[str], output: str) -> list[str]:
    """Give the expected lines that do not come, in their order, among the output's."""
    lines = iter(output.splitlines())
    return [
        line
        for line in expected
        if not any(re.fullmatch(re.sub(r"\d+", r"\\d+", re.escape(line)), found) for found in lines)
    ]


@pytest.fixture
def copy(tmp_path: Path, servers: ServerAddresses) -> Iterator[Copy]:
    """A copy of the files that git knows or would take, with its contract registered."""
    directory = tmp_path / "copy"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(directory),  # before the installed project, which is the original
        "PYTHONUNBUFFERED": "1",
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": servers.registry_url,
        "TOPIC_PARTITIONS": "",
        "DATA_DIR": "",
    }
    copied = Copy(directory, environ, f"-{uuid.uuid4().hex[:12]}")
    subjects = directory / "schemas" / "subjects.yaml"
    subjects.write_text(copied.own(subjects.read_text("utf-8")), "utf-8")
    copied.run("python", "scripts/generate_types.py")
    copied.run("python", "scripts/register_schema.py")
    yield copied
    shutil.rmtree(directory)


def test_a_payment_goes_from_schema_to_running_service_as_the_document_says(copy: Copy) -> None:
    """What was paid is in the accountant's ledger, and what the reader wrote passes the project's own checks."""
    copy.follow("copy.md")
    with closing(sqlite3.connect(copy.directory / "data" / "accountant" / "ledger.db")) as db:
        rows = db.execute('SELECT "table", amount, tip, method FROM payments_by_field').fetchall()
    assert rows == [(17, 1450, 150, "CARD"), (4, 990, None, "CASH")]
    written = ("producer/cashier.py", "consumers/accountant.py", "contract/payment.py")
    copy.run("python", "scripts/generate_types.py", "--check")
    copy.run("ruff", "check", *written)
    copy.run("ruff", "format", "--check", *written)
    copy.run("mypy", *written)


def test_an_order_gets_a_new_field_as_the_document_says(copy: Copy) -> None:
    """Nobody has to stop for it, and what changed passes the project's own checks."""
    copy.follow("contract.md")
    changed = ("contract/order.py", "consumers/manager.py")
    copy.run("python", "scripts/generate_types.py", "--check")
    copy.run("ruff", "check", *changed)
    copy.run("ruff", "format", "--check", *changed)
    copy.run("mypy", *changed, "producer/waiter.py")


def test_a_service_is_watched_and_a_contract_rolled_out_as_the_document_says(copy: Copy) -> None:
    """Its commands are entered, and what it shows has come."""
    copy.follow("operations.md")
