"""Servers for a test or a session: where they cannot be had, a failure in CI and elsewhere a skip that says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from stack.local import LocalStack, NotInstalledError, Server

T = TypeVar("T", bound=LocalStack | Server)


@contextmanager
def running(servers: T) -> Iterator[T]:
    """Start servers, and stop them at the end."""
    try:
        with installed():
            servers.start()
        yield servers
    finally:
        servers.stop()


@contextmanager
def installed() -> Iterator[None]:
    """Fail in CI, else skip, for what is not installed."""
    try:
        yield
    except NotInstalledError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
