"""A house under attack: furnished, its proxy and its upstreams running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from outloop.attacks.house import furnish
from outloop.attacks.proxy import running_proxy
from outloop.attacks.runner import Runner
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstreams import raise_all
from outloop.store.arrivals import Arrivals
from outloop.store.authority import ensure_authority
from outloop.store.home import Home


@contextlib.contextmanager
def attacked_house(folder: Path, environ: Mapping[str, str]) -> Iterator[Runner]:
    """Raise the house in *folder*, which nobody else uses, with this Python's proxy under *environ*, until the block ends.

    Raises NoError when the proxy does not start.
    """
    home, authority = Home(folder / "outloop"), Authority()
    furnish(home)
    certificate = ensure_authority(home, datetime.now(UTC)).certificate
    with contextlib.ExitStack() as stack:
        upstreams, routes = raise_all(stack, authority)
        trusted = authority.write_bundle(folder)
        address = stack.enter_context(running_proxy(home, routes, trusted, environ))
        arrivals = stack.enter_context(contextlib.closing(Arrivals(home.audit_db)))
        yield Runner(address, certificate, upstreams, arrivals)
