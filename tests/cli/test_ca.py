"""`outloop ca`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme


def test_json_has_the_three_facts(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    code, out, err = outloop("ca", "show", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["bundle"] == str(home / "ca" / "bundle.pem")
    assert facts["certificate"] == str(home / "ca" / "mitmproxy-ca-cert.pem")
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", facts["certificate"]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip().partition("=")[2] == facts["fingerprint"]


def test_people_get_a_line_a_fact(outloop: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = outloop("ca", "show")
    assert code == 0
    assert re.fullmatch(r"bundle +\S+\ncertificate +\S+\nfingerprint +(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\n", out)


def test_no_private_key_is_in_what_it_names(outloop: Callable[..., tuple[int, str, str]]) -> None:
    facts = json.loads(outloop("ca", "show", "--json")[1])
    assert "PRIVATE" not in Path(facts["bundle"]).read_text() + Path(facts["certificate"]).read_text()


def test_what_the_shell_had_preset_is_in_the_bundle(
    outloop: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corporate = tmp_path / "corporate.pem"
    trustme.CA().cert_pem.write_to_path(str(corporate))
    monkeypatch.setenv("SSL_CERT_FILE", str(corporate))
    named = json.loads(outloop("ca", "show", "--json")[1])["bundle"]
    assert corporate.read_text().split("\n")[1] in Path(named).read_text()


def test_a_broken_authority_is_one_line(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    outloop("init")
    (home / "ca" / "mitmproxy-ca.pem").write_text("")
    code, out, err = outloop("ca", "show")
    assert (code, out) == (2, "")
    assert err.startswith("outloop: error: the certificate authority in")
    assert err.count("\n") == 2
