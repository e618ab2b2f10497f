"""Asks a service on this machine whether its loop turns, as a container's health check: `python -m runtime.health`."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

LIMIT_SECONDS = 4.0


def main() -> int:
    """Exit 0 when `/healthz` at METRICS_PORT says that all is well, else 1 with what it says."""
    host, port = os.environ.get("METRICS_HOST", ""), os.environ.get("METRICS_PORT", "")
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - where it listens; we ask from inside
        host = "127.0.0.1"
    if not port.isdigit():
        print("health: METRICS_PORT is not set, so there is nobody to ask", file=sys.stderr)
        return 1
    try:
        with closing(HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)) as connection:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            said = answer.read().decode("utf-8", "replace").strip()
    except (OSError, HTTPException, OverflowError) as error:
        print(f"health: {host}:{port} does not answer: {error}", file=sys.stderr)
        return 1
    if answer.status != HTTPStatus.OK:
        print(f"health: {said}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
