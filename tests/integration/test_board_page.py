"""What the board answers over HTTP, and to whom; a real server, a client without memory, and no broker."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from threading import Event, Thread
from typing import Any

import pytest
import uvicorn

from consumers.board import web
from consumers.board.__main__ import run
from consumers.board.state import Board
from consumers.observe import Observed
from contract.errors import SettingError
from contract.order import OrderV2
from runtime.settings import load_settings
from runtime.topics import connect
from tests.restaurant import wait_until

TOKEN = "in vino veritas"  # noqa: S105 - an example


def observed(offset: int, pizza: str) -> Observed[OrderV2]:
    return Observed(0, offset, 0, 2, OrderV2(pizza, 1, ""))


class Site:
    """The board as it is served, and a client without memory."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> http.client.HTTPResponse:
        """Send a request and give the answer's head; its body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(
            method, path, headers={"Host": f"localhost:{self.port}", "Connection": "close", **(headers or {})}
        )
        return connection.getresponse()

    def status(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> int:
        with closing(self.open(path, headers, method)) as answer:
            return answer.status


@pytest.fixture
def board() -> Board:
    return Board(lambda: 1.5)


@pytest.fixture
def serve(board: Board) -> Iterator[Callable[..., Site]]:
    """Serve the board, with a token or without."""
    stop, ends = Event(), []

    def serve_one(token: str | None = None) -> Site:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(web.create_app(board, token, stop), log_config=None, lifespan="off"))
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        ends.append((server, thread, listener))
        wait_until(lambda: server.started)
        return Site(listener.getsockname()[1])

    yield serve_one
    stop.set()
    for server, thread, listener in ends:
        server.should_exit = True
        thread.join(10)
        listener.close()


class TestPage:
    """What is served, and what is not."""

    @pytest.mark.parametrize("path", ["/", "/board.css", "/board.js", "/events", "/nothing"])
    def test_every_answer_has_the_headers_that_keep_browsers_from_mischief(
        self, serve: Callable[..., Site], path: str
    ) -> None:
        answer = serve().open(path)
        assert answer.status == (404 if path == "/nothing" else 200)
        assert {name: answer.headers[name] for name in web.HEADERS} == web.HEADERS
        policy = web.HEADERS["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        answer.close()

    def test_the_page_has_no_script_or_style_in_it_and_asks_nobody_else(self, serve: Callable[..., Site]) -> None:
        site = serve()
        page = site.open("/").read().decode()
        assert "style=" not in page
        assert " on" + "click" not in page
        assert page.count("<script") == 1
        for path in ("/", "/board.css", "/board.js"):
            assert "https://" not in site.open(path).read().decode()
        assert "innerHTML" not in site.open("/board.js").read().decode()

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
    @pytest.mark.parametrize("path", ["/", "/events", "/nothing"])
    def test_it_only_shows(self, serve: Callable[..., Site], path: str, method: str) -> None:
        assert serve().status(path, method=method) == 405


class TestEvents:
    """What a page that is open gets."""

    def test_whoever_comes_gets_every_part_and_then_what_changes(
        self, serve: Callable[..., Site], board: Board
    ) -> None:
        board.take([observed(0, "<script>alert(1)</script>")])
        answer = serve().open("/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen: dict[str, Any] = {}
        while len(seen) < 3:
            name, data = self.next_event(answer)
            seen[name] = data
        assert seen["kitchen"]["newest"][0]["pizza"] == "<script>alert(1)</script>"
        assert (seen["contract"], seen["letters"]) == (None, None)
        board.take([observed(1, "funghi")])
        assert self.next_event(answer)[1]["newest"][0]["pizza"] == "funghi"
        board.take_part("letters", {"counts": {}, "newest": []})
        assert self.next_event(answer) == ("letters", {"counts": {}, "newest": []})
        answer.close()

    def test_only_so_many_pages_are_open_at_once(
        self, serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And there is room again when one is closed."""
        monkeypatch.setattr(web, "MOST_READERS", 2)
        site = serve()
        first, second = site.open("/events"), site.open("/events")
        assert (self.next_event(first)[0], self.next_event(second)[0]) == ("kitchen", "kitchen")
        assert site.status("/events") == 503
        first.close()
        wait_until(lambda: site.status("/events") == 200)
        second.close()

    @staticmethod
    def next_event(answer: http.client.HTTPResponse) -> tuple[str, Any]:
        """Read up to the next event's end, and give its name and data."""
        while not (line := answer.readline().decode()).startswith("event: "):
            assert line, "the stream has ended"
        return line.removeprefix("event: ").strip(), json.loads(answer.readline().removeprefix(b"data: "))


class TestWhoMayLook:
    """With a token and without."""

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
    def test_without_a_token_whoever_calls_it_by_this_machines_name(
        self, serve: Callable[..., Site], host: str
    ) -> None:
        assert serve().status("/", {"Host": host}) == 200

    @pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example"])
    def test_and_no_page_that_has_pointed_its_own_name_here(self, serve: Callable[..., Site], host: str) -> None:
        assert serve().status("/", {"Host": host}) == 421

    @pytest.mark.parametrize("path", ["/", "/board.js", "/events", "/nothing"])
    def test_with_a_token_nobody_without_it(self, serve: Callable[..., Site], path: str) -> None:
        site = serve(TOKEN)
        wrong: tuple[dict[str, str], ...] = (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Cookie": f"board={TOKEN}"},
        )
        assert [site.status(path, headers) for headers in wrong] == [401] * 4
        assert site.status(f"{path}?token=wrong") == 401

    def test_a_program_shows_it_in_a_header(self, serve: Callable[..., Site]) -> None:
        assert serve(TOKEN).status("/events", {"Authorization": f"Bearer {TOKEN}", "Host": "board.example"}) == 200

    def test_a_browser_shows_it_once_and_has_a_cookie_from_then_on(self, serve: Callable[..., Site]) -> None:
        """The token is out of the address, and the cookie is not the token."""
        site = serve(TOKEN)
        answer = site.open(f"/?token={TOKEN.replace(' ', '%20')}")
        cookie = answer.headers["set-cookie"]
        assert (answer.status, answer.headers["location"]) == (303, "/")
        assert {"httponly", "samesite=strict"} <= set(cookie.lower().split("; "))
        assert TOKEN not in cookie
        assert site.status("/", {"Cookie": cookie.partition(";")[0]}) == 200


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        servers = connect(load_settings({"BOARD_PORT": str(port)}))
        with pytest.raises(SettingError, match=rf"BOARD_HOST 127\.0\.0\.1, BOARD_PORT {port}: Address already in use"):
            run(servers, Event())
