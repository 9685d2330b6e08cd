"""How a service takes its credential: one file per scheme, each pure: (request facts, parts) → edits."""

from outloop.core.auth.base import Edits, Part, Scheme
from outloop.core.auth.basic import Basic
from outloop.core.auth.bearer import Bearer
from outloop.core.auth.cookie import Cookie
from outloop.core.auth.header import Header
from outloop.core.auth.headers import Headers
from outloop.core.auth.query import Query

__all__ = ["Basic", "Bearer", "Cookie", "Edits", "Header", "Headers", "Part", "Query", "Scheme"]
