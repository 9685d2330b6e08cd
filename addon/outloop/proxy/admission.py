"""Who is asking, and what a CONNECT is opened for."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from mitmproxy import http

from outloop.core.errors import MalformedRequest
from outloop.core.hosts import canonical_host, is_ip, is_public_address
from outloop.core.model import INTERNAL_HOST, Agent, Egress, Reason, Workspace
from outloop.core.tokens import token_hash
from outloop.proxy.exchange import Lane
from outloop.proxy.flows import proxy_credentials
from outloop.proxy.runtime import Runtime

RESOLVE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the agent and the hash of its token ("" without one), or None and whether it sent credentials at all."""

    agent: Agent | None
    token_hash: str = ""
    has_credentials: bool = False


class Refused(Exception):
    """The answer is no, for `reason`; `detail` is one sentence fit for the agent."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def identify(runtime: Runtime, request: http.Request, *, tokenless_workspace: str | None) -> Identity:
    """Return who sends *request*, by the token in Proxy-Authorization.

    *tokenless_workspace* is the one that an agent without a token acts for, None where every agent needs one.
    """
    credentials = proxy_credentials(request)
    if credentials is None:
        return Identity(Agent(tokenless_workspace) if tokenless_workspace else None)
    user, token = credentials
    hashed = token_hash(token)
    record = runtime.state.snapshot().agents.get(hashed)
    if not token or record is None or user not in ("", record.workspace):
        return Identity(None, has_credentials=True)
    return Identity(Agent(record.workspace, record.name), hashed, has_credentials=True)


def is_still_known(runtime: Runtime, agent: Agent, hashed: str, *, tokenless_workspace: str | None) -> bool:
    """Tell whether an agent that was identified when it connected is one still."""
    if hashed:
        return hashed in runtime.state.snapshot().agents
    return agent.workspace == tokenless_workspace


def workspace_of(runtime: Runtime, agent: Agent) -> Workspace:
    """Return the agent's workspace. Raises Refused when it is gone."""
    workspace = runtime.workspaces.get(agent.workspace)
    if workspace is None:
        raise Refused(Reason.HOST_NOT_ALLOWED, "this agent's workspace has no policy")
    return workspace


def lane_of(workspace: Workspace, host: str, port: int) -> Lane:
    """Return what a CONNECT to *host* and *port* is opened for. Raises Refused."""
    if host == INTERNAL_HOST:
        if port != 443:
            raise Refused(Reason.CLEARTEXT_REFUSED, f"{INTERNAL_HOST} is reached over https on port 443")
        return Lane.INTERNAL
    claimants = workspace.claims.get(host)
    if claimants is not None:
        if not any(claim.host == host and claim.port == port for service in claimants for claim in service.hosts):
            raise Refused(Reason.CLEARTEXT_REFUSED, f"no service of this workspace uses port {port} of {host}")
        return Lane.BRIDGED
    if workspace.egress is Egress.PASSTHROUGH:
        return Lane.TUNNELLED
    raise Refused(Reason.HOST_NOT_ALLOWED, f"no service of this workspace claims {host}")


async def tunnel_address(workspace: Workspace, host: str, port: int) -> tuple[str, int]:
    """Resolve a tunnel's host once and return the address to dial.

    Raises Refused when any of its addresses is not public, unless the workspace lets tunnels go there: a name that points at
    both a public and a private address is how DNS rebinding looks.
    """
    if is_ip(host):
        addresses = [host]
    else:
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM), RESOLVE_TIMEOUT_S
            )
        except (OSError, TimeoutError, UnicodeError):
            raise Refused(Reason.UPSTREAM_FAILED, f"{host} could not be resolved") from None
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if not workspace.egress_private and not all(is_public_address(address) for address in addresses):
        raise Refused(Reason.DESTINATION_NOT_ALLOWED, f"{host} points at an address that is not public")
    return addresses[0], port


def dialled(request: http.Request) -> tuple[str, int]:
    """Return the canonical host and port that *request* dials. Raises MalformedRequest."""
    if not 0 < request.port < 65536:
        raise MalformedRequest("the port is not one")
    host = request.host
    if not host.isascii():  # mitmproxy has decoded its xn-- labels; raw non-ASCII it does not read
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise MalformedRequest("the host is not a valid name") from None
    return canonical_host(host), request.port
