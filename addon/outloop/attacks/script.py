"""What the attacked mitmdump loads: the addon, as `addon/outloop.py` does, and behind it what leads to local upstreams."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from outloop.attacks import resolver
from outloop.attacks.reroute import Reroute
from outloop.proxy.addon import Outloop


def _end_with_the_attacker() -> None:
    """Wait for the end of standard input, which the attacking process holds: also when it was killed."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


resolver.install()
threading.Thread(target=_end_with_the_attacker, name="attacker", daemon=True).start()
addons = [Outloop(script=Path(__file__)), Reroute()]
