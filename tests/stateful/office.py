"""What operators do, through the functions behind their commands, and what is remembered of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from harness.policies import problems_of
from outloop.core.auth.base import Part
from outloop.core.secret import Secret
from outloop.core.tokens import token_hash
from outloop.operator.agents import add_agent, revoke_agent
from outloop.operator.keys import KeyPlan
from stateful.agents import AgentProgram
from stateful.house import House
from stateful.tenant import USERNAME, AgentModel, KeyModel, Tenant, pair


class Office:
    """Changes the house and the tenants' models alike. `secrets` and `tokens` are all that there ever were in this history."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.secrets: list[bytes] = []
        self.tokens: list[str] = []

    def number(self) -> int:
        """Return a number that nothing else in the house has."""
        return next(self.house.numbers)

    def value(self) -> bytes:
        """Return a value that no key had before, in one of the shapes that tokens have."""
        number = self.number()
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        shapes = (
            f"{digest[:40]}",
            f"pat-{digest[:10]}.{digest[10:30].upper()}_-x",
            f"sk_test/Not+Real=%{digest[:16]}&:!~{number}",
        )
        return shapes[number % len(shapes)].encode()

    def know(self, value: bytes) -> None:
        """Remember a secret, and the form of it that Basic sends."""
        self.secrets += [value, pair(value)]

    def store_key(self, tenant: Tenant, service: str) -> None:
        """Store a new key, off as it is then."""
        key = tenant.keys[service]
        value = self.value()
        self.house.keys.add(_plan(tenant, service), _parts(key, value))
        key.value, key.previous, key.is_on = value, None, False
        self.know(value)

    def switch(self, tenant: Tenant, service: str, *, on: bool) -> None:
        """Turn runtime access on or off."""
        self.house.keys.switch(self.house.keys.find(tenant.name, f"{tenant.name}-{service}"), on)
        tenant.keys[service].is_on = on

    def rotate(self, tenant: Tenant, service: str, *, in_grace: bool) -> None:
        """Give a stored key another value; in grace, the one before is scrubbed still."""
        key, value = tenant.keys[service], self.value()
        self.house.keys.rotate(_plan(tenant, service), _parts(key, value), 3600.0 if in_grace else 0.0)
        key.value, key.previous = value, key.value if in_grace else None
        self.know(value)

    def remove(self, tenant: Tenant, service: str) -> None:
        """Remove a stored key."""
        self.house.keys.remove(self.house.keys.find(tenant.name, f"{tenant.name}-{service}"))
        key = tenant.keys[service]
        key.value, key.previous, key.is_on = None, None, False

    def revoke(self, tenant: Tenant, agent: AgentModel) -> None:
        """End an agent's token."""
        assert agent.name is not None
        revoke_agent(self.house.state, self.house.record_event, _now, tenant.name, agent.name)
        agent.is_live = False

    def program(self, credentials: tuple[str, str] | None) -> AgentProgram:
        """Return an agent's program that shows *credentials*."""
        return AgentProgram(self.house.proxy, self.house.trust, credentials)

    def new_agent(self, tenant: Tenant) -> AgentModel:
        """Mint a token, and return the agent that holds it."""
        token = hashlib.sha256(f"token {self.number()}".encode()).hexdigest()
        made = add_agent(self.house.state, self.house.record_event, _now, token, tenant.name, f"agent-{self.number()}")
        assert made.record.token_hash == token_hash(token)
        self.tokens.append(token)
        return AgentModel(self.program((tenant.name, token)), made.record.name)

    def is_refused(self, tenant: Tenant, text: str) -> bool:
        """Tell whether *text* is no policy: rules that can never match are refused, and random ones may be such."""
        return bool(problems_of(text, f"policies/{tenant.name}.yaml"))

    def put(self, texts: Mapping[Tenant, str], *, is_good: bool) -> None:
        """Write policies, and return once they are in force, or were refused."""
        kind = "policy_reloaded" if is_good else "policy_refused"
        before = len(self.house.events(kind))

        def is_taken() -> bool:
            said = "\n".join(str(event["detail"]) for event in self.house.events(kind)[before:])
            return all(f"{tenant.name}.yaml:" in said or f"{tenant.name}: " in said for tenant in texts)

        for tenant, text in texts.items():
            self.house.operator.write_policy(tenant.name, text)
        self.house.wait_for(f"no {kind} for {texts}", is_taken, poke=True)


def _now() -> float:
    return 1_767_225_600.0


def _plan(tenant: Tenant, service: str) -> KeyPlan:
    parts = (Part("username", is_secret=False), Part("password")) if tenant.keys[service].scheme == "basic" else (Part("token"),)
    return KeyPlan(tenant.name, service, service.title(), f"{tenant.name}-{service}", parts)


def _parts(key: KeyModel, value: bytes) -> dict[str, Secret]:
    if key.scheme == "basic":
        return {"username": Secret(USERNAME.encode()), "password": Secret(value)}
    return {"token": Secret(value)}
