"""Chromium without a screen, driven through chromedriver: WebDriver (w3.org/TR/webdriver2) is JSON over HTTP."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from harness.partners import needs

PATIENCE_S = 60
# Without a sandbox of its own it also runs as root; the rest keeps it from looking for the network.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
)


class Chromium:
    """A browser window. Scripts given to `run` are bodies of functions."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = session

    def open(self, url: str) -> None:
        """Go to *url* and wait until it has loaded."""
        self._do("url", url=url)

    def run(self, script: str, *arguments: object) -> Any:
        """Return what *script* returns in the page."""
        return self._do("execute/sync", script=script, args=arguments)

    def wait(self, script: str, what: str) -> Any:
        """Return what *script* returns once that is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
            time.sleep(0.1)
        return found

    def resize(self, width: int, height: int) -> None:
        """Give the page that much room, in CSS pixels."""
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """Prefer the colour scheme ``light`` or ``dark``."""
        self._cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        shot: bytes = base64.b64decode(self._cdp("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        return shot

    def log(self, kind: str) -> list[str]:
        """Return what came since last into log *kind*: ``browser``, the console, or ``performance``, the network."""
        return [entry["message"] for entry in self._do("se/log", type=kind)]

    def cookies(self) -> list[dict[str, Any]]:
        """Return the cookies of the page."""
        found: list[dict[str, Any]] = self._http.get(f"/session/{self._session}/cookie").json()["value"]
        return found

    def _cdp(self, command: str, **parameters: object) -> Any:
        return self._do("goog/cdp/execute", cmd=command, params=parameters)

    def _do(self, command: str, **parameters: object) -> Any:
        answer = self._http.post(f"/session/{self._session}/{command}", json=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """Yield a browser with *profile*, a folder of its own; skip the test where there is none."""
    browser, driver = needs("chromium"), needs("chromedriver", "chromium-driver")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    profile.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S) as http:
            session = _begun(http, browser, profile)
            try:
                yield Chromium(http, session)
            finally:
                http.delete(f"/session/{session}")
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def _begun(http: httpx.Client, browser: str, profile: Path) -> str:
    options = {"binary": browser, "args": [*_FLAGS, f"--user-data-dir={profile / 'data'}"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
        except httpx.ConnectError:  # chromedriver is starting
            assert time.monotonic() < deadline
            time.sleep(0.1)
            continue
        assert answer.status_code == 200, answer.text
        session: str = answer.json()["value"]["sessionId"]
        return session
