from __future__ import annotations

import os
from pathlib import Path

import pytest

from outloop.core.errors import UsageError
from outloop.store.home import Home


def test_the_default_home_is_a_hidden_folder_of_the_user(tmp_path: Path) -> None:
    home = Home.locate({"HOME": str(tmp_path)})
    assert home.root == tmp_path / ".outloop"
    assert home.keychain_service == "outloop"


def test_an_empty_variable_names_no_home(tmp_path: Path) -> None:
    assert Home.locate({"HOME": str(tmp_path), "OUTLOOP_HOME": ""}).is_default


def test_the_default_home_by_its_full_name_keeps_its_keys(tmp_path: Path) -> None:
    named = str(tmp_path / "x" / ".." / ".outloop")
    assert Home.locate({"HOME": str(tmp_path), "OUTLOOP_HOME": named}).keychain_service == "outloop"


def test_another_home_has_keychain_entries_of_its_own(tmp_path: Path) -> None:
    one, two = (Home.locate({"HOME": str(tmp_path), "OUTLOOP_HOME": str(tmp_path / name)}) for name in ("one", "two"))
    assert one.keychain_service.startswith("outloop@")
    assert len(one.keychain_service) == len("outloop@") + 8
    assert one.keychain_service != two.keychain_service


def test_a_link_to_a_home_is_that_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    link, real = Home(tmp_path / "link"), Home(tmp_path / "real")
    link.ensure()
    assert link.keychain_service == real.keychain_service
    assert (tmp_path / "real" / "policies").is_dir()


def test_a_tilde_that_no_shell_has_expanded_is_the_users_folder(tmp_path: Path) -> None:
    assert Home.locate({"HOME": str(tmp_path), "OUTLOOP_HOME": "~/work"}).root == tmp_path / "work"


@pytest.mark.parametrize("named", ["outloop", "./outloop", "../outloop", "~root/outloop", "/tmp/a\0b"])
def test_a_home_that_depends_on_where_one_stands_is_refused(named: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not an absolute path"):
        Home.locate({"HOME": str(tmp_path), "OUTLOOP_HOME": named})


def test_a_new_home_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        Home(tmp_path / "deep" / "home").ensure()
    finally:
        os.umask(umask)
    for folder in ("", "policies", "services"):
        assert (tmp_path / "deep" / "home" / folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o777, 0o710])
def test_a_home_open_to_others_is_refused_and_left_as_it_is(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(UsageError, match="open to other users") as refused:
        Home(tmp_path).ensure()
    assert "chmod 700" in (refused.value.hint or "")
    assert tmp_path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(UsageError, match="belongs to another user"):
        Home(tmp_path).ensure()


@pytest.mark.parametrize("kind", ["file", "dangling-link", "under-a-file", "too-long", "device"])
def test_a_home_that_cannot_be_a_folder_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling-link").symlink_to(tmp_path / "nowhere" / "at" / "all")
    roots = {"under-a-file": tmp_path / "file" / "home", "too-long": tmp_path / ("x" * 300), "device": Path("/dev/null")}
    with pytest.raises(UsageError, match="cannot be used") as refused:
        Home(roots.get(kind, tmp_path / kind)).ensure()
    assert "\n" not in refused.value.message
