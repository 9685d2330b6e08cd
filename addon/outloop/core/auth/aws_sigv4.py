"""AWS Signature Version 4 in headers ("Create a signed AWS API request", AWS IAM User Guide)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from outloop.core.auth.base import Edits, Facts, Fields, Part, Parts, Plain
from outloop.core.errors import MalformedRequest
from outloop.core.paths import parse_query
from outloop.core.secret import Secret

UNSIGNED = b"UNSIGNED-PAYLOAD"
# A body in aws-chunked coding with a checksum behind it and no signatures within: what SDKs send to S3 over TLS.
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_ALGORITHM = "AWS4-HMAC-SHA256"
_CONTENT_HASH = b"x-amz-content-sha256"
_SIGNED_TOO = frozenset({b"content-type", b"content-md5"})
_SPACES = re.compile(rb" +")
_REGION = r"[a-z]{2}(?:-[a-z]+)+-[0-9]"
_HOST = re.compile(rf"(?P<name>[a-z0-9.-]+?)[.-](?P<region>{_REGION})\.(?:amazonaws\.com(?:\.cn)?|api\.aws|on\.aws)")
_GLOBAL_HOST = re.compile(r"(?P<name>[a-z0-9.-]+)\.amazonaws\.com")
# Services that sign under another name than the one in their host (botocore's endpoint data).
_SIGNING_NAMES = {
    "bedrock-runtime": "bedrock",
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "email": "ses",
    "lambda-url": "lambda",
    "runtime.sagemaker": "sagemaker",
    "api.ecr": "ecr",
    "api.sagemaker": "sagemaker",
    "streams.dynamodb": "dynamodb",
}
# Those whose hosts begin with the name of a bucket, an API or a function.
_NAMED_WITHIN = frozenset({"s3", "execute-api", "lambda-url", "s3-accesspoint"})


class Scope(NamedTuple):
    """What a signature is good for, by the names that AWS signs under."""

    service: str
    region: str


@dataclass(frozen=True, slots=True)
class AwsSigV4(Plain):
    """`service` and `region` are those to sign for; where they are empty, the host tells them.

    The whole body is signed, but for S3: it takes requests over TLS whose body is not (``UNSIGNED-PAYLOAD``), so that uploads of
    any size stream.
    """

    service: str = ""
    region: str = ""
    parts: tuple[Part, ...] = (
        Part("access_key_id", is_secret=False),
        Part("secret_access_key"),
        Part("session_token", is_optional=True),
    )
    stripped_headers: frozenset[str] = frozenset({"x-amz-date", "x-amz-security-token", "x-amz-s3session-token"})
    # A URL signed beforehand, in this version or the one before it.
    stripped_query: frozenset[str] = frozenset(
        "x-amz-algorithm x-amz-credential x-amz-date x-amz-expires x-amz-signedheaders x-amz-signature x-amz-security-token "
        "x-amz-s3session-token awsaccesskeyid signature".split()
    )

    def scope_for(self, host: str) -> Scope | None:
        """Return what to sign for at *host*, None where neither the policy nor the host says it."""
        told = scope_of(host)
        service = self.service or (told.service if told else "")
        region = self.region or (told.region if told else "")
        return Scope(service, region) if service and region else None

    def signs_body(self, host: str) -> bool:
        scope = self.scope_for(host)
        return scope is None or scope.service != "s3"

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        scope = self.scope_for(facts.authority.partition(":")[0])
        if scope is None:
            raise MalformedRequest("neither the policy nor the host says for which AWS service and region to sign")
        moment = datetime.fromtimestamp(facts.now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        added = [("X-Amz-Date", moment.encode())]
        sent_hash = _sent_hash(facts.fields)
        content_hash = _content_hash(facts.body, sent_hash, scope)
        if scope.service == "s3" or sent_hash is not None:
            added.append(("X-Amz-Content-Sha256", content_hash))
        if "session_token" in parts:
            added.append(("X-Amz-Security-Token", parts["session_token"].reveal()))
        fields = [(b"host", facts.authority.encode()), *((name.lower().encode(), value) for name, value in added)]
        fields += [field for field in facts.fields if field[0].lower() != _CONTENT_HASH]
        request, names = _canonical_request(facts, fields, content_hash, scope)
        signature = _signature(parts["secret_access_key"], moment, scope, request)
        credential = f"{parts['access_key_id'].reveal().decode()}/{_credential_scope(moment, scope)}"
        value = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        headers = [(name, Secret(data)) for name, data in added]
        return Edits((*headers, ("Authorization", Secret(value.encode()))), signatures=(Secret(signature.encode()),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()


def scope_of(host: str) -> Scope | None:
    """Return what *host*, of AWS's own, stands for; None where that cannot be told."""
    found = _HOST.fullmatch(host)
    region = found["region"] if found else "us-east-1"
    found = found or _GLOBAL_HOST.fullmatch(host)
    if found is None:
        return None
    name = found["name"].removesuffix(".dualstack").removesuffix("-fips")
    within = name.rpartition(".")[2]
    if within in _NAMED_WITHIN:
        name = within
    if name == "s3-accesspoint":
        name = "s3"
    name = _SIGNING_NAMES.get(name, name)
    return None if "." in name else Scope(name, region)


def _sent_hash(fields: Fields) -> bytes | None:
    return next((value.strip() for name, value in fields if name.lower() == _CONTENT_HASH), None)


def _content_hash(body: bytes | None, sent: bytes | None, scope: Scope) -> bytes:
    """Return what stands for the body. Raises MalformedRequest for one that holds signatures of the agent's own key."""
    if sent is not None and sent.startswith(b"STREAMING-"):
        if scope.service == "s3" and sent == UNSIGNED_TRAILER:
            return sent
        raise MalformedRequest("the body is signed chunk by chunk, with a key that is not the operator's")
    return UNSIGNED if body is None else hashlib.sha256(body).hexdigest().encode()


def _canonical_request(
    facts: Facts, fields: Sequence[tuple[bytes, bytes]], content_hash: bytes, scope: Scope
) -> tuple[bytes, str]:
    """Return the canonical request, and the names of the headers in it."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lower = name.lower()
        if lower == b"host" or lower in _SIGNED_TOO or lower.startswith(b"x-amz-"):
            values.setdefault(lower, []).append(_SPACES.sub(b" ", value.strip()))
    headers = b"".join(b"%s:%s\n" % (name, b",".join(values[name])) for name in sorted(values))
    names = b";".join(sorted(values))
    path, query = _canonical_path(facts.path, scope).encode(), _canonical_query(facts.query).encode()
    return b"\n".join([facts.method.encode(), path, query, headers, names, content_hash]), names.decode()


def _canonical_path(path: str, scope: Scope) -> str:
    """S3 takes each segment encoded once, every other service what is on the wire encoded once more."""
    return quote(unquote_to_bytes(path) if scope.service == "s3" else path, safe="/~")


def _canonical_query(query: str) -> str:
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in parse_query(query))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _credential_scope(moment: str, scope: Scope) -> str:
    return f"{moment[:8]}/{scope.region}/{scope.service}/aws4_request"


def _signature(secret: Secret, moment: str, scope: Scope, request: bytes) -> str:
    key = b"AWS4" + secret.reveal()
    for step in (moment[:8], scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    digest = hashlib.sha256(request).hexdigest()
    text = f"{_ALGORITHM}\n{moment}\n{_credential_scope(moment, scope)}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()
