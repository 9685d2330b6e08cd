"""Other addons in the same process, and bugs of our own: what was decided is what happens, or nothing does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.single import POLICY, assert_bridged
from harness.stage import HOST, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import chunked, json_reply, reply

MEDDLER = Path(__file__).with_name("meddler.py")


# Other addons


@pytest.fixture(scope="module")
def meddled(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    with (
        Recorder(authority.server_context(HOST, "other.example.com")) as upstream,
        running_stage(
            module_operator, upstream, [HOST, f"{HOST}:8443", "other.example.com"],
            upstream_ca=upstream_ca, options=["-s", str(MEDDLER)],
        ) as stage,
    ):  # fmt: skip
        yield stage


@pytest.fixture
def stage(meddled: Stage) -> Stage:
    return meddled.view()


@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders", "response"])
def test_an_addon_that_raises_leaves_the_request_decided_and_the_answer_clean(stage: Stage, hook: str) -> None:
    path = f"/meddle/{hook}/raise-error"
    stage.upstream.on(f"GET {path}", json_reply({"echo": TOKEN}))

    answer = stage.curl(path)

    assert_bridged(stage, answer)
    assert TOKEN.encode() not in answer.body
    refused = stage.curl(f"/meddle/refused/{hook}/raise-error")
    assert (refused.status, refused.json()["reason"], len(stage.arrived)) == (403, "denied_by_rule", 1)


CHANGES = "change-host change-port change-scheme change-method replace-request copy-request".split()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_request_that_another_addon_changes_after_the_decision_is_not_sent(stage: Stage, hook: str, change: str) -> None:
    before = stage.upstream.connections

    answer = stage.curl(f"/meddle/{hook}/{change}")

    assert answer.status >= 500
    assert answer.header("content-type") == "application/problem+json"
    assert (stage.arrived, stage.upstream.connections) == ([], before)
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["path"], row["status"]) == (f"/meddle/{hook}/{change}", answer.status)
    assert row["reason"] != "OK"


@pytest.mark.parametrize("change", "change-path change-query add-header add-credential change-host-header add-trailers".split())
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_what_is_sent_is_what_was_decided_whatever_another_addon_writes_into_the_flow(
    stage: Stage, hook: str, change: str
) -> None:
    path = f"/meddle/{hook}/{change}"

    answer = stage.curl(f"{path}?a=1")

    assert answer.header("outloop-audit-id")
    for sent in stage.arrived:
        assert (sent.target, sent.header("host")) == (f"{path}?a=1", HOST.encode())
        assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]
        assert b"changed" not in sent.raw.lower().replace(change.encode(), b"")
    assert answer.status != 200 or len(stage.arrived) == 1


def test_a_body_that_another_addon_changes_after_the_decision_is_not_sent(stage: Stage) -> None:
    answer = stage.curl("/links/meddle/request/change-body", "-H", "Content-Type: application/json", "-d", '{"max": 1}')

    assert b"changed" not in b"".join(bytes(sent.body) for sent in stage.arrived)
    assert answer.header("outloop-audit-id")


@pytest.mark.parametrize(
    "deed", ["clear-response", "allow-it", "mark-as-replay", "copy-request", "replace-request", "stream-request", "resume"]
)
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_refusal_that_another_addon_takes_back_stays_one(stage: Stage, hook: str, deed: str) -> None:
    before = stage.upstream.connections

    answer = stage.curl(f"/meddle/refused/{hook}/{deed}")

    assert answer.status in (0, 403, 500, 502)
    assert (stage.arrived, stage.upstream.connections) == ([], before)
    row = stage.wait_for_row(path=f"/meddle/refused/{hook}/{deed}")
    assert (row["decision"], row["reason"]) == ("deny", "denied_by_rule")


def test_a_flow_that_another_addon_replays_is_not_an_agents_request(stage: Stage) -> None:
    before = len(stage.operator.rows())

    assert_bridged(stage, stage.curl("/meddle/response/replay"))

    stage.wait_for_row(path="/replayed")
    rows = stage.operator.rows()[before:]
    assert [(row["decision"], row["path"]) for row in rows] == [("allow", "/meddle/response/replay"), ("deny", "/replayed")]
    assert [sent.path for sent in stage.arrived] == ["/meddle/response/replay"]


@pytest.mark.parametrize("size", [100, 200_000], ids=["short", "long"])
def test_an_answer_that_another_addon_streams_past_the_cleaning_is_not_let_out(stage: Stage, size: int) -> None:
    path = f"/meddle/responseheaders/stream-response/{size}/stream-response"
    stage.upstream.on(f"GET {path}", reply(TOKEN.encode() + b"x" * size))

    answer = stage.curl(path)

    assert TOKEN.encode() not in answer.body


def test_an_addon_that_ends_the_process_opens_nothing(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, options=["-s", str(MEDDLER)]) as stage:
        answer = stage.curl("/meddle/requestheaders/exit")

        stage.proxy.process.wait(PATIENCE_S)

    assert answer.exit_code != 0
    assert upstream.requests == []


# Bugs of our own


# On SIGUSR1: breaks the function that the file beside it names, and mends the one it broke before.
BUGGY = """
import pathlib, signal

