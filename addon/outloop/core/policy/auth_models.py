"""The shape of ``auth``: how a service takes its credential."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from outloop.core.policy.shape import Line, Shape, WhereScalar, optional

AWS_NAME = "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"

AwsName = Annotated[str, StringConstraints(pattern=AWS_NAME)]


class BearerShape(Shape):
    """Authorization: Bearer TOKEN (RFC 6750)."""

    type: Literal["bearer"]


class HeaderShape(Shape):
    """The token in a header of the service's own."""

    type: Literal["header"]
    name: Line = Field(description="the header's name, such as X-Api-Key")
    prefix: str = optional("what stands before the token, such as `Token `", max_length=64)


class BasicShape(Shape):
    """HTTP Basic (RFC 7617); the key has the parts username and password."""

    type: Literal["basic"]


class QueryShape(Shape):
    """The token in the query."""

    type: Literal["query"]
    param: Line = Field(description="the query parameter's name")


class CookieShape(Shape):
    """The token in a cookie."""

    type: Literal["cookie"]
    name: Line = Field(description="the cookie's name")


class HeadersShape(Shape):
    """A key of several parts, each in a header of its own."""

    type: Literal["headers"]
    names: list[Line] = Field(min_length=1, max_length=10, description="the headers' names; each is a part of the key")
    public: list[Line] = optional("those that identify and are no secret", max_length=10)


class SpotShape(Shape):
    """Where in the request a value goes: exactly one of header and query."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["header"]}, {"required": ["query"]}]})

    header: Line = optional("a header's name")
    query: Line = optional("a query parameter's name")
    prefix: str = optional("header: what stands before the value", max_length=64)


class ClockShape(SpotShape):
    """Where the time of the request goes, and how it is written."""

    format: Literal["seconds", "milliseconds", "iso8601"] = optional("how the time is written; default seconds since 1970")


class HmacShape(Shape):
    """A signature over the request (HMAC, RFC 2104); the key has the part secret and, where named, key_id and passphrase."""

    type: Literal["hmac"]
    sign: Line = Field(
        description="the text that is signed, with {method}, {host}, {path}, {query}, {target}, {body}, {body_sha256}, "
        "{timestamp} and {key_id} in it"
    )
    signature: SpotShape = Field(description="where the signature goes")
    hash: Literal["sha256", "sha512", "sha1"] = optional("the hash function; default sha256")
    encoding: Literal["hex", "base64"] = optional("how the signature is written; default hex")
    secret_encoding: Literal["text", "base64", "hex"] = optional("what the stored secret is; default text")
    timestamp: ClockShape = optional("where the time goes")
    key_id: SpotShape = optional("where the key's public id goes")
    passphrase: SpotShape = optional("where a second secret goes, as it is")


class AwsSigV4Shape(Shape):
    """AWS Signature Version 4; the key has the parts access_key_id, secret_access_key and, if need be, session_token."""

    type: Literal["aws_sigv4"]
    service: AwsName = optional("the name AWS signs the service under; default as the host says")
    region: AwsName = optional("default as the host says")


class JwtShape(Shape):
    """A JSON Web Token (RFC 7519) that the key signs; the key has the part private_key (PEM), or secret for HS algorithms."""

    type: Literal["jwt"]
    alg: Literal["HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"] = Field(description="how it is signed (RFC 7518)")
    claims: dict[Line, WhereScalar] = optional(
        "iss, sub, aud, scope and others; iat and exp are set for each token", max_length=50
    )
    kid: Line = optional("the key's id, in the token's header")
    lifetime: int = optional("how many seconds a token stands; default 600", ge=60, le=86400)
    header: Line = optional("the header it goes into; default Authorization")
    prefix: str = optional("what stands before it; default `Bearer ` in Authorization, else nothing", max_length=64)
    secret_encoding: Literal["text", "base64", "hex"] = optional("what the stored secret of an HS algorithm is; default text")


class OAuth2Shape(Shape):
    """An access token from a token endpoint (RFC 6749); the key has the parts client_id, client_secret and refresh_token."""

    type: Literal["oauth2"]
    grant: Literal["client_credentials", "refresh_token"] = Field(description="what the token endpoint is shown")
    token_url: Line = Field(description="the token endpoint, over https; {param} is filled by the workspace")
    client_auth: Literal["basic", "body"] = optional("how client_id and client_secret are shown; default basic")
    scopes: list[Line] = optional("the scopes asked for", max_length=100)
    params: dict[Line, Line] = optional("further parameters, such as audience; none of them secret", max_length=20)
    header: Line = optional("the header the access token goes into; default Authorization")
    prefix: str = optional("what stands before it; default `Bearer ` in Authorization, else nothing", max_length=64)


Auth = Annotated[
    BearerShape
    | HeaderShape
    | BasicShape
    | QueryShape
    | CookieShape
    | HeadersShape
    | JwtShape
    | HmacShape
    | AwsSigV4Shape
    | OAuth2Shape,
    Field(discriminator="type", description="how the service takes its credential"),
]
