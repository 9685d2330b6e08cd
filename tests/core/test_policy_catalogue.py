"""Catalogue entries: what is refused, and what the shipped ones say."""

from __future__ import annotations

import re

import pytest

from harness.policies import CATALOGUE
from outloop.core.errors import PolicyError
from outloop.core.model import Probe
from outloop.core.policy import read_catalogue_entry
from outloop.store.documents import parse_document

HEAD = "title: X\nhosts: [api.x.com]\nauth: {type: bearer}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("title: X\nhosts: [api.x.com]\n", "missing field `auth`", id="no-auth"),
        pytest.param("title: X\nhosts: ['*.x.com']\nauth: {type: bearer}\n", "wildcard host", id="wildcard"),
        pytest.param("title: X\nhosts: ['https://{site}.x.com']\nauth: {type: bearer}\n", "is a url", id="url-with-param"),
        pytest.param(HEAD + "reads: [GET /a, GET /a]\n", "`GET /a` stands here twice", id="operation-twice"),
        pytest.param(HEAD + "reads: [get /a]\n", "unknown method `get`", id="method"),
        pytest.param(HEAD + 'writes: ["* /a"]\n', "exactly one method", id="star"),
        pytest.param(HEAD + "writes: ['POST,PUT /a']\n", "exactly one method", id="two-methods"),
        pytest.param(HEAD + "read: [GET /a]\n", "unknown field `read`", id="field"),
        pytest.param(HEAD + "placeholder: {X_TOKEN: sk_live_00000000fake}\n", "looks like a secret", id="placeholder"),
        pytest.param(HEAD + "placeholder: {x-token: none}\n", "cannot stand here", id="placeholder-name"),
        pytest.param(HEAD + "token_shape: x_{hex:8}\n", "cannot be made into decoys", id="shape-of-too-little"),
        pytest.param(HEAD + "token_shape: 'x_{any:80}'\n", "cannot be made into decoys", id="shape-of-an-unknown-kind"),
        pytest.param(HEAD + "scopes: [a]\n", "expected a mapping, found a list", id="scopes-list"),
        pytest.param(HEAD + "key: x\nrules: []\n", "unknown field `key`", id="workspace-fields"),
    ],
)
def test_a_wrong_entry_is_told(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_catalogue_entry(parse_document(text, "services/x.yaml"))

    assert message in " | ".join(problem.message for problem in caught.value.problems)


def test_an_entry_is_called_after_its_file() -> None:
    with pytest.raises(PolicyError, match="cannot name a service"):
        read_catalogue_entry(parse_document(HEAD, "services/My Service.yaml"))


def test_every_entry_can_be_proved_by_a_read_it_documents() -> None:
    for entry in CATALOGUE.values():
        assert entry.proof is not None
        path = entry.proof.target.partition("?")[0]
        assert any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", read.pattern.text), path) for read in entry.reads)


def test_calendly_is_there_in_full() -> None:
    calendly = CATALOGUE["calendly"]

    assert (calendly.hosts, calendly.params, calendly.optional_params) == (("api.calendly.com",), (), ("owner",))
    assert calendly.proof == Probe("GET", "/users/me")
    assert (len(calendly.reads), len(calendly.writes)) == (44, 23)
    assert {operation.method for operation in calendly.reads} == {"GET"}
    assert {operation.method for operation in calendly.writes} == {"POST", "PATCH", "DELETE"}
    assert all(list(facts) for facts in (calendly.scopes, calendly.limits, calendly.pins, calendly.placeholder, calendly.gotchas))
