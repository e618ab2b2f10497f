"""What the board answers over HTTP, and to whom; a real server, a client without memory, and no broker."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from threading import Event, Thread
from typing import Any

import pytest

from consumers.board import connections, web
from consumers.board.__main__ import run
from consumers.board.state import Board
from consumers.observe import Observed
from contract.errors import SettingError
from contract.order import OrderV2
from runtime.settings import load_settings
from runtime.topics import connect
from tests.restaurant import ROOT, wait_until

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

    def connect(self, sent: str = "") -> socket.socket:
        """Open a connection as a stranger does, and send what may be no whole request."""
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.sendall(sent.encode())
        return connection


@pytest.fixture
def board() -> Board:
    return Board(lambda: 1.5)


@pytest.fixture
def serve(board: Board) -> Iterator[Callable[..., Site]]:
    """Serve the board, with a token or without."""
    stop, ends = Event(), []

    def serve_one(token: str | None = None) -> Site:
        listener = socket.create_server(("127.0.0.1", 0))
        server = web.create_server(board, token, stop)
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

    def test_a_burst_of_pages_opens_no_more(
        self, serve: Callable[..., Site], board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page counts from its request on: ten that come while the server is busy find one place, not one each."""
        monkeypatch.setattr(web, "MOST_READERS", 2)
        free, encode = Event(), board.encode

        def encode_later(part: str) -> bytes:
            free.wait(10)
            return encode(part)

        monkeypatch.setattr(board, "encode", encode_later)
        site = serve()
        first = site.open("/events")
        assert first.readline() == b"retry: 1000\n"
        burst = [site.connect("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(10)]
        free.set()
        answers = Counter(connection.recv(12) for connection in burst)
        first.close()
        for connection in burst:
            connection.close()
        assert answers == {b"HTTP/1.1 200": 1, b"HTTP/1.1 503": 9}

    def test_a_page_that_goes_before_its_stream_begins_leaves_its_place(
        self, serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(web, "MOST_READERS", 2)
        site = serve()
        for _ in range(50):
            connection = site.connect("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone at once
            connection.close()
        wait_until(lambda: site.status("/events") == 200)

    def test_a_question_for_the_head_alone_is_answered_and_keeps_no_place(
        self, serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(web, "MOST_READERS", 1)
        site = serve()
        answers = [site.open("/events", method="HEAD") for _ in range(3)]
        assert [(answer.status, answer.read()) for answer in answers] == [(200, b"")] * 3
        for answer in answers:
            answer.close()
        assert site.status("/events") == 200

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

    @pytest.mark.parametrize(
        "path",
        [
            "//evil.example/",
            "/\\evil.example/",
            "/%2Fevil.example",
            "///evil.example",
            "/%0d%0aX:%20y",
            "/\t/evil",
            "/@evil",
        ],
    )
    def test_the_token_leads_to_the_page_and_nowhere_else(self, serve: Callable[..., Site], path: str) -> None:
        """Whatever the address was: a browser would take //evil.example/ for another host."""
        target = f"{path}?token={TOKEN.replace(' ', '%20')}"
        with serve(TOKEN).connect(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as connection:
            head = connection.makefile(newline="").read().lower().split("\r\n")
        assert [line for line in head if line.startswith(("location:", "x:"))] in ([], ["location: /"])


def is_over(connection: socket.socket, seconds: float, sent: bytes = b"") -> bool:
    """Whether the other end closes or resets a connection within these seconds, when it is sent this."""
    connection.settimeout(seconds)
    try:
        connection.sendall(sent)
        return connection.recv(65_536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


class TestStrangers:
    """Who holds a connection and asks nothing keeps nobody else out."""

    @pytest.mark.parametrize(
        "sent",
        [
            "",
            "GET / HTTP/1.1\r\nHost: localhost\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost:",
            "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
        ],
        ids=["nothing", "half a head", "half a second head", "a slow body", "a slow refused body", "a slow chunk"],
    )
    def test_a_request_has_its_time(
        self, serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, sent: str
    ) -> None:
        """However often a further byte of it comes."""
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
        with serve().connect(sent) as connection:
            wait_until(lambda: is_over(connection, 0.05, b"x"), 10)

    def test_a_connection_is_for_one_request(self, serve: Callable[..., Site]) -> None:
        """A pipeline would be kept in memory for as long as its first request takes."""
        with serve().connect("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100) as connection:
            answers = b""
            with suppress(ConnectionError):  # it is reset for what was not read
                while received := connection.recv(65_536):
                    answers += received
        assert answers.count(b"HTTP/1.1 200") == 1

    def test_a_page_that_takes_nothing_of_its_stream_leaves_its_place(
        self, serve: Callable[..., Site], board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "SLOW_SECONDS", 0.2)
        monkeypatch.setattr(web, "MOST_READERS", 1)
        monkeypatch.setattr(web, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(board, "encode", lambda _: os.urandom(100_000).hex().encode())
        site = serve()
        with site.connect("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            wait_until(lambda: site.status("/events") == 503)
            wait_until(lambda: site.status("/events") == 200)

    def test_when_there_are_too_many_the_one_that_has_waited_longest_goes(
        self, serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And an open page stays, also one that has waited for long with nothing to be told."""
        monkeypatch.setattr(connections, "MOST_CONNECTIONS", 4)
        site = serve()
        page = site.open("/events")
        strangers = [site.connect("GET / HTTP/1.1\r\n") for _ in range(40)]
        assert [is_over(stranger, 10) for stranger in strangers[:-4]] == [True] * 36
        assert site.status("/") == 200
        assert page.readline()
        page.close()
        for stranger in strangers:
            stranger.close()

    @pytest.mark.parametrize("said", ["GET / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""])
    def test_more_of_them_than_the_process_may_have_files_keep_nobody_out(
        self, start_command: Callable[..., Site], said: str
    ) -> None:
        """The command itself, with a token that they do not have, and as few files as some systems let it have."""
        site = start_command(files=256)
        strangers = [site.connect(said) for _ in range(400)]
        for _ in range(3):
            assert site.status("/", {"Authorization": f"Bearer {TOKEN}"}) == 200
        for stranger in strangers:
            stranger.close()


@pytest.fixture
def start_command() -> Iterator[Callable[..., Site]]:
    """Start the command `board` with a token, where no broker and no registry is; it says nothing but its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(files: int) -> Site:
        nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1", "SCHEMA_REGISTRY_URL": "http://localhost:1"}
        limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m", "consumers.board"]
        process = subprocess.Popen(
            limited,
            cwd=ROOT,
            env={**os.environ, **nowhere, "BOARD_PORT": "0", "BOARD_TOKEN": TOKEN, "KAFKA_LOG_LEVEL": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        return Site(int(process.stdout.readline().rpartition(":")[2]))

    yield start
    for process in processes:
        process.terminate()
        _, said = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in said) == (0, False), said


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        servers = connect(load_settings({"BOARD_PORT": str(port)}))
        with pytest.raises(SettingError, match=rf"BOARD_HOST 127\.0\.0\.1, BOARD_PORT {port}: Address already in use"):
            run(servers, Event())
