"""Credentials that are made from a key, as policy describes them: what is read, and what is wrong, told with a hint."""

from __future__ import annotations

import pytest

from harness.policies import CATALOGUE, problems_of, workspace_of
from outloop.core.auth import AwsSigV4, Form, Hmac, Jwt, OAuth2
from outloop.core.auth.hmac import Spot
from outloop.core.errors import PolicyError
from outloop.core.model import Workspace
from outloop.core.policy import read_catalogue_entry, read_workspace
from outloop.core.policy.difference import difference
from outloop.store.documents import parse_document

SIGN = "type: hmac, sign: '{timestamp}{method}', signature: {header: X-S}, timestamp: {header: X-T}"
OAUTH = "type: oauth2, grant: client_credentials, token_url: 'https://login.example.com/token'"
FAULTS = [
    pytest.param("{type: hmac, signature: {header: X}}", "missing field `sign`", None, id="hmac-without-sign"),
    pytest.param("{type: hmac, sign: '{query}'}", "missing field `signature`", None, id="hmac-without-signature"),
    pytest.param(
        "{type: hmac, sign: '{pth}', signature: {header: X}}",
        "placeholder `{pth}`",
        "did you mean `{path}`?",
        id="hmac-placeholder",
    ),
    pytest.param("{type: hmac, sign: '{path', signature: {header: X}}", "a brace that belongs", None, id="hmac-brace"),
    pytest.param("{type: hmac, sign: hello, signature: {header: X}}", "nothing of the request", "{method}", id="hmac-constant"),
    pytest.param("{type: hmac, sign: '{path}é', signature: {header: X}}", "printable ascii", "line feed", id="hmac-ascii"),
    pytest.param("{type: hmac, sign: '{timestamp}', signature: {header: X}}", "sent nowhere", "timestamp:", id="hmac-time"),
    pytest.param("{type: hmac, sign: '{path}', signature: {}}", "expected one of `header` and `query`", None, id="spot-empty"),
    pytest.param(
        "{type: hmac, sign: '{path}', signature: {header: A, query: b}}", "one of `header` and `query`", None, id="spot-both"
    ),
    pytest.param("{type: hmac, sign: '{path}', signature: {header: Host}}", "cannot carry a key", None, id="spot-host"),
    pytest.param(
        "{type: hmac, sign: '{path}', signature: {query: 'a b'}}", "not a query parameter's name", None, id="spot-query"
    ),
    pytest.param("{type: hmac, sign: '{path}', signature: {query: a, prefix: x}}", "has no prefix", None, id="spot-prefix"),
    pytest.param("{" + SIGN + ", key_id: {header: x-s}}", "`x-s` is to hold two values", "of its own", id="spot-twice"),
    pytest.param("{" + SIGN + ", hash: sha265}", "expected `sha256` or", "did you mean `sha256`?", id="hmac-hash"),
    pytest.param("{" + SIGN + ", secret: abcdefgh}", "unknown field `secret`", "never stands in a policy", id="hmac-secret"),
    pytest.param("{type: jwt}", "missing field `alg`", None, id="jwt-without-alg"),
    pytest.param("{type: jwt, alg: none}", "expected `HS256` or", None, id="jwt-none"),
    pytest.param("{type: jwt, alg: ES265}", "expected `HS256` or", "did you mean `ES256`?", id="jwt-alg"),
    pytest.param("{type: jwt, alg: HS256, claims: {exp: 1}}", "Outloop sets the claim `exp`", "lifetime", id="jwt-exp"),
    pytest.param("{type: jwt, alg: HS256, lifetime: 5}", "greater than or equal to 60", None, id="jwt-lifetime"),
    pytest.param("{type: jwt, alg: RS256, secret_encoding: hex}", "private key in PEM", "HS256", id="jwt-encoding"),
    pytest.param("{type: jwt, alg: HS256, header: Cookie}", "cannot carry a key", None, id="jwt-header"),
    pytest.param("{type: jwt, alg: HS256, claims: {a: {b: 1}}}", "expected", None, id="jwt-nested-claim"),
    pytest.param("{type: oauth2, token_url: 'https://a.example/t'}", "missing field `grant`", None, id="oauth2-without-grant"),
    pytest.param(
        "{type: oauth2, grant: password, token_url: 'https://a.example/t'}", "expected `client_credentials` or", None, id="grant"
    ),
    pytest.param("{type: oauth2, grant: refresh_token}", "missing field `token_url`", None, id="oauth2-without-url"),
    *(
        pytest.param(f"{{type: oauth2, grant: refresh_token, token_url: '{url}'}}", message, None, id=f"token-url-{name}")
        for name, url, message in (
            ("http", "http://login.example.com/token", "is not over https"),
            ("host-alone", "login.example.com", "is not the url of a token endpoint"),
            ("user", "https://me:pw@login.example.com/token", "is not the url of a token endpoint"),
            ("fragment", "https://login.example.com/token#x", "is not the url of a token endpoint"),
            ("backslash", "https://login.example.com\\\\@evil.example/", "is not the url of a token endpoint"),
            ("odd-ip", "https://0x7f.1/token", "is not a host"),
            ("own-name", "https://outloop.internal/token", "is Outloop's own"),
            ("secret", "https://login.example.com/t?key=sk_live-abcdef0123456789", "looks like it holds a secret"),
            ("param", "https://{tenant}.example.com/token", "is for the catalogue"),
        )
    ),
    pytest.param("{" + OAUTH + ", scopes: ['a b']}", "`a b` is not one scope", "[a, b]", id="scopes-in-one"),
    pytest.param("{" + OAUTH + ", params: {client_secret: x}}", "is Outloop's to send", "key add", id="param-secret"),
    pytest.param("{" + OAUTH + ", params: {scope: x}}", "is Outloop's to send", "scopes", id="param-scope"),
    pytest.param("{" + OAUTH + ", client_auth: post}", "expected `basic` or `body`", None, id="client-auth"),
    pytest.param("{type: aws_sigv4}", "api.example.com does not say", "region: eu-west-1", id="aws-nowhere"),
    pytest.param("{type: aws_sigv4, service: s3}", "api.example.com does not say", "region: eu-west-1", id="aws-no-region"),
    pytest.param("{type: aws_sigv4, service: S3, region: eu-west-1}", "`S3` cannot be a name", "execute-api", id="aws-upper"),
]


