"""A proxy that stops anchors the record in the keychain, and ends whatever the keychain does."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.proxy import running_proxy
from harness.stage import HOST, TOKEN, store_keys

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - deny: GET /private/**
"""


@pytest.fixture
def home(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    return operator


def stopped(operator: Operator) -> tuple[int, str]:
    """Run a proxy for one refused request, stop it, and return its exit code and what it printed."""
    with running_proxy(operator, {}) as proxy:
        assert proxy.curl(f"https://{HOST}/private/x").status == 403
        return proxy.stop(), proxy.log


def verified(operator: Operator) -> tuple[int, dict[str, object]]:
    done = operator.run("audit", "verify", "--json")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return done.returncode, found


def test_each_stop_anchors_all_that_is_on_record(home: Operator) -> None:
    for number in (1, 2):
        stopped(home)
        code, found = verified(home)

        anchor = found["anchor"]
        assert isinstance(anchor, dict)
        assert (code, anchor["standing"], anchor["appends"], anchor["newer"]) == (0, "attested", found["appends"], 0)
        assert anchor["writers"] == number


def test_before_the_first_stop_there_is_nothing_to_hold_it_against(home: Operator) -> None:
    with running_proxy(home, {}) as proxy:
        proxy.curl(f"https://{HOST}/private/x")
        assert "a proxy anchors it when it stops" in home.outloop("audit", "verify")


def test_a_home_without_a_keychain_has_no_anchor_and_no_complaint(operator: Operator) -> None:
    operator.write_policy("acme", POLICY)
    with running_proxy(operator, {}) as proxy:
        proxy.curl(f"https://{HOST}/private/x")
        assert proxy.stop() == 0
        assert "anchored" not in proxy.log

    assert "no key was ever stored here" in operator.outloop("audit", "verify")


def test_a_keychain_that_is_gone_is_not_begun_anew(home: Operator) -> None:
    shutil.rmtree(home.home / "keyring")
    code, log = stopped(home)

    assert code == 0
    assert "the record was not anchored in the keychain" in log
    assert not (home.home / "keyring").exists()


@contextmanager
def open_to_others(operator: Operator) -> Iterator[None]:
    key = operator.home / "keyring" / "master.key"
    key.chmod(0o644)
    yield
    key.chmod(0o600)


@contextmanager
def held(operator: Operator) -> Iterator[None]:
    handle = os.open(operator.home / "keyring" / "lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    os.close(handle)


@pytest.mark.parametrize(("spoiled", "said"), [(open_to_others, "open to other users"), (held, "did not answer within 5 s")])
def test_a_keychain_that_refuses_or_hangs_is_an_event_and_keeps_no_proxy_from_ending(
    home: Operator, spoiled: object, said: str
) -> None:
    assert callable(spoiled)
    with spoiled(home):
        code, log = stopped(home)

    (event,) = [row for row in home.rows("events") if row["kind"] == "record_not_anchored"]
    assert code == 0
    assert said in str(event["detail"])
    assert said in log
    assert "Traceback" not in log
    stopped(home)
    assert verified(home)[0] == 0


def test_with_the_keychain_out_of_reach_verify_says_so_and_exits_1(home: Operator) -> None:
    stopped(home)
    Path(home.home / "keyring" / "master.key").chmod(0o644)

    done = home.run("audit", "verify")

    assert done.returncode == 1
    assert "none edited, removed, reordered or cut off" in done.stdout
    assert "its anchor could not be checked" in done.stderr
    assert "--without-keychain" in done.stderr
    assert "the keychain was not asked" in home.outloop("audit", "verify", "--without-keychain")
