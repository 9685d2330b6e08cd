"""The decoys of a home in a running proxy: read beside the requests, never because of one, and what their use sets off.

A decoy is an alarm and not a lock: where one cannot be read, requests go on as they would without it, and the operator is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Protocol

from outloop.core.decoys import Decoy, DecoySet
from outloop.core.errors import KeychainError, KeyMissing
from outloop.core.scrub import SHORTEST_SECRET_BYTES, without
from outloop.proxy.exchange import Exchange
from outloop.proxy.notification import Notifier
from outloop.store.keycache import KeyCache, KeyId, LoadedKey
from outloop.store.state import KeyRecord, StateStore

FOLLOW_INTERVAL_S = 0.5
# A keychain that refuses may ask its owner each time it is asked.
FIRST_RETRY_S = 2.0
LAST_RETRY_S = 600.0
NOTIFY_PAUSE_S = 60.0

logger = logging.getLogger("mitmproxy.outloop")


class EventSink(Protocol):
    """Writes an event soon."""

    def __call__(self, kind: str, **fields: str | None) -> None:
        """Write an event of that kind."""
        ...


class Decoys:
    """Keeps `planted` as the state of the home has it."""

    def __init__(self, cache: KeyCache, state: StateStore, event: EventSink) -> None:
        self._cache = cache
        self._state = state
        self._event = event
        self._read: dict[KeyId, tuple[KeyRecord, Decoy]] = {}
        self._failures: dict[KeyId, str] = {}
        self._retry_at_s = 0.0
        self._retry_after_s = FIRST_RETRY_S
        self.planted = DecoySet.compile(())

    def refresh(self) -> None:
        """Read what was planted since the last time and forget what was removed. Blocks; raises UsageError."""
        records = self._state.snapshot().decoys
        wanted = [record for key, record in records.items() if not self._is_read(key, record)]
        gone = (self._read.keys() | self._failures.keys()) - records.keys()
        if not gone and not self._is_due(wanted):
            return
        for key in gone:
            self._read.pop(key, None)
            self._failures.pop(key, None)
        found = self._cache.read(wanted) if wanted else {}
        for record in wanted:
            self._take(record, found[record.workspace, record.name])
        self._retry_at_s = time.monotonic() + self._retry_after_s
        self._retry_after_s = min(2 * self._retry_after_s, LAST_RETRY_S) if self._failures else FIRST_RETRY_S
        self.planted = DecoySet.compile(decoy for _, decoy in self._read.values())

    async def follow(self) -> None:
        """Refresh for as long as the proxy runs."""
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception as error:  # noqa: BLE001  (what is watched for stays, and it is tried again)
                logger.warning("outloop: decoys cannot be looked up: %s", error)

    def _is_read(self, key: KeyId, record: KeyRecord) -> bool:
        return key in self._read and self._read[key][0] == record

    def _is_due(self, wanted: Iterable[KeyRecord]) -> bool:
        is_new = any((record.workspace, record.name) not in self._failures for record in wanted)
        return is_new or (bool(self._failures) and time.monotonic() >= self._retry_at_s)

    def _take(self, record: KeyRecord, found: LoadedKey | KeychainError) -> None:
        key = record.workspace, record.name
        if isinstance(found, LoadedKey) and any(len(value.reveal()) < SHORTEST_SECRET_BYTES for value in found.parts.values()):
            found = KeyMissing("its value is none that was planted: it is too short")
        if isinstance(found, LoadedKey):
            self._failures.pop(key, None)
            decoy = Decoy.of(*key, found.parts.values())
            self._read[key] = record, decoy
            self._event("decoy_watched", workspace=record.workspace, detail=decoy.label)
            return
        self._read.pop(key, None)
        if self._failures.get(key) != found.message:
            logger.warning("outloop: the decoy %s/%s is not watched for: %s", *key, found.message)
            detail = f"{record.workspace}/{record.name}: {found.message}"
            self._event("decoy_unwatched", workspace=record.workspace, detail=detail)
        self._failures[key] = found.message


class Alarm:
    """Says that a decoy was used: in the record, in the log, and on the desktop, there at most once a minute for each decoy."""

    def __init__(self, event: EventSink, notifier: Notifier) -> None:
        self._event = event
        self._notifier = notifier
        self._notified_at_s: dict[str, float] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def ring(self, exchange: Exchange, planted: DecoySet, used: Iterable[Decoy]) -> None:
        """Take note that *exchange* carries the decoys *used* of those *planted*; of each once. Needs the running event loop."""
        exchange.unrepeatable.append(planted.scrub_set)
        for decoy in used:
            if decoy.label in exchange.decoys:
                continue
            exchange.decoys.append(decoy.label)
            agent, host = exchange.agent, without(exchange.unrepeatable, exchange.said.host)
            self._event("decoy_used", workspace=agent.workspace or None, agent=agent.name or None, host=host, detail=decoy.label)
            who = "/".join(filter(None, (agent.workspace, agent.name))) or "an unknown agent"
            logger.warning("outloop: the decoy %s was used by %s", decoy.label, who)
            now_s = time.monotonic()
            if now_s - self._notified_at_s.get(decoy.label, -NOTIFY_PAUSE_S) >= NOTIFY_PAUSE_S:
                self._notified_at_s[decoy.label] = now_s
                self._notify(f"{who} used the decoy {decoy.label}: outloop status")

    def _notify(self, text: str) -> None:
        task = asyncio.get_running_loop().create_task(self._notifier.tell_of_decoy(text), name="outloop decoy notification")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
