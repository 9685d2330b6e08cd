"""Each way in which mitmproxy goes on without an addon, or past it: nothing opens."""

from __future__ import annotations

import json
import re
import resource
import shutil
import sqlite3
from pathlib import Path

import pytest

from harness.operators import ADDON, Operator
from harness.raw_agent import tunnel
from harness.single import POLICY, assert_bridged
from harness.stage import HOST, running_stage
from outloop.attacks.upstream.recorder import Recorder

MEDDLER = Path(__file__).with_name("meddler.py")


# The script


def test_editing_or_deleting_the_script_changes_nothing_in_the_running_proxy(
    ready: Operator, upstream: Recorder, upstream_ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "addon"
    folder.mkdir()
    script = Path(shutil.copy(ADDON / "outloop.py", folder))
    (folder / "outloop").symlink_to(ADDON / "outloop")
    monkeypatch.setattr("harness.proxy.ADDON", folder)

    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        # Each change is reported before the next is made, half a second apart at the least, so that mitmproxy's own watcher,
        # which looks once a second, would have seen some of them.
        for count in range(1, 6):
            if count % 2:
                script.write_text(f"addons = []  # {count}\n")
            else:
                script.unlink()
            events = stage.wait_for_event("script_changed", count=count)
        assert_bridged(stage, stage.curl("/still"))
        assert stage.curl("/refused/still", "-d", "x").status == 403
        refused = stage.proxy.curl("https://evil.example.org/")

    assert [event["detail"] for event in events] == ["edited", "deleted", "edited", "deleted", "edited"]
    assert "the script was deleted; the running proxy is unchanged" in stage.proxy.log
    assert refused.header("outloop-reason") == "host_not_allowed"


# The keychain


SLOW_KEYCHAIN = """
import threading
import outloop.proxy.runtime as runtime

def stuck(*args, **kwargs):
    threading.Event().wait()

runtime.Keychain = type("Stuck", (), {"open": staticmethod(stuck)})
"""


def test_a_keychain_that_hangs_refuses_in_time_and_does_not_keep_the_proxy_from_ending(
    ready: Operator, upstream: Recorder, upstream_ca: Path, tmp_path: Path
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW_KEYCHAIN)

    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, options=["-s", str(script)]) as stage:
        answers = [stage.curl(f"/{number}") for number in range(2)]
        internal = stage.proxy.curl("https://outloop.internal/")
        code = stage.proxy.stop()

    assert [(answer.status, answer.json()["reason"]) for answer in answers] == [(503, "key_locked")] * 2
    assert (internal.status, upstream.requests, code) == (200, [], 0)


def test_a_refused_request_never_touches_the_keychain(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    shutil.rmtree(ready.home / "keyring")

    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        refused = stage.curl("/refused/x", "-d", "x")
        allowed = stage.curl("/x")

    assert (refused.status, refused.json()["reason"]) == (403, "denied_by_rule")
    assert (allowed.status, allowed.json()["reason"]) in ((503, "key_locked"), (403, "key_missing"))
    assert (upstream.connections, (ready.home / "keyring").exists()) == (0, False)


# The record


def test_a_full_disk_refuses_until_there_is_room_again(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        assert_bridged(stage, stage.curl("/before"))
        log = ready.home / "audit.db-wal"
        resource.prlimit(stage.proxy.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
        full = [stage.curl("/full"), stage.curl("/refused/full", "-d", "x"), stage.proxy.curl("https://evil.example.org/")]
        arrived = len(stage.arrived)
        resource.prlimit(stage.proxy.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert_bridged(stage, stage.curl("/after"))

    assert [answer.status for answer in full] == [503, 503, 503]
    assert [answer.json()["reason"] for answer in full[:2]] == ["audit_unavailable"] * 2
    assert full[2].header("outloop-reason") == "audit_unavailable"
    assert arrived == 1
    assert json.loads(ready.outloop("audit", "verify", "--json"))["ok"] is True


def test_a_record_that_another_program_holds_refuses_in_time(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        assert_bridged(stage, stage.curl("/before"))
        holder = sqlite3.connect(ready.home / "audit.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        held = stage.curl("/held")
        holder.execute("ROLLBACK")
        holder.close()
        assert_bridged(stage, stage.curl("/after"))

    assert (held.status, held.json()["reason"]) == (503, "audit_unavailable")
    assert [sent.path for sent in stage.arrived] == ["/before", "/after"]


def test_a_record_that_was_deleted_is_no_record(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        assert_bridged(stage, stage.curl("/before"))
        for path in ready.home.glob("audit.db*"):
            path.unlink()
        answers = [stage.curl(f"/{number}") for number in range(2)]

        for answer, target in zip(answers, ("/0", "/1"), strict=True):
            if answer.status == 200:
                stage.wait_for_row(path=target)
            else:
                assert answer.json()["reason"] == "audit_unavailable"
                assert target not in [sent.path for sent in stage.arrived]


# Policy


def test_a_policy_that_breaks_leaves_the_last_good_one_in_force(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        ready.write_policy("acme", "workspace: [\n")
        stage.wait_for_event("policy_refused")
        broken = [stage.curl("/x"), stage.curl("/refused/x", "-d", "x")]
        ready.write_policy("acme", "")
        stage.wait_for_event("policy_refused", count=2)
        empty = [stage.curl("/x"), stage.curl("/refused/x", "-d", "x")]
        ready.write_policy("acme", POLICY.replace("GET,HEAD,PUT,POST /**", "PUT /**"))
        stage.wait_for_event("policy_reloaded")
        narrowed = stage.curl("/x")

    assert [answer.status for answer in (*broken, *empty)] == [200, 403, 200, 403]
    assert (narrowed.status, narrowed.json()["reason"]) == (403, "method_not_allowed")
    assert re.search(r"policy refused, the last good one stays in force: \S*acme.yaml:", stage.proxy.log)
    assert re.search(r"outloop: policy: acme: ", stage.proxy.log)


def test_a_workspace_whose_policy_is_gone_reaches_nothing(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage, tunnel(stage.proxy, f"{HOST}:443") as agent:
        ask = f"GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        assert agent.ask(ask).status == 200
        (ready.home / "policies" / "acme.yaml").unlink()
        stage.wait_for_event("policy_reloaded")
        answer = agent.ask(ask)

    assert answer.status in (403, 407)
    assert len(upstream.requests) == 1
