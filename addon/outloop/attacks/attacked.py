"""A house under attack: furnished, its proxy and its upstreams running."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from outloop.attacks.agent import listen
from outloop.attacks.case import HOST, Talk, connect, request
from outloop.attacks.house import GLOBEX_AGENT, OTHER, furnish
from outloop.attacks.proxy import Proxy, running_proxy
from outloop.attacks.runner import Runner
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstreams import Upstreams, raise_all
from outloop.store.arrivals import Arrivals
from outloop.store.authority import ensure_authority
from outloop.store.home import Home

_AS_NEIGHBOUR = "Proxy-Authorization: Basic " + base64.b64encode(":".join(GLOBEX_AGENT).encode()).decode()


@dataclass(frozen=True)
class House:
    """What stands, or is about to: the proxy may still be starting."""

    home: Home
    certificate: Path
    proxy: Proxy
    upstreams: Upstreams

    @contextlib.contextmanager
    def runner(self) -> Iterator[Runner]:
        """Wait for the proxy, and run cases against it. Raises NoError when it does not start."""
        address = self.proxy.address()
        _wake(address, self.certificate)
        with contextlib.closing(Arrivals(self.home.audit_db)) as arrivals:
            yield Runner(address, self.certificate, self.upstreams, arrivals)


@contextlib.contextmanager
def attacked_house(folder: Path, environ: Mapping[str, str]) -> Iterator[House]:
    """Raise a house in *folder*, which nobody else uses, with this Python's proxy under *environ*, until the block ends."""
    home, authority = Home(folder / "outloop"), Authority()
    furnish(home)
    certificate = ensure_authority(home, datetime.now(UTC)).certificate
    with contextlib.ExitStack() as stack:
        upstreams, routes = raise_all(stack, authority)
        proxy = stack.enter_context(running_proxy(home, routes, authority.write_bundle(folder), environ))
        yield House(home, certificate, proxy, upstreams)


def _wake(address: tuple[str, int], certificate: Path) -> None:
    """Have each workspace use a key once: then all of its values are in memory, and looked for whoever sends them."""
    for host, lines in ((HOST, ()), (OTHER, (_AS_NEIGHBOUR,))):
        with contextlib.suppress(OSError):  # the cases will tell
            listen(Talk((request("/a", host=host),), connect(f"{host}:443", *lines), host), address, certificate)
