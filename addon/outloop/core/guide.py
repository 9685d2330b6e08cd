"""What an agent may use and how: the page at ``outloop.internal``, for this agent alone and never with a secret."""

from __future__ import annotations

from outloop.core.model import Effect, KeyStanding, Rule, Service, Workspace

_INTRODUCTION = (
    "You call these services with your usual HTTP client through this proxy. Send no credential: Outloop adds the operator's "
    "key to what policy allows, and removes any key from what comes back. A refusal is a JSON problem document whose "
    "`next_step` says what to do; do not look for another way around it."
)


def guide(workspace: Workspace, standing: dict[str, KeyStanding]) -> dict[str, object]:
    """Return the facts about *workspace*; *standing* tells by service name whether its key can be used now."""
    return {
        "workspace": workspace.name,
        "how": _INTRODUCTION,
        "proof": "https://outloop.internal/proof/<Outloop-Audit-Id of your request>",
        "egress": workspace.egress.value,
        "services": [_service(service, standing.get(service.name, KeyStanding.MISSING)) for service in workspace.services],
    }


def _service(service: Service, standing: KeyStanding) -> dict[str, object]:
    return {
        "service": service.name,
        "title": service.title,
        "base_urls": [
            f"https://{claim.host}{'' if claim.port == 443 else f':{claim.port}'}{service.base}" for claim in service.hosts
        ],
        "key": standing.value,
        "safe_proof": f"{service.proof.method} {service.proof.target}" if service.proof else None,
        "allowed": [_operation(rule) for rule in service.rules if rule.effect is Effect.ALLOW],
        "needs_approval": [_operation(rule) for rule in service.rules if rule.effect is Effect.ASK],
    }


def _operation(rule: Rule) -> str:
    return f"{'*' if rule.methods is None else ','.join(sorted(rule.methods))} {rule.pattern.text}"


def as_markdown(facts: dict[str, object]) -> str:
    """Return the guide as Markdown."""
    lines = [f"# Outloop: workspace {facts['workspace']}", "", str(facts["how"]), ""]
    for service in facts["services"]:  # type: ignore[attr-defined]
        lines += [f"## {service['title']} (`{service['service']}`)", "", f"* base: {', '.join(service['base_urls'])}"]
        lines.append(f"* key: {service['key']}")
        if service["safe_proof"]:
            lines.append(f"* a safe first call: `{service['safe_proof']}`")
        lines += [f"* allowed: `{text}`" for text in service["allowed"]]
        lines += [f"* needs the operator's approval: `{text}`" for text in service["needs_approval"]]
        lines.append("")
    lines.append(f"Proof of one of your own requests: {facts['proof']}")
    return "\n".join(lines) + "\n"
