"""Under which options, variables and library shapes the proxy must not run, and what it sets and locks for itself."""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mitmproxy import optmanager
from mitmproxy.net import tls as mitm_tls
from mitmproxy.proxy import mode_specs

from outloop.core.errors import HardeningError

# Set by Outloop whatever the command line says; each for the reason beside it.
SETTINGS: Mapping[str, Any] = {
    "connection_strategy": "lazy",  # decide first, dial later
    "upstream_cert": False,  # leaf certificates name the dialled host alone
    "onboarding": False,  # no page of mitmproxy's own on any host
    "rawtcp": False,  # bytes that are not HTTP are not relayed to a bridged host
    "show_ignored_hosts": False,  # a tunnel's bytes are nobody's to see
    "http3": False,  # not reachable through a proxy variable
}
# Each of these opens what Outloop closes. None may differ from its default.
WEAKENING = (
    "ssl_insecure", "ssl_verify_upstream_trusted_confdir", "ignore_hosts", "allow_hosts", "tcp_hosts", "udp_hosts",
    "modify_headers", "modify_body", "map_remote", "map_local", "stickyauth", "stickycookie", "anticache", "anticomp",
    "client_replay", "server_replay", "upstream_auth", "proxyauth", "stream_large_bodies", "body_size_limit",
    "store_streamed_bodies", "validate_inbound_headers", "normalize_outbound_headers", "keep_host_header", "client_certs",
    "certs", "cert_passphrase", "request_client_cert", "add_upstream_certs_to_client_chain", "ciphers_server",
    "tls_version_server_min", "emudhra", "emudhra_old", "proxy_debug", "websocket", "block_list", "connect_addr",
)  # fmt: skip
KEYLOG_VARIABLES = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")
OPEN_FILES = 8192
_PR_SET_DUMPABLE = 4


def check_options(options: optmanager.OptManager) -> None:
    """Raise HardeningError when an option opens what Outloop closes; the message names it."""
    for name in WEAKENING:
        if name in options and getattr(options, name) != options.default(name):
            raise HardeningError(
                f"mitmproxy's option {name} weakens the proxy", f"start without it; look in {options.confdir}/config.yaml too"
            )
    for spec in options.mode:
        if not isinstance(mode_specs.ProxyMode.parse(spec), mode_specs.RegularMode):
            raise HardeningError(f"mode {spec} is not bridged", "run in regular mode, which HTTPS_PROXY uses")


def check_environment(environ: Mapping[str, str]) -> None:
    """Raise HardeningError when TLS secrets are being logged: whoever reads that file reads the injected credential."""
    named = [name for name in KEYLOG_VARIABLES if name in environ]
    if named or mitm_tls.log_master_secret is not None:
        name = named[0] if named else KEYLOG_VARIABLES[0]
        raise HardeningError(f"{name} makes mitmproxy write TLS secrets to a file", f"unset {name} and start again")


def listen_hosts(options: optmanager.OptManager) -> list[str]:
    """Return the addresses the proxy will listen on."""
    return [mode_specs.ProxyMode.parse(spec).listen_host(options.listen_host) for spec in options.mode]


def is_loopback(host: str) -> bool:
    """Tell whether *host* is an address that only this machine reaches."""
    if host in ("127.0.0.1", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def seal_process() -> None:
    """Keep key material out of core dumps and away from other processes of the same user, as far as the OS offers."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def allow_open_files() -> None:
    """Let the process hold the files and sockets that agents may make it open: some systems begin with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_watching(script_loader: Any, script: str) -> None:
    """Stop mitmproxy from reloading or dropping *script*: it would go on without it, and with the traffic.

    Raises HardeningError where no watcher of that script is found.
    """
    for entry in getattr(script_loader, "addons", ()):
        task = getattr(entry, "reloadtask", None)
        if task is not None and os.path.realpath(getattr(entry, "fullpath", "")) == os.path.realpath(script):
            task.cancel()
            return
    raise HardeningError("the script's watcher was not found", "load it with mitmdump -s addon/outloop.py")


def filter_logs(clean: Callable[[str], str]) -> Callable[[], None]:
    """Pass every log record through *clean* before any handler sees it; return what undoes that.

    Raw upstream bytes that mitmproxy quotes (``Unexpected data from server: b'…'``) are dropped, not cleaned.
    """
    previous = logging.getLogRecordFactory()
    formatter = logging.Formatter()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = previous(*args, **kwargs)
        if record.name.startswith("mitmproxy"):
            text = record.getMessage()
            for quoted in _QUOTES:
                start = text.find(quoted)
                if start >= 0:
                    text = text[: start + len(quoted)] + " (not shown)"
            if record.exc_info:
                # mitmproxy's own handlers print the message alone.
                text += "\n" + formatter.formatException(record.exc_info)
                record.exc_info = None
            record.msg, record.args = clean(text), None
        return record

    logging.setLogRecordFactory(make)
    return lambda: logging.setLogRecordFactory(previous)


_QUOTES = (
    "Unexpected data from server:", "unexpected server response:", "before completing request headers:",
    "Cannot parse HTTP response:", "(payload:", "Deferring layer decision, not enough data:",
)  # fmt: skip
