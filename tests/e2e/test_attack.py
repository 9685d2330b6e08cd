"""`outloop doctor --attack` as a user runs it: on this installation, on broken ones, and when it is stopped half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from outloop.attacks.tables import cases_of
from outloop.store.state import StateStore

LONG_S = 300.0  # so long may all of it take on a machine that has other work
COMMAND = (sys.executable, "-m", "outloop", "doctor", "--attack")
COLUMNS = {"table", "promise", "about", "cases", "passed", "failed", "limits", "failures"}

# What Python runs at the start of every program of this user's, the proxy among them: each breaks one thing that protects.
DEAF = """
from outloop.core.scrub.scrubber import ScrubSet
survey = ScrubSet.survey
ScrubSet.survey = lambda *given, **more: ([], survey(*given, **more)[1])
"""
BLIND = """
from outloop.core.exposure import Needles
Needles.stand_in = lambda self, text: False
"""
NOTHING_FORBIDDEN = """
from outloop.core import decide
decide.forbids = lambda *given, **more: False
"""
NOTHING_STRIPPED = """
from outloop.core import outgoing
outgoing.CREDENTIAL_HEADERS = frozenset()
"""
ANY_NAME = """
from outloop.core import target
target.disagreement = lambda *given, **more: None
"""
INWARD = """
from outloop.core import hosts
hosts.is_public_address = lambda ip: True
"""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the attack puts its files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def user(tmp_path: Path, temporary: Path) -> Operator:
    """Somebody whose temporary files are looked at."""
    return Operator(tmp_path / "user", environ={"TMPDIR": str(temporary)})


def attacked(user: Operator, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    user.folder.mkdir(exist_ok=True)
    environ = user.variables | variables
    return subprocess.run([*COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=LONG_S, check=False)


def broken(tmp_path: Path, *faults: str) -> str:
    """Return a PYTHONPATH under which *faults* are there."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("".join(faults))
    return str(folder)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_this_installation_holds_and_nothing_of_the_users_is_touched(user: Operator, temporary: Path) -> None:
    user.folder.mkdir()
    user.outloop("init")
    user.outloop("workspace", "add", "acme", "--service", "calendly")
    user.add_key("calendly", "acme", "cal_pat_FAKE_0123456789abcdef")
    (user.folder / ".mitmproxy").mkdir()
    theirs = {"outloop_home": str(user.home), "listen_port": 1, "flow_detail": 4, "save_stream_file": str(user.folder / "flows")}
    (user.folder / ".mitmproxy" / "config.yaml").write_text(json.dumps(theirs))
    before = snapshot(user.folder)

    done = attacked(user, "--only", "around", "--json")

    assert (done.returncode, snapshot(user.folder), list(temporary.iterdir())) == (0, before, []), done.stderr
    groups = json.loads(done.stdout)
    cases = cases_of("around")
    assert all(set(group) == COLUMNS for group in groups)
    assert {group["promise"] for group in groups} == {case.promise for case in cases}
    assert sum(group["passed"] for group in groups) == sum(group["cases"] for group in groups) == len(cases)
    assert sum(group["limits"] for group in groups) == sum(bool(case.limit) for case in cases)
    assert done.stderr.splitlines()[0] == f"attacking this installation, with {len(cases)} cases"
    assert f"{len(cases)} attacks were met as they should be" in done.stderr


@pytest.mark.parametrize(
    ("faults", "table", "promise", "evidence"),
    [
        pytest.param((DEAF, BLIND), "returning", "G1", "b'not-a-rea' can be read in", id="no-scrubber-and-no-check"),
        pytest.param((NOTHING_FORBIDDEN,), "asking", "G3", "a connection was opened for a request that must not leave",
            id="no-deny-rules"),
        pytest.param((NOTHING_STRIPPED,), "framing", "G2", "the upstream got the agent's own credential", id="nothing-stripped"),
        pytest.param((INWARD,), "around", "G2", "the agent got 200, not 403", id="tunnels-inward"),
    ],
)  # fmt: skip
def test_a_broken_installation_is_found_out(
    user: Operator, tmp_path: Path, temporary: Path, faults: tuple[str, ...], table: str, promise: str, evidence: str
) -> None:
    path = os.pathsep.join([broken(tmp_path, *faults), user.variables["PYTHONPATH"]])

    done = attacked(user, "--only", table, "--json", PYTHONPATH=path)

    assert done.returncode == 1, done.stdout + done.stderr
    (group,) = [group for group in json.loads(done.stdout) if group["promise"] == promise]
    assert group["failed"] == len(group["failures"]) > 0
    assert any(evidence in said for failure in group["failures"] for said in failure["evidence"]), group["failures"]
    assert all(failure["case"] and failure["expected"] for failure in group["failures"])
    assert "attacks were not met as they should be" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


