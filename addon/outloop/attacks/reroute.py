"""A second mitmproxy script, loaded after the addon: dials a local port where a host is named.

SNI and certificate checks stay those of the named host, so what the proxy proves about an upstream is still proved. No proxy
loads this by itself, and `outloop up` loads no scripts: whoever attacks or tests one does. Used so:

    mitmdump -s addon/outloop.py -s addon/outloop/attacks/reroute.py --set reroute=api.calendly.com:443=127.0.0.1:4433
"""

from __future__ import annotations

from collections.abc import Sequence

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

Address = tuple[str, int]


def parse_route(text: str) -> tuple[Address, Address]:
    """Return what is named and what is dialled. Raises ValueError."""
    named, _, dialled = text.partition("=")
    return _parse_address(named), _parse_address(dialled)


def _parse_address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"not HOST:PORT: {text!r}")
    return host, int(port)


class Reroute:
    """Looks up each address before it is dialled."""

    def __init__(self) -> None:
        self.routes: dict[Address, Address] = {}
        self.named: dict[str, Address] = {}

    def load(self, loader: Loader) -> None:
        """Add the option."""
        loader.add_option("reroute", Sequence[str], [], "HOST:PORT=HOST:PORT: dial the second where the first is named.")

    def configure(self, updated: set[str]) -> None:
        """Read the routes. Raises OptionsError."""
        if "reroute" in updated:
            try:
                self.routes = dict(map(parse_route, ctx.options.reroute))
            except ValueError as error:
                raise OptionsError(f"reroute: {error}") from error

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Dial somewhere else."""
        if data.server.address is not None and (dialled := self.routes.get(data.server.address[:2])):
            self.named[data.server.id] = data.server.address
            data.server.address = dialled

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Name it again: mitmproxy sends later requests over a connection whose address is that of their host."""
        if named := self.named.pop(data.server.id, None):
            object.__setattr__(data.server, "address", named)  # mitmproxy's own way refuses for an open connection

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        """Forget what was not reached."""
        self.named.pop(data.server.id, None)


addons = [Reroute()]
