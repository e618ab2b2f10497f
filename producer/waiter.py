"""The waiter publishes pizza orders: one from the command line, or a file of them."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event

import msgspec
from confluent_kafka import KafkaException

from contract.codec import encode
from contract.errors import NotDelivered, SettingError, StorageUnavailable
from contract.order import Order, OrderV1
from contract.records import build
from contract.subjects import load_contract
from producer.bulk import add_file_arguments, publish_file
from producer.publishing import Delivery, RecordProducer, new_identity, print_delivery
from producer.record_files import RecordFile
from producer.undelivered import Undelivered, check_place
from runtime.command import OK, create_parser, run_command, stop_on_signals
from runtime.settings import Settings
from runtime.topics import Servers, connect

AnyOrder = OrderV1 | Order
VERSIONS: dict[int, type[AnyOrder]] = {OrderV1.VERSION: OrderV1, Order.VERSION: Order}


def create_producer(
    servers: Servers, version: int = Order.VERSION, *, bulk: bool = False, lone: bool = False
) -> RecordProducer[AnyOrder]:
    """Make the waiter's producer, writing the given version of an order; waits for the servers, up to a limit."""
    subject = load_contract(servers.settings.schemas_dir).subject("order")
    return RecordProducer(servers, subject, VERSIONS[version], bulk=bulk, lone=lone)


def publish_order(producer: RecordProducer[AnyOrder], order: AnyOrder) -> Delivery:
    """Publish one order; returns when the broker has acknowledged it, else raises NotDelivered."""
    return producer.publish(order)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `waiter`."""
    parser = create_parser("waiter", __doc__ or "", "waiter margherita 17, or: waiter --orders examples/orders.jsonl")
    add_arguments(parser)
    return run_command(
        parser, lambda flags, settings: run(flags, settings, lambda: connect(settings), stop_on_signals), arguments
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Say what the waiter can be asked for."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("pizza", nargs="?", default="margherita", help="its name on the menu (default %(default)s)")
    parser.add_argument("table", nargs="?", default="17", help="the number of the table (default %(default)s)")
    either.add_argument("--orders", type=Path, metavar="FILE", help="publish a file: JSON Lines or CSV, by its ending")
    parser.add_argument(
        "--schema-version", type=int, choices=VERSIONS, default=Order.VERSION, help="write as an older waiter would"
    )
    add_file_arguments(parser)


def run(flags: Namespace, settings: Settings, connect: Callable[[], Servers], stop: Callable[[], Event]) -> int:
    """Publish what the flags ask for and give the exit code; connects only when that has been checked."""
    version = VERSIONS[flags.schema_version]
    if flags.orders is not None:
        subject = load_contract(settings.schemas_dir).subject("order")
        with closing(RecordFile(flags.orders, version)) as file:
            return publish_file(
                flags,
                file,
                subject,
                lambda: create_producer(connect(), flags.schema_version, bulk=not flags.verbose),
                settings.data_dir,
                stop,
                lambda path: _again(str(path), version),
            )
    if flags.batch is not None or flags.skip_invalid:
        name = "--skip-invalid" if flags.batch is None else "--batch"
        raise SettingError(
            f"{name} is for a file of orders, and this is a single one; add --orders FILE, or leave it out"
        )
    values = {"pizza": flags.pizza, "table": flags.table}
    if version is Order:
        values["order_id"] = new_identity()
    order = build(version, values, from_text=True)
    encode(order)  # refuses what build cannot see, such as half a surrogate pair, before anybody is asked
    check_place(settings.data_dir)
    producer = create_producer(connect(), flags.schema_version, lone=True)
    try:
        print_delivery(publish_order(producer, order))
    except (NotDelivered, KafkaException, SystemError, KeyboardInterrupt) as error:
        reason = "interrupted before the acknowledgement" if isinstance(error, KeyboardInterrupt) else str(error)
        raise _kept(order, settings.data_dir, reason) from None
    return OK


def _again(path: str, version: type[AnyOrder]) -> str:
    """Return the command that sends a file of orders of this version, the path quoted for a shell."""
    older = "" if version is Order else f" --schema-version {version.VERSION}"
    return f"waiter --orders {shlex.quote(path)}{older}"


def _kept(order: AnyOrder, data_dir: Path, reason: str) -> NotDelivered:
    """Keep an order that may have arrived all the same; returns the error that says how to send that very one again."""
    same = (
        "; ordering it anew would be another order"
        if isinstance(order, Order)
        else "; it has no identity, so it may be recorded twice if it has arrived"
    )
    undelivered = Undelivered[AnyOrder](data_dir)
    try:
        with undelivered:
            undelivered.add(order, reason)
    except (StorageUnavailable, KeyboardInterrupt) as error:
        why = str(error) or "keeping it was interrupted"
        # In ASCII: what does not show on a terminal would be printed as Python escapes it, and that is no JSON.
        line = json.dumps(msgspec.to_builtins(order), separators=(",", ":")).replace("\x7f", "\\u007f")
        return NotDelivered(
            f"{reason}; the order may have arrived all the same, and cannot be kept, as {why}; to send that very "
            f"order again, save the line {line} as a file that ends in .jsonl, set DATA_DIR to a directory that can be "
            f"written, and run: {_again('FILE', type(order))}{same}"
        )
    return NotDelivered(
        f"{reason}; the order is kept in {undelivered.path}, and may have arrived all the same: to send that very "
        f"order again, run: {_again(str(undelivered.path), type(order))}{same}"
    )


if __name__ == "__main__":
    sys.exit(main())