def broken(*args, **kwargs):
    raise ZeroDivisionError("a secret not-a-real-token-0123456789 in an exception")

mended = []

def break_it(*_):
    while mended:
        setattr(*mended.pop())
    where = pathlib.Path(__file__).with_suffix(".txt").read_text()
    module, _, name = where.partition(":")
    owner = __import__(module, fromlist=["x"])
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    mended.append((owner, last, getattr(owner, last)))
    setattr(owner, last, broken)
    print("broken:", where, flush=True)

signal.signal(signal.SIGUSR1, break_it)
"""


@pytest.fixture(scope="module")
def buggy(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[tuple[Stage, Path]]:
    operator = Operator(tmp_path_factory.mktemp("buggy"))
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    script = operator.folder / "buggy.py"
    script.write_text(BUGGY)
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca, options=["-s", str(script)]) as stage,
    ):
        upstream.on("GET /short", json_reply({"echo": TOKEN}))
        upstream.on("GET /long", chunked(b"x" * 100_000, TOKEN.encode()))
        assert_bridged(
            stage, stage.curl("/before")
        )  # from here on the key is in memory, as in a proxy that has worked for a while
        yield stage, script.with_suffix(".txt")


@pytest.mark.parametrize(
    ("where", "reached"),
    [
        pytest.param("outloop.proxy.addon:identify", True, id="identify"),
        pytest.param("outloop.proxy.connections:identify", False, id="identify-at-connect"),
        pytest.param("outloop.proxy.connections:lane_of", False, id="connect"),
        pytest.param("outloop.proxy.requests:Requests.consider", False, id="consider"),
        pytest.param("outloop.proxy.requests:decide", False, id="decide"),
        pytest.param("outloop.proxy.requests:stripped", False, id="strip"),
        pytest.param("outloop.proxy.vault:Vault.open", False, id="vault"),
        pytest.param("outloop.proxy.recording:Recorder.allowed", False, id="record"),
        pytest.param("outloop.proxy.wire:edits_applied", False, id="inject"),
        pytest.param("outloop.proxy.wire:distrust", False, id="check-the-connection"),
        pytest.param("outloop.proxy.addon:cleaned_head", True, id="clean-the-head"),
        pytest.param("outloop.proxy.addon:clean_whole", True, id="clean-the-body"),
        pytest.param("outloop.core.cleaning:BodyCleaner.feed", True, id="clean-a-piece"),
        pytest.param("outloop.core.exposure:ExposureCheck.feed", False, id="measure"),
        pytest.param("outloop.proxy.recording:Recorder.outcome", True, id="outcome"),
        pytest.param("outloop.proxy.refusing:refusal_response", True, id="refusal"),
    ],
)
def test_a_bug_anywhere_lets_neither_request_nor_secret_pass(buggy: tuple[Stage, Path], where: str, reached: bool) -> None:
    stage, told = buggy[0].view(), buggy[1]
    told.write_text(where)
    stage.proxy.process.send_signal(signal.SIGUSR1)
    stage.proxy.wait_for_log(f"broken: {where}")

    answers = [stage.curl(path, "--max-time", "10") for path in ("/short", "/long")]
    refused = stage.curl("/refused/x", "-d", "x", "--max-time", "10")
    direct = [stage.proxy.curl(f"http://{HOST}/x", "--max-time", "10"), stage.proxy.curl("http://evil.example.org/")]

    assert bool(stage.arrived) == reached
    assert not {"/refused/x", "/x"} & {sent.path for sent in stage.arrived}
    for answer in (*answers, refused, *direct):
        assert TOKEN not in str(answer)
        assert "timed out" not in answer.stderr
    assert all(answer.status >= 400 or answer.exit_code != 0 for answer in (refused, *direct))
    assert TOKEN not in stage.proxy.log
