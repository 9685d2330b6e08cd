"""Hook dispatch without the walk: mitmproxy asks all of its three dozen addons at every event, most of which have no answer.

The addons that answer to an event are found once and kept until an addon comes or goes. Order, awaiting, AddonHalt,
OptionsError and the logging of exceptions stay mitmproxy's own. This is speed alone: where the source of what is replaced is
not a known one, mitmproxy's stays in place.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from mitmproxy import addonmanager, exceptions, flow, hooks, http
from mitmproxy.addonmanager import AddonManager

from outloop.proxy.patching import wrap

# SHA-256 of the sources of trigger_event, invoke_addon, _iter_hooks and handle_lifecycle in 11.0.2 and 12.2.3.
KNOWN_SOURCES = frozenset({"1b01dbe9dc449c25340f3d230e3b56bb136366c0349abc19a19efd37ca6b84ec"})
_REPLACED = ("trigger_event", "invoke_addon", "_iter_hooks", "handle_lifecycle")


def source_digest() -> str:
    """Return the digest of what would be replaced."""
    text = "".join(inspect.getsource(inspect.unwrap(getattr(AddonManager, name))) for name in _REPLACED)
    return hashlib.sha256(text.encode()).hexdigest()


def install() -> bool:
    """Put the kept dispatch in place, once per process; tell whether it is in place."""
    if source_digest() not in KNOWN_SOURCES:
        return False
    for name in ("register", "remove", "clear"):
        wrap(AddonManager, name, _forgetting)
    wrap(AddonManager, "trigger", _trigger_where_answered)
    wrap(AddonManager, "trigger_event", lambda _: _trigger_event)
    wrap(AddonManager, "handle_lifecycle", lambda _: _handle_lifecycle)
    # Under __debug__ each message checks the type of every field it is made with, against slips in addons: 5 % of a request.
    if hasattr(http.MessageData, "__post_init__"):
        wrap(http.MessageData, "__post_init__", lambda _: _unchecked)
    return True


def _forgetting(original: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: Any, *args: Any) -> Any:
        self.outloop_answering = {}
        try:
            return original(self, *args)
        finally:
            self.outloop_answering = {}

    return changed


def _answering(manager: Any, name: str) -> tuple[Callable[..., Any], ...]:
    """Return the hooks called *name*, in mitmproxy's order."""
    kept: dict[str, tuple[Callable[..., Any], ...]] | None = getattr(manager, "outloop_answering", None)
    if kept is None:
        kept = manager.outloop_answering = {}
    found = kept.get(name)
    if found is None:
        functions = (getattr(addon, name, None) for addon in addonmanager.traverse(manager.chain))
        found = kept[name] = tuple(function for function in functions if callable(function))
    return found


def _unchecked(self: Any) -> None:
    pass


def _trigger_where_answered(original: Callable[..., None]) -> Callable[..., None]:
    def trigger(self: Any, event: hooks.Hook) -> None:
        if _answering(self, event.name):
            original(self, event)

    return trigger


async def _trigger_event(self: Any, event: hooks.Hook) -> None:
    await _call(_answering(self, event.name), event.args())


async def _handle_lifecycle(self: Any, event: hooks.Hook) -> None:
    arguments = event.args()
    await _call(_answering(self, event.name), arguments)
    if isinstance(arguments[0], flow.Flow) and (updating := _answering(self, hooks.UpdateHook.name)):
        await _call(updating, [[arguments[0]]])


async def _call(functions: tuple[Callable[..., Any], ...], arguments: list[Any]) -> None:
    for function in functions:
        try:
            result = function(*arguments)
            if result is not None and inspect.isawaitable(result):
                await result
        except exceptions.AddonHalt:
            return
        except exceptions.OptionsError:
            raise
        except Exception:  # mitmproxy's own policy for other addons; Outloop's hooks answer for themselves
            with addonmanager.safecall():
                raise
