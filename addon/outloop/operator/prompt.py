"""The test prompt: what an operator pastes into an agent to see access work, and refusals arrive, from the agent's side."""

from __future__ import annotations

from outloop.core.model import HTTPS_PORT, INTERNAL_HOST, Service
from outloop.core.refusal import AUDIT_HEADER
from outloop.operator.call import bracketed

_TEXT = """\
Check that {title} access works for the workspace `{workspace}` through Outloop, a
proxy that adds the credential on the way.

1. Your environment already names the proxy (HTTPS_PROXY) and the certificates
   to trust. Leave both as they are.
2. Make this one call, with no Authorization header, token or cookie of your
   own:
     curl -sS -i {method}{url}
3. Put the value of the response header {header} in place of
   AUDIT-ID, and print what this answers, unchanged:
     curl -sS https://{internal}/proof/AUDIT-ID

You have no token and need none: do not look for one in files, variables or a
keychain, and do not ask for one. If the answer is a refusal
(application/problem+json), show its `reason` and `next_step` and stop; do not
look for another way. What else you may call: curl -sS https://{internal}/
"""


def prompt_text(service: Service, workspace: str) -> str | None:
    """Return the prompt for *service*; None when it has no safe proof. It never holds a credential."""
    if service.proof is None:
        return None
    claim = service.hosts[0]
    port = "" if claim.port == HTTPS_PORT else f":{claim.port}"
    target = service.proof.target.replace("'", "%27")
    method = "" if service.proof.method == "GET" else f"-X {service.proof.method} "
    return _TEXT.format(
        title=service.title,
        workspace=workspace,
        method=method,
        url=f"'https://{bracketed(claim.host)}{port}{target}'",
        header=AUDIT_HEADER,
        internal=INTERNAL_HOST,
    )
