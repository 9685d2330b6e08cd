"""What changes while Outloop runs: switches, agents, generations, limits, running proxies. Shared by every process of a home.

A proxy asks for a `snapshot` on every request, so that a switch takes effect on the very next one.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from outloop.core.errors import UsageError
from outloop.core.model import RequestLimit
from outloop.store.state_file import HeldConnection, explained, transaction, writing


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key without its value.

    `generation` never repeats within a home: two records with the same one stand for the same value. `added_at` is UTC
    ISO 8601; until `previous_until` (seconds since the epoch) the value before the last rotation is still scrubbed. `renewals`
    counts the values that a provider has exchanged since: the same key to its operator, another text in the keychain.
    """

    workspace: str
    name: str
    service: str
    runtime_access: bool
    generation: int
    added_at: str
    previous_until: float | None
    renewals: int = 0


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent of a workspace. `token_hash` is the SHA-256 of its token in hex; times are UTC ISO 8601."""

    workspace: str
    name: str
    token_hash: str
    created_at: str
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    """A running proxy: where it listens, and since when (UTC ISO 8601)."""

    pid: int
    host: str
    port: int
    started_at: str


@dataclass(frozen=True, slots=True)
class State:
    """Everything a request is decided on, at one moment.

    `keys` and `cooldowns` (seconds since the epoch) go by workspace and key or service name. `agents` goes by token hash
    and holds those that are not revoked. `decoys` go by workspace and name, and are none of the keys: whoever looks for a
    key to use cannot come upon one.
    """

    keys: Mapping[tuple[str, str], KeyRecord]
    agents: Mapping[str, AgentRecord]
    cooldowns: Mapping[tuple[str, str], float]
    meta: Mapping[str, str]
    decoys: Mapping[tuple[str, str], KeyRecord] = field(default_factory=dict)


class StateStore:
    """The state of one home. Safe to use from several threads and processes; opened when first used.

    Every method raises UsageError, with a hint, when the file is broken, locked for long, unreadable or of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = HeldConnection(path)
        self._limiter = HeldConnection(path)
        self._seen: tuple[int, int] | None = None
        self._revision: tuple[int, int] | None = None
        self._state = State({}, {}, {}, {})

    @property
    def folder(self) -> Path:
        """The home that the state is of."""
        return self._path.parent

    def snapshot(self) -> State:
        """Return the state as of now. Made to be called on the event loop for every request: ~10 µs when nothing changed."""
        try:
            with self._reader as connection:
                # Changes whenever another connection commits, in whichever process (sqlite.org/pragma.html#pragma_data_version).
                # This connection never writes. Read first: what is committed after it shows at the next call.
                seen = (self._reader.openings, connection.execute("PRAGMA data_version").fetchone()[0])
                if seen != self._seen:
                    self._refresh(connection, self._reader.openings)
                    self._seen = seen
                return self._state
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def close(self) -> None:
        """Close what is held open. A later call opens it again."""
        self._reader.close()
        self._limiter.close()

    # Keys

    def add_key(self, workspace: str, name: str, service: str, added_at: str) -> KeyRecord:
        """Record a key, with runtime access off. Raises UsageError when the workspace has one of that name."""
        with self._adding(workspace, name, service, added_at, is_decoy=False) as connection:
            return _key(connection, workspace, name)

    def add_decoy(self, workspace: str, name: str, service: str, added_at: str) -> None:
        """Record a decoy. Raises UsageError when the workspace has a key or decoy of that name."""
        with self._adding(workspace, name, service, added_at, is_decoy=True):
            pass

    @contextmanager
    def _adding(self, workspace: str, name: str, service: str, added_at: str, *, is_decoy: bool) -> Iterator[sqlite3.Connection]:
        with self._writing() as connection:
            try:
                connection.execute(
                    "INSERT INTO keys (workspace, name, service, generation, added_at, decoy) VALUES (?, ?, ?, ?, ?, ?)",
                    (workspace, name, service, _next_generation(connection), added_at, is_decoy),
                )
            except sqlite3.IntegrityError as error:
                raise key_taken(workspace, name) from error
            yield connection

    def set_runtime_access(self, workspace: str, name: str, on: bool) -> KeyRecord:
        """Turn the switch of a key. Raises UsageError when there is no such key."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE keys SET runtime_access = ? WHERE workspace = ? AND name = ? AND NOT decoy", (on, workspace, name)
            )
            return _key(connection, workspace, name)

    def rotate_key(self, workspace: str, name: str, previous_until: float | None) -> KeyRecord:
        """Give a key a new generation. Raises UsageError when there is no such key."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE keys SET generation = ?, previous_until = ? WHERE workspace = ? AND name = ? AND NOT decoy",
                (_next_generation(connection), previous_until, workspace, name),
            )
            return _key(connection, workspace, name)

    def renew_key(self, workspace: str, name: str, previous_until: float) -> KeyRecord:
        """Record that a provider has exchanged a key's value; its generation stays. Raises UsageError where it is not."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE keys SET renewals = renewals + 1, previous_until = max(coalesce(previous_until, 0), ?)"
                " WHERE workspace = ? AND name = ?",
                (previous_until, workspace, name),
            )
            return _key(connection, workspace, name)

    def end_grace(self, workspace: str, name: str) -> None:
        """Record that the value before the last rotation is gone."""
        with self._writing() as connection:
            connection.execute("UPDATE keys SET previous_until = NULL WHERE workspace = ? AND name = ?", (workspace, name))

    def remove_key(self, workspace: str, name: str) -> None:
        """Forget a key or a decoy. Raises UsageError when there is none of that name."""
        with self._writing() as connection:
            removed = connection.execute("DELETE FROM keys WHERE workspace = ? AND name = ?", (workspace, name))
            if not removed.rowcount:
                raise _no_key(workspace, name)

    # Agents

    def add_agent(self, workspace: str, name: str, token_hash: str, created_at: str) -> AgentRecord:
        """Record an agent. Raises UsageError when the workspace has a live one of that name."""
        with self._writing() as connection:
            try:
                connection.execute("INSERT INTO agents VALUES (?, ?, ?, ?, NULL)", (token_hash, workspace, name, created_at))
            except sqlite3.IntegrityError as error:
                raise agent_taken(workspace, name) from error
        return AgentRecord(workspace, name, token_hash, created_at, None)

    def revoke_agent(self, workspace: str, name: str, revoked_at: str) -> None:
        """End an agent: its token is unknown from now on. Raises UsageError when there is no live agent of that name."""
        with self._writing() as connection:
            ended = connection.execute(
                "UPDATE agents SET revoked_at = ? WHERE workspace = ? AND name = ? AND revoked_at IS NULL",
                (revoked_at, workspace, name),
            )
            if not ended.rowcount:
                raise UsageError(f"workspace {workspace} has no agent {name}", "`outloop agent list` shows those there are")

    def agents(self) -> tuple[AgentRecord, ...]:
        """Return every agent there ever was, revoked ones too, oldest first."""
        query = "SELECT workspace, name, token_hash, created_at, revoked_at FROM agents ORDER BY created_at, rowid"
        try:
            with self._reader as connection:
                return tuple(AgentRecord(*row) for row in connection.execute(query))
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    # Limits

    def take(self, workspace: str, service: str, limit: RequestLimit, now: float) -> int | None:
        """Count one request against *limit*, in a window that slides and that all processes share.

        *now* is in seconds since the epoch. Returns None when the request may go, else the whole seconds to wait (1 to
        ``period_s``), and then nothing was counted.
        """
        who = {"workspace": workspace, "service": service, "now": now, "gone": now - limit.period_s, "skip": limit.count - 1}
        try:
            with self._limiter as connection, transaction(connection):
                connection.execute("DELETE FROM takes WHERE workspace = :workspace AND service = :service AND at <= :gone", who)
                # A clock that was set back leaves rows in the future. Counted as of now they neither open nor outlast it.
                connection.execute(
                    "UPDATE takes SET at = :now WHERE workspace = :workspace AND service = :service AND at > :now", who
                )
                frees = connection.execute(
                    "SELECT at FROM takes WHERE workspace = :workspace AND service = :service"
                    " ORDER BY at DESC LIMIT 1 OFFSET :skip",
                    who,
                ).fetchone()
                if frees is not None:
                    return _wait_s(frees[0], limit, now)
                connection.execute("INSERT INTO takes VALUES (:workspace, :service, :now)", who)
                return None
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def wait_s(self, workspace: str, service: str, limit: RequestLimit, now: float) -> int | None:
        """Return what `take` would, without counting anything."""
        who = {"workspace": workspace, "service": service, "gone": now - limit.period_s, "skip": limit.count - 1}
        try:
            with self._reader as connection:
                frees = connection.execute(
                    "SELECT at FROM takes WHERE workspace = :workspace AND service = :service AND at > :gone"
                    " ORDER BY at DESC LIMIT 1 OFFSET :skip",
                    who,
                ).fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return None if frees is None else _wait_s(frees[0], limit, now)

    def cool_down(self, workspace: str, service: str, until: float) -> None:
        """Record that the upstream asked for silence *until* then (seconds since the epoch). The latest answer counts."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO cooldowns VALUES (?, ?, ?)", (workspace, service, until))

    # Proxies

    def register_proxy(self, pid: int, host: str, port: int, started_at: str) -> None:
        """Record where a proxy listens."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO proxies VALUES (?, ?, ?, ?)", (pid, host, port, started_at))

    def unregister_proxy(self, pid: int) -> None:
        """Forget a proxy that ends."""
        with self._writing() as connection:
            connection.execute("DELETE FROM proxies WHERE pid = ?", (pid,))

    def proxies(self, is_alive: Callable[[int], bool] | None = None) -> tuple[ProxyRecord, ...]:
        """Return the running proxies, newest first; those whose process is gone are forgotten."""
        alive = is_alive or process_is_alive
        with self._writing() as connection:
            query = "SELECT pid, host, port, started_at FROM proxies ORDER BY started_at DESC, pid DESC"
            found = [ProxyRecord(*row) for row in connection.execute(query)]
            living = tuple(proxy for proxy in found if alive(proxy.pid))
            connection.executemany("DELETE FROM proxies WHERE pid = ?", [(proxy.pid,) for proxy in found if proxy not in living])
            return living

    # Meta

    def set_meta(self, name: str, value: str) -> None:
        """Record a fact about the home itself."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def settle_meta(self, name: str, value: str) -> str:
        """Record *value* unless there is one; return the one that holds. Of several processes one wins, and all learn which."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            settled: str = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
            return settled

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction on a connection of its own: the reader sees it as another's, which is how it learns of changes."""
        return writing(self._path)

    def _refresh(self, connection: sqlite3.Connection, opening: int) -> None:
        # Limits are counted in the same file: they move `data_version` on every request, but not the revision.
        if (opening, _revision(connection)) == self._revision:
            return
        connection.execute("BEGIN")
        try:
            self._state, self._revision = _read_state(connection), (opening, _revision(connection))
        finally:
            connection.execute("COMMIT")


