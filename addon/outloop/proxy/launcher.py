"""`outloop up`: the same addon under a master of its own, with the few of mitmproxy's addons that a bridge needs.

No script is loaded, so that there is nothing to watch, reload or drop; and no configuration of mitmproxy's is read.
"""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mitmproxy import options
from mitmproxy.addons import core, disable_h2c, errorcheck, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.proxy import mode_servers

from outloop.proxy.addon import Outloop
from outloop.proxy.listening import BACKLOG, HOST, announce, bound
from outloop.proxy.patching import wrap
from outloop.store.authority import ensure_authority
from outloop.store.home import Home


def run(home: Home, port: int) -> int:
    """Run the proxy on loopback until SIGINT or SIGTERM, and return the exit code.

    Raises UsageError when *port* cannot be had.
    """
    with bound(port) as listening:
        asyncio.run(serve(home, listening, lambda: announce(port)))
    return 0


async def serve(home: Home, listening: socket.socket, ready: Callable[[], None], until: int | None = None) -> None:
    """Answer on *listening* until SIGINT or SIGTERM, or until the file descriptor *until* comes to its end.

    *ready* is called once agents are answered.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in a file or a pipe, too, things are told as they happen
    # mitmproxy makes an authority of its own where it finds none.
    ensure_authority(home, datetime.now(UTC))
    wrap(mode_servers.AsyncioServerInstance, "listen", _on(listening))
    found = options.Options(confdir=str(home.ca), listen_host=HOST, listen_port=listening.getsockname()[1])
    master = Master(found, with_termlog=True)
    found.update(termlog_verbosity="warn")
    # Outloop stands before next_layer, which must not touch what is tunnelled.
    master.addons.add(
        core.Core(), disable_h2c.DisableH2C(), proxyserver.Proxyserver(), Outloop(), next_layer.NextLayer(),
        tlsconfig.TlsConfig(), errorcheck.ErrorCheck(), _Announcement(ready),
    )  # fmt: skip
    found.update(outloop_home=str(home.root))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    if until is not None:
        loop.add_reader(until, lambda: (loop.remove_reader(until), master.shutdown()))
    await master.run()


class _Announcement:
    """Tells when the proxy is ready."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def running(self) -> None:
        self._ready()


def _on(listening: socket.socket) -> Callable[[Any], Any]:
    """mitmproxy binds by itself; a socket that is bound already cannot be lost to another program, and can be shared."""

    def around(_: Any) -> Any:
        async def listen(self: Any, host: str, port: int) -> list[asyncio.Server]:
            return [await asyncio.start_server(self.handle_stream, sock=listening, backlog=BACKLOG)]

        return listen

    return around
