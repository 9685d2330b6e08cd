"""Tokens are made here, for requests that were allowed: signed with the key, or fetched from the token endpoint of the policy.

One at a time for each key; all who need it wait for the same. A refresh token that the endpoint exchanges is in the keychain
before the access token is used, and no two processes use one at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from outloop.core.auth import Jwt, Minted, OAuth2, Parts, Scheme
from outloop.core.auth.oauth2 import REFRESH_TOKEN
from outloop.core.errors import KeyLocked, KeyMissing, KeyReplaced, KeyUnusable, MintError, MintRefused, UsageError
from outloop.core.model import Agent, Reason, Service, Workspace
from outloop.proxy.admission import Refused
from outloop.proxy.endpoint import EndpointUntrusted, TokenEndpoint
from outloop.proxy.minted import GRACE_S
from outloop.proxy.runtime import Runtime
from outloop.store.keylock import held_async
from outloop.store.state import KeyRecord

PAUSE_S = 5.0  # after a failure nothing is asked for this long, however many requests come
_EXCHANGED = "the refresh token was exchanged"
LOCK_LIMIT_S = 20.0  # longer than another process may take at the endpoint

_Work = tuple[str, str, int, Scheme]


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: Reason
    detail: str
    until_s: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class _Unsaved:
    """A grant whose new refresh token is not in the keychain yet, and nowhere else."""

    scheme: OAuth2
    before: Parts
    parts: Parts
    minted: Minted


class Minting:
    """Makes the tokens of a running proxy. Its methods belong to the event loop."""

    def __init__(self, runtime: Runtime, endpoint: TokenEndpoint) -> None:
        self._runtime = runtime
        self._endpoint = endpoint
        self._under_way: dict[_Work, asyncio.Task[_Failure | None]] = {}
        self._failures: dict[_Work, _Failure] = {}
        self._unsaved: dict[tuple[str, str], _Unsaved] = {}

    async def mint(self, workspace: Workspace, service: Service, agent: Agent) -> None:
        """Have a token for the key of *service* among those in memory. Raises Refused."""
        record = self._runtime.state.snapshot().keys.get((workspace.name, service.key))
        if record is None or not record.runtime_access:
            raise Refused(Reason.RUNTIME_ACCESS_OFF, f"runtime access for {service.name} is switched off")
        # A policy that was edited meanwhile may ask for another audience or scope.
        work = (record.workspace, record.name, record.generation, service.auth)
        task = self._under_way.get(work)
        if task is None:
            self._refuse_paused(work)
            attempt = self._attempted(workspace, service, agent, work)
            task = self._under_way[work] = asyncio.get_running_loop().create_task(attempt, name="outloop minting")
            task.add_done_callback(lambda _: self._under_way.pop(work, None))
        # Whoever began it may leave: the others still wait for it.
        failure = await asyncio.shield(task)
        if failure is not None:
            raise Refused(failure.reason, failure.detail)

    def _refuse_paused(self, work: _Work) -> None:
        now_s = time.monotonic()
        self._failures = {each: failure for each, failure in self._failures.items() if failure.until_s > now_s}
        if failure := self._failures.get(work):
            raise Refused(failure.reason, failure.detail)

    async def _attempted(self, workspace: Workspace, service: Service, agent: Agent, work: _Work) -> _Failure | None:
        """Mint; return why not. The event is written either way, and after a failure there is a pause."""
        try:
            detail = await self._minted(workspace, service)
        except (KeyMissing, KeyLocked, MintError, UsageError, KeyError) as error:
            failure = _failure(service, error)
            self._failures[work] = _Failure(failure.reason, failure.detail, time.monotonic() + PAUSE_S)
            self._tell("token_failed", service, agent, failure.detail)
            if isinstance(error, MintRefused):
                self._runtime.vault.forget(workspace.name, service.key)
            return failure
        self._tell("token_minted", service, agent, detail)
        return None

    def _tell(self, kind: str, service: Service, agent: Agent, detail: str | None) -> None:
        self._runtime.event(
            kind,
            workspace=agent.workspace,
            agent=agent.name or None,
            service=service.name,
            key=service.key,
            host=service.auth.endpoint.host if isinstance(service.auth, OAuth2) else None,
            detail=detail,
        )

    async def _minted(self, workspace: Workspace, service: Service) -> str | None:
        """Make a token and keep it; return what the operator should know of it."""
        scheme = service.auth
        if isinstance(scheme, OAuth2) and scheme.grant == REFRESH_TOKEN:
            async with held_async(self._runtime.home.root, workspace.name, service.key, LOCK_LIMIT_S):
                return await self._exchanged(workspace, service, scheme)
        state = self._runtime.state.snapshot()
        parts = await self._runtime.vault.parts_of(workspace, service.key, state)
        if isinstance(scheme, OAuth2):
            status, body = await self._endpoint.ask(scheme.token_request(parts))
            minted = scheme.granted(status, body, time.time()).minted
        else:
            assert isinstance(scheme, Jwt)
            minted = await asyncio.to_thread(scheme.minted, parts, time.time())
        self._keep(state.keys[workspace.name, service.key], scheme, minted)
        return None

    async def _exchanged(self, workspace: Workspace, service: Service, scheme: OAuth2) -> str | None:
        """Use the refresh token as the keychain has it now: another process may have exchanged it since it was read."""
        state = self._runtime.state.snapshot()
        key = workspace.name, service.key
        record = state.keys.get(key)
        unsaved = self._unsaved.get(key)
        if unsaved is not None and record is not None:
            await self._save(record, unsaved)
            if unsaved.scheme == scheme:
                return _EXCHANGED
        self._runtime.vault.forget(*key)
        parts = await self._runtime.vault.parts_of(workspace, service.key, state)
        status, body = await self._endpoint.ask(scheme.token_request(parts))
        granted = scheme.granted(status, body, time.time())
        record = state.keys[key]
        if granted.refresh_token is None or granted.refresh_token == parts[REFRESH_TOKEN]:
            self._keep(record, scheme, granted.minted)
            return None
        unsaved = _Unsaved(scheme, parts, {**parts, REFRESH_TOKEN: granted.refresh_token}, granted.minted)
        self._unsaved[key] = unsaved
        await self._save(record, unsaved)
        return _EXCHANGED

    async def _save(self, record: KeyRecord, unsaved: _Unsaved) -> None:
        """Store what is not in the keychain yet, and use the token that came with it."""
        key = record.workspace, record.name
        try:
            await self._runtime.vault.renew(record, unsaved.before, unsaved.parts)
        except (KeyReplaced, KeyMissing):
            del self._unsaved[key]
            raise
        await asyncio.to_thread(self._runtime.state.renew_key, *key, time.time() + GRACE_S)
        del self._unsaved[key]
        self._keep(record, unsaved.scheme, unsaved.minted)

    def _keep(self, record: KeyRecord, scheme: Scheme, minted: Minted) -> None:
        """Use *minted* from now on, unless the key that it was made from got another value or was switched off meanwhile."""
        now = self._runtime.state.snapshot().keys.get((record.workspace, record.name))
        if now is None or not now.runtime_access or (now.generation, now.added_at) != (record.generation, record.added_at):
            raise KeyReplaced("the key was replaced or switched off meanwhile")
        self._runtime.vault.tokens.keep(now, scheme, minted, time.time())


def _failure(service: Service, error: Exception) -> _Failure:
    message = str(error)
    if isinstance(error, KeyUnusable):
        return _Failure(Reason.KEY_MISSING, f"the key stored for {service.name} cannot be used: {message}")
    if isinstance(error, KeyError):
        return _Failure(Reason.KEY_MISSING, f"the key stored for {service.name} lacks a part that its policy asks for")
    if isinstance(error, KeyMissing):
        return _Failure(Reason.KEY_MISSING, f"no key is stored for {service.name} in this workspace")
    if isinstance(error, MintRefused):
        return _Failure(Reason.KEY_REJECTED, message)
    if isinstance(error, EndpointUntrusted):
        return _Failure(Reason.UPSTREAM_UNTRUSTED, message)
    if isinstance(error, MintError):
        return _Failure(Reason.UPSTREAM_FAILED, message)
    if isinstance(error, KeyReplaced):
        return _Failure(Reason.KEY_LOCKED, f"{message}: send the request again")
    return _Failure(Reason.KEY_LOCKED, "the operator's keychain cannot be read or written")
