"""One running proxy's parts, put together: the stores, what is in flight, and who decides, records, refuses and answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from mitmproxy import ctx

from outloop.proxy import hardening
from outloop.proxy.approvals import Approvals
from outloop.proxy.breaches import Breaches
from outloop.proxy.credentials import Credentials
from outloop.proxy.endpoint import TokenEndpoint
from outloop.proxy.internal import InternalPages
from outloop.proxy.minting import Minting
from outloop.proxy.recording import Recorder
from outloop.proxy.refusing import Refuser
from outloop.proxy.requests import Requests
from outloop.proxy.runtime import Runtime
from outloop.proxy.traffic import Traffic


@dataclass(slots=True)
class Bridge:
    """Made once, before the proxy listens. `is_loopback` tells whether only this machine reaches it."""

    runtime: Runtime
    is_loopback: bool
    named_workspace: str
    traffic: Traffic = field(init=False)
    recorder: Recorder = field(init=False)
    refuser: Refuser = field(init=False)
    approvals: Approvals = field(init=False)
    requests: Requests = field(init=False)
    pages: InternalPages = field(init=False)

    def __post_init__(self) -> None:
        self.traffic = Traffic(Breaches(self.runtime.event))
        self.recorder = Recorder(self.runtime.audit)
        self.refuser = Refuser(self.traffic, self.recorder, self.runtime.vault)
        self.approvals = Approvals(self.runtime, self.runtime.notifier)
        minting = Minting(self.runtime, TokenEndpoint(lambda: str(ctx.options.ssl_verify_upstream_trusted_ca)))
        self.requests = Requests(self.runtime, self.recorder, self.approvals, Credentials(self.runtime, minting))
        self.pages = InternalPages(self.runtime)

    def tokenless_workspace(self, peer: tuple[str, int] | None) -> str | None:
        """Return the workspace that *peer* acts for without a token: on loopback, where there is no choice to be made."""
        if not self.is_loopback or not peer or not hardening.is_loopback(peer[0]):
            return None
        if self.named_workspace:
            return self.named_workspace
        if self.runtime.policies.file_count == 1:
            return next(iter(self.runtime.workspaces), None)
        return None
