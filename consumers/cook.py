"""The cook prepares every order: reads with version 1, the workshop's own, and prints a sentence for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Event

from consumers.batches import Batch
from consumers.loop import consume_messages, create_consumer
from contract.errors import StorageUnavailable
from contract.order import Order, OrderV1
from contract.subjects import load_contract
from runtime.command import OK, create_parser, run_command, stop_on_signals
from runtime.topics import Servers, connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `cook`, until SIGTERM or Ctrl-C."""
    parser = create_parser("cook", __doc__ or "", "cook")
    return run_command(parser, lambda _, settings: run(connect(settings), stop_on_signals), arguments)


def run(servers: Servers, stop: Callable[[], Event]) -> int:
    """Prepare orders until the event is set that `stop` gives once all is ready."""
    subject = load_contract(servers.settings.schemas_dir).subject("order")
    consumer = create_consumer(servers, subject, OrderV1, "cook")
    consume_messages(consumer, prepare, stop(), status=not sys.stdout.isatty())
    return OK


def prepare(batch: Batch[OrderV1]) -> None:
    """Print a sentence for each order; it is out before the orders count as handled."""
    try:
        sys.stdout.write("".join(f"{sentence(order)}\n" for order in batch.values))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageUnavailable(f"standard output cannot be written: {error.strerror}") from None


def sentence(order: OrderV1 | Order) -> str:
    """Say what was ordered, in the workshop's words; a pizza's name cannot forge a line or paint a terminal."""
    pizza = order.pizza if order.pizza.isprintable() else ascii(order.pizza)[1:-1]
    return f"Received an order for a pizza {pizza} at table {order.table} !"


if __name__ == "__main__":
    sys.exit(main())
