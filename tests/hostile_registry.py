"""A registry on a real socket that passes on what a real one answers, until it is told to misbehave."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

Answer = Callable[[socket.socket, str], None]
"""Answers one request, of which it gets the first line; the connection is closed afterwards."""

DRIP_SECONDS = 0.05
_TLS = b"\x16"  # how a client begins that wants it


class HostileRegistry:
    """Answers as `answer` says, or as the registry at `upstream` does while there is none."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.answer: Answer | None = None
        self.asked: list[str] = []
        """The first line of each request that was not passed on."""
        self.url = f"http://localhost:{self._listener.getsockname()[1]}{self._upstream.path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # whoever asked has hung up
            first, body = "TLS", b""
            headers: dict[str, str] = {}
            if connection.recv(1, socket.MSG_PEEK) != _TLS:
                with connection.makefile("rb") as reader:
                    first = reader.readline().decode().strip()
                    headers = dict(http.client.parse_headers(reader))
                    body = reader.read(int(headers.get("Content-Length") or 0))
            answer = self.answer
            if answer is None:
                self._pass_on(connection, first, headers, body)
            else:
                self.asked.append(first)
                answer(connection, first)

    def _pass_on(self, connection: socket.socket, first: str, headers: Mapping[str, str], body: bytes) -> None:
        method, path, _ = first.split(" ")
        upstream = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=30)
        upstream.request(method, path, body, {**headers, "Connection": "close", "Host": self._upstream.netloc})
        got = upstream.getresponse()
        connection.sendall(response(got.read(), got.status, {"Content-Type": got.headers.get("Content-Type", "")}))
        upstream.close()


@contextmanager
def hostile_registry(upstream: str) -> Iterator[HostileRegistry]:
    """Run one for as long as the context."""
    registry = HostileRegistry(upstream)
    try:
        yield registry
    finally:
        registry.close()


