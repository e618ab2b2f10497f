"""The manager records every order exactly once, in a ledger and a text log; reads with version 2, for its identity."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event

from consumers.cook import sentence
from consumers.ledger import Ledger
from consumers.loop import consume_messages, create_consumer
from contract.order import OrderV2
from contract.subjects import load_contract
from runtime.clients import wait_until_available
from runtime.command import OK, create_parser, run_command, stop_on_signals
from runtime.topics import Servers, connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `manager`, until SIGTERM or Ctrl-C."""
    parser = create_parser("manager", __doc__ or "", "DATA_DIR=data manager")
    return run_command(parser, lambda _, settings: run(connect(settings), stop_on_signals), arguments)


def run(servers: Servers, stop: Callable[[], Event]) -> int:
    """Record orders until the event is set that `stop` gives once all is ready."""
    subject = load_contract(servers.settings.schemas_dir).subject("order")
    # A transaction waits for the disk, whatever is in it: many orders at once where there are many.
    consumer = create_consumer(servers, subject, OrderV2, "manager", batch=10_000)
    data = servers.settings.data_dir
    open_ledger = partial(Ledger, data, consumer.topic, OrderV2, subject.identity, sentence, table="orders")
    with wait_until_available(open_ledger, servers.settings) as ledger:  # a full disk is waited for, up to a limit
        consume_messages(consumer, ledger.record, stop(), ledger.resume, mark=ledger)
    return OK


if __name__ == "__main__":
    sys.exit(main())
