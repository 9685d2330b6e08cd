"""Does a proxy of this home answer?"""

from __future__ import annotations

from collections.abc import Iterator

from outloop.core.errors import NoError
from outloop.core.model import INTERNAL_HOST, HostClaim
from outloop.operator.asking import Presence, ask
from outloop.operator.call import Caller
from outloop.operator.doctor.finding import Finding, failure, ok
from outloop.operator.doctor.premises import Premises

_NAME = "proxy"


def check(premises: Premises) -> Iterator[Finding]:
    """A proxy that this home registered is its own; of another one only its certificate can tell."""
    listener, where = premises.listener, premises.where
    found = ask(listener)
    start = f"outloop up --port {listener.port}"
    if found.presence is Presence.NOTHING:
        why = "registered, but nothing answers" if listener.is_found else "no proxy runs"
        yield failure(_NAME, f"{why} on {where}", start)
    elif found.presence is Presence.ANOTHER:
        yield failure(_NAME, f"another program answers on {where}", "outloop up --port N, with a free port")
    elif listener.is_found:
        yield ok(_NAME, f"answers on {where}")
    elif not found.workspace:
        # Its pages are for agents with a token: whether its authority is this home's cannot be asked without one.
        yield failure(_NAME, f"the Outloop on {where} is not registered in this home", f"{start}, with this OUTLOOP_HOME")
    else:
        yield _by_certificate(premises)


def _by_certificate(premises: Premises) -> Finding:
    caller = Caller(premises.listener, premises.home.ca / "mitmproxy-ca-cert.pem")
    try:
        caller("GET", HostClaim(INTERNAL_HOST), "/")
    except NoError as error:
        return failure(_NAME, error.message, error.hint or "")
    except FileNotFoundError:
        return failure(_NAME, "this home has no certificate authority to know its proxy by", "outloop init")
    return ok(_NAME, f"answers on {premises.where}")
