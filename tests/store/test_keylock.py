"""One at a time, across processes, and nobody is locked out by one that died."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.operators import ADDON, PATIENCE_S
from outloop.core.errors import KeyLocked
from outloop.store.keylock import held, held_async

HOLDER = """
import sys, time
from pathlib import Path
from outloop.store.keylock import held
with held(Path(sys.argv[1]), "acme", "k", 5.0):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_held_by_one_and_each_key_has_its_own(tmp_path: Path) -> None:
    with (
        held(tmp_path, "acme", "k", 0.0),
        held(tmp_path, "acme", "other", 0.0),
        held(tmp_path, "globex", "k", 0.0),
        pytest.raises(KeyLocked, match="busy with this key"),
        held(tmp_path, "acme", "k", 0.05),
    ):
        raise AssertionError
    with held(tmp_path, "acme", "k", 0.0):
        pass
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700


def test_a_lock_that_is_let_go_is_had_without_holding_up_the_loop(tmp_path: Path) -> None:
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with held(tmp_path, "acme", "k", PATIENCE_S):
            taken.set()
            let_go.wait(PATIENCE_S)

    async def main() -> list[str]:
        order = []

        async def wait() -> None:
            async with held_async(tmp_path, "acme", "k", PATIENCE_S):
                order.append("held")

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.1)
        order.append("the loop goes on")
        let_go.set()
        await waiting
        return order

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(PATIENCE_S)
    assert asyncio.run(main()) == ["the loop goes on", "held"]
    thread.join()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ADDON)}, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(KeyLocked), held(tmp_path, "acme", "k", 0.0):
            raise AssertionError
        holder.kill()
        began_s = time.monotonic()
        with held(tmp_path, "acme", "k", PATIENCE_S):
            assert time.monotonic() - began_s < PATIENCE_S
    finally:
        holder.kill()
        holder.wait()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")

    with pytest.raises(KeyLocked, match="cannot be used: "), held(tmp_path, "acme", "k", 0.0):
        raise AssertionError
