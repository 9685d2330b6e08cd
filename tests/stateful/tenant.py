"""One workspace as its operator means it to be: what is known of it without asking the proxy."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from stateful.agents import AgentProgram
from stateful.house import SHARED_HOST
from stateful.policy import Asked, RuleText, is_allowed

OWN, SHARED = "own", "shared"
SCHEMES = {"bearer": "{type: bearer}", "header": "{type: header, name: X-Api-Key}", "query": "{type: query, param: api_key}",
           "basic": "{type: basic}"}  # fmt: skip
USERNAME = "robot"


@dataclass
class KeyModel:
    """A key: its value (None where none is stored), its switch, the value before a rotation whose grace runs."""

    scheme: str
    value: bytes | None = None
    is_on: bool = False
    previous: bytes | None = None

    @property
    def in_scrub_set(self) -> tuple[bytes, ...]:
        """The values that Outloop promises to take out of what comes back."""
        return tuple(value for value in (self.value, self.previous) if value is not None and self.is_on)

    def credential(self) -> bytes:
        """Return what the upstream is to get, as it stands in the request."""
        assert self.value is not None
        return pair(self.value) if self.scheme == "basic" else self.value


@dataclass
class AgentModel:
    """An agent: its name (None without a token), and whether its token is still good."""

    program: AgentProgram
    name: str | None
    is_live: bool = True


@dataclass(eq=False)
class Tenant:
    """A workspace: rules and limits by service, keys by service, agents; `takes` counts what its limits have let through."""

    name: str
    host: str
    keys: dict[str, KeyModel]
    rules: dict[str, tuple[RuleText, ...]] = field(default_factory=lambda: {OWN: (), SHARED: ()})
    limits: dict[str, int | None] = field(default_factory=lambda: {OWN: None, SHARED: None})
    agents: list[AgentModel] = field(default_factory=list)
    takes: dict[str, int] = field(default_factory=lambda: {OWN: 0, SHARED: 0})
    cooling: set[str] = field(default_factory=set)

    def host_of(self, service: str) -> str:
        """Return where the service is reached."""
        return self.host if service == OWN else SHARED_HOST

    def policy(self, version: int) -> str:
        """Return the policy file; *version* makes it unlike every other."""
        text = f"workspace: {self.name}\nhold: 0\nservices:\n"
        for service, rules in self.rules.items():
            scheme = SCHEMES[self.keys[service].scheme]
            text += f"  {service}:\n    hosts: [{self.host_of(service)}]\n    auth: {scheme}\n    rules:\n"
            text += f'      - deny: "GET /version-{version}"\n' + "".join(rule.yaml for rule in rules)
            if (limit := self.limits[service]) is not None:
                text += f"    limits: {{requests: {limit}/day}}\n"
        return text

    def expects(self, service: str, asked: Asked) -> bool:
        """Tell whether *asked* of *service* is to be let through, and count it against its limit."""
        key, limit = self.keys[service], self.limits[service]
        if not is_allowed(self.rules[service], asked) or service in self.cooling:
            return False
        if key.value is not None and not key.is_on:
            return False
        if limit is not None:
            if self.takes[service] >= limit:
                return False
            self.takes[service] += 1
        return key.value is not None


def pair(password: bytes) -> bytes:
    """Return a password as Basic sends it (RFC 7617)."""
    return base64.b64encode(f"{USERNAME}:".encode() + password)
