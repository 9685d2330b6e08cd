"""What `mitmdump -s addon/outloop.py` loads: the addon from the package beside this file, nothing else."""

import sys
from pathlib import Path

try:
    from outloop.proxy.addon import Outloop
except Exception as error:  # noqa: BLE001  (whatever it is, the proxy must not start)
    # mitmproxy would log this, and listen for a moment without the addon.
    sys.exit(f"outloop: error: the addon cannot be loaded: {error}\noutloop: hint: run scripts/setup, then use its mitmdump")

addons = [Outloop(script=Path(__file__))]
