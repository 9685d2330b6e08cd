"""Can rows be written, and is the record whole?"""

from __future__ import annotations

import os
from collections.abc import Iterator

from outloop.operator.attestation import Attestation, Standing, attest
from outloop.operator.doctor.finding import Finding, failure, ok, skipped, warning
from outloop.operator.doctor.premises import PROBE_LIMIT_S, Premises
from outloop.store.appender import LOG_LIMIT_BYTES
from outloop.store.backends import NoAnswer, within

_NAME = "record"


def check(premises: Premises) -> Iterator[Finding]:
    """No row, no request: a record that cannot be written to stops everything."""
    path = premises.home.audit_db
    if not premises.has_record:
        yield skipped(_NAME, "nothing is on record yet")
        return
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        yield failure(_NAME, f"{path} cannot be written", "make file and folder writable for the user who runs the proxy")
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        size = f"the write-ahead log has grown to {log.stat().st_size // 1_000_000} MB: a program has read in the record for long"
        yield warning(_NAME, size, f"end it: `fuser {path}` names those that have it open")
    try:
        found = within(PROBE_LIMIT_S, lambda: attest(path, premises.witnesses), "the record")
    except NoAnswer:
        yield warning(_NAME, f"the record is too long to verify within {PROBE_LIMIT_S:.0f} s", "outloop audit verify")
        return
    yield _finding(found)


def _finding(found: Attestation) -> Finding:
    bad = found.verification.first_bad
    if bad is not None:
        text = f"the record is not whole: append {bad.seq} of writer {bad.writer}: {bad.fault}"
        return failure(_NAME, text, "outloop audit verify; keep a copy of audit.db and audit.head as they are")
    if found.standing is Standing.CONTRADICTED:
        text = f"the record is not what was anchored in the keychain: {found.note}"
        return failure(_NAME, text, "outloop audit verify; keep a copy of audit.db, audit.head and audit.anchor as they are")
    if found.standing is Standing.UNCHECKED:
        return warning(_NAME, f"the record's anchor in the keychain could not be checked: {found.note}", "outloop audit verify")
    return ok(_NAME, f"{found.verification.rows} appends, none edited, removed, reordered or cut off")
