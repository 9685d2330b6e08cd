"""The installation that every history happens in: one real proxy, its stores opened beside it, and its careless upstreams.

Histories follow one another in the same home; each makes workspaces of its own, so that nothing of one is left in the next.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.operators import PATIENCE_S, Operator, Row
from harness.proxy import Proxy, running_proxy
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.operator.keys import Keys
from outloop.store.audit import AuditWriter
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.policies import SETTLE_S
from outloop.store.records import Records
from outloop.store.state import StateStore
from stateful.upstream import Careless

OWN_HOSTS = ("one.example", "two.example", "three.example")
SHARED_HOST = "shared.example"
STRANGE_HOST = "elsewhere.example"
LONE = "lone"
_SCRIPT = Path(__file__).with_name("witness.py")


@dataclass
class House:
    """What a machine drives. `numbers` are unique in it, whatever they count."""

    operator: Operator
    proxy: Proxy
    upstream: Recorder
    careless: Careless
    trust: ssl.SSLContext
    state: StateStore
    audit: AuditWriter
    keys: Keys
    records: Records
    witnessed: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def record_event(self, kind: str, **fields: str | None) -> None:
        """Write an event, as the operator's commands do."""
        self.audit.append_now(self.audit.event(kind, **fields))

    def notes(self) -> list[str]:
        """Return what the witness has noted so far."""
        return self.witnessed.read_text().splitlines()

    def decisions(self) -> list[Row]:
        """Return the rows of decisions in the order in which they were committed."""
        return self._read("SELECT * FROM decisions ORDER BY seq")

    def events(self, kind: str) -> list[Row]:
        """Return the events of *kind*, oldest first."""
        return self._read("SELECT * FROM events WHERE kind = ? ORDER BY id", kind)

    def wait_for(self, what: str, holds: Callable[[], bool], *, poke: bool = False) -> None:
        """Return once *holds*. What another process writes can only be waited for by looking. Raises TimeoutError.

        With *poke* the proxy is asked to look at its policies as soon as they have settled, not at its own time.
        """
        start = poked = time.monotonic()
        while not holds():
            now = time.monotonic()
            if now > start + PATIENCE_S:
                raise TimeoutError(f"{what}\n{self.proxy.log}")
            if poke and (poked == start or now > poked + SETTLE_S):
                self.proxy.process.send_signal(signal.SIGHUP)
                poked = now
            time.sleep(0.02)

    def _read(self, query: str, *parameters: str) -> list[Row]:
        record = sqlite3.connect(f"{(self.operator.home / 'audit.db').as_uri()}?mode=ro", uri=True)
        try:
            record.row_factory = sqlite3.Row
            return [dict(row) for row in record.execute(query, parameters)]
        finally:
            record.close()


@contextlib.contextmanager
def built_house(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    """Start everything. The workspace `LONE` is the one that agents without a token act for; so far it allows nothing."""
    home = Home(operator.home)
    home.ensure()
    operator.write_policy(LONE, f"workspace: {LONE}\nservices: {{}}\n")
    hosts = (*OWN_HOSTS, SHARED_HOST, STRANGE_HOST)
    careless = Careless()
    witnessed = operator.folder / "witnessed"
    witnessed.touch()
    options = ["-s", str(_SCRIPT), "--set", f"witness={witnessed}", "--set", f"outloop_workspace={LONE}"]
    with contextlib.ExitStack() as stack:
        state = StateStore(home.state_db)
        stack.callback(state.close)
        # The home is given its keychain before the proxy starts, which never chooses one.
        keychain = Keychain.open(home, state, operator.variables)
        audit = AuditWriter(home.audit_db, time.time)
        audit.start()
        stack.callback(audit.close)
        upstream = stack.enter_context(Recorder(authority.server_context(*hosts), careless))
        routes = dict.fromkeys(hosts, upstream.port)
        proxy = stack.enter_context(running_proxy(operator, routes, upstream_ca=upstream_ca, options=options))
        trust = ssl.create_default_context(cafile=str(operator.certificate))
        records = Records(home.audit_db)
        house = House(operator, proxy, upstream, careless, trust, state, audit, None, records, witnessed)  # type: ignore[arg-type]
        house.keys = Keys(state, lambda: keychain, house.record_event, time.time)
        yield house
