"""How many connections the board has, and for how long: who asks nothing must not keep others out."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64
ACCEPTED_AT_ONCE = 16  # by asyncio, and three times as many are open before it tells: some systems allow 256 files
QUEUED = 1024
REQUEST_SECONDS = 10.0
SLOW_SECONDS = 15.0


class Server(uvicorn.Server):
    """uvicorn's server, for which the system keeps more newcomers in its queue than are accepted at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; asyncio has one number for both, and this changes the queue's."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUED)


class Connection(H11Protocol):
    """A connection for one request, which has REQUEST_SECONDS to come and SLOW_SECONDS to take what it is sent.

    Beyond MOST_CONNECTIONS the one that has waited longest goes. One that is being answered stays: the application
    bounds how many those are.
    """

    waits: asyncio.TimerHandle | None = None
    """Set until there is a request to answer, and again when it has been answered."""
    stalls: asyncio.TimerHandle | None = None
    """Set while the client does not take what was sent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """Wait for the request; make room where there is none."""
        super().connection_made(transport)
        self.waits = self._abort_after(REQUEST_SECONDS)
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = {one: one.waits.when() for one in self.connections if isinstance(one, Connection) and one.waits}
            oldest = min(waiting, key=waiting.__getitem__)
            self.connections.discard(oldest)  # now, or the next newcomer would find it here again
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once there is a request to answer."""
        super().data_received(data)
        if self.cycle is not None:
            self.waits = _cancelled(self.waits)

    def on_response_complete(self) -> None:
        """Wait until the client has taken the rest of its answer; uvicorn closes the connection then."""
        super().on_response_complete()
        self.waits = self._abort_after(REQUEST_SECONDS)

    def pause_writing(self) -> None:
        """Give the client SLOW_SECONDS to take what was sent."""
        super().pause_writing()
        self.stalls = self._abort_after(SLOW_SECONDS)

    def resume_writing(self) -> None:
        """Go on, since the client has taken it."""
        super().resume_writing()
        self.stalls = _cancelled(self.stalls)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time limits."""
        super().connection_lost(exc)
        self.waits, self.stalls = _cancelled(self.waits), _cancelled(self.stalls)

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)  # to close would wait until all is taken


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
