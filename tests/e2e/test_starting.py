"""Under what the proxy does not start, and what it gives away of itself while it runs."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.operators import ADDON, PATIENCE_S, Operator
from harness.proxy import free_port, running_proxy
from harness.raw_agent import cleartext, connect_request, tunnel
from harness.single import POLICY, assert_bridged
from harness.stage import HOST, TOKEN, running_stage
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Gate, chunked, json_reply

MEDDLER = Path(__file__).with_name("meddler.py")


def test_a_connection_that_came_before_the_addon_was_loaded_is_served_by_the_addon(ready: Operator) -> None:
    with running_proxy(ready, {}, is_awaited=False) as proxy:
        while True:
            try:
                with cleartext(proxy) as agent:  # mitmproxy listens before it loads the script
                    answer = agent.ask(connect_request("evil.example.org:443"))
                    break
            except ConnectionRefusedError:
                assert proxy.process.poll() is None, proxy.log

    assert (answer.status, answer.header("outloop-reason")) == (403, "host_not_allowed")


def test_a_broken_policy_stops_the_proxy_at_its_start(ready: Operator) -> None:
    ready.write_policy("acme", POLICY.replace("rules:", "rulez:"))

    done = refused_start(ready)

    assert done.returncode == 2
    assert re.search(r"^outloop: error: \S*acme\.yaml:6:5: unknown field `rulez`", done.stderr, re.MULTILINE)
    assert "outloop: hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_the_scripts_watcher_is_not_found_the_proxy_does_not_start(ready: Operator, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "from pathlib import Path\nfrom outloop.proxy.addon import Outloop\naddons = [Outloop(script=Path('/elsewhere.py'))]\n"
    )

    done = refused_start(ready, script=other)

    assert "outloop: error: the script's watcher was not found" in done.stderr
    assert done.returncode == 2


def refused_start(
    operator: Operator,
    *options: str,
    environ: dict[str, str] | None = None,
    script: Path = ADDON / "outloop.py",
    tool: str = "mitmdump",
) -> subprocess.CompletedProcess[str]:
    """Start the proxy under conditions in which it must not run, and return how it ended."""
    command = [str(operator.python.parent / tool), "-s", str(script), "--listen-port", str(free_port()), *options]
    variables = {**operator.variables, **(environ or {})}
    return subprocess.run(
        command,
        env=variables,
        cwd=operator.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--ssl-insecure"], "ssl_insecure", id="ssl-insecure"),
        pytest.param(["--ignore-hosts", "example"], "ignore_hosts", id="ignore-hosts"),
        pytest.param(["--modify-headers", "/~q/X/y"], "modify_headers", id="modify-headers"),
        pytest.param(["--map-remote", "|a|b"], "map_remote", id="map-remote"),
        pytest.param(["--set", "stream_large_bodies=3m"], "stream_large_bodies", id="stream-large-bodies"),
        pytest.param(["--mode", "reverse:https://api.example.com"], "reverse", id="reverse-mode"),
        pytest.param(["--mode", "upstream:http://127.0.0.1:1"], "upstream", id="upstream-mode"),
        pytest.param(["--mode", "socks5"], "socks5", id="socks-mode"),
        pytest.param(["--mode", "regular", "--mode", "dns@0"], "dns", id="a-second-mode"),
        pytest.param(["--listen-host", "0.0.0.0"], "agents with tokens", id="every-address-without-agents"),
        pytest.param(["--mode", "regular@0.0.0.0:0"], "agents with tokens", id="every-address-in-the-mode"),
        pytest.param(["--set", "outloop_workspace=other"], "outloop_workspace", id="unknown-workspace"),
    ],
)
def test_an_option_that_opens_what_outloop_closes_refuses_the_start(ready: Operator, options: list[str], said: str) -> None:
    done = refused_start(ready, *options)

    assert done.returncode == 2, done
    error = next(line for line in done.stderr.splitlines() if line.startswith("outloop: error: "))
    assert said in error
    assert "Traceback" not in done.stderr


def test_an_option_in_mitmproxys_own_configuration_refuses_the_start_and_is_found(ready: Operator, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("ssl_insecure: true\n")

    done = refused_start(ready, "--set", f"confdir={tmp_path}")

    assert done.returncode == 2
    assert "outloop: error: mitmproxy's option ssl_insecure weakens the proxy" in done.stderr
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize("name", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"])
def test_a_variable_that_has_tls_secrets_written_refuses_the_start(ready: Operator, tmp_path: Path, name: str) -> None:
    done = refused_start(ready, environ={name: str(tmp_path / "keys")})

    assert done.returncode == 2
    assert f"outloop: error: {name} " in done.stderr
    assert not (tmp_path / "keys").exists() or (tmp_path / "keys").read_bytes() == b""


SETTER = """
from mitmproxy import ctx

def requestheaders(flow):
    for text in ("ssl_insecure=true", "modify_headers=/~q/X-Changed/1", "stream_large_bodies=1", "mode=socks5", "flow_detail=0"):
        try:
            ctx.master.commands.call("set", text)
        except Exception:
            print("refused", text, flush=True)
    now = ctx.options
    print("now", now.ssl_insecure, now.modify_headers, now.stream_large_bodies, now.mode, flush=True)
"""


def test_an_option_that_weakens_the_running_proxy_is_taken_back(
    ready: Operator, upstream: Recorder, upstream_ca: Path, tmp_path: Path
) -> None:
    script = tmp_path / "setter.py"
    script.write_text(SETTER)
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, options=["-s", str(script)]) as stage:
        assert_bridged(stage, stage.curl("/x"))
        assert_bridged(stage, stage.curl("/y"))

    assert "now False [] None ['regular']" in stage.proxy.log
    assert b"X-Changed" not in upstream.requests[-1].raw


# Where flows are written down


def test_no_file_and_no_screen_of_mitmproxys_shows_the_key_even_of_a_request_in_flight(
    ready: Operator, upstream: Recorder, upstream_ca: Path, tmp_path: Path
) -> None:
    gate = Gate()
    upstream.on("GET /in-flight", chunked(b"first\n\n", gate, b"never"))
    upstream.on("GET /echo", json_reply({"echo": TOKEN}, headers=[("X-Echo", TOKEN)]))
    dump, archive = tmp_path / "flows", tmp_path / "flows.har"
    options = ["-w", str(dump), "--set", f"hardump={archive}", "--set", "flow_detail=4", "--set", "termlog_verbosity=debug"]
    with ExitStack() as stack:
        stage = stack.enter_context(running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, options=options))
        assert_bridged(stage, stage.curl("/echo"))
        agent = stack.enter_context(tunnel(stage.proxy, f"{HOST}:443"))
        agent.send(f"GET /in-flight HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        gate.wait_reached()
        assert agent.head().read(7) == b"first\n\n"
        stage.proxy.stop()

    assert b"/echo" in dump.read_bytes()
    for written in (dump, archive, stage.proxy.log_file):
        assert TOKEN.encode() not in written.read_bytes(), written
    for path in ready.home.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path


def test_the_process_leaves_no_core_and_shows_no_secret_in_its_arguments(
    ready: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        assert_bridged(stage, stage.curl("/x"))
        process = Path("/proc", str(stage.proxy.process.pid))
        assert resource.prlimit(stage.proxy.process.pid, resource.RLIMIT_CORE) == (0, 0)
        assert TOKEN.encode() not in (process / "cmdline").read_bytes()
        if os.getuid() == 0:
            assert TOKEN.encode() not in (process / "environ").read_bytes()
