"""A call on a thread of its own, for what may take long, or for ever, and cannot be told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(threading.Thread, Generic[T]):
    """A call that may take long, or for ever, on a thread that keeps no process alive."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._error: BaseException | None = None
        """What it has raised."""
        self.start()

    def run(self) -> None:
        """Call it; `is_alive` is False afterwards."""
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised where the answer is asked for
            self._error = error

    def result(self) -> T:
        """Wait for its end and return what it has returned, or raise what it has raised, once."""
        self.join()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # or it, its frames and all that they hold would wait for the garbage collector
        return self._result
