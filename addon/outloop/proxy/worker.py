"""One of the processes of `outloop up --workers`: it answers on a socket that is bound already and shared with others.

It says once that it is ready, by a byte on its lifeline, and ends when that does: no worker outlives its supervisor.
"""

from __future__ import annotations

import asyncio
import os
import socket

from outloop.proxy.launcher import serve
from outloop.proxy.startup import exiting
from outloop.store.home import Home


def main(listening_at: str, lifeline_at: str) -> int:
    """Run the proxy on the sockets with these descriptors, and return the exit code."""
    with socket.socket(fileno=int(listening_at)) as listening, socket.socket(fileno=int(lifeline_at)) as lifeline, exiting():
        asyncio.run(serve(Home.locate(os.environ), listening, lambda: lifeline.sendall(b"."), until=lifeline.fileno()))
    return 0
