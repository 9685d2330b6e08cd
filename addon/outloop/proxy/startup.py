"""From mitmproxy's options and the environment to an open bridge, before the proxy listens; any failure ends the process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.proxy import mode_specs

from outloop.core.errors import HardeningError, OutloopError
from outloop.proxy import canary, desk, dispatch, hardening, repairs, shape, wire
from outloop.proxy.bridge import Bridge
from outloop.proxy.runtime import Runtime
from outloop.store.home import Home
from outloop.store.trust import upstream_trust


@contextmanager
def exiting() -> Iterator[None]:
    """Leave the process on an error: mitmproxy would log it, and listen for a moment without the addon."""
    try:
        yield
    except OutloopError as error:
        print(f"outloop: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"outloop: hint: {error.hint}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        print(f"outloop: error: the proxy cannot start: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def open_bridge() -> Bridge:
    """Check what must hold, open the home's stores, and put the wrappers in place. Raises OutloopError."""
    hardening.check_options(ctx.options)
    hardening.check_environment(os.environ)
    shape.check()
    hardening.seal_process()
    hardening.allow_open_files()
    home = Home(Path(ctx.options.outloop_home).expanduser()) if ctx.options.outloop_home else Home.locate(os.environ)
    policies = Path(ctx.options.outloop_policies).expanduser() if ctx.options.outloop_policies else home.policies
    runtime = Runtime.open(home, policies, os.environ)
    bridge = Bridge(runtime, _listens_on_loopback(runtime), _named_workspace(runtime))
    dispatch.install()
    wire.install()
    canary.try_wire(ctx.options)
    repairs.install()
    desk.take(bridge.traffic)
    wire.open_gate(bridge.traffic)
    return bridge


async def listen_as_told(bridge: Bridge) -> None:
    """Bind again where mitmproxy began to, before the script was loaded, on every address."""
    servers = ctx.master.addons.get("proxyserver").servers
    bound = [host for server in servers for host, *_ in server.listen_addrs]
    if not bridge.is_loopback or all(map(hardening.is_loopback, bound)):
        return
    await servers.update([])
    if not await servers.update([mode_specs.ProxyMode.parse(spec) for spec in ctx.options.mode]):
        with exiting():
            raise HardeningError("the proxy cannot listen on loopback alone", "start it with --listen-host 127.0.0.1")


def _listens_on_loopback(runtime: Runtime) -> bool:
    """Tell whether only this machine reaches the proxy. Raises HardeningError where others do and no agent has a token."""
    if not ctx.options.listen_host:
        ctx.options.update(listen_host="127.0.0.1")
    if all(map(hardening.is_loopback, hardening.listen_hosts(ctx.options))):
        return True
    if not runtime.state.snapshot().agents:
        hint = "outloop agent add -w WORKSPACE, or --listen-host 127.0.0.1"
        raise HardeningError("listening beyond this machine needs agents with tokens", hint)
    return False


def _named_workspace(runtime: Runtime) -> str:
    named = str(ctx.options.outloop_workspace)
    if named and named not in runtime.workspaces:
        raise HardeningError(f"outloop_workspace names {named!r}, which has no policy", "outloop workspace list")
    return named


def settle_options(home: Home) -> None:
    """Set what mitmproxy must run with, whatever the command line says. Triggers every addon's configure."""
    base = ctx.options.ssl_verify_upstream_trusted_ca
    extra = os.environ.get("OUTLOOP_UPSTREAM_CA")
    trust = upstream_trust(home, Path(base) if base else None, Path(extra) if extra else None)
    settings = {name: value for name, value in hardening.SETTINGS.items() if name in ctx.options}
    # A line or four for each connection, formatted, cleaned and handed to every addon; the record says more.
    if "termlog_verbosity" not in ctx.options or ctx.options.termlog_verbosity != "debug":
        logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)
    if "flow_detail" in ctx.options and ctx.options.flow_detail == ctx.options.default("flow_detail"):
        settings["flow_detail"] = 0
    ctx.options.update(**settings, confdir=str(home.ca), ssl_verify_upstream_trusted_ca=str(trust))
