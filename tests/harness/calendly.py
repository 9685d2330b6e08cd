"""A stand-in for api.calendly.com that answers as Calendly's API v2 is documented to.

It knows one user with five event types and one scheduled event, accepts one token, and keeps to Calendly's ways: resources are
addressed by full URI, lists come in pages, errors are ``{"title", "message", "details"?}``. Used so:

    calendly = Calendly(token)
    with Recorder(authority.server_context(HOST), calendly) as upstream: …
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlencode, urlsplit

from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.replies import Reply, json_reply

HOST = "api.calendly.com"
ROOT = f"https://{HOST}"
USER = f"{ROOT}/users/AAAAAAAAAAAAAAAA"
ORGANIZATION = f"{ROOT}/organizations/BBBBBBBBBBBBBBBB"
EVENT_TYPES = tuple(f"{ROOT}/event_types/CCCCCCCCCCCCCCC{number}" for number in range(5))
EVENT = f"{ROOT}/scheduled_events/DDDDDDDDDDDDDDDD"
TAKEN_SLOT = "2030-01-01T09:00:00Z"

# Not Calendly's: a switch that has the stand-in send back what it was sent, as careless debug endpoints and error pages do.
ECHO = "/users/me?stand-in=echo"

Query = Mapping[str, str]


class Calendly:
    """Answers a recorder's requests. Set `retry_after_s` to have every request refused with 429 from then on."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self.retry_after_s: int | None = None

    def __call__(self, request: RecordedRequest) -> Reply:
        """Answer one request."""
        sent = request.header("authorization")
        if sent is None or not hmac.compare_digest(sent, self._expected):
            return _error(401, "Unauthenticated", "The access token is invalid")
        if self.retry_after_s is not None:
            return _error(
                429,
                "Too Many Requests",
                "Rate limit exceeded",
                headers=[
                    ("Retry-After", str(self.retry_after_s)),
                    ("X-RateLimit-Limit", "60"),
                    ("X-RateLimit-Remaining", "0"),
                    ("X-RateLimit-Reset", str(self.retry_after_s)),
                ],
            )
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        return _echo(request) if query.get("stand-in") == "echo" else _route(request, query)


def _route(request: RecordedRequest, query: Query) -> Reply:
    match request.method, request.path.strip("/").split("/"):
        case "GET" | "HEAD", ["users", "me" | "AAAAAAAAAAAAAAAA"]:
            return json_reply({"resource": _user()})
        case "GET", ["event_types"]:
            return _list([_event_type(uri) for uri in EVENT_TYPES], "event_types", query)
        case "GET", ["event_types", name] if f"{ROOT}/event_types/{name}" in EVENT_TYPES:
            return json_reply({"resource": _event_type(f"{ROOT}/event_types/{name}")})
        case "GET", ["scheduled_events"]:
            return _list([_event()], "scheduled_events", query)
        case "GET", ["scheduled_events", "DDDDDDDDDDDDDDDD"]:
            return json_reply({"resource": _event()})
        case "GET", ["organizations", "BBBBBBBBBBBBBBBB", "invitations"]:
            return _error(403, "Permission Denied", "You do not have permission to access this resource.")
        case "POST", ["scheduling_links"]:
            return _scheduling_link(request)
        case "POST", ["invitees"]:
            return _invitee(request)
        case "POST", ["data_compliance", "deletion", "invitees"]:
            return json_reply({}, status=202)
        case _:
            return _error(404, "Resource Not Found", "The server could not find the requested resource.")


def _user() -> dict[str, object]:
    return {
        "uri": USER,
        "name": "Ada Example",
        "slug": "ada-example",
        "email": "ada@example.com",
        "scheduling_url": "https://calendly.com/ada-example",
        "timezone": "Europe/London",
        "avatar_url": None,
        "created_at": "2024-01-02T03:04:05.678123Z",
        "updated_at": "2024-05-06T07:08:09.876543Z",
        "current_organization": ORGANIZATION,
        "resource_type": "User",
    }


