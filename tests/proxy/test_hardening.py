"""Under what the proxy must not run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import options
from mitmproxy.net import tls
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.tools.dump import DumpMaster

from outloop.core.errors import HardeningError
from outloop.proxy import hardening, shape


@pytest.fixture
def opts() -> options.Options:
    """Every option that mitmdump knows, at its default."""

    async def make() -> options.Options:
        made = options.Options()
        DumpMaster(made, with_termlog=False)
        return made

    return asyncio.run(make())


def differing(opts: options.Options, name: str) -> Any:
    """Return a value of the option's type that is not its default."""
    option = opts._options[name]
    if option.typespec is bool:
        return not option.default
    if option.typespec is int:
        return 1 if option.default != 1 else 2
    if option.typespec == Sequence[str]:
        return ["x"]
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    return "x"


def test_the_defaults_are_fine(opts: options.Options) -> None:
    hardening.check_options(opts)


@pytest.mark.parametrize("name", hardening.WEAKENING)
def test_an_option_that_weakens_is_refused_by_name(opts: options.Options, name: str) -> None:
    if name not in opts:
        pytest.skip(f"this mitmproxy has no option {name}")
    opts._options[name].set(differing(opts, name))  # past the checks of mitmproxy's own addons

    with pytest.raises(HardeningError, match=f"option {name} weakens") as refused:
        hardening.check_options(opts)

    assert "config.yaml" in str(refused.value.hint)


def test_most_of_the_list_is_known_to_the_mitmproxy_at_hand(opts: options.Options) -> None:
    unknown = {name for name in hardening.WEAKENING if name not in opts}

    assert unknown <= {"emudhra", "emudhra_old", "store_streamed_bodies"}  # of 12.3 alone; of 12 alone


@pytest.mark.parametrize("name", hardening.SETTINGS)
def test_what_outloop_sets_exists(opts: options.Options, name: str) -> None:
    assert name in opts


@pytest.mark.parametrize(
    "mode", ["transparent", "socks5", "reverse:https://x.test", "upstream:http://x.test", "dns", "wireguard", "local"]
)
def test_another_mode_than_the_regular_one_is_refused(opts: options.Options, mode: str) -> None:
    opts._options["mode"].set(["regular", mode])

    with pytest.raises(HardeningError, match=f"mode {mode}"):
        hardening.check_options(opts)


@pytest.mark.parametrize("name", hardening.KEYLOG_VARIABLES)
def test_logging_of_tls_secrets_is_refused(name: str) -> None:
    with pytest.raises(HardeningError, match=f"^{name} "):
        hardening.check_environment({name: "/somewhere"})


def test_logging_of_tls_secrets_that_has_begun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "log_master_secret", object())

    with pytest.raises(HardeningError, match="TLS secrets"):
        hardening.check_environment({})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.0.1", False),
        ("example.com", False),
        ("localhost.evil.test", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert hardening.is_loopback(host) == expected


def test_the_addresses_to_listen_on_are_those_of_every_mode(opts: options.Options) -> None:
    opts._options["mode"].set(["regular", "regular@0.0.0.0:8081"])
    opts._options["listen_host"].set("127.0.0.1")

    assert hardening.listen_hosts(opts) == ["127.0.0.1", "0.0.0.0"]


def test_only_the_watcher_of_the_script_itself_is_stopped() -> None:
    stopped: list[str] = []

    def entry(path: str) -> SimpleNamespace:
        return SimpleNamespace(fullpath=path, reloadtask=SimpleNamespace(cancel=lambda: stopped.append(path)))

    hardening.stop_watching(SimpleNamespace(addons=[entry("/a/other.py"), entry("/a/../a/outloop.py")]), "/a/outloop.py")

    assert stopped == ["/a/../a/outloop.py"]


@pytest.mark.parametrize(
    "loader",
    [
        pytest.param(None, id="no-loader"),
        pytest.param(SimpleNamespace(), id="no-addons"),
        pytest.param(SimpleNamespace(addons=[]), id="no-scripts"),
        pytest.param(SimpleNamespace(addons=[SimpleNamespace(fullpath="/a/outloop.py")]), id="no-task"),
        pytest.param(SimpleNamespace(addons=[SimpleNamespace(fullpath="/a/outloop.py", reloadtask=None)]), id="task-not-begun"),
        pytest.param(SimpleNamespace(addons=[SimpleNamespace(fullpath="/a/b.py", reloadtask=object())]), id="another-script"),
    ],
)
def test_a_watcher_that_is_not_found_is_an_error(loader: object) -> None:
    with pytest.raises(HardeningError, match="watcher was not found"):
        hardening.stop_watching(loader, "/a/outloop.py")


def test_logs_are_cleaned_before_any_handler_sees_them(caplog: pytest.LogCaptureFixture) -> None:
    undo = hardening.filter_logs(lambda text: text.replace("not-a-real-token", "***"))
    try:
        with caplog.at_level(logging.INFO):
            logging.getLogger("mitmproxy.proxy.server").info("args %s and %s", "not-a-real-token", 1)
            logging.getLogger("mitmproxy.proxy.server").warning("Unexpected data from server: %r", b"half a not-a-real-t")
            try:
                raise ValueError("not-a-real-token")
            except ValueError:
                logging.getLogger("mitmproxy.addon").exception("it failed")
    finally:
        undo()

    assert "args *** and 1" in caplog.text
    assert "Unexpected data from server: (not shown)" in caplog.text
    assert "ValueError: ***" in caplog.text
    assert "not-a-real-t" not in caplog.text


def test_logs_are_mitmproxys_own_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    hardening.filter_logs(lambda text: "***")()

    with caplog.at_level(logging.INFO):
        logging.getLogger("mitmproxy").info("as it is")

    assert "as it is" in caplog.text


def test_the_mitmproxy_at_hand_has_the_expected_shape() -> None:
    shape.check()


def test_a_mitmproxy_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: object, event: object, extra: object) -> None: ...

    changed = [
        (name, send if name == "Http1Client.send" else function, parameters) for name, function, parameters in shape._WRAPPED
    ]
    assert any(function is send for _, function, _ in changed)
    monkeypatch.setattr(shape, "_WRAPPED", tuple(changed))

    with pytest.raises(HardeningError, match=r"not shaped as expected at Http1Client\.send"):
        shape.check()


def test_what_is_wrapped_is_still_told_by_its_shape() -> None:
    """A second addon instance in one process (a reload, a test) checks functions that are wrapped already."""
    from outloop.proxy import repairs, wire

    wire.install()
    repairs.install()
    shape.check()
    assert inspect.unwrap(_http1.Http1Client.send) is not _http1.Http1Client.send
