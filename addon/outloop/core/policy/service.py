"""A service as one workspace uses it: a catalogue entry with the workspace's rules, or a custom bridge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from outloop.core.auth import AwsSigV4, OAuth2, Scheme
from outloop.core.model import BODY_LIMIT, HostClaim, Probe, RequestLimit, Rule, Service
from outloop.core.policy.addresses import filled, params_of, read_base, read_host, read_hosts, read_token_url
from outloop.core.policy.catalogue import CatalogueEntry
from outloop.core.policy.credentials import read_auth, read_headers
from outloop.core.policy.dead import report_dead_rules
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar
from outloop.core.policy.models import LIMIT, MOST_RULES, NAME
from outloop.core.policy.probes import fill_probe, read_probe, report_target
from outloop.core.policy.problems import Problems, looks_secret, nearest, shown, suggestion
from outloop.core.policy.reach import Reach
from outloop.core.policy.rules import RuleReader

_PERIODS_S = {"s": 1, "min": 60, "h": 3600, "day": 86400}
_DESCRIBED_BY_CATALOGUE = ("title", "hosts", "base", "auth")
_CUSTOM_FORM = "a custom bridge needs `hosts: [api.example.com]` and `auth: {type: bearer}`, and may have base, proof and headers"
_PARAM_VALUE = re.compile(r"[!-~]{1,1024}")


@dataclass(frozen=True, slots=True)
class ServiceReader:
    """Reads the services of one workspace file."""

    document: Document
    problems: Problems
    workspace: str
    catalogue: Mapping[str, CatalogueEntry]
    reach: Reach

    def read(self, name: Scalar, node: Node) -> Service | None:
        """Return the service called *name*; None, with problems noted, where nothing usable stands at *node*."""
        if not isinstance(node, Fields):
            return None
        entry = self.catalogue.get(name.text)
        if entry is None:
            if not self._is_custom(name, node):
                self._read_rules(node.get("rules"), encoded_slash=False)  # their faults belong to the list as well
                return None
        else:
            for field in _DESCRIBED_BY_CATALOGUE:
                key = node.key(field)
                if key is not None:
                    hint = "give the service another name to describe it yourself"
                    self.problems.add(key, f"`{field}` of `{name.text}` stands in the catalogue", hint)
        return self._build(name, node, entry)

    def _is_custom(self, name: Scalar, node: Fields) -> bool:
        missing = [field for field in ("hosts", "auth") if node.key(field) is None]
        if len(missing) == 2:
            close = nearest(name.text, self.catalogue)
            hint = f"did you mean `{close}`? {_CUSTOM_FORM}" if close else _CUSTOM_FORM
            self.problems.add(name, f"unknown service {shown(name.text)}", hint)
            return False
        for field in missing:
            self.problems.add(name, f"missing field `{field}`", _CUSTOM_FORM)
        return not missing

    def _build(self, name: Scalar, node: Fields, entry: CatalogueEntry | None) -> Service | None:
        params = self._read_params(name, node.get("params"), node.key("params"), entry)
        slash = node.get("encoded_slash")
        encoded_slash = slash.text == "keep" if isinstance(slash, Scalar) else bool(entry and entry.encoded_slash)
        auth = self._auth(name, node, entry, params)
        hosts = self._hosts(name, node, entry, params)
        self._report_unsignable(node.get("auth") or name, auth, hosts)
        rules = self._read_rules(node.get("rules"), encoded_slash)
        headers = read_headers(node.get("headers"), auth, self.problems)
        base = read_base(name, filled(entry.base, params), self.problems) if entry else self._read_own_base(node.get("base"))
        report_dead_rules(rules, base, self.problems, self.reach)
        key = self._read_key(name, node.get("key"))
        proof, next_proof = (self._probe(field, name, node, entry, params) for field in ("proof", "next_proof"))
        limit = _read_limit(node.get("limits"))
        if auth is None:
            return None
        title = node.get("title")
        body_limit = _whole_number(node.get("body_limit"))
        return Service(
            name=name.text,
            title=entry.title if entry else title.text if isinstance(title, Scalar) else name.text,
            hosts=hosts,
            auth=auth,
            key=key,
            rules=rules,
            base=base,
            headers=headers,
            limit=limit,
            proof=proof,
            next_proof=next_proof,
            reads=entry.reads if entry else (),
            writes=entry.writes if entry else (),
            encoded_slash=encoded_slash,
            body_limit=BODY_LIMIT if body_limit is None else body_limit,
            place=self.document.place(name),
        )

    def _auth(self, name: Scalar, node: Fields, entry: CatalogueEntry | None, params: Mapping[str, str]) -> Scheme | None:
        if entry is None:
            auth = read_auth(node.get("auth"), self.problems)
            if isinstance(auth, OAuth2) and params_of(auth.token_url):
                self.problems.add(node.get("auth") or name, "`{…}` in a token_url is for the catalogue", "write the url out")
            return auth
        if not isinstance(entry.auth, OAuth2) or not params_of(entry.auth.token_url):
            return entry.auth
        url = filled(entry.auth.token_url, params)
        if not params_of(url):  # else a missing param has been noted
            read_token_url(name, url, self.problems)
        return replace(entry.auth, token_url=url)

    def _report_unsignable(self, place: Node, auth: Scheme | None, hosts: tuple[HostClaim, ...]) -> None:
        for host in dict.fromkeys(claim.host for claim in hosts):
            if isinstance(auth, AwsSigV4) and auth.scope_for(host) is None:
                hint = "add them: `auth: {type: aws_sigv4, service: execute-api, region: eu-west-1}`"
                self.problems.add(place, f"{host} does not say for which AWS service and region to sign", hint)

    def _hosts(
        self, name: Scalar, node: Fields, entry: CatalogueEntry | None, params: Mapping[str, str]
    ) -> tuple[HostClaim, ...]:
        if entry is None:
            return read_hosts(node.get("hosts"), self.problems)
        if any(required not in params for required in entry.params):
            return ()
        claims = (read_host(name, filled(host, params), self.problems) for host in entry.hosts)
        return tuple(dict.fromkeys(claim for claim in claims if claim is not None))

    def _read_params(self, name: Scalar, node: Node | None, key: Scalar | None, entry: CatalogueEntry | None) -> dict[str, str]:
        known = (*entry.params, *entry.optional_params) if entry else ()
        if key is not None and entry is None:
            self.problems.add(key, "`params` fill a catalogue entry, and this is a custom bridge", "write the values out")
            return {}
        params = {}
        for field, value in node if isinstance(node, Fields) else ():
            if field.text not in known:
                hint = suggestion(field.text, known) or f"`{name.text}` has no params"
                self.problems.add(field, f"unknown param {shown(field.text)}", hint)
            elif isinstance(value, Scalar) and not _PARAM_VALUE.fullmatch(value.text):
                self.problems.add(value, f"the param `{field.text}` is not printable ascii without spaces")
            elif isinstance(value, Scalar):
                params[field.text] = value.text
        for required in entry.params if entry else ():
            if required not in params:
                self.problems.add(key or name, f"`{name.text}` needs the param `{required}`", f"add `params: {{{required}: …}}`")
        return params

    def _read_rules(self, node: Node | None, encoded_slash: bool) -> tuple[Rule, ...]:
        reader = RuleReader(self.document, self.problems, encoded_slash)
        rules = (reader.read(item) for item in (node.items[:MOST_RULES] if isinstance(node, Listing) else ()))
        return tuple(rule for rule in rules if rule is not None)

    def _read_own_base(self, node: Node | None) -> str:
        return read_base(node, node.text, self.problems) if isinstance(node, Scalar) else ""

    def _read_key(self, name: Scalar, node: Node | None) -> str:
        if isinstance(node, Scalar) and node.text:
            if looks_secret(node.text):
                hint = "`key` is the key's name; `outloop key add` takes its value"
                self.problems.add(node, "this looks like the key's value", hint)
            return node.text
        default = f"{self.workspace}-{name.text}"
        if not re.fullmatch(NAME, default):
            self.problems.add(name, "the default name of the key is longer than 63 characters", "add `key: NAME`")
        return default

    def _probe(
        self, field: str, name: Scalar, node: Fields, entry: CatalogueEntry | None, params: Mapping[str, str]
    ) -> Probe | None:
        own = node.get(field)
        if own is not None:
            return read_probe(own, self.problems)
        template = (entry.proof if field == "proof" else entry.next_proof) if entry else None
        probe = fill_probe(template, params)
        if probe and template and probe.target != template.target:
            report_target(probe.target, node.get("params") or name, self.problems)
        return probe


def _read_limit(node: Node | None) -> RequestLimit | None:
    requests = node.get("requests") if isinstance(node, Fields) else None
    if not isinstance(requests, Scalar) or not re.fullmatch(LIMIT, requests.text):
        return None
    count, _, period = requests.text.partition("/")
    return RequestLimit(int(count), _PERIODS_S[period])


def _whole_number(node: Node | None) -> int | None:
    value = node.value if isinstance(node, Scalar) else None
    return value if isinstance(value, int) else None
