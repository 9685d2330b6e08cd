"""The proxy of this installation, in a process of its own and on a home that is thrown away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import outloop
from outloop.attacks.configuration import write_configuration
from outloop.core.errors import NoError
from outloop.store.home import Home
from outloop.store.state import StateStore

PATIENCE_S = 30.0
LEAVING_S = 2.0
POLL_S = 0.02
PACKAGE = Path(outloop.__file__).parent
# As the command `mitmdump` of this Python does, wherever that stands; with this package, also where only the attacker finds it.
_MITMDUMP = "import sys; sys.path.append(sys.argv.pop(1)); from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"


@dataclass(frozen=True)
class Proxy:
    """A proxy that was started."""

    home: Home
    process: subprocess.Popen[bytes]
    log: Path

    def address(self) -> tuple[str, int]:
        """Return where it listens, once it does. Raises NoError, with what it printed last, when it does not start."""
        end = time.monotonic() + PATIENCE_S
        with contextlib.closing(StateStore(self.home.state_db)) as state:
            while not (proxies := state.proxies()):
                if self.process.poll() is not None:
                    raise NoError(f"the proxy does not start here: {_last_words(self.log)}")
                if time.monotonic() > end:
                    raise NoError(f"the proxy did not start within {PATIENCE_S:.0f} s: {_last_words(self.log)}")
                time.sleep(POLL_S)
        return proxies[0].host, proxies[0].port


@contextlib.contextmanager
def running_proxy(home: Home, routes: Mapping[str, int], upstream_ca: Path, environ: Mapping[str, str]) -> Iterator[Proxy]:
    """Run mitmdump with the addon, as it would start under *environ* but for *home*, until the block ends.

    *routes* maps ``host`` (port 443) or ``host:port`` to a port on 127.0.0.1. Raises NoError for a configuration of mitmproxy's
    that cannot be read.
    """
    routed = [f"{host if ':' in host else f'{host}:443'}=127.0.0.1:{port}" for host, port in routes.items()]
    settings = {"listen_host": "127.0.0.1", "listen_port": 0, "outloop_workspace": "acme", "reroute": routed}
    write_configuration(home.ca, settings | {"outloop_home": str(home.root), "outloop_policies": ""}, environ)
    command = [sys.executable, "-c", _MITMDUMP, str(PACKAGE.parent), "--set", f"confdir={home.ca}"]
    command += ["-s", str(Path(__file__).with_name("script.py"))]
    log = home.root.parent / "proxy.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            env=_variables(home, upstream_ca, environ),
            cwd=home.root.parent,
            stdin=subprocess.PIPE,  # never written: its end tells the proxy to leave
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the attacker, who then stops it
        )
    try:
        yield Proxy(home, process, log)
    finally:
        process.terminate()
        try:
            process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _variables(home: Home, upstream_ca: Path, environ: Mapping[str, str]) -> dict[str, str]:
    named = environ.get("OUTLOOP_UPSTREAM_CA")
    if named:  # trusted as well, as always
        upstream_ca.write_bytes(upstream_ca.read_bytes() + Path(named).read_bytes())
    paths = [str(Path(path).absolute()) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        **environ,
        **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {}),  # it runs in another folder
        "OUTLOOP_HOME": str(home.root),
        "OUTLOOP_KEYRING": "file",
        "OUTLOOP_UPSTREAM_CA": str(upstream_ca),
    }


def _last_words(log: Path) -> str:
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("outloop: error: ") for line in said if line.startswith("outloop: error: ")]
    return (errors or said or ["it printed nothing"])[-1]
