"""Requests that are signed: the upstream verifies what it got, with code that nobody here wrote, and echoes what it can."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qsl

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness.operators import PATIENCE_S, Operator
from harness.raw_agent import tunnel
from harness.stage import MARK, Stage, running_stage, store_parts
from outloop.attacks.upstream.certs import HTTP2, Authority
from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Reply, chunked, json_reply, reply

BUCKET = "bucket.s3.eu-west-1.amazonaws.com"
QUEUE = "sqs.eu-west-1.amazonaws.com"
EXCHANGE = "api.exchange.example.com"
DESK = "api.desk.example.com"
HOSTS = (BUCKET, QUEUE, EXCHANGE, DESK)
AWS_ID, AWS_SECRET, AWS_SESSION = "AKIDNOTREAL0000", "not-a-real-secret-access-key-0123456789", "not-a-real-session-token-0123"
EXCHANGE_ID, EXCHANGE_SECRET = "public-exchange-id", "not-a-real-exchange-secret-0123456789"
DESK_SECRET, PASSPHRASE = base64.b64encode(b"not-a-real-desk-secret-0123456789").decode(), "not-a-real-passphrase"
POLICY = f"""\
workspace: acme
hold: 0
services:
  storage:
    hosts: [{BUCKET}]
    auth: {{type: aws_sigv4}}
    headers: {{X-Amz-Meta-Team: "growth  and   more"}}
    rules: [{{allow: "GET,PUT,POST,DELETE /**"}}]
  queue:
    hosts: [{QUEUE}]
    auth: {{type: aws_sigv4}}
    body_limit: 1000
    rules: [{{allow: "GET,POST /**"}}, {{allow: WEBSOCKET /**}}]
  exchange:
    hosts: [{EXCHANGE}]
    auth:
      type: hmac
      sign: "{{query}}{{body}}"
      signature: {{query: signature}}
      timestamp: {{query: timestamp, format: milliseconds}}
      key_id: {{header: X-MBX-APIKEY}}
    rules: [{{allow: "GET,POST /**"}}]
  desk:
    hosts: [{DESK}]
    auth:
      type: hmac
      sign: "{{timestamp}}{{method}}{{target}}{{body}}"
      encoding: base64
      secret_encoding: base64
      signature: {{header: CB-ACCESS-SIGN}}
      timestamp: {{header: CB-ACCESS-TIMESTAMP}}
      key_id: {{header: CB-ACCESS-KEY}}
      passphrase: {{header: CB-ACCESS-PASSPHRASE}}
    rules: [{{allow: "GET,POST /**"}}]
"""


def store_all(operator: Operator) -> None:
    aws = {"access_key_id": AWS_ID, "secret_access_key": AWS_SECRET}
    store_parts(operator, "storage", {**aws, "session_token": AWS_SESSION})
    store_parts(operator, "queue", aws)
    store_parts(operator, "exchange", {"key_id": EXCHANGE_ID, "secret": EXCHANGE_SECRET})
    store_parts(operator, "desk", {"key_id": "desk-id", "secret": DESK_SECRET, "passphrase": PASSPHRASE})


@pytest.fixture(scope="module")
def module_stage(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    module_operator.write_policy("acme", POLICY)
    store_all(module_operator)
    with (
        Recorder(authority.server_context(*HOSTS)) as upstream,
        running_stage(module_operator, upstream, HOSTS, upstream_ca=upstream_ca) as stage,
    ):
        yield stage


@pytest.fixture
def stage(module_stage: Stage) -> Stage:
    return module_stage.view()


def aws_signature(sent: RecordedRequest, *, token: str | None = None) -> str:
    """Sign what arrived once more, with botocore, over the headers that the request says are signed."""
    text = (sent.header("authorization") or b"").decode()
    _, region, service, _ = text.partition("Credential=")[2].partition(",")[0].split("/")[1:]
    names = text.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    fields = {name: b",".join(sent.all(name)).decode() for name in names if name not in ("host", "x-amz-date")}
    made = AWSRequest(sent.method, f"https://{(sent.header('host') or b'').decode()}{sent.target}", fields, bytes(sent.body))
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(AWS_ID, AWS_SECRET, token), service, region)
    at = datetime.strptime((sent.header("x-amz-date") or b"").decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", lambda: at), patch.object(signer, "payload", lambda _: _payload(sent)):
        signer.add_auth(made)
    return str(made.headers["Authorization"])


def _payload(sent: RecordedRequest) -> str:
    said = (sent.header("x-amz-content-sha256") or b"").decode()
    return said if said.startswith(("UNSIGNED", "STREAMING-UNSIGNED")) else hashlib.sha256(sent.body).hexdigest()


def signature_of(sent: RecordedRequest) -> str:
    return (sent.header("authorization") or b"").decode().rpartition("Signature=")[2]


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    ("host", "path", "token"),
    [
        pytest.param(BUCKET, "/folder/a%20b%2b.txt?list-type=2&prefix=%2Fa%20b&x=", AWS_SESSION, id="s3"),
        pytest.param(QUEUE, "/123/queue%20name/?Action=Send&b=2&a=1&a=0", None, id="sqs"),
    ],
)
def test_aws_can_verify_what_it_gets(stage: Stage, protocol: str, host: str, path: str, token: str | None) -> None:
    answer = stage.curl(path, protocol, "-H", "X-Amz-Acl:  private   x", "-H", "Content-Type: text/plain; a=b", host=host)

    [sent] = stage.wait_for(1)
    assert (answer.status, sent.target) == (200, path.replace("%2b", "%2B"))
    assert (sent.header("authorization") or b"").decode() == aws_signature(sent, token=token)
    assert sent.header("x-amz-security-token") == (token.encode() if token else None)
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "OK"


def test_aws_can_verify_what_it_gets_over_http2(authority: Authority, upstream_ca: Path, operator: Operator) -> None:
    operator.write_policy("acme", POLICY)
    store_all(operator)
    with (
        Recorder(authority.server_context(*HOSTS, protocols=HTTP2)) as upstream,
        running_stage(operator, upstream, HOSTS, upstream_ca=upstream_ca) as stage,
    ):
        upstream.on("POST /q", lambda sent: json_reply({"echo": (sent.header("authorization") or b"").decode()}))
        answer = stage.curl("/q?b=1&a", "--http2", "-d", "MessageBody=hello", host=QUEUE)
        [sent] = upstream.wait_for(1)

    assert (sent.version, bytes(sent.body)) == ("HTTP/2", b"MessageBody=hello")
    assert (sent.header("authorization") or b"").decode() == aws_signature(sent)
    assert answer.json()["echo"] == f"{(sent.header('authorization') or b'').decode().rpartition('=')[0]}={MARK}"


def test_a_body_is_signed_whole(stage: Stage) -> None:
    answer = stage.curl("/", "-d", "Action=SendMessage&MessageBody=hello", host=QUEUE)

    [sent] = stage.wait_for(1)
    assert (answer.status, bytes(sent.body)) == (200, b"Action=SendMessage&MessageBody=hello")
    assert (sent.header("authorization") or b"").decode() == aws_signature(sent)


@pytest.mark.parametrize("arguments", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["declared", "chunked"])
def test_a_body_that_is_too_long_to_be_signed_is_refused(stage: Stage, arguments: list[str]) -> None:
    answer = stage.curl("/", "-d", "x" * 1001, *arguments, host=QUEUE)

    assert (answer.status, answer.json()["reason"], stage.arrived) == (413, "body_too_large", [])
    assert "signature covers" in str(answer.json()["detail"])


def test_an_upload_to_s3_streams_unsigned(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"0123456789abcdef" * 65536)

    answer = stage.curl("/big", "-T", str(tmp_path / "body"), host=BUCKET)

    [sent] = stage.wait_for(1)
    assert (answer.status, sent.body_bytes) == (200, 1024 * 1024)
    assert sent.header("x-amz-content-sha256") == b"UNSIGNED-PAYLOAD"
    assert sent.header("x-amz-meta-team") == b"growth  and   more"
    assert (sent.header("authorization") or b"").decode() == aws_signature(sent, token=AWS_SESSION)


AGENT = f"""
import botocore.session
session = botocore.session.Session()
session.set_credentials("outloop-adds-it", "outloop-adds-it-too", "nor-this")
s3 = session.create_client("s3", region_name="eu-west-1")
s3.put_object(Bucket="bucket", Key="a b/c+d.txt", Body=open({{path!r}}, "rb"), ContentType="text/plain")
s3.get_object(Bucket="bucket", Key="a b/c+d.txt")
session.create_client("sqs", region_name="eu-west-1").send_message(QueueUrl="https://{QUEUE}/1/q", MessageBody="hello")
"""


def test_botocore_itself_as_the_agent(stage: Stage, tmp_path: Path) -> None:
    stage.upstream.on("PUT /a%20b/c%2Bd.txt", reply(headers=[("ETag", '"1"')]))
    stage.upstream.on("POST /", json_reply({"MessageId": "1"}))
    body = tmp_path / "body"
    body.write_bytes(b"x" * 200_000)
    environ = stage.proxy.agent_variables() | {
        "AWS_CA_BUNDLE": str(stage.operator.certificate),
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    program = [sys.executable, "-c", AGENT.format(path=str(body))]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert done.returncode == 0, done.stderr
    put, get, message = stage.wait_for(3)
    for sent, token in ((put, AWS_SESSION), (get, AWS_SESSION), (message, None)):
        assert (sent.header("authorization") or b"").decode() == aws_signature(sent, token=token)
        assert b"outloop-adds-it" not in sent.raw
        assert b"nor-this" not in sent.raw
    assert put.path == "/a%20b/c%2Bd.txt"


def test_a_body_that_the_agent_signed_chunk_by_chunk_is_refused(stage: Stage) -> None:
    answer = stage.curl(
        "/k", "-X", "PUT", "-d", "x", "-H", "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD", host=BUCKET
    )

    assert (answer.status, answer.json()["reason"], stage.arrived) == (400, "malformed_request", [])


def test_a_url_that_the_agent_signed_loses_its_signature(stage: Stage) -> None:
    query = "list-type=2&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=mine&X-Amz-Signature=mine&x-amz-security-token=mine"

    answer = stage.curl(f"/?{query}", host=BUCKET)

    [sent] = stage.wait_for(1)
    assert sent.target == "/?list-type=2"
    assert (sent.header("authorization") or b"").decode() == aws_signature(sent, token=AWS_SESSION)
    assert stage.row(answer.header("outloop-audit-id"))["stripped"] == 4


def _echo(sent: RecordedRequest) -> Reply:
    """Send back the signature, as it stands and coded, in a header and split over chunks."""
    signature = signature_of(sent)
    body = json.dumps(
        {"raw": signature, "hex": signature.encode().hex(), "basic": base64.b64encode(f"x:{signature}".encode()).decode()}
    )
    pieces = (body[:20].encode(), body[20:50].encode(), body[50:].encode())
    return chunked(*pieces, headers=[("X-Echo", (sent.header("authorization") or b"").decode()), ("X-Id", AWS_ID)])


def test_an_echo_of_the_signature_is_scrubbed_and_the_public_id_is_not(stage: Stage) -> None:
    stage.upstream.on("GET /echo", _echo)

    answer = stage.curl("/echo", host=QUEUE)

    [sent] = stage.wait_for(1)
    assert answer.json() == {"raw": MARK, "hex": MARK, "basic": answer.json()["basic"]}
    assert MARK in str(answer.json()["basic"])
    assert answer.header("x-echo") == f"{(sent.header('authorization') or b'').decode().rpartition('=')[0]}={MARK}"
    assert answer.header("x-id") == AWS_ID
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["scrubbed"], row["secret_exposed"]) == (4, 0)


def test_an_exchange_can_verify_the_query_it_gets(stage: Stage) -> None:
    stage.upstream.on("POST /api/v3/order", lambda sent: json_reply({"url": f"https://{EXCHANGE}{sent.target}"}))

    answer = stage.curl(
        "/api/v3/order?symbol=LTC%2fBTC&timestamp=1&signature=mine", "-d", "side=BUY", "-H", "X-MBX-APIKEY: mine", host=EXCHANGE
    )

    [sent] = stage.wait_for(1)
    query, _, signature = sent.target.partition("?")[2].rpartition("&signature=")
    assert query.startswith("symbol=LTC%2fBTC&timestamp=")
    assert signature == hmac.new(EXCHANGE_SECRET.encode(), f"{query}side=BUY".encode(), hashlib.sha256).hexdigest()
    assert abs(int(dict(parse_qsl(query))["timestamp"]) / 1000 - datetime.now(UTC).timestamp()) < 60
    assert sent.header("x-mbx-apikey") == EXCHANGE_ID.encode()
    assert answer.json() == {"url": f"https://{EXCHANGE}/api/v3/order?{query}&signature={MARK}"}
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["stripped"], row["scrubbed"], row["path"]) == (3, 1, "/api/v3/order?symbol=LTC%2fBTC&timestamp=1&signature=***")
    assert signature not in str(stage.operator.rows()) + str(stage.operator.rows("events")) + stage.proxy.log


def test_a_signature_in_base64_is_verified_and_scrubbed_in_every_spelling_of_it(stage: Stage) -> None:
    def echo(sent: RecordedRequest) -> Reply:
        signature = (sent.header("cb-access-sign") or b"").decode()
        escaped = "".join(f"%{byte:02X}" for byte in signature.encode())
        return json_reply({"a": signature, "b": escaped, "c": signature.rstrip("="), "d": PASSPHRASE, "e": "desk-id"})

    stage.upstream.on("POST /orders", echo)

    answer = stage.curl("/orders?a=1", "-d", '{"size": 1}', host=DESK)

    [sent] = stage.wait_for(1)
    at = (sent.header("cb-access-timestamp") or b"").decode()
    expected = hmac.new(base64.b64decode(DESK_SECRET), f'{at}POST/orders?a=1{{"size": 1}}'.encode(), hashlib.sha256).digest()
    assert sent.header("cb-access-sign") == base64.b64encode(expected)
    assert (sent.header("cb-access-key"), sent.header("cb-access-passphrase")) == (b"desk-id", PASSPHRASE.encode())
    found = answer.json()
    assert {name: str(value).rstrip("=").removesuffix("%3D") for name, value in found.items()} == {
        "a": MARK, "b": MARK, "c": MARK, "d": MARK, "e": "desk-id",
    }  # fmt: skip


def test_each_request_on_one_connection_has_a_signature_of_its_own(stage: Stage) -> None:
    stage.upstream.on("GET /echo", _echo)
    with tunnel(stage.proxy, f"{QUEUE}:443") as agent:
        answers = [agent.ask(f"GET /echo?n={number} HTTP/1.1\r\nHost: {QUEUE}\r\n\r\n".encode("latin-1")) for number in range(3)]

    signatures = {signature_of(sent) for sent in stage.wait_for(3)}
    assert len(signatures) == 3
    assert not any(signature.encode() in answer.body for signature in signatures for answer in answers)


def test_a_stored_key_that_lacks_a_part_or_is_no_coding_is_no_key(stage: Stage) -> None:
    from harness.stage import stores
    from outloop.core.secret import Secret

    with stores(stage.operator) as (state, keychain):
        keychain.set(
            "acme", "acme-desk", {"key_id": Secret(b"desk-id"), "secret": Secret(b"not*base64*"), "passphrase": Secret(b"x" * 8)}
        )
        state.rotate_key("acme", "acme-desk", None)
    answer = stage.curl("/", host=DESK)

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "key_missing", [])
    assert "cannot be used: it is not base64" in str(answer.json()["detail"])
    store = {"key_id": "desk-id", "secret": DESK_SECRET, "passphrase": PASSPHRASE}
    with stores(stage.operator) as (state, keychain):
        keychain.set("acme", "acme-desk", {part: Secret(value.encode()) for part, value in store.items()})
        state.rotate_key("acme", "acme-desk", None)
    assert stage.curl("/", host=DESK).status == 200
