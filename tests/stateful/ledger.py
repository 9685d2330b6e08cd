"""What has to hold after each step, between what was asked, what came back, what upstream saw, what was read and recorded."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from harness.operators import Row
from outloop.attacks.upstream.journal import RecordedRequest
from stateful.agents import Heard
from stateful.house import House
from stateful.office import Office
from stateful.search import found_in
from stateful.tenant import AgentModel, Tenant
from stateful.upstream import Plan

_NUMBER = re.compile(r"[?&]n=(\d+)")


@dataclass(frozen=True)
class Sent:
    """One request of one agent's; `expected` tells whether it is to be let through."""

    tenant: Tenant
    agent: AgentModel
    service: str
    number: int
    host: str
    method: str
    target: str
    body: bytes | None
    plan: Plan
    expected: bool
    request: bytes
    keep: bool

    def __str__(self) -> str:
        asker = f"{self.tenant.name}/{self.agent.name}"
        return f"#{self.number} {asker} {self.method} {self.host}{self.target} {self.body!r} {self.plan}"


class Ledger:
    """Holds each step of one history against the house's rules."""

    def __init__(self, house: House, office: Office) -> None:
        self.house = house
        self.secrets, self.tokens = office.secrets, office.tokens
        self._arrived = len(house.upstream.requests)
        self._rows = len(house.decisions())
        self._notes = len(house.notes())
        self._allowed: dict[str, tuple[Sent, Heard]] = {}

    def settle(self, exchanges: Sequence[tuple[Sent, Heard]]) -> None:
        """Check one step, in which *exchanges* took place at the same time. Raises AssertionError."""
        arrived = self.house.upstream.requests[self._arrived :]
        rows = self.house.decisions()[self._rows :]
        notes = self.house.notes()[self._notes :]
        self._arrived += len(arrived)
        self._rows += len(rows)
        self._notes += len(notes)
        by_id = {row["id"]: row for row in rows}
        assert len(rows) == len(exchanges), (
            "not one row for each request",
            rows,
            [(str(sent), heard) for sent, heard in exchanges],
        )
        for sent, heard in exchanges:
            self._check_heard(sent, heard)
            row = by_id.get(heard.header("outloop-audit-id"))
            assert row is not None, ("the answer names no row of its own", str(sent), heard, rows)
            self._check_row(sent, heard, row)
        self._check_agreement(arrived, [row for row in rows if row["decision"] == "allow"], in_order=len(exchanges) == 1)
        for request in arrived:
            self._check_arrived(request, [sent for sent, _ in exchanges])
        allowed = [sent for sent, heard in exchanges if by_id[heard.header("outloop-audit-id")]["decision"] == "allow"]
        self._check_notes(notes, allowed)
        verification = self.house.records.verify()
        assert verification.ok, verification

    def close(self) -> None:
        """Check what only the end of a history shows: outcomes, and what stands on disk. Raises AssertionError."""
        self.house.wait_for("outcomes are missing", lambda: self._outcomes().keys() >= self._allowed.keys())
        outcomes = self._outcomes()
        for audit_id, (sent, heard) in self._allowed.items():
            row = outcomes[audit_id]
            assert row["status"] == (heard.status or row["status"]), (str(sent), row, heard)
            assert row["secret_exposed"] in (0, None), (str(sent), row)
            if heard.refusal is None and sent.plan.place in ("body", "header") and sent.method != "HEAD":
                # The upstream did give it away, so that its absence is somebody's work.
                assert row["scrubbed"], (str(sent), row, heard)
        self._check_disk()

    def _outcomes(self) -> dict[str, Row]:
        return {str(row["id"]): row for row in self.house.operator.rows() if row["duration_ms"] is not None}

    def _check_heard(self, sent: Sent, heard: Heard) -> None:
        """No agent has received a secret, whosever it is, in any form it can search for."""
        leaked = found_in(heard.raw, self.secrets) | found_in(heard.body, self.secrets)
        assert not leaked, ("an agent received a secret", str(sent), leaked, heard)

    def _check_row(self, sent: Sent, heard: Heard, row: Row) -> None:
        """The row, the answer and what the operators meant are one."""
        is_allowed = row["decision"] == "allow"
        assert sent.expected == is_allowed, ("not as the operators meant it", str(sent), row, heard, sent.tenant)
        if is_allowed:
            self._allowed[str(row["id"])] = sent, heard
            assert heard.refusal == ("scrub_failed" if sent.plan.place == "unlabelled" else None), (str(sent), row, heard)
            assert heard.refusal or heard.status == sent.plan.status, (str(sent), row, heard)
        else:
            assert heard.refusal == row["reason"], (str(sent), row, heard)
            assert sent.agent.is_live or row["reason"] in ("agent_unknown", "malformed_request"), (str(sent), row, heard)
            # A key that is stored is not told from one that is off by being looked for.
            is_stored = sent.tenant.keys[sent.service].value is not None
            assert not (is_stored and row["reason"] == "key_missing"), (str(sent), row)
        if sent.agent.is_live:
            assert (row["workspace"], row["agent"]) == (sent.tenant.name, sent.agent.name), (str(sent), row)

    def _check_agreement(self, arrived: Sequence[RecordedRequest], allowed: Sequence[Row], *, in_order: bool) -> None:
        """A request arrived upstream for each row that says allow, and no other."""
        seen = [(request.method, _host(request), _number(request.target)) for request in arrived]
        written = [(row["method"], row["host"], _number(str(row["path"]))) for row in allowed]
        if not in_order:
            seen, written = sorted(seen), sorted(written, key=str)
            seen.sort(key=str)
        assert seen == written, ("the record and the upstream do not agree", seen, written)

    def _check_arrived(self, request: RecordedRequest, sent: Sequence[Sent]) -> None:
        """What arrived is what was asked, under the asker's own key and nobody else's, and nothing of the agent's own."""
        [asker] = [one for one in sent if str(one.number) == _number(request.target)]
        key = asker.tenant.keys[asker.service]
        assert (request.sni, _host(request)) == (asker.host, asker.host), (str(asker), request)
        target, _, _ = request.target.partition("&api_key=")
        assert (request.method, target) == (asker.method, asker.target), (str(asker), request)
        assert bytes(request.body) == (asker.body or b""), (str(asker), request)
        raw = bytes(request.raw)
        others = [secret for secret in self.secrets if secret not in (key.value, key.credential())]
        assert found_in(raw, [key.credential()]), ("not the asker's own key", str(asker), raw)
        assert not found_in(raw, others), ("another key than the asker's own", str(asker), raw)
        assert b"placeholder" not in raw, ("the agent's own credential went upstream", str(asker), raw)
        assert not any(token.encode() in raw for token in self.tokens), ("a proxy token went upstream", str(asker), raw)

    def _check_notes(self, notes: Sequence[str], allowed: Sequence[Sent]) -> None:
        """The keychain was read, and hosts were dialled, for what was let through alone."""
        for note in notes:
            verb, _, what = note.partition(" ")
            if verb == "read":
                assert what.partition("/")[0] in {sent.tenant.name for sent in allowed}, ("a keychain read for nobody", note)
            else:
                assert what in {sent.host for sent in allowed}, ("a connection for nobody", note)

    def _check_disk(self) -> None:
        """Nothing at rest but the keychain holds a secret."""
        home = self.house.operator.home
        files = [path for path in home.rglob("*") if path.is_file() and path.name != "values.enc"]
        forms = [form for secret in self.secrets for form in (secret, secret.hex().encode(), b64encode(secret).rstrip(b"=")[:-1])]
        for path in [*files, self.house.proxy.log_file]:
            content = path.read_bytes()
            assert not any(form in content for form in forms), ("a secret at rest", path)


def _host(request: RecordedRequest) -> str:
    return (request.header("host") or b"").decode("latin-1")


def _number(target: str) -> str:
    found = _NUMBER.search(target)
    return found[1] if found else ""
