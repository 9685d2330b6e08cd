"""The policies in force: read at start, taken up while running, never half, never by accident."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.policies import CATALOGUE
from outloop.core.errors import PolicyError, UsageError
from outloop.core.policy import CatalogueEntry
from outloop.store.catalogue import load_catalogue
from outloop.store.policies import GONE_AFTER_S, SETTLE_S, PolicyStore, Reload

ALLOW = "workspace: {name}\nservices:\n  calendly:\n    rules:\n      - allow: GET /users/me\n"


class Folder:
    """A policy folder and the store that watches it, with a clock that the test turns."""

    def __init__(self, path: Path, loader: Callable[[], Mapping[str, CatalogueEntry]] = lambda: CATALOGUE) -> None:
        path.mkdir(mode=0o700)
        self.path = path
        self.now = 0.0
        self.store = PolicyStore(path, loader, services=path / "services")

    def write(self, name: str, text: str) -> Path:
        path = self.path / f"{name}.yaml"
        path.write_text(text.replace("{name}", name))
        path.chmod(0o600)
        return path

    def look(self, after_s: float = 0.5) -> Reload:
        self.now += after_s
        return self.store.reload(self.now)

    def settle(self) -> Reload:
        """Look twice, as the proxy does within a second, and return what the second look brought."""
        first = self.look()
        return first if first != Reload() else self.look()

    @property
    def rules(self) -> dict[str, list[str]]:
        return {
            name: [rule.text for service in workspace.services for rule in service.rules]
            for name, workspace in self.store.workspaces.items()
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "policies")


def test_an_empty_folder_is_no_workspace(folder: Folder) -> None:
    folder.store.load()

    assert (dict(folder.store.workspaces), folder.store.file_count) == ({}, 0)


def test_without_the_folder_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no policy folder"):
        PolicyStore(tmp_path / "missing", lambda: CATALOGUE).load()


def test_only_yaml_files_directly_in_the_folder_count(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.write(".hidden", ALLOW)
    (folder.path / "notes.txt").write_text("x")
    (folder.path / "tests.yaml").mkdir()
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "other.yaml").write_text(ALLOW)
    folder.store.load()

    assert list(folder.store.workspaces) == ["acme"]
    assert folder.store.file_count == 1


def test_at_start_every_broken_file_is_told_and_nothing_is_in_force(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.write("bad", "workspace: bad\nxyz: 1\n")
    folder.write("worse", "workspace: [\n")
    with pytest.raises(PolicyError) as caught:
        folder.store.load()

    assert {problem.file for problem in caught.value.problems} == {"policies/bad.yaml", "policies/worse.yaml"}
    assert dict(folder.store.workspaces) == {}
    assert folder.store.file_count == 3


def test_a_look_at_an_unchanged_folder_brings_nothing(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    before = folder.store.workspaces

    assert [folder.look() for _ in range(3)] == [Reload()] * 3
    assert folder.store.workspaces is before


def test_a_change_is_taken_and_told(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.write("acme", ALLOW.replace("GET /users/me", "GET /event_types") + '      - deny: "* /x/**"\n')

    assert folder.settle() == Reload(
        ("acme: - calendly: allow GET /users/me", "acme: + calendly: allow GET /event_types", "acme: + calendly: deny * /x/**")
    )
    assert folder.rules == {"acme": ["allow GET /event_types", "deny * /x/**"]}


def test_a_file_that_is_still_being_written_waits_until_it_stands(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.write("acme", "workspace: acme\nservices:\n  calendly:\n    rules:\n      - allow: GET /**\n")
    first = folder.look()
    folder.write(
        "acme", "workspace: acme\nservices:\n  calendly:\n    rules:\n      - allow: GET /**\n      - deny: GET /users/**\n"
    )
    second = folder.look(0.6 * SETTLE_S)
    third = folder.look(0.6 * SETTLE_S)

    assert (first, second, third) == (Reload(), Reload(), Reload())
    assert folder.rules == {"acme": ["allow GET /users/me"]}
    assert folder.look(0.6 * SETTLE_S).changes
    assert folder.rules == {"acme": ["allow GET /**", "deny GET /users/**"]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("workspace: acme\nrules: x\n", id="unknown-field"),
        pytest.param("workspace: [", id="not-yaml"),
        pytest.param("workspace: other\n", id="other-name"),
    ],
)
def test_a_broken_file_leaves_the_last_good_in_force_and_is_told_once(folder: Folder, text: str) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.write("acme", text)
    told = folder.settle()

    assert told.changes == ()
    assert [problem.file for problem in told.problems]
    assert {problem.file for problem in told.problems} == {"policies/acme.yaml"}
    assert folder.rules == {"acme": ["allow GET /users/me"]}
    assert folder.look() == Reload()
    assert folder.store.file_count == 1


def test_a_file_that_became_writable_by_others_leaves_the_last_good_in_force(folder: Folder) -> None:
    path = folder.write("acme", ALLOW)
    folder.store.load()
    path.chmod(0o666)

    assert "writable by others" in folder.settle().problems[0].message
    assert folder.rules == {"acme": ["allow GET /users/me"]}


def test_a_mended_file_is_taken_up(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.write("acme", "workspace: [")
    folder.settle()
    folder.write("acme", ALLOW.replace("/users/me", "/users/*"))

    assert folder.settle().changes == ("acme: - calendly: allow GET /users/me", "acme: + calendly: allow GET /users/*")


def test_a_new_file_is_a_new_workspace(folder: Folder) -> None:
    folder.store.load()
    folder.write("acme", ALLOW)

    assert folder.settle().changes == ("acme: workspace added",)
    assert folder.store.file_count == 1


def test_a_new_file_that_is_broken_counts_as_a_file(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.write("bad", "workspace: [")
    folder.settle()

    assert (list(folder.store.workspaces), folder.store.file_count) == (["acme"], 2)


def test_a_link_that_leads_nowhere_counts_as_a_file(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    (folder.path / "lost.yaml").symlink_to("missing.yaml")
    with pytest.raises(PolicyError):
        folder.store.load()

    assert folder.store.file_count == 2


def test_a_file_that_is_absent_for_a_moment_is_still_there(folder: Folder) -> None:
    path = folder.write("acme", ALLOW)
    folder.store.load()
    path.unlink()
    assert [folder.look(), folder.look()] == [Reload(), Reload()]
    folder.write("acme", ALLOW)

    assert folder.settle() == Reload()
    assert list(folder.store.workspaces) == ["acme"]


def test_a_file_that_stays_absent_is_a_workspace_gone(folder: Folder) -> None:
    path = folder.write("acme", ALLOW)
    folder.store.load()
    path.unlink()
    folder.look()

    assert folder.look(GONE_AFTER_S).changes == ("acme: workspace gone",)
    assert (dict(folder.store.workspaces), folder.store.file_count) == ({}, 0)


def test_a_folder_that_is_gone_takes_every_workspace_along(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    folder.path.rename(folder.path.with_name("elsewhere"))
    folder.look()

    assert folder.look(GONE_AFTER_S).changes == ("acme: workspace gone",)


def test_a_snapshot_stays_what_it_was(folder: Folder) -> None:
    folder.write("acme", ALLOW)
    folder.store.load()
    snapshot = folder.store.workspaces
    folder.write("acme", "workspace: acme\n")
    folder.settle()

    assert snapshot["acme"].services
    assert not folder.store.workspaces["acme"].services


def test_a_replaced_file_with_the_same_time_and_size_is_noticed(folder: Folder) -> None:
    path = folder.write("acme", ALLOW)
    folder.store.load()
    facts = path.stat()
    other = folder.path / "acme.new"
    other.write_text(ALLOW.replace("{name}", "acme").replace("/users/me", "/users/ab"))
    other.chmod(0o600)
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.rename(path)

    assert folder.settle().changes


SERVICE = "title: Tracker\nhosts: [tracker.example]\nauth: {type: bearer}\n"


def test_the_operators_own_catalogue_is_watched_as_well(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "policies", lambda: load_catalogue(tmp_path / "policies" / "services"))
    services = folder.path / "services"
    services.mkdir(mode=0o700)
    (services / "tracker.yaml").write_text(SERVICE)
    (services / "tracker.yaml").chmod(0o600)
    folder.write("acme", "workspace: acme\nservices:\n  tracker: {rules: [{allow: GET /x}]}\n")
    folder.store.load()
    (services / "tracker.yaml").write_text(SERVICE.replace("tracker.example", "new.example"))

    assert folder.settle().changes == ("acme: tracker: hosts changed",)
    (services / "tracker.yaml").write_text("title: [")
    told = folder.settle()
    assert (told.changes, {problem.file for problem in told.problems}) == ((), {"services/tracker.yaml"})
    assert folder.store.workspaces["acme"].services[0].hosts[0].host == "new.example"


def test_an_own_entry_replaces_a_shipped_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "calendly.yaml").write_text(SERVICE)
    (tmp_path / "calendly.yaml").chmod(0o600)

    assert load_catalogue(tmp_path)["calendly"].title == "Tracker"
    assert load_catalogue(None)["calendly"].title == "Calendly"
    assert load_catalogue(tmp_path / "missing")["calendly"].title == "Calendly"


def test_an_own_entry_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "tracker.yaml").write_text(SERVICE)
    (tmp_path / "tracker.yaml").chmod(0o666)
    with pytest.raises(PolicyError, match="writable by others"):
        load_catalogue(tmp_path)
