"""Hook dispatch: the kept one answers as mitmproxy's own does."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy import exceptions, hooks, options
from mitmproxy.addonmanager import AddonManager
from mitmproxy.master import Master
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow

from outloop.proxy import dispatch


class StockManager(AddonManager):
    """mitmproxy's own dispatch, whether or not this process has replaced it."""

    trigger_event = inspect.unwrap(AddonManager.trigger_event)
    handle_lifecycle = inspect.unwrap(AddonManager.handle_lifecycle)
    register = inspect.unwrap(AddonManager.register)
    remove = inspect.unwrap(AddonManager.remove)
    clear = inspect.unwrap(AddonManager.clear)


class KeptManager(AddonManager):
    """The kept dispatch."""


assert dispatch.install()

Deed = Callable[[list[str]], Any]


class Addon:
    def __init__(self, name: str, said: list[str], *, deed: Exception | None = None, addons: tuple[object, ...] = ()) -> None:
        self.name = name
        self.said = said
        self.deed = deed
        self.addons = addons

    def request(self, flow: object) -> None:
        self.said.append(f"{self.name}.request")
        if self.deed:
            raise self.deed


class AsyncAddon(Addon):
    async def request(self, flow: object) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().request(flow)

    def update(self, flows: list[object]) -> None:
        self.said.append(f"{self.name}.update {len(flows)}")


@pytest.fixture(params=[StockManager, KeptManager], ids=["mitmproxys", "kept"])
def dispatched(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Run *build*, which registers addons, and dispatch one request to them; return what they said."""

    def run(build: Callable[[AddonManager, list[str]], None], times: int = 1) -> list[str]:
        said: list[str] = []

        async def main() -> None:
            master = Master(options.Options(), asyncio.get_running_loop())
            manager = master.addons = request.param(master)
            for _ in range(times):
                build(manager, said)
                await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))

        asyncio.run(main())
        return said

    return run


def test_the_kept_dispatch_knows_the_mitmproxy_at_hand() -> None:
    assert dispatch.source_digest() in dispatch.KNOWN_SOURCES


def test_an_unknown_source_leaves_mitmproxys_own_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KNOWN_SOURCES", frozenset({"another"}))
    monkeypatch.setattr(AddonManager, "outloop_dispatch", False, raising=False)
    before = AddonManager.trigger_event

    assert not dispatch.install()
    assert AddonManager.trigger_event is before


def test_addons_are_asked_in_their_order_children_after_parents(dispatched: Callable[..., list[str]]) -> None:
    def build(manager: AddonManager, said: list[str]) -> None:
        manager.add(Addon("a", said, addons=(AsyncAddon("b", said), Addon("c", said))), AsyncAddon("d", said))

    assert dispatched(build) == ["a.request", "b.request", "c.request", "d.request", "b.update 1", "d.update 1"]


def test_one_that_halts_is_the_last_for_that_event(dispatched: Callable[..., list[str]]) -> None:
    def build(manager: AddonManager, said: list[str]) -> None:
        manager.add(Addon("a", said), Addon("b", said, deed=exceptions.AddonHalt()), AsyncAddon("c", said))

    assert dispatched(build) == ["a.request", "b.request", "c.update 1"]


def test_one_that_raises_is_logged_and_the_next_is_asked(
    dispatched: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    def build(manager: AddonManager, said: list[str]) -> None:
        manager.add(AsyncAddon("a", said, deed=ValueError("what it said")), Addon("b", said))

    with caplog.at_level(logging.ERROR):
        assert dispatched(build) == ["a.request", "b.request", "a.update 1"]
    assert "what it said" in caplog.text


def test_a_wrong_option_is_told_to_the_caller(dispatched: Callable[..., list[str]]) -> None:
    def build(manager: AddonManager, said: list[str]) -> None:
        manager.add(Addon("a", said, deed=exceptions.OptionsError("wrong")))

    with pytest.raises(exceptions.OptionsError, match="wrong"):
        dispatched(build)


def test_addons_that_come_and_go_are_asked_while_they_are_there(dispatched: Callable[..., list[str]]) -> None:
    def build(manager: AddonManager, said: list[str]) -> None:
        if "first" in manager.lookup:
            manager.remove(manager.get("first"))
            manager.add(Addon("second", said))
        else:
            manager.add(Addon("first", said))

    assert dispatched(build, times=2) == ["first.request", "second.request"]


def test_a_script_that_is_loaded_while_running_is_asked(dispatched: Callable[..., list[str]]) -> None:
    """As mitmproxy's ScriptLoader does it: the child is registered first and hangs in the tree afterwards."""

    class Loader:
        def __init__(self) -> None:
            self.addons: list[object] = []

    loader = Loader()

    def build(manager: AddonManager, said: list[str]) -> None:
        if loader not in manager.chain:
            manager.add(loader)
        else:
            loader.addons.append(manager.register(Addon("script", said)))

    assert dispatched(build, times=2) == ["script.request"]


def test_other_events_are_dispatched_too(dispatched: Callable[..., list[str]]) -> None:
    said: list[str] = []

    class Runner:
        name = "runner"

        async def running(self) -> None:
            said.append("running")

    async def main() -> None:
        master = Master(options.Options(), asyncio.get_running_loop())
        master.addons.add(Runner())
        await master.addons.trigger_event(hooks.RunningHook())

    asyncio.run(main())
    assert said == ["running"]