def test_people_read_what_was_expected_and_what_came(user: Operator, tmp_path: Path) -> None:
    path = os.pathsep.join([broken(tmp_path, ANY_NAME), user.variables["PYTHONPATH"]])

    done = attacked(user, "--only", "calling", PYTHONPATH=path)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = lines.index("calling/host-of-another-service (G2)")
    assert lines[place + 1] == "  expected  421 host_mismatch; nothing reaches the upstream; rows: deny host_mismatch"
    assert lines[place + 2].startswith("  evidence  the agent got 200, not 421")
    assert any(line.startswith("  known as  domain fronting") for line in lines[place:])


def test_a_configuration_under_which_no_proxy_starts_is_said_in_one_line(user: Operator, temporary: Path) -> None:
    (user.folder / ".mitmproxy").mkdir(parents=True)
    (user.folder / ".mitmproxy" / "config.yaml").write_text("ssl_insecure: true\n")

    done = attacked(user, "--only", "calling")

    assert (done.returncode, done.stdout, list(temporary.iterdir())) == (1, "", [])
    said = "outloop: error: the proxy does not start here: mitmproxy's option ssl_insecure weakens the proxy"
    assert said in done.stderr.splitlines()


def test_a_configuration_that_cannot_be_read_is_named(user: Operator) -> None:
    (user.folder / ".mitmproxy").mkdir(parents=True)
    for text in ("flow_detail: [", "- a list\n", "\xff"):
        (user.folder / ".mitmproxy" / "config.yml").write_text(text, encoding="latin-1")

        done = attacked(user, "--only", "calling")

        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
        assert f"outloop: error: mitmproxy cannot read {user.folder / '.mitmproxy' / 'config.yml'}: " in done.stderr


@pytest.mark.parametrize(("limit", "code"), [pytest.param(256, 0, id="enough"), pytest.param(64, 2, id="too-few")])
def test_a_program_may_open_few_files(user: Operator, limit: int, code: int) -> None:
    user.folder.mkdir()
    limited = ["bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", *COMMAND, "--only", "calling"]

    done = subprocess.run(limited, env=user.variables, capture_output=True, text=True, timeout=LONG_S, check=False)

    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stdout + done.stderr


def test_variables_under_which_no_proxy_starts_are_said_in_one_line(user: Operator, tmp_path: Path) -> None:
    done = attacked(user, "--only", "calling", SSLKEYLOGFILE=str(tmp_path / "secrets"))

    assert done.returncode == 1
    assert "the proxy does not start here: SSLKEYLOGFILE makes mitmproxy write TLS secrets" in done.stderr


@contextmanager
def attacking(user: Operator, temporary: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Start an attack, and wait until a proxy of it runs; yield it, and the proxies' process ids."""
    user.folder.mkdir(exist_ok=True)
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(COMMAND, env=user.variables, start_new_session=True, **output) as process:
        try:
            end = time.monotonic() + PATIENCE_S
            while not (pids := proxies_in(temporary)):
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.05)
            yield process, pids
        finally:
            process.kill()


def proxies_in(folder: Path) -> list[int]:
    pids = []
    for path in folder.glob("*/*/outloop/state.db"):
        with closing(StateStore(path)) as state:
            pids += [proxy.pid for proxy in state.proxies()]
    return pids


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < end:
                os.kill(pid, 0)
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, id="terminated"),
    ],
)
def test_an_attack_that_is_stopped_leaves_nothing(user: Operator, temporary: Path, number: int, code: int) -> None:
    with attacking(user, temporary) as (process, pids):
        process.send_signal(number)
        process.send_signal(number)  # people press it twice

        assert process.wait(PATIENCE_S) == code
        assert list(temporary.iterdir()) == []
        wait_until_gone(pids)


def test_the_proxies_of_an_attack_that_was_killed_end_by_themselves(user: Operator, temporary: Path) -> None:
    with attacking(user, temporary) as (process, pids):
        process.kill()

        wait_until_gone(pids)