@pytest.mark.parametrize(("auth", "message", "hint"), FAULTS)
def test_a_wrong_auth_is_told(auth: str, message: str, hint: str | None) -> None:
    found = problems_of(f"workspace: acme\nservices:\n  api:\n    hosts: [api.example.com]\n    auth: {auth}\n")

    assert [problem for problem in found if message in problem.message and (hint or "") in (problem.hint or "")], found


ANY_RULE = "workspace: acme\nservices:\n  api:\n    hosts: [{host}]\n    auth: {auth}\n    rules: [{{allow: GET /**}}]\n"


@pytest.mark.parametrize(
    ("host", "auth", "expected"),
    [
        pytest.param(
            "api.example.com",
            r"""{type: hmac, sign: "{method}\n{target}\n{body}", hash: sha512, encoding: base64, secret_encoding: base64,
              signature: {header: X-S, prefix: 'v1='}, timestamp: {query: t, format: iso8601}, key_id: {header: X-K},
              passphrase: {header: X-P}}""",
            Hmac(
                sign="{method}\n{target}\n{body}",
                signature=Spot("X-S", prefix="v1="),
                hash="sha512",
                is_base64=True,
                secret_form=Form.BASE64,
                timestamp=Spot("t", in_query=True),
                clock="iso8601",
                key_id=Spot("X-K"),
                passphrase=Spot("X-P"),
            ),
            id="hmac",
        ),
        pytest.param(
            "api.example.com",
            "{type: jwt, alg: ES256, kid: K1, claims: {iss: me, aud: '1', admin: true, n: 1}, lifetime: 1200}",
            Jwt("ES256", (("iss", "me"), ("aud", "1"), ("admin", True), ("n", 1)), "K1", 1200),
            id="jwt",
        ),
        pytest.param(
            "api.example.com",
            "{type: jwt, alg: HS256, header: X-Ghost, secret_encoding: hex}",
            Jwt("HS256", header="X-Ghost", prefix="", secret_form=Form.HEX),
            id="jwt-in-a-header-of-its-own",
        ),
        pytest.param("b.s3.eu-west-1.amazonaws.com", "{type: aws_sigv4}", AwsSigV4(), id="aws-by-host"),
        pytest.param(
            "minio.example.com", "{type: aws_sigv4, service: s3, region: eu-1}", AwsSigV4("s3", "eu-1"), id="aws-elsewhere"
        ),
        pytest.param(
            "api.example.com",
            "{type: oauth2, grant: refresh_token, token_url: 'https://l.example:8443/t?v=1', client_auth: body,"
            " scopes: [a, 'b:c'], params: {audience: x}, header: X-Token}",
            OAuth2("refresh_token", "https://l.example:8443/t?v=1", True, ("a", "b:c"), (("audience", "x"),), "X-Token", ""),
            id="oauth2",
        ),
    ],
)
def test_how_a_credential_is_made_is_read(host: str, auth: str, expected: object) -> None:
    assert workspace_of(ANY_RULE.format(host=host, auth=auth)).services[0].auth == expected


def test_a_reload_says_that_another_credential_is_made() -> None:
    def read(scopes: str) -> Workspace:
        return workspace_of(ANY_RULE.format(host="api.example.com", auth="{" + OAUTH + f", scopes: {scopes}" + "}"))

    assert difference(read("[a, b]"), read("[a]")) == ("acme: api: auth changed",)


TENANT = """\
title: X
hosts: ["{site}.example.com"]
auth: {type: oauth2, grant: client_credentials, token_url: "https://login.example.com/{tenant}/token"}
"""


def _with_tenant(tenant: str) -> OAuth2:
    entry = read_catalogue_entry(parse_document(TENANT, "services/x.yaml"))
    assert entry.params == ("site", "tenant")
    text = f"workspace: acme\nservices:\n  x:\n    params: {{site: a, tenant: {tenant}}}\n"
    workspace = read_workspace(parse_document(text, "policies/acme.yaml"), {**CATALOGUE, "x": entry})
    auth = workspace.services[0].auth
    assert isinstance(auth, OAuth2)
    return auth


def test_a_workspace_fills_the_token_endpoint_of_the_catalogue() -> None:
    assert _with_tenant("acme-1").token_url == "https://login.example.com/acme-1/token"


def test_what_fills_a_token_endpoint_cannot_break_out_of_it() -> None:
    with pytest.raises(PolicyError, match="not the url of a token endpoint"):
        _with_tenant("'x#y'")


def test_the_host_that_fills_a_catalogue_entry_must_say_where_to_sign() -> None:
    entry = read_catalogue_entry(parse_document("title: X\nhosts: ['{host}']\nauth: {type: aws_sigv4}\n", "services/x.yaml"))

    def read(host: str) -> None:
        text = f"workspace: acme\nservices:\n  x:\n    params: {{host: {host}}}\n"
        read_workspace(parse_document(text, "policies/acme.yaml"), {"x": entry})

    read("sqs.eu-west-1.amazonaws.com")
    with pytest.raises(PolicyError, match="does not say for which AWS service"):
        read("sqs.example.com")
