"""One of the processes of `outloop up --workers`: `python -m outloop.proxy.worker DESCRIPTOR`, the socket they share.

It prints a line once it answers, and ends when its standard input does: no worker outlives its supervisor.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from outloop.proxy.launcher import serve
from outloop.store.home import Home


def main() -> int:
    """Run the proxy, and return the exit code."""
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        asyncio.run(serve(Home.locate(os.environ), listening, lambda: print("ready", flush=True), until=sys.stdin.fileno()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
