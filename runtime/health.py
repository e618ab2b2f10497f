"""Whether a service is alive: its loop touches a file, and `python -m runtime.health` tells how long ago.

A consumer without a partition still turns its loop, so it is healthy; one whose loop hangs is not.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from contract.errors import SettingError

LIMIT_SECONDS = 30.0


class Heartbeat:
    """Touches a file at most once a second; without a file it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._next = 0.0

    def beat(self) -> None:
        """Say that the loop has turned."""
        now = time.monotonic()
        if self._path is not None and now >= self._next:
            self._next = now + 1
            try:
                self._path.touch()
            except OSError as error:
                raise SettingError(f"HEALTH_FILE {self._path} cannot be written: {error.strerror}") from None


def main() -> int:
    """Exit 0 when HEALTH_FILE was touched lately, else 1."""
    path = Path(os.environ.get("HEALTH_FILE", "/tmp/health"))  # noqa: S108 - a container's own
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as error:
        print(f"health: {path}: {error.strerror}", file=sys.stderr)
        return 1
    if age > LIMIT_SECONDS:
        print(f"health: the loop has not turned for {age:.0f} s", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
