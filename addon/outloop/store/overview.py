"""Questions about the record as a whole: what is claimed, what happened today, what a service answered last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils.db import Database

from outloop.store.confinement import first_id
from outloop.store.records import Record
from outloop.store.schema import open_for_reading, unreadable


class Overview:
    """Reads the record at *path*. Every call opens it anew and read-only: usable from any thread, whether or not a proxy runs.

    Every method raises UsageError when there is no record or a newer Outloop wrote it, AuditError when it cannot be read.
    *workspace* None stands for all. Times are UTC ISO 8601.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def claims(self, workspace: str | None = None) -> list[Record]:
        """Return the rows of the view `claims`, each verified one with the `policy` (digest) that it was proved under."""
        sql = (
            "SELECT c.*, d.policy FROM claims c LEFT JOIN decisions d ON d.id = c.audit_id"
            " WHERE :workspace IS NULL OR c.workspace = :workspace ORDER BY c.workspace, c.service, c.access"
        )
        return self._rows(sql, {"workspace": workspace})

    def counts(self, since_ms: int, workspace: str | None = None) -> list[Record]:
        """Return how often each decision was made for each reason since then, the most frequent first."""
        sql = (
            "SELECT decision, reason, count(*) AS requests FROM audit WHERE id >= :first"
            " AND (:workspace IS NULL OR workspace = :workspace) GROUP BY decision, reason"
            " ORDER BY requests DESC, decision, reason"
        )
        return self._rows(sql, {"first": first_id(since_ms), "workspace": workspace})

    def newest_answer(self, workspace: str, service: str) -> Record | None:
        """Return the last request of *workspace* that *service* was sent and whose outcome is known."""
        sql = (
            "SELECT * FROM audit WHERE workspace = :workspace AND service = :service AND decision = 'allow'"
            " AND status IS NOT NULL ORDER BY id DESC LIMIT 1"
        )
        return self._first(sql, {"workspace": workspace, "service": service})

    def newest_value(self, workspace: str, key: str) -> Record | None:
        """Return the event by which a key got the value that it has."""
        sql = (
            "SELECT * FROM events WHERE workspace = :workspace AND key = :key AND kind IN ('key_added', 'key_rotated')"
            " ORDER BY id DESC LIMIT 1"
        )
        return self._first(sql, {"workspace": workspace, "key": key})

    def distrusts(self, since_ms: int, workspace: str | None = None) -> list[Record]:
        """Return who did not trust the certificate authority since then: workspace, agent, host, how often, and when last."""
        sql = (
            "SELECT workspace, agent, host, count(*) AS times, max(at) AS at FROM events"
            " WHERE kind = 'ca_distrusted' AND id >= :first AND (:workspace IS NULL OR workspace = :workspace)"
            " GROUP BY workspace, agent, host ORDER BY at DESC"
        )
        return self._rows(sql, {"first": first_id(since_ms), "workspace": workspace})

    def decoy_uses(self, since_ms: int = 0) -> list[Record]:
        """Return which decoy (``workspace/name``) was used by which agent since then: how often, and at which host last."""
        sql = (
            "SELECT detail AS decoy, workspace, agent, count(*) AS uses, host AS last_host, at AS last_used, max(id) FROM events"
            " WHERE kind = 'decoy_used' AND id >= :first GROUP BY detail, workspace, agent ORDER BY max(id) DESC"
        )
        return self._rows(sql, {"first": first_id(since_ms)})

    def unwatched_decoys(self) -> dict[str, str]:
        """Return the decoys (``workspace/name``) whose value a proxy could not read when it last tried, and why."""
        sql = (
            "SELECT kind, detail, max(id) FROM events WHERE kind IN ('decoy_watched', 'decoy_unwatched')"
            " GROUP BY substr(detail, 1, instr(detail || ':', ':') - 1)"
        )
        found = [str(row["detail"]).partition(": ") for row in self._rows(sql) if row["kind"] == "decoy_unwatched"]
        return {decoy: why for decoy, _, why in found}

    def loaded_policies(self) -> dict[str, str]:
        """Return the digest of each workspace's policy as a proxy last loaded it."""
        sql = "SELECT workspace, detail, max(id) FROM events WHERE kind = 'policy_loaded' GROUP BY workspace"
        return {str(row["workspace"]): str(row["detail"] or "") for row in self._rows(sql)}

    def newest_at(self) -> str | None:
        """Return when the newest append by id was made; None where there is none."""
        newest = [self._first(f"SELECT at FROM {table} ORDER BY id DESC LIMIT 1") for table in ("decisions", "events")]  # noqa: S608
        return max((str(row["at"]) for row in newest if row is not None), default=None)

    def _first(self, sql: str, parameters: dict[str, object] | None = None) -> Record | None:
        return next(iter(self._rows(sql, parameters)), None)

    def _rows(self, sql: str, parameters: dict[str, object] | None = None) -> list[Record]:
        with self._open() as db:
            found: Sequence[Record] = list(db.query(sql, parameters or {}))
        return list(found)

    @contextmanager
    def _open(self) -> Iterator[Database]:
        db = open_for_reading(self._path)
        try:
            yield db
        except sqlite3.Error as error:
            raise unreadable(error, self._path) from error
        finally:
            db.close()
