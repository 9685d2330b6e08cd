"""The shape of the files a person writes: what fields there are and of which type.

From these models come both the structural check (`structure.py`) and ``schema.json``, with which editors complete and check.
What a shape cannot say (a path outside its base, a rule that never matches) is checked where the value is read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from outloop.core.policy.auth_models import Auth
from outloop.core.policy.shape import LONGEST_LINE, Line, Shape, WhereScalar, optional

NAME = "^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$"
LIMIT = "^[1-9][0-9]{0,6}/(?:s|min|h|day)$"
PARAM = "^[A-Za-z_][A-Za-z0-9_]*$"

MOST_SERVICES = 500
MOST_RULES = 500

Name = Annotated[str, StringConstraints(pattern=NAME)]
Param = Annotated[str, StringConstraints(pattern=PARAM)]


class ProbeShape(Shape):
    """A request with its body and the status that proves it."""

    request: Line = Field(description="METHOD /path?query")
    expect: int = optional("the status that proves it; default 200", ge=100, le=599)
    body: dict[str, Any] = optional("the JSON body")


Probe = Annotated[
    Annotated[Line, Tag("text")] | Annotated[ProbeShape, Tag("fields")],
    Discriminator(lambda value: "fields" if isinstance(value, dict) else "text"),
]
WhereValue = Annotated[
    Annotated[WhereScalar, Tag("value")] | Annotated[list[WhereScalar], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "value"),
]


class RuleShape(Shape):
    """One rule: exactly one of allow, ask and deny. Order never matters: deny beats ask beats allow; no match is a deny."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [effect]} for effect in ("allow", "ask", "deny")]},
    )

    allow: Line = optional("METHOD[,METHOD…] /path, or * for every method; in a path * is one segment, ** any number")
    ask: Line = optional("as allow, but a person approves each request")
    deny: Line = optional("as allow, but never; beats every allow and ask")
    where: dict[Line, WhereValue] = optional(
        "conditions on {name} of the path, query.x and body.x.y: a value, a glob or a list", min_length=1
    )
    reason: Line = optional("why, for people")


class LimitsShape(Shape):
    """What this workspace may spend of the service."""

    requests: Annotated[str, StringConstraints(pattern=LIMIT)] = Field(description="COUNT/s, /min, /h or /day")


class ServiceShape(Shape):
    """A service of the catalogue as this workspace uses it, or a custom bridge (with hosts and auth)."""

    key: Name = optional("the key's name; default WORKSPACE-SERVICE")
    rules: list[RuleShape] = optional("what agents may do; nothing without a rule", max_length=MOST_RULES)
    limits: LimitsShape = optional("this workspace's own limit")
    params: dict[Param, Line] = optional("what fills {param} in the catalogue's hosts, base and proofs")
    headers: dict[Line, Annotated[str, Field(max_length=LONGEST_LINE)]] = optional(
        "static headers without secrets", max_length=50
    )
    body_limit: int = optional("the most bytes of a body that a rule must read; default 1 MiB", ge=1, le=64 * 1024 * 1024)
    encoded_slash: Literal["keep", "refuse"] = optional("what %2F inside a path segment is: data, or refused (default)")
    proof: Probe = optional("a harmless read that proves access")
    next_proof: Probe = optional("the smallest reversible write, run only when the operator approves")
    title: Line = optional("custom bridge: the name people know")
    hosts: list[Line] = optional("custom bridge: host or host:port, no wildcard", min_length=1, max_length=50)
    base: Line = optional("custom bridge: the path prefix that is this service's; rules include it")
    auth: Auth = optional("custom bridge: how the service takes its credential")


class WorkspaceShape(Shape):
    """WORKSPACE.yaml: what the agents of one workspace may do."""

    model_config = ConfigDict(title="Outloop workspace policy")

    workspace: Name = Field(description="the workspace's name: the file's name without .yaml")
    egress: Literal["deny", "passthrough"] = optional(
        "hosts that no service claims: deny (default), or tunnelled unopened and audited"
    )
    egress_private: bool = optional("let tunnels reach private addresses; default false")
    hold: int = optional("how many seconds a request that an ask rule holds waits for the operator; default 30", ge=0, le=600)
    services: dict[Name, ServiceShape] = optional("the services this workspace may reach", max_length=MOST_SERVICES)


class CatalogueShape(Shape):
    """services/NAME.yaml: what is known of a service."""

    model_config = ConfigDict(title="Outloop catalogue entry")

    title: Line = Field(description="the name people know")
    hosts: list[Line] = Field(min_length=1, max_length=50, description="host or host:port; {param} is filled by the workspace")
    base: Line = optional("the path prefix that is this service's")
    auth: Auth
    encoded_slash: Literal["keep", "refuse"] = optional("what %2F inside a path segment is: data, or refused (default)")
    proof: Probe = optional("a harmless read that proves access")
    next_proof: Probe = optional("the smallest reversible write")
    reads: list[Line] = optional("METHOD /path/{name} of every operation that changes nothing", max_length=5000)
    writes: list[Line] = optional("METHOD /path/{name} of every operation that changes something", max_length=5000)
    pins: dict[Line, Line] = optional("what tells one client's resources from another's, and where it stands")
    scopes: dict[Line, Line] = optional("what a key can be allowed at the provider")
    limits: dict[Line, Line] = optional("the provider's documented limits; shown, not enforced")
    docs: Line = optional("where the provider documents the API")
    gotchas: list[Line] = optional("what surprises people")
    token_shape: Line = optional("what its tokens look like, for decoys: literal text and {alnum:36}, {hex:32}, {base64url:43}")
    placeholder: dict[Annotated[str, StringConstraints(pattern="^[A-Z][A-Z0-9_]*$")], Line] = optional(
        "variables that tools demand, with a value that is no key"
    )


class ExpectationShape(Shape):
    """What a policy test expects."""

    decision: Literal["allow", "deny"]
    reason: Line = optional("a reason code, such as denied_by_rule")


class CaseShape(Shape):
    """One policy test: a request and the decision it should get."""

    name: Line
    request: Line = Field(description="METHOD URL")
    expect: ExpectationShape
    workspace: Name = optional("default: the test file's name without .yaml")
    body: Any = optional("the JSON body")