def key_taken(workspace: str, name: str) -> UsageError:
    """Return what is said of a name that another key has."""
    return UsageError(
        f"workspace {workspace} already has a key {name}",
        f"`outloop key rotate {name} -w {workspace}` gives it a new value; `--name` stores another beside it",
    )


def agent_taken(workspace: str, name: str) -> UsageError:
    """Return what is said of a name that another agent has."""
    return UsageError(
        f"workspace {workspace} already has an agent {name}",
        f"`outloop agent revoke {name} -w {workspace}` ends it; then the name is free again",
    )


def process_is_alive(pid: int) -> bool:
    """Tell whether a process of this user's has the id *pid*."""
    if os.name == "nt":  # there, signal 0 is Ctrl-C: a record stays until its process takes itself off
        return True
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):  # another user's process is not the proxy that was registered here
        return False
    return True


def _wait_s(frees_at: float, limit: RequestLimit, now: float) -> int:
    return max(1, min(limit.period_s, math.ceil(frees_at + limit.period_s - now)))


def _revision(connection: sqlite3.Connection) -> int:
    revision: int = connection.execute("SELECT value FROM counters WHERE name = 'revision'").fetchone()[0]
    return revision


def _next_generation(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'generation'")
    generation: int = connection.execute("SELECT value FROM counters WHERE name = 'generation'").fetchone()[0]
    return generation


_KEY_QUERY = (
    "SELECT workspace, name, service, runtime_access, generation, added_at, previous_until, renewals FROM keys WHERE decoy = ?"
)


def _key_record(row: tuple[str, str, str, int, int, str, float | None, int]) -> KeyRecord:
    workspace, name, service, runtime_access, generation, added_at, previous_until, renewals = row
    return KeyRecord(workspace, name, service, runtime_access == 1, generation, added_at, previous_until, renewals)


def _key(connection: sqlite3.Connection, workspace: str, name: str) -> KeyRecord:
    row = connection.execute(f"{_KEY_QUERY} AND workspace = ? AND name = ?", (False, workspace, name)).fetchone()
    if row is None:
        raise _no_key(workspace, name)
    return _key_record(row)


def _no_key(workspace: str, name: str) -> UsageError:
    return UsageError(f"workspace {workspace} has no key {name}", "`outloop key list` shows those there are")


def _keys(connection: sqlite3.Connection, *, are_decoys: bool) -> Mapping[tuple[str, str], KeyRecord]:
    rows = connection.execute(f"{_KEY_QUERY} ORDER BY workspace, name", (are_decoys,))
    return MappingProxyType({(key.workspace, key.name): key for key in map(_key_record, rows)})


def _read_state(connection: sqlite3.Connection) -> State:
    agents = connection.execute(
        "SELECT workspace, name, token_hash, created_at, revoked_at FROM agents WHERE revoked_at IS NULL ORDER BY workspace, name"
    )
    return State(
        keys=_keys(connection, are_decoys=False),
        agents=MappingProxyType({agent.token_hash: agent for agent in (AgentRecord(*row) for row in agents)}),
        cooldowns=MappingProxyType({(row[0], row[1]): row[2] for row in connection.execute("SELECT * FROM cooldowns")}),
        meta=MappingProxyType(dict(connection.execute("SELECT name, value FROM meta"))),
        decoys=_keys(connection, are_decoys=True),
    )
