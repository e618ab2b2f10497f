"""A consumer whose session lapses soon, hit at a point of its code: `python -m tests.chaos.consumer NAME [POINT N]`.

What comes to the point for the so-manieth time is killed there, or paused (SIGSTOP), as from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from consumers import cook, manager, source
from consumers.ledger import Ledger
from consumers.source import Source

SESSION_MS = 2_000

Function = Callable[..., Any]


def hit(function: Function, number: int, *, when: Function, by: signal.Signals, late: bool = False) -> Function:
    """Send this process a signal before, or after, the so-manieth call for which `when` holds."""
    count = 0

    def hit_or_not(*arguments: Any, **keywords: Any) -> Any:
        nonlocal count
        count += when(*arguments)
        due = count == number and when(*arguments)
        if due and not late:
            os.kill(os.getpid(), by)
        result = function(*arguments, **keywords)
        if due and late:
            os.kill(os.getpid(), by)
        return result

    return hit_or_not


def always(*_: object) -> bool:
    """Any call counts."""
    return True


def has_records(*arguments: Any) -> bool:
    """Only a batch with records counts."""
    return bool(arguments[-1].records)


def has_handled(this: Source, *_: object) -> bool:
    """Only a commit of what has been handled counts."""
    return any(this.handled.values())


POINTS: dict[str, tuple[Any, str, Function, signal.Signals, bool]] = {
    "log-half-written": (os, "fsync", always, signal.SIGKILL, False),
    "log-written": (Ledger, "_append", always, signal.SIGKILL, True),
    "committed": (Ledger, "record", has_records, signal.SIGKILL, True),
    "before-offset-commit": (Source, "commit", has_handled, signal.SIGKILL, False),
    "before-preparing": (cook, "prepare", has_records, signal.SIGKILL, False),
    "paused-before-recording": (Ledger, "record", has_records, signal.SIGSTOP, False),
}


def with_a_short_session(properties: Function) -> Function:
    """No setting can do this: a session decides how soon a killed member's partitions are taken over."""

    def short(*arguments: Any) -> dict[str, Any]:
        return {**properties(*arguments), "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300}

    return short


if __name__ == "__main__":
    source.consumer_properties = with_a_short_session(source.consumer_properties)  # type: ignore[attr-defined]
    source.ASK_SECONDS = SESSION_MS / 1000  # as much sooner as the session lapses
    if sys.argv[2:]:
        owner, name, when, by, late = POINTS[sys.argv[2]]
        setattr(owner, name, hit(getattr(owner, name), int(sys.argv[3]), when=when, by=by, late=late))
    sys.exit({"cook": cook, "manager": manager}[sys.argv[1]].main([]))
