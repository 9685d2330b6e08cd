"""A second mitmproxy script, loaded after the addon: sets limits of the proxy's so that a test need not wait for them.

mitmdump -s addon/outloop.py -s tests/harness/hurry.py --set hurry=patience.WAIT_S=0.5
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader


class Hurry:
    """Takes ``module.NAME=NUMBER``, of a module in outloop.proxy."""

    def load(self, loader: Loader) -> None:
        loader.add_option("hurry", Sequence[str], [], "module.NAME=NUMBER: a limit in outloop.proxy, for tests.")

    def configure(self, updated: set[str]) -> None:
        for setting in ctx.options.hurry if "hurry" in updated else ():
            name, _, number = setting.partition("=")
            module, _, constant = name.partition(".")
            found = importlib.import_module(f"outloop.proxy.{module}")
            assert hasattr(found, constant), setting
            setattr(found, constant, float(number))


addons = [Hurry()]
