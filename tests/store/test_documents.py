"""Policy files on disk: strict YAML with places, and only from the operator's own hands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outloop.core.errors import PolicyError, Problem
from outloop.core.policy.document import Fields, Listing, Scalar
from outloop.store.documents import MOST_BYTES, parse_document, read_document

UID = os.getuid()
TEXT = "workspace: acme\n"


def problem_of(text: str) -> Problem:
    with pytest.raises(PolicyError) as caught:
        parse_document(text, "policies/acme.yaml")
    return caught.value.problems[0]


def test_every_value_knows_its_place() -> None:
    document = parse_document('a: 1\nb:\n  - "é": [x, {y: z}]\n', "policies/acme.yaml")

    assert document.root == Fields(
        (
            (Scalar("a", False, 1, 1), Scalar("1", False, 1, 4)),
            (
                Scalar("b", False, 2, 1),
                Listing(
                    (
                        Fields(
                            (
                                (
                                    Scalar("é", True, 3, 5),
                                    Listing(
                                        (
                                            Scalar("x", False, 3, 11),
                                            Fields(((Scalar("y", False, 3, 15), Scalar("z", False, 3, 18)),), 3, 14),
                                        ),
                                        3,
                                        10,
                                    ),
                                ),
                            ),
                            3,
                            5,
                        ),
                    ),
                    3,
                    3,
                ),
            ),
        ),
        1,
        1,
    )


@pytest.mark.parametrize("text", ["a: 1\r\nb: 2\r\n", "a: 1\nb: 2", "# c\r\n---\r\na: 1\r\n"])
def test_line_ends_do_not_matter(text: str) -> None:
    root = parse_document(text, "x.yaml").root

    assert isinstance(root, Fields)
    assert root.get("a") is not None


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        pytest.param("", "1:1", "the file is empty", None, id="empty"),
        pytest.param("# nothing\n\n", "1:1", "the file is empty", None, id="comments-only"),
        pytest.param("a: &x 1\n", "1:4", "anchors are not allowed", "write the value out", id="anchor"),
        pytest.param("a: *x\n", "1:4", "aliases are not allowed", '"*x"', id="alias"),
        pytest.param("a: !!int 1\n", "1:4", "tags are not allowed", "quote", id="tag"),
        pytest.param("a: !x\n", "1:4", "tags are not allowed", "quote", id="own-tag"),
        pytest.param("!!map {a: 1}\n", "1:1", "tags are not allowed", "quote", id="tag-on-root"),
        pytest.param("a: 1\nb: 2\na: 3\n", "3:1", "the key `a` stands here twice", "on line 1", id="duplicate-key"),
        pytest.param("{a: 1, 'a': 3}\n", "1:8", "the key `a` stands here twice", "on line 1", id="duplicate-key-quoted"),
        pytest.param("<<: {a: 1}\n", "1:1", "merge keys are not allowed", "write the fields out", id="merge-key"),
        pytest.param("{a: 1}: 2\n", "1:1", "a key must be text", None, id="mapping-key"),
        pytest.param("? [a]\n: 2\n", "1:3", "a key must be text", None, id="list-key"),
        pytest.param("a: 1\n---\nb: 2\n", "2:1", "a second document", "remove the `---`", id="two-documents"),
        pytest.param("%YAML 1.1\n---\na: 1\n", "1:1", "directives are not allowed", None, id="directive"),
        pytest.param("%TAG ! tag:x,2024:\n---\na: 1\n", "1:1", "directives are not allowed", None, id="tag-directive"),
        pytest.param("\ufeffa: 1\n", "1:1", "byte-order mark", "without one", id="bom"),
        pytest.param("a: 1\nb: x\x00\n", "2:5", "invisible character, U+0000", "delete it", id="nul"),
        pytest.param("a: 1\rb: 2\n", "1:5", "invisible character, U+000D", "delete it", id="lone-cr"),
        pytest.param("a: x\u202ey\n", "1:5", "invisible character, U+202E", "delete it", id="bidi"),
        pytest.param("a: x\u200by\n", "1:5", "invisible character, U+200B", "delete it", id="zero-width"),
        pytest.param("a: x\x85b: y\n", "1:5", "invisible character, U+0085", "delete it", id="next-line"),
        pytest.param('a: "\\0"\n', "1:4", "an escape that stands for an invisible character", None, id="escaped-nul"),
        pytest.param('a: "\\u202e"\n', "1:4", "an escape that stands for an invisible character", None, id="escaped-bidi"),
        pytest.param('"\\r": 1\n', "1:1", "an escape that stands for an invisible character", None, id="escaped-in-key"),
        pytest.param("a:\n\tb: 1\n", "2:1", "a tab", "indent with spaces", id="tab"),
        pytest.param("a: @x\n", "1:4", "cannot stand here unquoted", "quote the value", id="at-sign"),
        pytest.param("a: b: c\n", "1:5", "a second `: ` on one line", "quote the value", id="two-colons"),
        pytest.param("a: 1\nb\n", "3:1", "a field without `:`", "write `name: value`", id="no-colon"),
        pytest.param("a: [1\n", "2:1", "not yaml", None, id="unclosed-list"),
        pytest.param("a: 'x\n", "2:1", "not yaml", None, id="unclosed-quote"),
        pytest.param("[" * 40, "1:34", "nested deeper than 32 levels", None, id="deep"),
        pytest.param("[" * 100_000, "1:34", "nested deeper than 32 levels", None, id="nesting-bomb"),
        pytest.param("[" + "1," * 60_000 + "]", "1:100000", "more than 50000 values", None, id="wide"),
        pytest.param(f"a: &a [{'x,' * 9}]\nb: &b [{'*a,' * 9}]\n", "1:4", "anchors are not allowed", None, id="billion-laughs"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_place(text: str, place: str, message: str, hint: str | None) -> None:
    problem = problem_of(text)

    assert f"{problem.line}:{problem.column}" == place
    assert message in problem.message
    assert (hint or "") in (problem.hint or "")


def test_every_unquoted_star_is_told_with_what_to_write() -> None:
    text = "rules:\n  - allow: GET /x\n  - deny: * /data\n  - {deny: */y}\n  - ask:  ** /x\n"
    with pytest.raises(PolicyError) as caught:
        parse_document(text, "policies/acme.yaml")

    assert [(problem.line, problem.column, problem.hint) for problem in caught.value.problems] == [
        (3, 11, 'quote it: deny: "* /data"'),
        (4, 12, 'quote it: deny: "*/y}"'),
        (5, 11, 'quote it: ask:  "** /x"'),
    ]


def test_a_key_pasted_into_broken_yaml_is_not_repeated() -> None:
    problem = problem_of("sk_live_00000000fake: 1\nsk_live_00000000fake: 2\n")

    assert "sk_live" not in repr(problem)


def written(folder: Path, content: bytes = TEXT.encode(), mode: int = 0o600) -> Path:
    folder.chmod(0o700)
    path = folder / "acme.yaml"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refused(path: Path, owner_uid: int | None = UID) -> Problem:
    with pytest.raises(PolicyError) as caught:
        read_document(path, owner_uid=owner_uid)
    return caught.value.problems[0]


def test_a_file_of_the_operators_is_read(tmp_path: Path) -> None:
    document = read_document(written(tmp_path), owner_uid=UID)

    assert document.file == f"{tmp_path.name}/acme.yaml"
    assert document.stem == "acme"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, mode=mode)
    problem = refused(path)

    assert "writable by others" in problem.message
    assert problem.hint == f"chmod go-w {path}"


def test_a_folder_in_which_others_may_replace_files_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    tmp_path.chmod(0o777)

    assert "its folder is writable by others" in refused(path).message


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    if UID == 0:
        os.chown(path, 12345, -1)
        assert "owned by another user (uid 12345)" in refused(path).message
    else:
        assert f"owned by another user (uid {UID})" in refused(path, owner_uid=UID + 1).message


def test_where_owners_are_not_asked_anyones_file_is_read(tmp_path: Path) -> None:
    assert read_document(written(tmp_path, mode=0o666), owner_uid=None).stem == "acme"


def test_a_link_to_a_neighbour_is_followed_and_one_that_leads_out_is_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    written(tmp_path / "in")
    (tmp_path / "in" / "near.yaml").symlink_to("acme.yaml")
    written(tmp_path)
    (tmp_path / "in" / "far.yaml").symlink_to("../acme.yaml")

    assert read_document(tmp_path / "in" / "near.yaml", owner_uid=UID).stem == "near"
    assert "a link that leads out of its folder" in refused(tmp_path / "in" / "far.yaml").message


def test_a_folder_that_is_a_link_is_the_folder_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    written(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")

    assert read_document(tmp_path / "link" / "acme.yaml", owner_uid=UID).stem == "acme"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml", 0o600)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "nowhere.yaml").symlink_to("missing")

    assert (
        "cannot be read" in refused(tmp_path / "folder.yaml").message
        or "not a regular file" in refused(tmp_path / "folder.yaml").message
    )
    assert "not a regular file" in refused(tmp_path / "pipe.yaml").message
    assert "cannot be read" in refused(tmp_path / "nowhere.yaml").message
    assert "cannot be read" in refused(tmp_path / "missing.yaml").message
    assert "cannot be read" in refused(tmp_path / "nul\0.yaml").message


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")

    assert "cannot be read" in refused(tmp_path / "loop.yaml").message


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in refused(written(tmp_path, b"#" * (MOST_BYTES + 1))).message
    assert "the file is empty" in refused(written(tmp_path, b"#" * MOST_BYTES)).message


def test_what_is_not_utf_8_is_told_where(tmp_path: Path) -> None:
    problem = refused(written(tmp_path, b"a: 1\nb: \xc3\xa9\xff\n"))

    assert (problem.line, problem.column, problem.message) == (2, 5, "not utf-8")
