"""Do the clients on this machine trust what the proxy signs? Each is really run, with the environment of this shell.

They ask for the page at outloop.internal, which the proxy answers itself: nothing leaves the machine. NO_PROXY is left out, so
that what is measured here is trust; its traps are another check's. What the clients print is read and never shown.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from outloop.core.model import INTERNAL_HOST
from outloop.operator.doctor import scripts
from outloop.operator.doctor.finding import Finding, failure, ok, skipped, warning
from outloop.operator.doctor.premises import PROBE_LIMIT_S, Premises
from outloop.operator.doctor.shell import leads_to, proxy_of

URL = f"https://{INTERNAL_HOST}/"
_BYPASS = ("NO_PROXY", "no_proxy")


class Outcome(Enum):
    """How a client fared."""

    ANSWERED = auto()
    DISTRUSTED = auto()
    UNKNOWN_AGENT = auto()
    NO_PROXY_THERE = auto()
    WENT_AROUND = auto()
    TOO_SLOW = auto()
    NOT_INSTALLED = auto()
    OTHERWISE = auto()


@dataclass(frozen=True, slots=True)
class Client:
    """A client: the programs that can be it, their arguments, and how to read exit code, stdout and stderr."""

    name: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    read: Callable[[int, str, str], Outcome]
    variable: str


def _read_curl(code: int, out: str, _: str) -> Outcome:
    # curl.se/docs/manpage.html, "EXIT CODES"; the response code to CONNECT comes on stdout.
    if code == 0:
        return Outcome.ANSWERED
    if out.strip() == "407":
        return Outcome.UNKNOWN_AGENT
    named = {5: Outcome.NO_PROXY_THERE, 7: Outcome.NO_PROXY_THERE, 6: Outcome.WENT_AROUND, 28: Outcome.TOO_SLOW}
    return Outcome.DISTRUSTED if code in (60, 77) else named.get(code, Outcome.OTHERWISE)


def _read_script(code: int, _: str, __: str) -> Outcome:
    return {
        0: Outcome.ANSWERED,
        scripts.NOT_INSTALLED: Outcome.NOT_INSTALLED,
        scripts.WENT_AROUND: Outcome.WENT_AROUND,
        scripts.NO_PROXY_THERE: Outcome.NO_PROXY_THERE,
        scripts.UNKNOWN_AGENT: Outcome.UNKNOWN_AGENT,
        scripts.DISTRUSTED: Outcome.DISTRUSTED,
    }.get(code, Outcome.OTHERWISE)


def _read_git(_: int, __: str, err: str) -> Outcome:
    said = err.lower()
    signs = (
        ("407", Outcome.UNKNOWN_AGENT),
        ("certificate", Outcome.DISTRUSTED),
        (f"could not resolve host: {INTERNAL_HOST}", Outcome.WENT_AROUND),
        ("failed to connect", Outcome.NO_PROXY_THERE),
        ("couldn't connect", Outcome.NO_PROXY_THERE),
        ("not found", Outcome.ANSWERED),  # there is no repository at that address: git got as far as being told so
    )
    return next((outcome for sign, outcome in signs if sign in said), Outcome.OTHERWISE)


_SECONDS = f"{PROBE_LIMIT_S:.0f}"
_CURL = ("-s", "-o", os.devnull, "-w", "%{http_connect}", "--max-time", _SECONDS, URL)
_GIT = ("-c", "credential.helper=", "ls-remote", f"{URL}doctor")
_PYTHONS = ("python3", sys.executable)
CLIENTS = (
    Client("curl", ("curl",), _CURL, _read_curl, "CURL_CA_BUNDLE"),
    Client("python", _PYTHONS, ("-c", scripts.URLLIB, URL), _read_script, "SSL_CERT_FILE"),
    Client("requests", _PYTHONS, ("-c", scripts.REQUESTS, URL), _read_script, "REQUESTS_CA_BUNDLE"),
    Client("node", ("node",), ("-e", scripts.NODE, INTERNAL_HOST), _read_script, "NODE_EXTRA_CA_CERTS"),
    Client("git", ("git",), _GIT, _read_git, "GIT_SSL_CAINFO"),
)


def _check(client: Client, premises: Premises) -> Iterator[Finding]:
    proxy = proxy_of(premises.environ)
    program = next(filter(None, map(shutil.which, client.programs)), None)
    if program is None:
        yield skipped(client.name, "not installed")
    elif proxy is None or not leads_to(proxy, premises.listeners):
        yield skipped(client.name, "this shell's programs do not go through the proxy")
    else:
        outcome = _run(client, (program, *client.arguments), premises.environ)
        yield _finding(client, outcome, premises)
        if client.name == "node" and outcome is Outcome.ANSWERED:
            yield from _node_variables(program, premises)


CHECKS: tuple[tuple[str, Callable[[Premises], Iterable[Finding]]], ...] = tuple(
    (client.name, partial(_check, client)) for client in CLIENTS
)


def _run(client: Client, command: Sequence[str], environ: Mapping[str, str]) -> Outcome:
    done = _communicate(command, environ)
    return Outcome.TOO_SLOW if done is None else client.read(*done)


def _communicate(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, str] | None:
    """Run *command* and return exit code, stdout and stderr; None when it takes too long. It can ask nobody anything."""
    variables = {name: value for name, value in environ.items() if name not in _BYPASS}
    variables |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true"}
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=os.sep,  # python -c would import what stands in this folder
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # git's helper outlives git: both go with their session
    )
    with process:
        try:
            out, err = process.communicate(timeout=PROBE_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return process.returncode, out, err


def _finding(client: Client, outcome: Outcome, premises: Premises) -> Finding:
    mend = f'eval "$(outloop env -w {premises.someone})"'
    match outcome:
        case Outcome.ANSWERED:
            return ok(client.name, f"{client.name} trusts the proxy")
        case Outcome.NOT_INSTALLED:
            return skipped(client.name, "not installed")
        case Outcome.DISTRUSTED:
            where = "names a file without this home's authority" if premises.environ.get(client.variable) else "is not set"
            text = f"{client.name} does not trust the certificate authority: {client.variable} {where}"
            return failure(client.name, text, mend)
        case Outcome.UNKNOWN_AGENT:
            return failure(client.name, "the proxy does not know the token in this shell's proxy variables", mend)
        case Outcome.NO_PROXY_THERE:
            return skipped(client.name, "the proxy does not answer")
        case Outcome.WENT_AROUND:
            return failure(client.name, f"{client.name} goes past the proxy", mend)
        case Outcome.TOO_SLOW:
            return warning(client.name, f"{client.name} got no answer within {_SECONDS} s", "outloop doctor, once more")
        case Outcome.OTHERWISE:
            return warning(client.name, f"{client.name} failed in a way of its own", f"try it: {client.programs[0]} {URL}")


def _node_variables(program: str, premises: Premises) -> Iterator[Finding]:
    done = _communicate((program, "--version"), premises.environ)
    version = done[1].strip().removeprefix("v").split(".") if done else []
    if len(version) > 1 and version[0].isdigit() and version[1].isdigit():
        number = (int(version[0]), int(version[1]))
        reads_them = number >= (24, 0) or (22, 21) <= number < (23, 0)
        if not reads_them:
            text = f"node {'.'.join(version)} reads no proxy variables in fetch and http"
            yield warning("node", text, "give agents Node 24, or 22.21")
        elif premises.environ.get("NODE_USE_ENV_PROXY") != "1":
            mend = f'eval "$(outloop env -w {premises.someone})"'
            yield warning("node", "NODE_USE_ENV_PROXY is not set: node goes past the proxy", mend)
