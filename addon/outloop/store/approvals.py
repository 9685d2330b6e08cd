"""Approvals as all processes of a home share them: what waits for the operator, what was decided, and what stands.

Every change is one write transaction, so that of two requests that use one approval exactly one gets it, in whichever process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from outloop.core.approvals import CLOCK_STEP_S, LIFE_S, MOST_PENDING, Approval, Asked, Status
from outloop.core.errors import UsageError
from outloop.store.state_file import HeldConnection, explained, writing

_ASKED = ", ".join(field.name for field in fields(Asked))
_COLUMNS = f"id, {_ASKED}, status, asked_at, since, until, because"
_IN_FORCE = "since <= :now + :step AND until > :now"
_IDS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking: the approval that answers (None: too many wait already), whether it was asked for just now, and
    those whose time had run out.
    """

    approval: Approval | None
    is_new: bool = False
    expired: tuple[Approval, ...] = ()


class ApprovalStore:
    """The approvals of one home, in its state.db. Safe to use from several threads and processes.

    *now* is always in seconds since the epoch. Every method raises UsageError, with a hint, when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = HeldConnection(path)

    # For a proxy's event loop: microseconds, and no lock

    def version(self) -> tuple[int, int]:
        """Return what differs whenever anything in the file has changed."""
        try:
            with self._reader as connection:
                # sqlite.org/pragma.html#pragma_data_version; this connection never writes
                return self._reader.openings, connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def find(self, approval_id: str) -> Approval | None:
        """Return the approval with this whole id."""
        found = self._read(f"SELECT {_COLUMNS} FROM approvals WHERE id = ?", (approval_id,))  # noqa: S608  (our own names)
        return found[0] if found else None

    def grant_for(self, asked: Asked, now: float) -> Approval | None:
        """Return a grant that covers *asked* at *now*."""
        found = self._read(_GRANT, _grant_parameters(asked, now))
        return found[0] if found else None

    def has_ended(self, now: float) -> bool:
        """Tell whether `sweep` would find something to do."""
        try:
            with self._reader as connection:
                return connection.execute("SELECT 1 FROM approvals WHERE until <= ? LIMIT 1", (now,)).fetchone() is not None
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    # For a proxy

    def ask(self, asked: Asked, new_id: str, now: float) -> Answer:
        """Return what answers *asked*: a grant, the approval for the very same request, or a new one called *new_id*, pending.

        An expired one answers once; after that the request is asked for anew.
        """
        with writing(self._path) as connection:
            expired = _sweep(connection, now)
            granted = _rows(connection, _GRANT, _grant_parameters(asked, now))
            if granted:
                return Answer(granted[0], expired=expired)
            query = (
                f"SELECT {_COLUMNS} FROM approvals"  # noqa: S608
                " WHERE binding = ? AND status IN ('pending', 'approved', 'refused', 'expired')"
            )
            if found := _rows(connection, query, (asked.binding,)):
                if found[0].status is Status.EXPIRED:
                    connection.execute("DELETE FROM approvals WHERE id = ?", (found[0].id,))
                return Answer(found[0], expired=expired)
            (pending,) = connection.execute(
                "SELECT count(*) FROM approvals WHERE workspace = ? AND agent = ? AND status = 'pending'",
                (asked.workspace, asked.agent),
            ).fetchone()
            if pending >= MOST_PENDING:
                return Answer(None, expired=expired)
            new = Approval(new_id, asked, Status.PENDING, now, now, now + LIFE_S)
            values = (new.id, *astuple(asked), new.status, new.asked_at, new.since, new.until, new.because)
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO approvals ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608
            return Answer(new, is_new=True, expired=expired)

    def use(self, approval: Approval, now: float) -> bool:
        """Use up an approval; tell whether it stood. Of all who try, in all processes, one is told so. A grant is not used up."""
        if approval.status is Status.GRANTED:
            found = self.find(approval.id)
            return found is not None and found.status is Status.GRANTED and found.stands(now)
        with writing(self._path) as connection:
            used = connection.execute(
                f"UPDATE approvals SET status = 'consumed' WHERE id = :id AND status = 'approved' AND {_IN_FORCE}",  # noqa: S608
                {"id": approval.id, "now": now, "step": CLOCK_STEP_S},
            )
            return used.rowcount == 1

    def give_back(self, approval_id: str) -> None:
        """Undo `use`: the request did not reach the wire. Nothing happens where the same request was asked for anew."""
        with writing(self._path) as connection:
            connection.execute(
                "UPDATE OR IGNORE approvals SET status = 'approved' WHERE id = ? AND status = 'consumed'", (approval_id,)
            )

    def sweep(self, now: float) -> tuple[Approval, ...]:
        """Expire what has run out and forget what ended; return what expired, each to one caller only."""
        with writing(self._path) as connection:
            return _sweep(connection, now)

    # For the operator

    def listed(self, now: float) -> tuple[Approval, ...]:
        """Return what waits or stands at *now*, oldest first."""
        query = (
            f"SELECT {_COLUMNS} FROM approvals"  # noqa: S608
            f" WHERE status IN ('pending', 'approved', 'granted') AND {_IN_FORCE} ORDER BY asked_at, id"
        )
        return self._read(query, {"now": now, "step": CLOCK_STEP_S})

    def named(self, text: str) -> Approval:
        """Return the one approval whose id begins or ends with *text*. Raises UsageError when there is none, or more."""
        wanted = text.strip().upper()
        query = f"SELECT {_COLUMNS} FROM approvals WHERE substr(id, 1, ?2) = ?1 OR substr(id, -?2) = ?1 ORDER BY id"  # noqa: S608
        found = self._read(query, (wanted, len(wanted))) if wanted else ()
        if not found:
            raise UsageError(f"there is no approval {text!r}", "`outloop approvals` lists those that wait, with their ids")
        if len(found) > 1:
            more = ", ".join(approval.id for approval in found[:_IDS_SHOWN])
            raise UsageError(f"more than one approval answers to {text!r}", f"write more of the id: {more}, …")
        return found[0]

    def approve(self, approval_id: str, now: float) -> Approval | None:
        """Let the request pass once, within `LIFE_S`. None when it does not wait any more."""
        return self._decide(approval_id, (Status.PENDING,), Status.APPROVED, now, now + LIFE_S)

    def grant(self, approval_id: str, now: float, until: float) -> Approval | None:
        """Let every request of its agent that its rule holds pass until then; what waits of them waits no more.

        None when the approval does not wait or stand any more.
        """
        with writing(self._path) as connection:
            granted = _change(connection, approval_id, (Status.PENDING, Status.APPROVED), Status.GRANTED, now, until)
            if granted is not None:
                connection.execute(
                    "UPDATE approvals SET status = 'consumed' WHERE status = 'pending'"
                    " AND workspace = ? AND agent = ? AND rule_mark = ?",
                    (granted.asked.workspace, granted.asked.agent, granted.asked.rule_mark),
                )
            return granted

    def refuse(self, approval_id: str, now: float, because: str) -> Approval | None:
        """Say no for `LIFE_S`, to what waits and to what was approved but not yet used. None when it is neither."""
        return self._decide(approval_id, (Status.PENDING, Status.APPROVED), Status.REFUSED, now, now + LIFE_S, because)

    def revoke(self, approval_id: str, now: float, because: str) -> Approval | None:
        """End a grant. None when it is over."""
        return self._decide(approval_id, (Status.GRANTED,), Status.REVOKED, now, now + LIFE_S, because)

    def close(self) -> None:
        """Close what is held open. A later call opens it again."""
        self._reader.close()

    def _decide(
        self, approval_id: str, before: Sequence[Status], after: Status, now: float, until: float, because: str = ""
    ) -> Approval | None:
        with writing(self._path) as connection:
            return _change(connection, approval_id, before, after, now, until, because)

    def _read(self, query: str, parameters: Sequence[object] | Mapping[str, object]) -> tuple[Approval, ...]:
        try:
            with self._reader as connection:
                return _rows(connection, query, parameters)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error


_GRANT = (
    f"SELECT {_COLUMNS} FROM approvals WHERE status = 'granted' AND workspace = :workspace AND agent = :agent"  # noqa: S608
    f" AND rule_mark = :mark AND {_IN_FORCE} ORDER BY until DESC LIMIT 1"
)


def _grant_parameters(asked: Asked, now: float) -> dict[str, object]:
    return {"workspace": asked.workspace, "agent": asked.agent, "mark": asked.rule_mark, "now": now, "step": CLOCK_STEP_S}


def _change(
    connection: sqlite3.Connection,
    approval_id: str,
    before: Sequence[Status],
    after: Status,
    now: float,
    until: float,
    because: str = "",
) -> Approval | None:
    statuses = ", ".join(f"'{status}'" for status in before)
    query = (
        "UPDATE approvals SET status = :after, since = :now, until = :ends, because = :because"  # noqa: S608
        f" WHERE id = :id AND status IN ({statuses}) AND {_IN_FORCE} RETURNING {_COLUMNS}"
    )
    parameters = {"id": approval_id, "after": after, "now": now, "ends": until, "because": because, "step": CLOCK_STEP_S}
    found = _rows(connection, query, parameters)
    return found[0] if found else None


def _sweep(connection: sqlite3.Connection, now: float) -> tuple[Approval, ...]:
    parameters = {"now": now, "step": CLOCK_STEP_S, "ends": now + LIFE_S}
    connection.execute(
        "DELETE FROM approvals WHERE status IN ('refused', 'expired', 'consumed', 'revoked') AND until <= :now", parameters
    )
    ended = f"NOT ({_IN_FORCE})"
    over = _rows(connection, f"DELETE FROM approvals WHERE status = 'granted' AND {ended} RETURNING {_COLUMNS}", parameters)  # noqa: S608
    query = (
        "UPDATE approvals SET status = 'expired', since = :now, until = :ends"  # noqa: S608
        f" WHERE status IN ('pending', 'approved') AND {ended} RETURNING {_COLUMNS}"
    )
    return over + _rows(connection, query, parameters)


def _rows(
    connection: sqlite3.Connection, query: str, parameters: Sequence[object] | Mapping[str, object]
) -> tuple[Approval, ...]:
    return tuple(_approval(row) for row in connection.execute(query, parameters).fetchall())


def _approval(row: tuple[Any, ...]) -> Approval:
    approval_id, *asked, status, asked_at, since, until, because = row
    return Approval(approval_id, Asked(*asked), Status(status), asked_at, since, until, because)
