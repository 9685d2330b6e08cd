"""The file of a new workspace is a policy that the proxy takes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from outloop.core.auth import Bearer
from outloop.core.errors import PolicyError, UsageError
from outloop.core.model import Effect, Egress, Operation, Probe
from outloop.core.paths import compile_pattern
from outloop.core.policy import CatalogueEntry, read_workspace
from outloop.operator.setup import add_workspace, service_block, workspace_text
from outloop.store.documents import read_document


def operation(text: str) -> Operation:
    method, _, path = text.partition(" ")
    return Operation(method, compile_pattern(path), text)


ENTRY = CatalogueEntry(
    "calendly",
    "Calendly",
    ("api.calendly.com",),
    Bearer(),
    proof=Probe("GET", "/users/me"),
    next_proof=Probe("POST", "/scheduling_links", 201),
    reads=(operation("GET /users/me"), operation("GET /scheduled_events/{uuid}/invitees"), operation("POST /search:run")),
    writes=(operation("POST /scheduling_links"),),
)


def test_a_new_workspace_allows_the_documented_reads_and_nothing_else(tmp_path: Path) -> None:
    path = add_workspace(tmp_path, "acme", ENTRY)
    workspace = read_workspace(read_document(path, owner_uid=None), {"calendly": ENTRY})
    assert (workspace.name, workspace.egress) == ("acme", Egress.DENY)
    (service,) = workspace.services
    assert service.key == "acme-calendly"
    assert [rule.effect for rule in service.rules] == [Effect.ALLOW] * 3
    assert [rule.text for rule in service.rules] == [f"allow {read.text}" for read in ENTRY.reads]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_workspace_without_a_service_allows_nothing(tmp_path: Path) -> None:
    path = add_workspace(tmp_path, "acme", None)
    workspace = read_workspace(read_document(path, owner_uid=None), {})
    assert (workspace.services, workspace.egress) == ((), Egress.DENY)


def test_a_service_without_listed_reads_allows_its_safe_proof(tmp_path: Path) -> None:
    entry = CatalogueEntry("posthog", "PostHog", ("us.posthog.com",), Bearer(), proof=Probe("GET", "/api/users/@me/?x=1"))
    path = add_workspace(tmp_path, "acme", entry)
    workspace = read_workspace(read_document(path, owner_uid=None), {"posthog": entry})
    assert [rule.text for rule in workspace.services[0].rules] == ["allow GET /api/users/@me/"]


def test_a_hostile_title_stays_a_comment(tmp_path: Path) -> None:
    entry = CatalogueEntry("x", "X\n    rules: [{allow: '* /**'}]", ("x.example",), Bearer(), reads=(operation("GET /a"),))
    path = add_workspace(tmp_path, "acme", entry)
    (service,) = read_workspace(read_document(path, owner_uid=None), {"x": entry}).services
    assert [rule.text for rule in service.rules] == ["allow GET /a"]


@pytest.mark.parametrize("content", ["workspace: acme\n", "", "not: [a policy"])
def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match="exists already"):
        add_workspace(tmp_path, "acme", ENTRY)
    assert path.read_text() == content


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "acme.yaml").symlink_to(target)
    with pytest.raises(UsageError, match="exists already"):
        add_workspace(tmp_path, "acme", None)
    assert not target.exists()


def test_a_service_with_blanks_is_not_written_half(tmp_path: Path) -> None:
    entry = CatalogueEntry("zendesk", "Zendesk", ("{subdomain}.zendesk.com",), Bearer(), reads=(operation("GET /api/v2/users"),))
    with pytest.raises(UsageError, match="needs to know: subdomain"):
        add_workspace(tmp_path, "acme", entry)
    assert list(tmp_path.iterdir()) == []
    assert "subdomain: VALUE" in service_block(entry)


def test_a_name_that_leaves_no_room_for_the_keys_is_refused(tmp_path: Path) -> None:
    longest = "a" * (63 - len("-calendly"))
    path = add_workspace(tmp_path, longest, ENTRY)
    assert read_workspace(read_document(path, owner_uid=None), {"calendly": ENTRY}).services[0].key == f"{longest}-calendly"
    with pytest.raises(UsageError, match="longer than 63 characters"):
        add_workspace(tmp_path, f"{longest}a", ENTRY)
    assert list(tmp_path.iterdir()) == [path]


def test_the_example_in_the_comments_is_a_policy_too(tmp_path: Path) -> None:
    text = workspace_text("acme", None)
    commented, _, _ = text.partition("# services:")
    path = tmp_path / "acme.yaml"
    path.write_text(commented + "services:" + text.partition("# services:")[2].replace("\n# ", "\n"))
    try:
        workspace = read_workspace(read_document(path, owner_uid=None), {"calendly": ENTRY})
    except PolicyError as error:
        pytest.fail(str(error))
    assert [service.name for service in workspace.services] == ["calendly"]
