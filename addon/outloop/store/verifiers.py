"""Verifying with every processor: each process reads the chains of some writers, from the record itself and read-only."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from outloop.store.heads import Head
from outloop.store.schema import open_for_reading, unreadable
from outloop.store.verification import Verification, joined, verify_chains

MOST_PROCESSES = 4
WORTHWHILE_APPENDS = 200_000  # fewer are read before a second process has started
POLL_S = 0.2

_passed: Synchronized[int] | None = None


def processes_for(appends: int, writers: int) -> int:
    """Return how many processes are to share *appends* of *writers*. One chain is one process's: each append needs the last."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if appends < WORTHWHILE_APPENDS else min(available, writers, MOST_PROCESSES)


def verify_with(
    processes: int, path: Path, writers: Sequence[object], heads: Mapping[str, Head], passed: Callable[[int], None]
) -> Verification:
    """Verify *writers* of the record at *path* as `verify_chains` does. *heads* must be from before, and hold all of them.

    Every process takes its own snapshot; a chain that grew meanwhile is as whole as it was. Raises as `Records` does.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang
    counter = context.Value("q", 0)
    # Neighbours began at about the same time and are about as long; a small share each time leaves nobody idle at the end.
    shares = [writers[start :: processes * 8] for start in range(processes * 8)]
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(counter,)) as pool:
        running: set[Future[Verification]] = {pool.submit(_verify, path, share, heads) for share in shares if share}
        done: set[Future[Verification]] = set()
        while running:
            finished, running = wait(running, POLL_S)
            done |= finished
            with counter.get_lock():
                passed(counter.value)
                counter.value = 0
        return joined(future.result() for future in done)


def _begin(counter: Synchronized[int]) -> None:
    global _passed
    _passed = counter


def _count(appends: int) -> None:
    assert _passed is not None
    with _passed.get_lock():
        _passed.value += appends


def _verify(path: Path, writers: Sequence[object], heads: Mapping[str, Head]) -> Verification:
    try:
        db = open_for_reading(path)
        try:
            db.begin()
            return verify_chains(db, writers, heads, _count)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise unreadable(error, path) from error
