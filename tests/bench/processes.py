"""What the kernel says of a process (Linux), and helpers that end with the benchmark."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 30.0
TESTS = Path(__file__).resolve().parents[1]
_SAMPLE_S = 0.02


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of *pid* so far, in seconds.

    The number of its clock is what clock_getcpuclockid(3) returns; it counts nanoseconds where /proc/PID/stat counts hundredths.
    """
    return time.clock_gettime(~pid << 3 | 2)


def rss_mb(pid: int) -> float:
    """Return the resident memory of *pid* in MB (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)


@contextlib.contextmanager
def peak_rss_mb(pid: int) -> Iterator[list[float]]:
    """Watch the memory of *pid* while the block runs; the one number in the list is the most it had, in MB."""
    peak = [rss_mb(pid)]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], rss_mb(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


@contextlib.contextmanager
def helper(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of this benchmark, which ends when its standard input does."""
    command = [sys.executable, "-m", module, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            ended(process)


def ended(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Wait for *process* to end, and see to it that it does."""
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)
