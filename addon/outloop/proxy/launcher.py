"""`outloop up`: the same addon under a master of its own, with the few of mitmproxy's addons that a bridge needs.

No script is loaded, so that there is nothing to watch, reload or drop; and no configuration of mitmproxy's is read.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from datetime import UTC, datetime

from mitmproxy import options
from mitmproxy.addons import core, disable_h2c, errorcheck, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master

from outloop.core.errors import UsageError
from outloop.proxy.addon import Outloop
from outloop.store.authority import ensure_authority
from outloop.store.home import Home

HOST = "127.0.0.1"


def run(home: Home, port: int) -> int:
    """Run the proxy on loopback until SIGINT or SIGTERM, and return the exit code.

    Raises UsageError when *port* cannot be had.
    """
    _check_port(port)
    # mitmproxy makes an authority of its own where it finds none.
    ensure_authority(home, datetime.now(UTC))
    asyncio.run(_serve(home, port))
    return 0


async def _serve(home: Home, port: int) -> None:
    found = options.Options(confdir=str(home.ca), listen_host=HOST, listen_port=port)
    master = Master(found, with_termlog=True)
    found.update(termlog_verbosity="warn")
    # Outloop stands before next_layer, which must not touch what is tunnelled.
    master.addons.add(
        core.Core(), disable_h2c.DisableH2C(), proxyserver.Proxyserver(), Outloop(), next_layer.NextLayer(),
        tlsconfig.TlsConfig(), errorcheck.ErrorCheck(), _Announcement(port),
    )  # fmt: skip
    found.update(outloop_home=str(home.root))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()


class _Announcement:
    """Says that the proxy is ready, on standard output."""

    def __init__(self, port: int) -> None:
        self._port = port

    def running(self) -> None:
        print(f"outloop: listening on http://{HOST}:{self._port} (stop with Ctrl-C)", flush=True)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(f"port {port} cannot be used: {error.strerror}", "choose another with --port") from None
