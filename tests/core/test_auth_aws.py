"""Signature Version 4 as AWS publishes it, and as botocore makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from outloop.core.auth import AwsSigV4, Facts
from outloop.core.auth.aws_sigv4 import Scope, scope_of
from outloop.core.errors import MalformedRequest
from outloop.core.outgoing import stripped
from outloop.core.paths import canonical_path
from outloop.core.secret import Secret

ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
PARTS = {"access_key_id": Secret(ID.encode()), "secret_access_key": Secret(SECRET.encode())}
HOST = "example.amazonaws.com"
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SUITE = AwsSigV4("service", "us-east-1")
LETTERS = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def facts(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    *fields: tuple[str, str],
    host: str = HOST,
    body: bytes | None = b"",
    at: datetime = AT,
) -> Facts:
    kept = tuple((name.encode(), value.encode()) for name, value in fields)
    return Facts(method, host, canonical_path(path).text, query, kept, (), body, at.timestamp())


def sent(scheme: AwsSigV4, request: Facts, **parts: str) -> dict[str, str]:
    edits = scheme.edits({**PARTS, **{name: Secret(value.encode()) for name, value in parts.items()}}, request)
    headers = {name: value.reveal().decode() for name, value in edits.headers}
    assert [signature.reveal().decode() for signature in edits.signatures] == [headers["Authorization"].rpartition("=")[2]]
    return headers


# AWS Signature Version 4 Test Suite, as aws-c-auth publishes it: those whose targets have one safe reading.
@pytest.mark.parametrize(
    ("request_facts", "signature"),
    [
        pytest.param(facts(), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", id="get-vanilla"),
        pytest.param(
            facts(path=f"/{LETTERS}"), "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f", id="get-unreserved"
        ),
        pytest.param(
            facts(query="Param1=value1"),
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            id="get-vanilla-empty-query-key",
        ),
        pytest.param(
            facts(query="Param-3=Value3&Param=Value2&%E1%88%B4=Value1"),
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            id="get-vanilla-query-order-encoded",
        ),
        pytest.param(
            facts(query="Param2=value2&Param1=value1"),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            facts(query=f"{LETTERS}={LETTERS}"),
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            id="get-vanilla-query-unreserved",
        ),
        pytest.param(
            facts(query="%E1%88%B4=bar"),
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            id="get-vanilla-utf8-query",
        ),
        pytest.param(facts("POST"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", id="post-vanilla"),
        pytest.param(
            facts("POST", query="Param1=value1"),
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            id="post-vanilla-query",
        ),
    ],
)
def test_the_suites_signatures_are_made(request_facts: Facts, signature: str) -> None:
    assert sent(SUITE, request_facts) == {
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }


def test_a_session_token_is_sent_and_signed() -> None:
    headers = sent(SUITE, facts(), session_token=SESSION)

    assert headers["X-Amz-Security-Token"] == SESSION
    assert headers["Authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
    )


# "Signature Calculations for the Authorization Header" (Amazon S3 API Reference) signs these four with this key.
S3_ID, S3_SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
S3_HOST = "examplebucket.s3.amazonaws.com"
S3_AT = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_s3_references_signatures_are_made(query: str, signature: str) -> None:
    request = facts(query=query, host=S3_HOST, at=S3_AT)

    headers = sent(AwsSigV4(), request, access_key_id=S3_ID, secret_access_key=S3_SECRET)

    assert headers["Authorization"].rpartition("=")[2] == signature
    assert headers["X-Amz-Content-Sha256"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def signed_by_botocore(request: Facts, scope: Scope, session_token: str | None) -> str:
    """Sign *request* with botocore, which is shown the headers that Outloop signs."""
    signer = S3SigV4Auth if scope.service == "s3" else SigV4Auth
    names = ("content-type", "content-md5")
    fields = {
        name.decode(): value.decode()
        for name, value in request.fields
        if name.lower().decode() in names or name.lower().startswith(b"x-amz-")
    }
    url = f"https://{request.authority}{request.path}{'?' + request.query if request.query else ''}"
    made = AWSRequest(request.method, url, fields, request.body)
    if request.body is None:
        made.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
    with patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(request.now_s, UTC)):
        signer(Credentials(ID, SECRET, session_token), scope.service, scope.region).add_auth(made)
    return str(made.headers["Authorization"])


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=12)
SEGMENTS = st.lists(
    TEXT.filter(lambda text: text not in ("", ".", "..") and not set(text) & set("/\\;") and "%" not in text), max_size=4
)
QUERY = st.lists(st.tuples(TEXT, TEXT), max_size=4)
TYPES = st.sampled_from([(), (("Content-Type", "text/plain;  charset=utf-8"),), (("X-Amz-Target", "A_1.B"), ("Accept", "*/*"))])
HOSTS = st.sampled_from(
    ["b.s3.eu-west-1.amazonaws.com", "x1.execute-api.eu-west-1.amazonaws.com", "dynamodb.us-east-2.amazonaws.com:8443"]
)


@given(
    method=st.sampled_from(["GET", "PUT", "DELETE"]),
    segments=SEGMENTS,
    query=QUERY,
    fields=TYPES,
    host=HOSTS,
    body=st.binary(max_size=40),
    session_token=st.sampled_from([None, SESSION]),
)
def test_it_signs_as_botocore_does(
    method: str,
    segments: list[str],
    query: list[tuple[str, str]],
    fields: tuple[tuple[str, str], ...],
    host: str,
    body: bytes,
    session_token: str | None,
) -> None:
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    raw = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    request = facts(method, path, raw, *fields, host=host, body=body)
    scope = scope_of(host.partition(":")[0])
    assert scope is not None

    extra = {"session_token": session_token} if session_token else {}
    assert sent(AwsSigV4(), request, **extra)["Authorization"] == signed_by_botocore(request, scope, session_token)


def test_a_query_is_signed_as_it_reads_however_it_is_spelled() -> None:
    def signature(query: str) -> bytes:
        return AwsSigV4().edits(PARTS, facts(query=query, host=S3_HOST)).signatures[0].reveal()

    assert signature("&x&b=%2fa+b&%61=~") == signature("a=~&b=%2Fa%20b&x=")
    assert signature("a=1&a=0") == signature("a=0&a=1") != signature("a=1&a=1")


def test_an_upload_that_streams_to_s3_is_not_signed_and_says_so() -> None:
    request = facts("PUT", "/key", host=S3_HOST, body=None)

    headers = sent(AwsSigV4(), request)

    assert headers["X-Amz-Content-Sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["Authorization"] == signed_by_botocore(request, Scope("s3", "us-east-1"), None)


@pytest.mark.parametrize(
    ("host", "signs_body"),
    [
        (S3_HOST, False),
        ("s3.eu-west-1.amazonaws.com", False),
        ("dynamodb.eu-west-1.amazonaws.com", True),
        ("x.example.com", True),
    ],
)
def test_every_service_but_s3_wants_the_body(host: str, signs_body: bool) -> None:
    assert AwsSigV4().signs_body(host) is signs_body


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("s3.amazonaws.com", ("s3", "us-east-1")),
        ("bucket.s3.amazonaws.com", ("s3", "us-east-1")),
        ("a.b.s3.eu-central-1.amazonaws.com", ("s3", "eu-central-1")),
        ("bucket.s3-eu-west-1.amazonaws.com", ("s3", "eu-west-1")),
        ("bucket.s3.dualstack.eu-west-1.amazonaws.com", ("s3", "eu-west-1")),
        ("eu-west-1.s3.eu-west-2.amazonaws.com", ("s3", "eu-west-2")),
        ("ap-123.s3-accesspoint.eu-west-1.amazonaws.com", ("s3", "eu-west-1")),
        ("abc123.execute-api.ap-southeast-2.amazonaws.com", ("execute-api", "ap-southeast-2")),
        ("abc.lambda-url.us-west-2.on.aws", ("lambda", "us-west-2")),
        ("bedrock-runtime.us-east-1.amazonaws.com", ("bedrock", "us-east-1")),
        ("dynamodb-fips.us-gov-west-1.amazonaws.com", ("dynamodb", "us-gov-west-1")),
        ("sqs.cn-north-1.amazonaws.com.cn", ("sqs", "cn-north-1")),
        ("lambda.eu-west-1.api.aws", ("lambda", "eu-west-1")),
        ("iam.amazonaws.com", ("iam", "us-east-1")),
        ("search-x.eu-west-1.es.amazonaws.com", None),
        ("api.example.com", None),
        ("s3.amazonaws.com.evil.example", None),
        ("s3-amazonaws.com", None),
    ],
)
def test_a_host_of_awss_says_what_to_sign_for(host: str, expected: tuple[str, str] | None) -> None:
    assert scope_of(host) == expected


def test_the_policys_word_comes_before_the_hosts() -> None:
    assert AwsSigV4("s3", "auto").scope_for("acct.r2.example.com") == ("s3", "auto")
    assert AwsSigV4(region="eu-west-1").scope_for("bucket.s3.amazonaws.com") == ("s3", "eu-west-1")
    assert AwsSigV4("s3").scope_for("minio.example.com") is None


@pytest.mark.parametrize("sha", ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"])
def test_a_body_that_the_agent_signed_chunk_by_chunk_is_refused(sha: str) -> None:
    with pytest.raises(MalformedRequest, match="chunk by chunk"):
        AwsSigV4().edits(PARTS, facts("PUT", "/k", "", ("X-Amz-Content-Sha256", sha), host=S3_HOST, body=None))


def test_chunks_that_bear_no_signature_pass_to_s3_alone() -> None:
    sha = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")

    assert sent(AwsSigV4(), facts("PUT", "/k", "", sha, host=S3_HOST, body=None))["X-Amz-Content-Sha256"] == sha[1]
    with pytest.raises(MalformedRequest):
        AwsSigV4().edits(PARTS, facts("POST", "/", "", sha, host="sqs.eu-west-1.amazonaws.com"))


def test_what_the_agent_says_of_its_body_is_not_believed() -> None:
    request = facts("POST", "/", "", ("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), host="sqs.eu-west-1.amazonaws.com", body=b"a")

    assert sent(AwsSigV4(), request)["X-Amz-Content-Sha256"].startswith("ca978112ca1bbdca")


def test_the_agents_own_signature_stays_behind_wherever_it_stands() -> None:
    fields = [(b"Authorization", b"AWS4-HMAC-SHA256 mine"), (b"X-Amz-Date", b"mine"), (b"x_amz_security_token", b"mine")]
    query = (
        "X-Amz-Algorithm=mine&list-type=2&X-Amz-Credential=mine&x-amz-date=mine&X-Amz-Expires=mine&X-Amz-SignedHeaders=mine"
        "&X-Amz-Signature=mine&X-Amz-Security-Token=mine&AWSAccessKeyId=mine&Signature=mine"
    )

    outgoing = stripped(fields, query, AwsSigV4())

    assert (outgoing.query, outgoing.stripped) == ("list-type=2", 12)
    assert b"mine" not in b"".join(value for _, value in outgoing.fields)
