"""A house under attack: furnished, its proxy and its upstreams running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from outloop.attacks.house import furnish
from outloop.attacks.proxy import Proxy, running_proxy
from outloop.attacks.runner import Runner
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstreams import Upstreams, raise_all
from outloop.store.arrivals import Arrivals
from outloop.store.authority import ensure_authority
from outloop.store.home import Home


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
