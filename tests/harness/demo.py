"""`scripts/demo`: the whole path on this machine alone, every line of it real but the upstream.

An empty home, the embedded keychain, mitmdump with the addon, a TLS stand-in for api.calendly.com, and curl as the agent. What is
shown is what the commands print. Exits 1 when something did not go as it should; leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.json import JSON
from rich.text import Text

from harness.calendly import ECHO, EVENT_TYPES, HOST, ROOT, Calendly
from harness.operators import Operator
from harness.proxy import Answer, curl, running_proxy
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder

WORKSPACE = "acme"
OUTLOOP_HEADERS = ("outloop-audit-id", "x-debug-authorization")


class Demo:
    """Tells the story; `failures` holds what did not go as it should."""

    def __init__(self, operator: Operator, console: Console) -> None:
        self.operator = operator
        self.console = console
        self.failures: list[str] = []
        # The commands print as they would for whoever looks on.
        looks = {name: os.environ[name] for name in ("TERM", "COLORTERM", "COLUMNS", "NO_COLOR") if name in os.environ}
        self.variables = {name: value for name, value in operator.variables.items() if name != "NO_COLOR"} | looks

    def chapter(self, title: str) -> None:
        """Open a chapter."""
        self.console.print()
        self.console.rule(Text(title, style="bold"), align="left", style="dim")

    def say(self, text: str) -> None:
        """Explain, in one line."""
        self.console.print(Text(text, style="dim"))

    def command(self, line: str) -> None:
        """Show what is typed."""
        self.console.print(Text.assemble(("$ ", "green"), (line, "bold")))

    def expect(self, claim: str, holds: bool) -> None:
        """Show a claim and whether it holds."""
        self.console.print(Text.assemble(("✓ ", "green") if holds else ("✗ ", "bold red"), claim))
        if not holds:
            self.failures.append(claim)

    def outloop(self, *arguments: str, stdin: str = "", typed: str = "") -> None:
        """Run a command of the operator's and let it print for itself."""
        self.command(f"{typed}outloop {' '.join(arguments)}")
        command = [str(self.operator.python), "-m", "outloop", *arguments]
        done = subprocess.run(command, input=stdin, text=True, env=self.variables, check=False)
        if done.returncode != 0:
            self.failures.append(f"outloop {' '.join(arguments)}: exit {done.returncode}")

    def curl(self, environ: Mapping[str, str], url: str, *arguments: str) -> Answer:
        """Run a command of the agent's, and show what it got."""
        self.command(" ".join(["curl", *map(shlex.quote, arguments), shlex.quote(url)]))
        answer = curl(url, *arguments, environ=environ)
        self.console.print(f"HTTP {answer.status}", style="cyan" if answer.status < 400 else "yellow")
        for name, value in answer.headers:
            if name.lower() in OUTLOOP_HEADERS:
                self.console.print(Text(f"{name}: {value}"))
        if answer.exit_code == 0:
            self.console.print(JSON(answer.body.decode()))
        else:
            self.console.print(Text(answer.stderr.strip()))
        return answer


def main() -> int:
    """Run the demo and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything below is cleaned up
    started = time.monotonic()
    token = f"demo-token-{secrets.token_urlsafe(24)}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outloop-demo-")))
        authority = Authority()
        operator = Operator(folder)
        demo = Demo(operator, Console(highlight=False))
        upstream = stack.enter_context(Recorder(authority.server_context(HOST), Calendly(token)))

        demo.chapter("The operator, once")
        demo.outloop("init")
        demo.outloop("workspace", "add", WORKSPACE, "--service", "calendly")
        routes = {HOST: upstream.port}
        demo.command("mitmdump -s addon/outloop.py &")
        bundle = authority.write_bundle(folder)
        proxy = stack.enter_context(running_proxy(operator, routes, upstream_ca=bundle, is_awaited=False))
        demo.outloop("key", "add", "calendly", "-w", WORKSPACE, "--stdin", stdin=token, typed="pbpaste | ")
        demo.outloop("key", "enable", "calendly", "-w", WORKSPACE)

        demo.chapter("The proof: a call that left an audit row")
        proxy.wait_until_up()
        demo.outloop("proof", "calendly", "-w", WORKSPACE)
        demo.say(f"{time.monotonic() - started:.1f} s after the start")

        tell_the_agents_side(demo, upstream, token)
        demo.chapter("The record")
        demo.outloop("audit", "tail")
        demo.outloop("audit", "verify")
        demo.expect("the record does not hold the token", token.encode() not in (operator.home / "audit.db").read_bytes())
    if demo.failures:
        demo.console.print(f"\n{len(demo.failures)} of these did not go as it should", style="bold red")
        return 1
    return 0


def tell_the_agents_side(demo: Demo, upstream: Recorder, token: str) -> None:
    """Show what an agent gets that has only the proxy's address: an answer, a refusal, a scrubbed echo."""
    demo.chapter("The agent, which has never seen the token")
    environ = agent_environ(demo)
    answer = demo.curl(environ, f"{ROOT}/users/me")
    arrived_with = upstream.wait_for(1)[-1].header("authorization")
    demo.expect("answered, though the agent sent no credential", answer.status == 200)
    demo.expect("the call carried the token when it arrived", arrived_with == f"Bearer {token}".encode())

    demo.chapter("What policy does not allow stays here, and says what to do")
    arrived_before = len(upstream.requests)
    body = json.dumps({"max_event_count": 1, "owner": EVENT_TYPES[0], "owner_type": "EventType"})
    answer = demo.curl(environ, f"{ROOT}/scheduling_links", "--json", body)
    demo.expect("refused before a byte left this machine", answer.status == 403 and len(upstream.requests) == arrived_before)

    demo.chapter("An endpoint that sends the token back")
    answer = demo.curl(environ, f"{ROOT}{ECHO}")
    seen = answer.body.decode() + repr(answer.headers)
    demo.expect("the token is not in what the agent got: a mark stands in its place", token not in seen and "scrubbed" in seen)


def agent_environ(demo: Demo) -> dict[str, str]:
    """Return the environment that `outloop env` makes of an empty one, as a shell that evaluates it has it."""
    demo.command(f'eval "$(outloop env -w {WORKSPACE})"')
    clean = {name: value for name, value in demo.operator.variables.items() if not name.startswith("OUTLOOP_")}
    exports = demo.operator.outloop("env", "-w", WORKSPACE)
    script = f"{exports}\nenv -0"
    shown = subprocess.run(["/bin/sh", "-c", script], env=clean, capture_output=True, check=True, text=True).stdout
    return dict(entry.split("=", 1) for entry in shown.split("\0") if entry)


if __name__ == "__main__":
    sys.exit(main())
