"""Tokens are made here, for requests that were allowed: signed with the key, or fetched from the token endpoint of the policy.

One at a time for each key; all who need it wait for the same. A refresh token that the endpoint exchanges is in the keychain
before the access token is used, and no two processes use one at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from outloop.core.auth import Jwt, Minted, OAuth2, Parts
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
LOCK_LIMIT_S = 20.0  # longer than another process may take at the endpoint

_Generation = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: Reason
    detail: str
    until_s: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class _Unsaved:
    """A grant whose new refresh token is not in the keychain yet, and nowhere else."""

    before: Parts
    parts: Parts
    minted: Minted


class Minting:
    """Makes the tokens of a running proxy. Its methods belong to the event loop."""

    def __init__(self, runtime: Runtime, endpoint: TokenEndpoint) -> None:
        self._runtime = runtime
        self._endpoint = endpoint
        self._under_way: dict[_Generation, asyncio.Task[_Failure | None]] = {}
        self._failures: dict[_Generation, _Failure] = {}
        self._unsaved: dict[_Generation, _Unsaved] = {}

    async def mint(self, workspace: Workspace, service: Service, parts: Parts, agent: Agent) -> None:
        """Have a token for the key of *service* among those in memory. *parts* are the key's. Raises Refused."""
        record = self._record(workspace, service)
        generation = (record.workspace, record.name, record.generation)
        task = self._under_way.get(generation)
        if task is None:
            self._refuse_paused(generation)
            work = self._attempted(workspace, service, parts, agent, generation)
            task = self._under_way[generation] = asyncio.get_running_loop().create_task(work, name="outloop minting")
            task.add_done_callback(lambda _: self._under_way.pop(generation, None))
        # Whoever began it may leave: the others still wait for it.
        failure = await asyncio.shield(task)
        if failure is not None:
            raise Refused(failure.reason, failure.detail)

    def _record(self, workspace: Workspace, service: Service) -> KeyRecord:
        record = self._runtime.state.snapshot().keys.get((workspace.name, service.key))
        if record is None or not record.runtime_access:
            raise Refused(Reason.RUNTIME_ACCESS_OFF, f"runtime access for {service.name} is switched off")
        return record

    def _refuse_paused(self, generation: _Generation) -> None:
        now_s = time.monotonic()
        self._failures = {each: failure for each, failure in self._failures.items() if failure.until_s > now_s}
        if failure := self._failures.get(generation):
            raise Refused(failure.reason, failure.detail)

    async def _attempted(
        self, workspace: Workspace, service: Service, parts: Parts, agent: Agent, generation: _Generation
    ) -> _Failure | None:
        """Mint; return why not. The event is written either way, and after a failure there is a pause."""
        try:
            detail = await self._minted(workspace, service, parts, generation)
        except (KeyMissing, KeyLocked, MintError, Refused, UsageError, KeyError) as error:
            failure = _failure(service, error)
            self._failures[generation] = _Failure(failure.reason, failure.detail, time.monotonic() + PAUSE_S)
            self._tell("token_failed", service, agent, failure.detail)
            if isinstance(error, MintRefused):
                self._runtime.vault.forget(workspace.name, service.key)
            return failure
        self._tell("token_minted", service, agent, detail)
        return None

    def _tell(self, kind: str, service: Service, agent: Agent, detail: str | None) -> None:
        host = service.auth.endpoint.host if isinstance(service.auth, OAuth2) else None
        self._runtime.event(
            kind,
            workspace=agent.workspace,
            agent=agent.name or None,
            service=service.name,
            key=service.key,
            host=host,
            detail=detail,
        )

    async def _minted(self, workspace: Workspace, service: Service, parts: Parts, generation: _Generation) -> str | None:
        scheme = service.auth
        if isinstance(scheme, Jwt):
            minted = await asyncio.to_thread(scheme.minted, parts, time.time())
            self._keep(workspace, service, minted)
            return None
        assert isinstance(scheme, OAuth2)
        if scheme.grant != REFRESH_TOKEN:
            status, body = await self._endpoint.ask(scheme.token_request(parts))
            self._keep(workspace, service, scheme.granted(status, body, time.time()).minted)
            return None
        async with held_async(self._runtime.home.root, workspace.name, service.key, LOCK_LIMIT_S):
            return await self._exchanged(workspace, service, scheme, generation)

    async def _exchanged(self, workspace: Workspace, service: Service, scheme: OAuth2, generation: _Generation) -> str | None:
        """Use the refresh token as the keychain has it now: another process may have exchanged it since it was read."""
        if generation in self._unsaved:
            return await self._save(workspace, service, generation)
        parts = await self._runtime.vault.reread(workspace, service.key, self._runtime.state.snapshot())
        status, body = await self._endpoint.ask(scheme.token_request(parts))
        granted = scheme.granted(status, body, time.time())
        if granted.refresh_token is None or granted.refresh_token == parts[REFRESH_TOKEN]:
            self._keep(workspace, service, granted.minted)
            return None
        self._unsaved[generation] = _Unsaved(parts, {**parts, REFRESH_TOKEN: granted.refresh_token}, granted.minted)
        return await self._save(workspace, service, generation)

    async def _save(self, workspace: Workspace, service: Service, generation: _Generation) -> str:
        unsaved = self._unsaved[generation]
        try:
            # Also where the switch was turned off meanwhile: the refresh token before is of no use any more.
            record = self._runtime.state.snapshot().keys.get((workspace.name, service.key))
            if record is None or record.generation != generation[2]:
                raise KeyReplaced("the key got another value meanwhile")
            await self._runtime.vault.renew(record, unsaved.before, unsaved.parts)
        except (KeyReplaced, KeyMissing):
            del self._unsaved[generation]
            raise
        until_s = time.time() + GRACE_S
        await asyncio.to_thread(self._runtime.state.renew_key, record.workspace, record.name, until_s)
        del self._unsaved[generation]
        self._keep(workspace, service, unsaved.minted)
        return "the refresh token was exchanged"

    def _keep(self, workspace: Workspace, service: Service, minted: Minted) -> None:
        self._runtime.vault.tokens.keep(self._record(workspace, service), minted, time.time())


def _failure(service: Service, error: Exception) -> _Failure:
    if isinstance(error, Refused):
        return _Failure(error.reason, error.detail)
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
    return _Failure(Reason.KEY_LOCKED, "the operator's keychain cannot be read or written")
