"""The command `board`: serves the page until Ctrl-C or SIGTERM, whether or not broker and registry answer."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from threading import Event, Thread

import uvicorn

from consumers.board.state import Board
from consumers.board.watch import Watch
from consumers.board.web import create_app
from contract.errors import SettingError
from runtime.command import OK, create_parser, run_command, stop_on_signals
from runtime.settings import Settings
from runtime.topics import Servers, connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `board`, until SIGTERM or Ctrl-C."""
    parser = create_parser("board", __doc__ or "", "BOARD_PORT=8000 board")
    return run_command(parser, lambda _, settings: run(connect(settings), stop_on_signals()), arguments)


def run(servers: Servers, stop: Event, ready: Callable[[str], object] | None = None) -> int:
    """Serve the board until `stop` is set; `ready` gets its address. Raises SettingError where it cannot listen."""
    board = Board()
    watch = Watch(servers, board, stop)
    with _listen(servers.settings) as listener:
        app = create_app(board, servers.settings.board_token, stop)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,  # its lines would hold the token
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        serving = Thread(target=_serve, args=(server, listener, stop), name="web")
        watch.start()
        serving.start()
        (ready or _print)(f"the board is at http://localhost:{listener.getsockname()[1]}")
        stop.wait()
        server.should_exit = True
        serving.join()
    watch.join()
    return OK


def _print(line: str) -> None:
    print(line, flush=True)


def _serve(server: uvicorn.Server, listener: socket.socket, stop: Event) -> None:
    try:
        server.run([listener])
    finally:
        stop.set()


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.board_host, settings.board_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingError(
            f"the board cannot listen on BOARD_HOST {host}, BOARD_PORT {port}: {error.strerror}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
