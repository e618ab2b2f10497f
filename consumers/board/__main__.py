"""The command `board`: serves the page until Ctrl-C or SIGTERM, whether or not broker and registry answer."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from threading import Event

from consumers.board.state import Board
from consumers.board.watch import Watch
from consumers.board.web import create_server
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
    with _listen(servers.settings) as listener, ThreadPoolExecutor(8, "board") as pool:
        server = create_server(board, servers.settings.board_token, stop)
        workers = [pool.submit(job) for job in [*watch.jobs, partial(server.run, [listener])]]
        for worker in workers:
            worker.add_done_callback(lambda _: stop.set())  # a board that stands still must not look alive
        (ready or partial(print, flush=True))(f"the board is at {_address(listener)}")
        stop.wait()
        server.should_exit = True
    for worker in workers:
        worker.result()  # raises what has ended it
    return OK


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.board_host, settings.board_port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not (settings.board_token or settings.board_open or ip_address(address[0]).is_loopback):
            raise SettingError(f"BOARD_HOST {host} lets other machines look: set BOARD_TOKEN, or BOARD_OPEN=true")
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingError(
            f"the board cannot listen on BOARD_HOST {host}, BOARD_PORT {port}: {error.strerror}"
        ) from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    local = ip_address(host).is_loopback or ip_address(host).is_unspecified
    return f"http://{'localhost' if local else host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
