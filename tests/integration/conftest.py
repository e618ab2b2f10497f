"""Real servers for the session: those that the environment names, else a stack of our own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stack.local import LocalStack
from tests.restaurant import Restaurant
from tests.servers import running


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let what tests start be interrupted: a shell has SIGINT ignored in what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class ServerAddresses(NamedTuple):
    """Where the session's broker and registry are."""

    bootstrap_servers: str
    registry_url: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerAddresses]:
    """A broker and a registry."""
    bootstrap, registry = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("SCHEMA_REGISTRY_URL")
    if bootstrap and registry:
        yield ServerAddresses(bootstrap, registry)
        return
    with running(LocalStack(tmp_path_factory.mktemp("stack"))) as stack:
        yield ServerAddresses(stack.bootstrap_servers, stack.registry_url)


@pytest.fixture
def open_restaurant(servers: ServerAddresses, tmp_path: Path) -> Iterator[Callable[..., Restaurant]]:
    """Make restaurants with a topic of their own; what they started ends with the test."""
    opened: list[Restaurant] = []

    def open_one(partitions: int = 1) -> Restaurant:
        directory = tmp_path / f"restaurant-{len(opened)}"
        directory.mkdir()
        opened.append(Restaurant(directory, servers.bootstrap_servers, servers.registry_url, partitions))
        return opened[-1]

    yield open_one
    for restaurant in opened:
        restaurant.close()


@pytest.fixture
def restaurant(open_restaurant: Callable[..., Restaurant]) -> Restaurant:
    """A restaurant with a topic of one partition, whose contract is registered."""
    opened = open_restaurant()
    assert opened.register().returncode == 0
    return opened
