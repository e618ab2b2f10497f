"""The restaurant in one process, with orders coming in and the board beside it, until Ctrl-C.

Guests come and go, an older waiter still writes version 1, and now and then somebody sends what is no order at all.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from threading import Event

import msgspec
from confluent_kafka import Producer
from register_schema import register

from consumers import cook, manager
from consumers.board.__main__ import run as run_board
from contract.order import OrderV1, OrderV2
from contract.subjects import load_contract
from producer.publishing import RecordProducer, new_identity
from runtime.clients import make_client, producer_properties
from runtime.command import create_parser, run_command, stop_on_signals
from runtime.embedded import embedded_servers
from runtime.settings import Settings
from runtime.topics import Servers

MENU = {"margherita": 9, "napoli": 6, "funghi": 5, "quattro stagioni": 4, "diavola": 4, "capricciosa": 2, "marinara": 1}
NO_ORDERS = (
    b"one margherita, please",
    b"\0\0\0\3\xe7\x14margherita\x22",
    b"\0\0\0\0\1\x14marg",
    b"\0\0\0\0\1\x14margherita\0",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until SIGTERM or Ctrl-C."""
    return run_command(create_parser("demo-board", __doc__ or "", "make demo-board"), run, arguments)


def run(_flags: Namespace, settings: Settings) -> int:
    """Run every part on servers of its own, with a new ledger."""
    directory = settings.data_dir / "demo-board"
    shutil.rmtree(directory, ignore_errors=True)
    stop = stop_on_signals()
    with embedded_servers(msgspec.structs.replace(settings, data_dir=directory)) as servers:
        tell = sys.stdout
        # What the cook and others print, the board shows better.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            register(load_contract(settings.schemas_dir), servers.registry, settings, plan_only=False)
            return _serve(servers, stop, lambda line: print(f"{line}, until Ctrl-C", file=tell, flush=True))


def _serve(servers: Servers, stop: Event, tell: Callable[[str], None]) -> int:
    with ThreadPoolExecutor() as pool:
        staff = [pool.submit(job, servers, lambda: stop) for job in (cook.run, manager.run, _take_orders)]
        for one in staff:
            one.add_done_callback(lambda _: stop.set())  # whatever ends one of them ends the demo
        try:
            code = run_board(servers, stop, tell)
        finally:
            stop.set()
    for one in staff:
        one.result()  # raises what has ended it
    return code


def _take_orders(servers: Servers, stopping: Callable[[], Event]) -> None:
    """Publish orders, ever more and ever fewer of them, until the event is set."""
    stop = stopping()
    subject = load_contract(servers.settings.schemas_dir).subject("order")
    waiter, older_waiter = RecordProducer(servers, subject, OrderV2), RecordProducer(servers, subject, OrderV1)
    stranger = make_client(Producer, producer_properties(servers.settings))
    dice = random.Random()  # noqa: S311 - guests need no secrets
    guests = 6.0
    while not stop.wait(dice.expovariate(guests)):
        guests = min(14.0, max(2.0, guests + dice.gauss(0, 0.4)))
        (pizza,), table = dice.choices([*MENU], [*MENU.values()]), dice.randint(1, 24)
        chance = dice.random()
        if chance < 0.004:  # noqa: PLR2004 - a few in a thousand
            stranger.produce(subject.topic, dice.choice(NO_ORDERS), str(table))
            stranger.flush(1)
        elif chance < 0.2:  # noqa: PLR2004 - one in five
            older_waiter.publish(OrderV1(pizza, table))
        else:
            waiter.publish(OrderV2(pizza, table, new_identity()))


if __name__ == "__main__":
    sys.exit(main())
