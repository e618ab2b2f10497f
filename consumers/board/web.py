"""The board's page, its events, and who may see them; no request changes anything."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from threading import Event

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumers.board import connections
from consumers.board.state import Board

PARTS = ("kitchen", "contract", "letters")
LOOK_SECONDS = 0.25
MOST_READERS = 32
COOKIE = "board"
STREAM = "text/event-stream"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


def create_app(board: Board, token: str | None, stop: Event) -> Starlette:
    """Make the application; with a token only who has shown it sees anything, without one only this machine's names."""
    events = Route("/events", _Events(board, stop))
    page = Mount("/", StaticFiles(packages=[("consumers.board", "page")], html=True))
    return Starlette(routes=[events, page], middleware=[Middleware(_Guard, token=token)])


def create_server(board: Board, token: str | None, stop: Event) -> uvicorn.Server:
    """Make the server of that application; it holds no more connections than it can serve."""
    config = uvicorn.Config(
        create_app(board, token, stop),
        http=connections.Connection,
        ws="none",
        log_config=None,
        log_level="error",  # it would warn of each request that makes no sense, which anybody can send
        access_log=False,  # its lines would hold the token
        lifespan="off",
        server_header=False,
        headers=[("connection", "close")],  # nothing idle, and no pipeline, for which uvicorn sets no bound
        backlog=connections.ACCEPTED_AT_ONCE,
        timeout_graceful_shutdown=2,
    )
    return connections.Server(config)


class _Events:
    """The board as server-sent events: each part when it has changed, all of it to who has just come.

    An event is the whole part, so nothing is kept for a slow reader: it gets the next state instead.
    """

    def __init__(self, board: Board, stop: Event) -> None:
        self._board = board
        self._stop = stop
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream, or with 503 while MOST_READERS have one."""
        if self._readers >= MOST_READERS:
            text = f"{MOST_READERS} pages are open already; close one"
            return await PlainTextResponse(text, 503, {"retry-after": "5"})(scope, receive, send)
        if scope["method"] == "HEAD":
            return await Response(media_type=STREAM)(scope, receive, send)
        self._readers += 1  # before anything is waited for, or a burst would pass the bound
        try:
            headers = {"x-accel-buffering": "no"}
            await StreamingResponse(self._events(), media_type=STREAM, headers=headers)(scope, receive, send)
        finally:
            self._readers -= 1
        return None

    async def _events(self) -> AsyncIterator[bytes]:
        sent: dict[str, bytes] = {}
        yield b"retry: 1000\n\n"
        while not self._stop.is_set():
            for part in PARTS:
                data = self._board.encode(part)
                if data != sent.get(part):
                    sent[part] = data
                    yield b"event: %b\ndata: %b\n\n" % (part.encode(), data)
            await asyncio.sleep(LOOK_SECONDS)


class _Guard:
    """Refuses whoever may not look, and gives every answer the headers that keep browsers from mischief."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._digest = _digest(token) if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served")  # the server runs without lifespan and websockets
        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("the board only shows", 405, {"allow": "GET, HEAD"})
        if self._digest is None:
            # A name that somebody points at this machine lets his page read ours, in the browser of one who works here.
            if _is_local(request.headers.get("host", "")):
                return None
            return PlainTextResponse("without BOARD_TOKEN the board answers only as localhost", 421)
        given = request.query_params.get("token")
        if given is not None and self._fits(_digest(given)):
            answer = RedirectResponse("/", 303)  # whatever the path was: a browser takes //name for another host
            # Who forges the header gets a stricter cookie.
            secure = "https" in {request.url.scheme, request.headers.get("x-forwarded-proto")}
            answer.set_cookie(COOKIE, self._digest, httponly=True, samesite="strict", secure=secure)
            return answer
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        if self._fits(request.cookies.get(COOKIE, "")) or (kind.lower() == "bearer" and self._fits(_digest(bearer))):
            return None
        text = "the board wants its token: open it once as /?token=…, with what BOARD_TOKEN says"
        return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})

    def _fits(self, digest: str) -> bool:
        return hmac.compare_digest(digest.encode(), (self._digest or "").encode())


def _digest(token: str) -> str:
    return hashlib.sha256(b"board:" + token.encode()).hexdigest()


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.lower() in {"localhost", "127.0.0.1", "[::1]"}
