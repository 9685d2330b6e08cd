"""The variables that send an agent's programs through the proxy and let them trust what it signs.

They are for programs that cooperate: a program may ignore them. What keeps a credential from an agent is that only the proxy
has it, not these variables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from outloop.operator.call import bracketed
from outloop.store.trust import CA_FILE_VARIABLES, CA_FOLDER_VARIABLE

# curl reads no upper-case HTTP_PROXY (it could be set by a CGI request header); other programs read only upper case.
_PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_BYPASS_VARIABLES = ("NO_PROXY", "no_proxy")

# Preset, each of these would send a program another way than the ones above: a narrower proxy, or its own exceptions.
DIVERTING_VARIABLES = (
    "SOCKS_PROXY",
    "socks_proxy",
    "WS_PROXY",
    "ws_proxy",
    "WSS_PROXY",
    "wss_proxy",
    "grpc_proxy",
    "no_grpc_proxy",
    "CARGO_HTTP_PROXY",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "npm_config_noproxy",
)


@dataclass(frozen=True, slots=True)
class AgentEnvironment:
    """What to set, and what to take away (only names that were preset)."""

    variables: Mapping[str, str]
    removed: tuple[str, ...]

    def shell_lines(self) -> Iterator[str]:
        """Yield POSIX shell lines: ``export NAME='value'``, then ``unset NAME``."""
        for name, value in self.variables.items():
            quoted = value.replace("'", "'\\''")
            yield f"export {name}='{quoted}'"
        for name in self.removed:
            yield f"unset {name}"


def agent_environment(
    url: str, bundle: Path, preset: Mapping[str, str], bridged: Collection[str], wgetrc: Path | None = None
) -> AgentEnvironment:
    """Return the environment for an agent behind the proxy at *url*.

    *bundle* is what it shall trust (`store/trust.py`), *preset* the environment it would have otherwise, *bridged* the
    canonical hosts that its workspace claims, *wgetrc* a file for wget, None where the agent has one of its own.
    """
    bypass = ",".join(_kept_exceptions(preset, bridged))
    variables = dict.fromkeys(_PROXY_VARIABLES, url)
    variables |= dict.fromkeys(_BYPASS_VARIABLES, bypass)
    variables |= dict.fromkeys(CA_FILE_VARIABLES, str(bundle))
    if wgetrc is not None:
        variables["WGETRC"] = str(wgetrc)
    # Node 22.21 and 24 honour the proxy variables in fetch and http only when told to (nodejs.org/api/cli.html).
    variables["NODE_USE_ENV_PROXY"] = "1"
    # With SSL_CERT_DIR some OpenSSL programs (Go, rustls-native-certs) read the folder instead of the file.
    removed = tuple(name for name in (CA_FOLDER_VARIABLE, *DIVERTING_VARIABLES) if name in preset)
    return AgentEnvironment(variables, removed)


def proxy_url(host: str, port: int, workspace: str = "", token: str = "") -> str:
    """Return the proxy's URL for an agent; with *token*, the agent's, its user is the workspace."""
    user = f"{quote(workspace, safe='')}:{quote(token, safe='')}@" if token else ""
    return f"http://{user}{bracketed(host)}:{port}"


def _kept_exceptions(preset: Mapping[str, str], bridged: Collection[str]) -> list[str]:
    """The preset NO_PROXY entries that stay: this machine's own names, unless the workspace bridges them.

    Everything else would take a call around the proxy, where it has no credential and leaves no row.
    """
    listed = [entry.strip() for name in _BYPASS_VARIABLES for entry in preset.get(name, "").split(",")]
    return [entry for entry in dict.fromkeys(listed) if _is_loopback(entry) and entry.strip("[]").lower() not in bridged]


def _is_loopback(entry: str) -> bool:
    if entry.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(entry.strip("[]")).is_loopback
    except ValueError:
        return False
