"""The house that is attacked: a workspace with services of every kind, its neighbours, and throw-away keys for all of them."""

from __future__ import annotations

import contextlib
import ssl
import time

from outloop.attacks.case import DECOY, FOREIGN, FOREIGN_DECOY, HOST, PASSWORD, PREVIOUS, RICH, TOKEN, USER
from outloop.attacks.upstream.certs import Authority, self_signed
from outloop.attacks.upstream.replies import reply
from outloop.core.secret import Secret
from outloop.core.tokens import token_hash
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore

UNTRUSTED = tuple(
    f"{name}.example.com" for name in "wrong-name unknown-authority self-signed expired deep.wildcard nameless".split()
)
MODERN = "modern.example.com"  # speaks HTTP/2 with whoever offers it
OTHER = "other.example.com"  # of a neighbour's
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
GLOBEX_POLICY = f"""\
workspace: globex
services:
  other:
    hosts: [{OTHER}]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
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
AT = "2026-01-01T00:00:00.000Z"


def furnish(home: Home) -> None:
    """Write the policies, store the keys in the embedded keychain, and let the agents in.

    Agents without a token act for the workspace acme, `OPEN_AGENT` for one that tunnels, `GLOBEX_AGENT` for a neighbour.
    """
    home.ensure()
    for workspace, text in (("acme", POLICY), ("open", OPEN_POLICY), ("globex", GLOBEX_POLICY)):
        path = home.policies / f"{workspace}.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
    with contextlib.closing(StateStore(home.state_db)) as state:
        keychain = Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"})
        for service, parts in KEYS.items():
            _store(state, keychain, "acme", service, parts)
        _store(state, keychain, "globex", "other", {"token": FOREIGN})
        for workspace, value in (("acme", DECOY), ("globex", FOREIGN_DECOY)):
            keychain.set(workspace, f"{workspace}-bait", {"token": Secret(value.encode())})
            state.add_decoy(workspace, f"{workspace}-bait", "api", AT)
        keychain.rotate("acme", "acme-renewed", {"token": Secret(TOKEN.encode())})
        state.rotate_key("acme", "acme-renewed", previous_until=time.time() + 3600)
        for name, (workspace, token) in {"tunneller": OPEN_AGENT, "neighbour": GLOBEX_AGENT}.items():
            state.add_agent(workspace, name, token_hash(token), AT)


def _store(state: StateStore, keychain: Keychain, workspace: str, service: str, parts: dict[str, str]) -> None:
    key = f"{workspace}-{service}"
    keychain.set(workspace, key, {name: Secret(value.encode()) for name, value in parts.items()})
    state.add_key(workspace, key, service, AT)
    state.set_runtime_access(workspace, key, True)


def untrusted(authority: Authority) -> dict[str, ssl.SSLContext]:
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
