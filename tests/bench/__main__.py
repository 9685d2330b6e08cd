"""`scripts/bench`: measures, prints the table, and exits 0; with ``--check`` 1 when a target is missed."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.deciding import deciding
from bench.memory import memory
from bench.reading import reading
from bench.recording import recording
from bench.report import Line, table
from bench.scrubbing import scrubbing
from bench.stand import raised
from bench.startup import startup
from bench.streaming import streaming
from bench.traffic import traffic


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    rounds: int
    starts: int
    requests: int
    download_mib: int
    streams: int
    rows: int
    history: int


QUICK = Extent(rounds=4, starts=2, requests=1000, download_mib=64, streams=5, rows=200, history=20_000)
FULL = Extent(rounds=12, starts=5, requests=20_000, download_mib=1024, streams=15, rows=2000, history=1_000_000)


def main() -> int:
    """Run the benchmark and return its exit code."""
    arguments = _arguments()
    if sys.platform != "linux":
        print("bench: error: it reads memory and processor time as Linux tells them", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every process is ended
    lines = list(_said(measured(QUICK if arguments.quick else FULL, arguments.part)))
    print(table(lines))
    missed = sum(line.is_missed for line in lines)
    print(f"\n{_machine()}; {missed} of {sum(line.target is not None for line in lines)} targets missed")
    return 1 if arguments.check and missed else 0


def measured(extent: Extent, chosen: str | None) -> Iterator[Line]:
    """Yield the lines of the *chosen* part, or of all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outloop-bench-")))
        stand = stack.enter_context(raised(folder))
        parts: dict[str, Callable[[], Iterable[Line]]] = {
            "traffic": lambda: traffic(stand, extent.rounds),
            "memory": lambda: memory(stand, extent.requests, extent.download_mib),
            "startup": lambda: startup(stand, extent.starts),
            "streaming": lambda: streaming(stand, extent.streams),
            "scrubbing": lambda: scrubbing(extent.rounds),
            "deciding": lambda: deciding(extent.rounds),
            "recording": lambda: recording(extent.rows, extent.rounds),
            "reading": lambda: reading(extent.history),
        }
        for name, part in parts.items():
            if chosen in (None, name):
                yield from part()


def _said(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield *lines*, and say each as it comes: the whole takes minutes."""
    start_s = time.monotonic()
    for line in lines:
        said = "  ".join(filter(None, (line.what, line.result or line.outloop)))
        print(f"{time.monotonic() - start_s:4.0f} s  {said}", file=sys.stderr)
        yield line


def _machine() -> str:
    load = Path("/proc/loadavg").read_text().split()[0]
    processors = Path("/proc/cpuinfo").read_text().count("processor\t:")
    return f"Python {platform.python_version()}, {processors} cores, load {load}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What Outloop costs, beside bare mitmdump and no proxy.")
    parser.add_argument("--quick", action="store_true", help="under a minute, and only good for a first look")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parts = ["traffic", "memory", "startup", "streaming", "scrubbing", "deciding", "recording", "reading"]
    parser.add_argument("--part", choices=parts, help="one part only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
