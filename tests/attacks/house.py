"""What is attacked: a workspace with services of every kind, the real proxy, and upstreams that write everything down."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from attacks.case import FOREIGN, HOST, PASSWORD, PREVIOUS, RICH, TOKEN, USER, Cut, Sent, Sent2
from attacks.gate import Gate
from attacks.runner import Runner
from harness.certs import HTTP2, Authority, self_signed
from harness.journal import Answer, RecordedRequest
from harness.operators import Operator, Row
from harness.proxy import running_proxy
from harness.recorder import Recorder
from harness.replies import Reply, raw, reply
from harness.stage import AT, add_agent, store_keys, stores
from outloop.core.secret import Secret

UNTRUSTED = tuple(
    f"{name}.example.com" for name in "wrong-name unknown-authority self-signed expired deep.wildcard nameless".split()
)
RESOLVER = Path(__file__).with_name("resolver.py")
MODERN = "modern.example.com"  # speaks HTTP/2 with whoever offers it
OPEN_AGENT = ("open", "fake-token-of-the-open-workspace")
GLOBEX_AGENT = ("globex", "fake-token-of-another-workspace")
POLICY = f"""\
workspace: acme
services:
  api:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,POST,PUT,PATCH,DELETE,OPTIONS /items/**
      - allow: GET /**
      - allow: POST /links
        where: {{body.max: 1}}
      - deny: POST /notes
        where: {{body.kind: secret}}
      - allow: POST /notes
      - allow: POST /small
        where: {{body.max: 1}}
      - allow: GET /projects/{{project}}
      - deny: "* /private/**"
      - deny: GET /search
        where: {{query.scope: all}}
      - allow: WEBSOCKET /socket
  modern:
    hosts: [{MODERN}]
    auth: {{type: bearer}}
    rules: [{{allow: "GET,POST /items/**"}}, {{deny: "* /private/**"}}]
  tenant:
    hosts: [tenant.example.com, xn--bcher-kva.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  small:
    hosts: [small.example.com]
    auth: {{type: bearer}}
    body_limit: 64
    rules:
      - allow: POST /links
        where: {{body.max: 1}}
  slashed:
    hosts: [slashed.example.com]
    auth: {{type: bearer}}
    encoded_slash: keep
    rules: [{{allow: "GET /files/{{name}}"}}, {{deny: "* /files/private/**"}}]
  based:
    hosts: [based.example.com]
    base: /v2
    auth: {{type: bearer}}
    rules: [{{allow: GET /v2/**}}]
  header:
    hosts: [header.example.com]
    auth: {{type: header, name: X-Vendor-Key}}
    rules: [{{allow: GET /**}}]
  query:
    hosts: [query.example.com]
    auth: {{type: query, param: vendor_key}}
    rules: [{{allow: GET /**}}]
  cookie:
    hosts: [cookie.example.com]
    auth: {{type: cookie, name: vendor}}
    rules: [{{allow: GET /**}}]
  graph:
    hosts: [graph.example.com]
    auth: {{type: bearer}}
    rules:
      - allow: POST /graphql
        where: {{body.query: ["query {{ me {{ id }} }}", "query {{ items {{ id }} }}"]}}
      - allow: GET /schema
  reader:
    hosts: [reader.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  git:
    hosts: [git.example.com]
    auth: {{type: bearer}}
    rules:
      - allow: GET /acme/app.git/info/refs
        where: {{query.service: git-upload-pack}}
      - allow: POST /acme/app.git/git-upload-pack
  address:
    hosts: [192.0.2.7]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  rich:
    hosts: [rich.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  pair:
    hosts: [pair.example.com]
    auth: {{type: basic}}
    rules: [{{allow: GET /**}}]
  renewed:
    hosts: [renewed.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  untrusted:
    hosts: [{", ".join(UNTRUSTED)}]
    auth: {{type: bearer}}
    rules: [{{allow: "GET,POST /**"}}]
"""
GLOBEX_POLICY = """\
workspace: globex
services:
  other:
    hosts: [other.example.com]
    auth: {type: bearer}
    rules: [{allow: GET /**}]
"""
OPEN_POLICY = "workspace: open\negress: passthrough\nservices: {}\n"
DEFAULT = reply(b"ok", headers=[("Content-Type", "text/plain")])
SERVICES = "api modern tenant small slashed based header query cookie graph reader git address".split()
KEYS: dict[str, dict[str, str]] = {
    **{service: {"token": TOKEN} for service in (*SERVICES, "untrusted")},
    "rich": {"token": RICH},
    "pair": {"username": USER, "password": PASSWORD},
    "renewed": {"token": PREVIOUS},
}
HOSTS = (
    HOST,
    MODERN,
    "192.0.2.7",
    "xn--bcher-kva.example.com",
    *(f"{name}.example.com" for name in (*SERVICES[2:-1], "pair", "renewed", "other")),
)
# Not claimed by anyone: whoever gets there has got past the proxy.
TRAPS = (
    *("evil.example.org:443", "evil.example.org:80", f"{HOST}:80", f"{HOST}:444", f"{HOST}:8080", f"{HOST}.:443"),
    *(f"{HOST}.evil.example.org:443", "notapi.example.com:443", "example.com:443", "xn--pi-6kc.example.com:443"),
    *("malformed.invalid:80", "malformed.invalid:443", "outloop.internal:443", "outloop.internal:80"),
    "8.8.8.8:8443",
)


class Upstreams:
    """The recorders behind every name, as the runner sees them."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []
        self.gates: list[Gate] = []
        self._answer: Answer = DEFAULT
        self._over: dict[int, RecordedRequest] = {}

    def add(self, stack: contextlib.ExitStack, context: ssl.SSLContext) -> int:
        """Start one more; return the port of its gate."""
        self.recorders.append(stack.enter_context(Recorder(context, self._answered)))
        self.gates.append(stack.enter_context(Gate(self.recorders[-1].port)))
        return self.gates[-1].port

    def answer_with(self, answer: object) -> None:
        """Answer every request from now on with *answer*: bytes as they are, a Reply or a function of the request.

        None is `DEFAULT`.
        """
        if isinstance(answer, bytes):
            answer = raw(answer)
        assert answer is None or isinstance(answer, Reply) or callable(answer)
        self._answer = answer or DEFAULT

    def _answered(self, request: RecordedRequest) -> Reply:
        return self._answer if isinstance(self._answer, Reply) else self._answer(request)

    def arrived(self) -> list[Sent]:
        """Return every request that is over, in the order in which they were first seen here."""
        for recorder in self.recorders:
            over = (each for each in recorder.requests if each.complete or each.cut)
            self._over.update((id(each), each) for each in over if id(each) not in self._over)
        return [_sent(each) for each in self._over.values()]

    def dialled(self) -> int:
        """Return how many connections were made."""
        return sum(gate.knocks for gate in self.gates)


class Record:
    """The record of an operator, as the runner reads it."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def rows(self) -> list[Row]:
        """Return every row, oldest first."""
        return sorted(self._operator.rows(), key=lambda row: str(row["id"]))


@contextlib.contextmanager
def attacked_house(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Runner]:
    """Run the proxy and its upstreams; agents without a token act for workspace acme, `OPEN_AGENT` for one that tunnels."""
    operator.write_policy("acme", POLICY)
    operator.write_policy("open", OPEN_POLICY)
    operator.write_policy("globex", GLOBEX_POLICY)
    _store_keys(operator)
    store_keys(operator, {"other": FOREIGN}, "globex")
    add_agent(operator, "tunneller", OPEN_AGENT[1], OPEN_AGENT[0])
    add_agent(operator, "neighbour", GLOBEX_AGENT[1], GLOBEX_AGENT[0])
    with contextlib.ExitStack() as stack:
        names = [host for host in HOSTS if host != MODERN]
        upstreams = Upstreams()
        classic = upstreams.add(stack, authority.server_context(*names, *(trap.partition(":")[0] for trap in TRAPS)))
        modern = upstreams.add(stack, authority.server_context(MODERN, protocols=HTTP2))
        routes = dict.fromkeys([*names, *TRAPS], classic) | {MODERN: modern}
        for host, context in _untrusted(authority).items():
            routes[host] = upstreams.add(stack, context)
        options = ["--set", "outloop_workspace=acme", "-s", str(RESOLVER)]
        proxy = stack.enter_context(running_proxy(operator, routes, upstream_ca=upstream_ca, options=options))
        yield Runner(("127.0.0.1", proxy.port), operator.certificate, upstreams, Record(operator))


def _store_keys(operator: Operator) -> None:
    with stores(operator) as (state, keychain):
        for service, parts in KEYS.items():
            key = f"acme-{service}"
            keychain.set("acme", key, {name: Secret(value.encode()) for name, value in parts.items()})
            state.add_key("acme", key, service, AT)
            state.set_runtime_access("acme", key, True)
        keychain.rotate("acme", "acme-renewed", {"token": Secret(TOKEN.encode())})
        state.rotate_key("acme", "acme-renewed", previous_until=time.time() + 3600)


def _untrusted(authority: Authority) -> dict[str, ssl.SSLContext]:
    """Return a server for each host of `UNTRUSTED`, none of which proves to be that host."""
    contexts = (
        authority.server_context(HOST),
        Authority().server_context("unknown-authority.example.com"),
        self_signed("self-signed.example.com"),
        authority.server_context("expired.example.com", expired=True),
        authority.server_context("*.example.com"),  # one label only (RFC 9525 §6.3)
        authority.server_context("other.example.org", common_name="nameless.example.com"),
    )
    return dict(zip(UNTRUSTED, contexts, strict=True))


def _sent(request: RecordedRequest) -> Sent:
    if request.version == "HTTP/2":
        return Sent2(f"{request.method} {request.target}", tuple(request.headers), bytes(request.body))
    return bytes(request.raw) if request.complete else Cut(bytes(request.raw))
