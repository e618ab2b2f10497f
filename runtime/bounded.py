"""A registry's client whose every question is bounded, in time and in the size and types of its answer.

confluent-kafka's client limits each read, not a call: what sends a byte now and then, of a body or of headers, holds it
for ever. So each question is asked on a thread of its own, connect, token, retries and all, and whoever asks waits for
it no longer than REQUEST_TIMEOUT, or than until a consumer is told to stop.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from threading import Event
from typing import Annotated, Any, NotRequired, TypedDict

import httpx2
import msgspec
from confluent_kafka.schema_registry import SchemaRegistryClient
from msgspec import Meta

from contract.errors import Unavailable
from runtime.aside import Aside

STOP_SECONDS = 1.0
"""How long a consumer that is told to stop still waits for a registry, all its questions together."""
ANSWER_BYTES = 8 * 1024 * 1024
"""Confluent's registry keeps no schema of more than a megabyte; as JSON values, an answer takes 25 times its size."""
_DEFLATE_RATIO = 1032  # of its blocks at best, see zlib's technical notes
_LOOK_SECONDS = 0.05
_CONNECTIONS = 16


class _Stop:
    """The event that ends waiting, and the moment until which may be waited after it was set."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._until = math.inf

    def until(self) -> float:
        if self._event.is_set():
            self._until = min(self._until, time.monotonic() + STOP_SECONDS)
        return self._until


_stop: ContextVar[_Stop | None] = ContextVar("_stop", default=None)


@contextmanager
def waiting_until(stop: Event) -> Iterator[None]:
    """Let this thread's questions to a registry raise Unavailable STOP_SECONDS after `stop` was set."""
    token = _stop.set(_Stop(stop))
    try:
        yield
    finally:
        _stop.reset(token)


class BoundedRegistryClient(SchemaRegistryClient):
    """confluent-kafka's client with limits; every method that asks raises Unavailable when they are reached.

    `seconds` is the time that a question may take, in which each of the URLs has an equal part.
    """

    def __init__(self, properties: dict[str, Any], seconds: float) -> None:
        urls = len(str(properties["url"]).split(","))
        self._seconds = seconds
        self._attempt_seconds = seconds / urls
        limits = {"timeout": self._attempt_seconds, "max.retries": int(urls == 1)}  # else the next URL is the retry
        super().__init__(properties | limits)
        self._sockets = deque[socket.socket](maxlen=_CONNECTIONS)
        rest = self._rest_client  # its only door, to what it sends and to who sends it
        self._send: Callable[..., Any] = rest.send_request
        rest.send_request = self._ask  # type: ignore[method-assign]
        sessions = [rest.session, getattr(rest.bearer_field_provider, "client", None)]
        for session in filter(None, sessions):
            session.timeout = self._attempt_seconds
            session.headers["Accept-Encoding"] = "identity"  # decompressed, a small answer is a large one
            session.event_hooks = {"request": [self._begin_attempt], "response": [_limit]}

    def _ask(self, url: str, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Ask on a thread, and wait for the answer within the limits; raises Unavailable and what the client raises."""
        deadline, stop = time.monotonic() + self._seconds, _stop.get()
        question = _Question(partial(self._send, url, method, *arguments, **keywords))
        while question.is_alive():
            now = time.monotonic()
            if now >= min(deadline, stop.until() if stop else math.inf):
                question.is_over = True
                self._hang_up()
                raise Unavailable(
                    f"the schema registry does not answer in full within {self._seconds:g} s (REQUEST_TIMEOUT)"
                    if now >= deadline
                    else "the schema registry has not answered in full, and this process is told to stop"
                )
            if now >= question.attempt_until:
                question.attempt_until = math.inf
                self._hang_up()
            question.join(min(_LOOK_SECONDS, deadline - now))
        return _checked(question.result(), url, method)

    def _begin_attempt(self, request: httpx2.Request) -> None:
        question = threading.current_thread()
        if isinstance(question, _Question):
            if question.is_over:
                raise Unavailable("nobody waits for the answer any more")
            question.attempt_until = time.monotonic() + self._attempt_seconds
        request.extensions["trace"] = self._note_socket

    def _note_socket(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def _hang_up(self) -> None:
        """End all connections: which of them a question uses is not known; others' questions are asked again."""
        while self._sockets:
            with suppress(OSError):  # it is closed already
                # Not `close`, by which the thread that reads it might go on with another file of the same number.
                socket.socket.shutdown(self._sockets.pop(), socket.SHUT_RDWR)


class _Question(Aside[Any]):
    is_over = False
    """Nobody waits for it any more: it is to end."""
    attempt_until = math.inf
    """When its connection is to be given up, so that the client asks the next URL."""


class _Limited(httpx2.SyncByteStream):
    """The bytes of an answer as they come, up to a limit."""

    def __init__(self, stream: httpx2.SyncByteStream, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._left -= len(part)
            if self._left < 0:
                raise Unavailable(
                    f"what answers is not a schema registry: its answer is larger than {ANSWER_BYTES} bytes"
                )
            yield part

    def close(self) -> None:
        self._stream.close()


def _limit(response: httpx2.Response) -> None:
    """Bound an answer before it is read, and what it is when it is decompressed, which nobody has asked for."""
    codings = [coding.strip().lower() for coding in response.headers.get("Content-Encoding", "").split(",")]
    codings = [coding for coding in codings if coding not in {"", "identity"}]
    if not {*codings} <= {"gzip", "deflate"}:
        raise Unavailable(f"the schema registry compresses its answer ({', '.join(codings)}) in a way that is not read")
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Limited(response.stream, ANSWER_BYTES // _DEFLATE_RATIO ** len(codings))


_Number = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A version or an id: 32 bits of the wire format, signed in Java."""


class _Place(TypedDict):
    subject: str
    version: _Number


class _Reference(_Place):
    name: str


class _Text(TypedDict):
    schema: str
    references: NotRequired[list[_Reference] | None]


class _Id(TypedDict):
    id: _Number


class _Found(_Id):
    version: _Number


class _Held(_Found, _Text):
    pass


class _Verdict(TypedDict):
    is_compatible: bool


class _Mode(TypedDict):
    mode: str


def _shape(url: str, method: str) -> Any:
    """Return the type of an answer by what was asked, as Confluent's API documents it."""
    shape: Any = Any
    match [method, *url.partition("?")[0].split("/")]:
        case ["GET", "schemas", "ids", _]:
            shape = _Text
        case ["GET", "schemas", "ids", _, "versions"]:
            shape = list[_Place]
        case ["GET", "schemas", "ids", _, "subjects"]:
            shape = list[str]
        case ["POST", "subjects", _]:
            shape = _Found
        case ["POST", "subjects", _, "versions"]:
            shape = _Id
        case ["GET", "subjects", _, "versions"]:
            shape = list[_Number]
        case ["GET", "subjects", _, "versions", _]:
            shape = _Held
        case ["POST", "compatibility", *_]:
            shape = _Verdict
        case ["GET", "mode", *_]:
            shape = _Mode | None  # Apicurio, which knows no modes, answers 204
    return shape


def _checked(answer: Any, url: str, method: str) -> Any:
    """Return an answer of the right type; before the client keeps it, which it would answer again."""
    try:
        msgspec.convert(answer, _shape(url, method))
    except msgspec.ValidationError as error:
        where = f"{method} {url.partition('?')[0]}"
        raise Unavailable(f"what answers is not a schema registry: {where} is answered wrongly: {error}") from None
    return answer
