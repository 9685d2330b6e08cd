"""The yes that `outloop proof --next --approve` brings along: where a rule holds the write, that one request is approved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from outloop.core.approvals import Approval, Status, summary
from outloop.core.model import HostClaim, Reason
from outloop.operator.approvals import Decisions
from outloop.operator.call import Answer
from outloop.operator.proof import Call

LOOK_S = 0.1
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Consent:
    """Sends a request as *call* does, and approves it if it is held: that request of *agent*, in *workspace*, and no other."""

    call: Call
    decisions: Decisions
    workspace: str
    agent: str

    def __call__(self, method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None = None) -> Answer:
        """Send the request, and once more where it is not held but told to come again. Raises as `Decisions.approve` does."""
        said = "" if body is None else summary(json.dumps(body).encode(), _JSON, "")
        mine = (
            self.workspace,
            self.agent,
            method,
            claim.host,
            claim.port,
            target,
            f"content-type: {_JSON}" if said else "",
            said,
        )
        is_answered = Event()
        with ThreadPoolExecutor(1) as pool:
            approving = pool.submit(self._approve, mine, is_answered)
            try:
                answer = self.call(method, claim, target, body)
            finally:
                is_answered.set()
            is_approved = approving.result()
        if _is_pending(answer) and (is_approved or self._approved(mine)):
            return self.call(method, claim, target, body)
        return answer

    def _approve(self, mine: tuple[object, ...], is_answered: Event) -> bool:
        while not is_answered.wait(LOOK_S):
            if self._approved(mine):
                return True
        return False

    def _approved(self, mine: tuple[object, ...]) -> bool:
        for approval in self.decisions.waiting():
            if approval.status is Status.PENDING and _asked(approval) == mine:
                self.decisions.approve(approval.id)
                return True
        return False


def _asked(approval: Approval) -> tuple[object, ...]:
    asked = approval.asked
    return (asked.workspace, asked.agent, asked.method, asked.host, asked.port, asked.path, asked.headers, asked.body)


def _is_pending(answer: Answer) -> bool:
    document = answer.json()
    return isinstance(document, dict) and document.get("reason") == Reason.APPROVAL_PENDING.value