def _event_type(uri: str) -> dict[str, object]:
    number = int(uri[-1])
    return {
        "uri": uri,
        "name": f"{(number + 1) * 15} minute meeting",
        "active": True,
        "booking_method": "instant",
        "slug": f"{(number + 1) * 15}min",
        "scheduling_url": f"https://calendly.com/ada-example/{(number + 1) * 15}min",
        "duration": (number + 1) * 15,
        "kind": "solo",
        "type": "StandardEventType",
        "color": "#0088cc",
        "profile": {"type": "User", "name": "Ada Example", "owner": USER},
    }


def _event() -> dict[str, object]:
    return {
        "uri": EVENT,
        "name": "15 minute meeting",
        "status": "active",
        "start_time": TAKEN_SLOT,
        "end_time": "2030-01-01T09:15:00Z",
        "event_type": EVENT_TYPES[0],
        "event_memberships": [{"user": USER}],
    }


def _list(resources: Sequence[object], name: str, query: Query) -> Reply:
    """One page: `count` 1 to 100 (20), `page_token`, and a full URI that says whose."""
    owner = query.get("user") or query.get("organization")
    if owner is None:
        return _invalid("user", "or organization is required")
    if not owner.startswith(f"{ROOT}/"):
        return _invalid("user", "must be a full URI")
    if owner not in (USER, ORGANIZATION):
        return _error(403, "Permission Denied", "You do not have permission to access this resource.")
    count, start = query.get("count", "20"), query.get("page_token", "page-0").removeprefix("page-")
    if not count.isdecimal() or not 1 <= int(count) <= 100:
        return _invalid("count", "must be between 1 and 100")
    if not start.isdecimal() or int(start) >= len(resources):
        return _invalid("page_token", "is invalid")
    end = int(start) + int(count)
    page = resources[int(start) : end]
    token = f"page-{end}" if end < len(resources) else None
    next_page = f"{ROOT}/{name}?{urlencode({**query, 'page_token': token})}" if token else None
    pagination = {"count": len(page), "next_page": next_page, "next_page_token": token}
    return json_reply({"collection": page, "pagination": pagination})


def _scheduling_link(request: RecordedRequest) -> Reply:
    body = _json_of(request)
    if body.get("max_event_count") != 1:
        return _invalid("max_event_count", "must be 1")
    if body.get("owner_type") != "EventType" or body.get("owner") not in EVENT_TYPES:
        return _invalid("owner", "must be the URI of an event type")
    link = {"booking_url": "https://calendly.com/s/single-use", "owner": body["owner"], "owner_type": "EventType"}
    return json_reply({"resource": link}, status=201)


def _invitee(request: RecordedRequest) -> Reply:
    body = _json_of(request)
    missing = [name for name in ("event_type", "start_time", "invitee") if name not in body]
    if missing:
        return _invalid(missing[0], "is missing")
    if body["start_time"] == TAKEN_SLOT:
        return _error(422, "Unprocessable Entity", "The start time is not available.")
    return json_reply({"resource": {"uri": f"{EVENT}/invitees/EEEEEEEEEEEEEEEE", "event": EVENT}}, status=201)


def _echo(request: RecordedRequest) -> Reply:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
    return json_reply({"you_sent": headers}, headers=[("X-Debug-Authorization", headers["authorization"])])


def _json_of(request: RecordedRequest) -> dict[str, object]:
    try:
        body = json.loads(request.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _invalid(parameter: str, message: str) -> Reply:
    details = [{"parameter": parameter, "message": message}]
    return json_reply(
        {"title": "Invalid Argument", "message": "The supplied parameters are invalid.", "details": details}, status=400
    )


def _error(status: int, title: str, message: str, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    return json_reply({"title": title, "message": message}, status=status, headers=headers)
