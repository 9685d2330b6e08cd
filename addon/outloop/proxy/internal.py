"""The pages at ``outloop.internal``: what this agent may use, and the proof of one of its own requests.

They are answered by the proxy itself, to an agent it has identified, and never by an upstream.
"""

from __future__ import annotations

import asyncio
import json
import re

from mitmproxy import http

from outloop.core.errors import UsageError
from outloop.core.guide import as_markdown, guide
from outloop.core.model import Agent, KeyStanding, Workspace
from outloop.core.proof import proof_of
from outloop.proxy.runtime import Runtime
from outloop.store.records import Records

OUTCOME_WAIT_S = 5.0
_PROOF = re.compile(r"/proof/([0-9A-HJKMNP-TV-Z]{26})")

Answer = tuple[int, bytes, tuple[tuple[str, str], ...]]


class InternalPages:
    """Answers requests to ``outloop.internal``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._records = Records(runtime.home.audit_db)

    async def answer(self, agent: Agent, request: http.Request) -> Answer:
        """Return status, body and header fields for *request* of *agent*."""
        if request.method not in ("GET", "HEAD"):
            return _text(405, "This page is read with GET.\n")
        path = request.path.partition("?")[0]
        workspace = self._runtime.workspaces.get(agent.workspace)
        if workspace is None:
            return _text(404, "This agent's workspace has no policy.\n")
        if path == "/":
            return self._guide(workspace, wants_json="json" in request.headers.get("accept", ""))
        if found := _PROOF.fullmatch(path):
            return await asyncio.to_thread(self._proof, agent, workspace, found[1])
        return _text(404, "There is / and /proof/<audit-id>.\n")

    def _guide(self, workspace: Workspace, *, wants_json: bool) -> Answer:
        keys = self._runtime.state.snapshot().keys
        standing = {}
        for service in workspace.services:
            record = keys.get((workspace.name, service.key))
            if record is not None:
                standing[service.name] = KeyStanding.ON if record.runtime_access else KeyStanding.OFF
        facts = guide(workspace, standing)
        if wants_json:
            return 200, json.dumps(facts).encode() + b"\n", _fields("application/json")
        return _text(200, as_markdown(facts), "text/markdown; charset=utf-8")

    def _proof(self, agent: Agent, workspace: Workspace, audit_id: str) -> Answer:
        unknown = _text(404, "No request of this agent has that audit id.\n")
        try:
            row = self._records.wait_outcome(audit_id, OUTCOME_WAIT_S)
        except UsageError:
            return unknown
        if row is None or row["workspace"] != agent.workspace or (row["agent"] or "") != agent.name:
            return unknown
        service = workspace.service(str(row["service"]))
        proof = proof_of(row, service.title if service else str(row["service"] or row["host"]))
        text = proof.text
        if proof.fault:
            text += f"{proof.fault.message}\n"
        return _text(200, text)


def _text(code: int, text: str, kind: str = "text/plain; charset=utf-8") -> Answer:
    return code, text.encode(), _fields(kind)


def _fields(kind: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", kind), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
