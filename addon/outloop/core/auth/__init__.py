"""How a service takes its credential: one file per scheme, each pure: (request facts, parts) → edits."""

from outloop.core.auth.aws_sigv4 import AwsSigV4
from outloop.core.auth.base import MINTED, Edits, Facts, Fields, Minted, Part, Parts, Scheme, fields_with, query_with
from outloop.core.auth.basic import Basic
from outloop.core.auth.bearer import Bearer
from outloop.core.auth.cookie import Cookie
from outloop.core.auth.forms import Form
from outloop.core.auth.header import Header
from outloop.core.auth.headers import Headers
from outloop.core.auth.hmac import Hmac
from outloop.core.auth.jwt import Jwt
from outloop.core.auth.oauth2 import OAuth2
from outloop.core.auth.query import Query

__all__ = [
    "MINTED",
    "AwsSigV4",
    "Basic",
    "Bearer",
    "Cookie",
    "Edits",
    "Facts",
    "Fields",
    "Form",
    "Header",
    "Headers",
    "Hmac",
    "Jwt",
    "Minted",
    "OAuth2",
    "Part",
    "Parts",
    "Query",
    "Scheme",
    "fields_with",
    "query_with",
]
