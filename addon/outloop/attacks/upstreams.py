"""The servers behind every name: those that a service claims, those that are not who they should be, and traps."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping

from outloop.attacks.case import Cut, Sent, Sent2
from outloop.attacks.house import DEFAULT, HOSTS, MODERN, TRAPS, untrusted
from outloop.attacks.upstream.certs import HTTP2, Authority
from outloop.attacks.upstream.gate import Gate
from outloop.attacks.upstream.journal import Answer, RecordedRequest
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Reply, raw


class Upstreams:
    """The recorders behind every name, as the runner sees them."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []
        self.gates: list[Gate] = []
        self._answer: Answer = DEFAULT
        self._over: dict[int, Sent] = {}

    def add(self, stack: contextlib.ExitStack, context: ssl.SSLContext) -> int:
        """Start one more; return the port of its gate."""
        self.recorders.append(stack.enter_context(Recorder(context, self._answered)))
        self.gates.append(stack.enter_context(Gate(self.recorders[-1].port)))
        return self.gates[-1].port

    def answer_with(self, answer: object) -> None:
        """Answer every request from now on with *answer*: bytes as they are, a Reply or a function of the request.

        None is `DEFAULT`.
        """
        if isinstance(answer, bytes):
            answer = raw(answer)
        assert answer is None or isinstance(answer, Reply) or callable(answer)
        self._answer = answer or DEFAULT

    def _answered(self, request: RecordedRequest) -> Reply:
        return self._answer if isinstance(self._answer, Reply) else self._answer(request)

    def arrived(self) -> list[Sent]:
        """Return every request that is over, in the order in which they were first seen here."""
        for recorder in self.recorders:
            over = (each for each in recorder.requests if each.complete or each.cut)
            self._over.update((id(each), _sent(each)) for each in over if id(each) not in self._over)
        return list(self._over.values())

    def dialled(self) -> int:
        """Return how many connections were made."""
        return sum(gate.counted() for gate in self.gates)


def raise_all(stack: contextlib.ExitStack, authority: Authority) -> tuple[Upstreams, Mapping[str, int]]:
    """Start every server until *stack* ends; return them, and the port of 127.0.0.1 behind each ``host`` and ``host:port``."""
    names = [host for host in HOSTS if host != MODERN]
    upstreams = Upstreams()
    classic = upstreams.add(stack, authority.server_context(*names, *(trap.partition(":")[0] for trap in TRAPS)))
    modern = upstreams.add(stack, authority.server_context(MODERN, protocols=HTTP2))
    routes = dict.fromkeys([*names, *TRAPS], classic) | {MODERN: modern}
    for host, context in untrusted(authority).items():
        routes[host] = upstreams.add(stack, context)
    return upstreams, routes


def _sent(request: RecordedRequest) -> Sent:
    if request.version == "HTTP/2":
        return Sent2(f"{request.method} {request.target}", tuple(request.headers), bytes(request.body))
    return bytes(request.raw) if request.complete else Cut(bytes(request.raw))
