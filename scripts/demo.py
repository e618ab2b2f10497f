"""The whole restaurant in one process, with Python alone: gate, register, publish, cook, record, and count.

The waiter, the cook and the manager are the ones that run everywhere else; only broker and registry are librdkafka's
and confluent-kafka's in-process ones.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stdout
from pathlib import Path
from threading import Event
from typing import TextIO

import msgspec
from check_compatibility import show, summary
from register_schema import register

from consumers import cook, manager
from contract.gate import check
from contract.subjects import load_contract
from producer import waiter
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.embedded import embedded_servers
from runtime.settings import Settings
from runtime.topics import Servers

EXAMPLES = Path(__file__).parent.parent / "examples"
ORDERS = (
    ["--orders", str(EXAMPLES / "orders.jsonl"), "--verbose"],
    # An older waiter is still at work: its orders have no identity.
    ["--orders", str(EXAMPLES / "orders.v1.csv"), "--schema-version", "1", "--verbose"],
    ["margherita", "17"],
)
LIMIT_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit 1 when a count is off."""
    return run_command(create_parser("demo", __doc__ or "", "make demo"), run, arguments)


def run(_flags: Namespace, settings: Settings) -> int:
    """Run every part on servers of its own, with a new ledger."""
    directory = settings.data_dir / "demo"
    shutil.rmtree(directory, ignore_errors=True)
    with embedded_servers(msgspec.structs.replace(settings, data_dir=directory)) as servers:
        _say("The contract is checked, then registered:")
        contract = load_contract(settings.schemas_dir)
        code = show(check(contract), map(summary, contract.subjects.values()))
        code = code or register(contract, servers.registry, settings, plan_only=False)
        return code or _serve(servers)


def _serve(servers: Servers) -> int:
    seen = _Kept(sys.stdout)
    with redirect_stdout(seen):
        _say("The waiter publishes:")
        for order in ORDERS:
            _publish(servers, order)
        published = seen.count("message published")
        _say("The cook prepares, the manager records:")
        recorded = _work(servers, lambda: seen.count("Received an order"), published)
        cooked = seen.count("Received an order")
    ledger, log = (servers.settings.data_dir / name for name in ("ledger.db", "log.txt"))
    lines = log.read_text("utf-8").splitlines()
    _say("The manager's log.txt:")
    print(*lines, sep="\n")
    _say("Served:")
    print(f"orders published  {published:4}\norders cooked     {cooked:4}\norders recorded   {recorded:4}")
    print(f"ledger            {ledger}\nlog               {log}")
    return OK if 0 < published == cooked == recorded == len(lines) else FAILED


def _publish(servers: Servers, arguments: Sequence[str]) -> None:
    parser = ArgumentParser()
    waiter.add_arguments(parser)
    waiter.run(parser.parse_args(arguments), servers.settings, lambda: servers, Event)


def _work(servers: Servers, cooked: Callable[[], int], published: int) -> int:
    """Run cook and manager until both have had every order, and give the rows of the ledger."""
    stop = Event()
    ledger = servers.settings.data_dir / "ledger.db"
    deadline = time.monotonic() + LIMIT_SECONDS
    with ThreadPoolExecutor() as pool:
        staff = [pool.submit(work, servers, lambda: stop) for work in (cook.run, manager.run)]
        while time.monotonic() < deadline and not cooked() == published == _rows(ledger):
            time.sleep(0.05)
            if any(one.done() for one in staff):
                break
        stop.set()
    for one in staff:
        one.result()  # raises what has ended it
    return _rows(ledger)


def _rows(ledger: Path) -> int:
    """Count what is recorded, 0 while the manager has not made its ledger."""
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM orders").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


class _Kept(io.StringIO):
    """Passes on what is printed, and keeps it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        print(text, end="", file=self._out, flush=True)
        return super().write(text)

    def count(self, words: str) -> int:
        return self.getvalue().count(words)


def _say(heading: str) -> None:
    print(f"\n{heading}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