def response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a whole answer."""
    told = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (told | dict(headers or {})).items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


def sends(data: bytes) -> Answer:
    """Send bytes as they are, and close."""
    return lambda connection, _first: connection.sendall(data)


def says(value: Any, status: int = 200) -> Answer:
    """Answer with JSON."""
    return sends(response(json.dumps(value).encode(), status))


def drips(head: bytes, drop: bytes) -> Answer:
    """Send a beginning, then something now and then for as long as anybody listens."""

    def answer(connection: socket.socket, _first: str) -> None:
        connection.sendall(head)
        while True:
            time.sleep(DRIP_SECONDS)
            connection.sendall(drop)

    return answer


def floods(head: bytes, drop: bytes) -> Answer:
    """Send a beginning, then something as fast as it goes for as long as anybody listens."""

    def answer(connection: socket.socket, _first: str) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(drop)

    return answer


def hangs(connection: socket.socket, _first: str) -> None:
    """Answer nothing for as long as anybody listens."""
    connection.recv(1)


def resets(head: bytes) -> Answer:
    """Send a beginning, and reset the connection."""

    def answer(connection: socket.socket, _first: str) -> None:
        connection.sendall(head)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def found(**wrong: Any) -> Answer:
    """Answer as a registry does where all is found, but for some fields; None leaves one out."""
    held = {"subject": "x-value", "version": 1, "id": 1, "schemaType": "AVRO", "schema": '"string"'} | wrong
    return says({name: value for name, value in held.items() if value is not None})


_CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_BOMB = gzip.compress(gzip.compress(bytes(1 << 28)))
_GZIP = {"Content-Encoding": "gzip"}

DRIPS: Mapping[str, Answer] = {
    "a body that drips": drips(_CHUNKED, b"1\r\n \r\n"),
    "headers that drip": drips(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "a first line that drips": drips(b"HTTP/1.1 200 ", b"O"),
    "no answer": hangs,
    "100 for ever": floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103, dripping": drips(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
}
"""Answers that never end."""

ANSWERS: Mapping[str, Answer] = {
    **DRIPS,
    "a body without end": floods(_CHUNKED, b"400\r\n" + b" " * 1024 + b"\r\n"),
    "headers without end": floods(b"HTTP/1.1 200 OK\r\n", b"X-One: more\r\n"),
    "broken gzip": sends(response(b"\x1f\x8b broken", headers=_GZIP)),
    "broken deflate": sends(response(b"\xff\xff broken", headers={"Content-Encoding": "deflate"})),
    "gzip that is none": sends(response(b"{}", headers=_GZIP)),
    "half of gzip": sends(response(gzip.compress(b'{"id": 1, "version": 1, "schema": ""}')[:20], headers=_GZIP)),
    "a gzip bomb": sends(response(gzip.compress(b'{"id": 1}' + b" " * (1 << 27)), headers=_GZIP)),
    "a bomb in a bomb": sends(response(_BOMB, headers={"Content-Encoding": "gzip, gzip"})),
    "another compression": sends(response(b"x", headers={"Content-Encoding": "br"})),
    "deep JSON": sends(response(b"[" * 200_000 + b"]" * 200_000)),
    "deep JSON in an error": sends(response(b"[" * 200_000 + b"]" * 200_000, 500)),
    "deep JSON in a field": sends(response(b'{"schema": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")),
    "a long number": sends(response(b'{"id": ' + b"9" * 5000 + b"}")),
    "NaN": sends(response(b'{"id": NaN, "version": NaN, "schema": NaN}')),
    "HTML": sends(response(b"<html>It works!</html>", headers={"Content-Type": "text/html"})),
    "HTML of an error": sends(response(b"<html>" + b"Bad gateway\n" * 1000, 502, {"Content-Type": "text/html"})),
    "nothing": sends(response(b"")),
    "204": sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "UTF-16": sends(response('{"id": 1}'.encode("utf-16"))),
    "no UTF-8": sends(response(b'{"schema": "\xff\xfe"}')),
    "a list": says([]),
    "null": says(None),
    "text": says("schema"),
    "a number": says(1),
    "another type": sends(response(b'{"id":', headers={"Content-Type": "image/png"})),
    "an unknown charset": sends(response(b"\xff", headers={"Content-Type": "application/json; charset=nonsense"})),
    "an empty object": says({}),
    "101": sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    "a redirect in a circle": sends(response(b"", 302, {"Location": "/"})),
    "a redirect to another host": sends(response(b"", 307, {"Location": "http://localhost:1/"})),
    "a redirect to nowhere": sends(response(b"", 301, {"Location": "http://[::1"})),
    "a redirect by another scheme": sends(response(b"", 308, {"Location": "file:///etc/passwd"})),
    "304": sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "418": says({"error_code": 418, "message": "a teapot"}, 418),
    "409": says({"error_code": 409, "message": "no"}, 409),
    "422": says({"error_code": 42202, "message": "no"}, 422),
    "429": says({"error_code": 42901, "message": "slowly"}, 429),
    "500": says({"error_code": 50001, "message": "no"}, 500),
    "503": sends(response(b"", 503)),
    "599": sends(response(b"", 599)),
    "999": sends(response(b"", 999)),
    "an error that is a list": says([], 500),
    "an error whose code is text": says({"error_code": "40401", "message": "no"}, 404),
    "an error whose code is a list": says({"error_code": [40401], "message": ["no"]}, 404),
    "an error without a code": says({"message": {"no": 1}}, 404),
    "401": says({"error_code": 40101, "message": "no"}, 401),
    "403": says({"error_code": 40301, "message": "no"}, 403),
    "no HTTP": sends(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "another HTTP": sends(b"HTTP/9.9 200 OK\r\n\r\n"),
    "closed": sends(b""),
    "closed in the middle": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "two lengths": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "a wrong chunk": sends(_CHUNKED + b"xyz\r\n"),
    "reset": resets(b""),
    "reset in the middle": resets(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
}
"""Answers to any question."""

NO_NUMBERS: Sequence[Any] = ("7", "", -1, 0, 1.5, 1e300, True, False, 2**31, 2**64, [1], {}, None)
NUMBERS: Mapping[str, Answer] = {
    f"{name} {value!r}": found(**{name: value}) for name in ("id", "version") for value in NO_NUMBERS
}
"""Answers to a question for a version or its id."""

NO_SCHEMAS: Sequence[Any] = (None, 7, True, {"type": "string"}, ["null"])
SCHEMAS: Mapping[str, Answer] = {f"schema {value!r}": found(schema=value) for value in NO_SCHEMAS}
"""Answers to a question for a schema."""
