"""The parts of the audit bundle that need no MLflow."""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import BoneAgeError
from bone_age.evaluation.markdown import inline
from bone_age.governance.audit_bundle import verify
from bone_age.governance.audit_bundle.card import Card, Section, Table
from bone_age.governance.audit_bundle.card_pages import to_html, to_markdown
from bone_age.governance.audit_bundle.extract import Extract
from bone_age.governance.audit_bundle.lock_file import read_lock
from bone_age.governance.audit_bundle.zipping import with_sums, zipped
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Entry, Event
from bone_age.governance.ledger import Ledger
from tests.ledgers import home_at, new, promoted

LOCK = """\
numpy==2.2.6 ; python_full_version < '3.11' \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via
    #   bone-age (pyproject.toml)
    #   pandas
numpy==2.3.1 ; python_full_version >= '3.11' \\
    --hash=sha256:{b}
    # via pandas
psycopg[binary]==3.2.9 \\
    --hash=sha256:{a}
    # via bone-age (pyproject.toml)
""".format(a="a" * 64, b="b" * 64)


def test_an_archive_depends_on_names_and_contents_alone() -> None:
    one, other = {"b": b"2", "a/c": b"1"}, {"a/c": b"1", "b": b"2"}
    assert zipped(one) == zipped(other)
    with zipfile.ZipFile(io.BytesIO(zipped(one))) as archive:
        assert [member.filename for member in archive.infolist()] == ["a/c", "b"]
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
        assert {member.external_attr >> 16 for member in archive.infolist()} == {0o100644}


@given(st.dictionaries(st.text("abc/.", min_size=1), st.binary(max_size=20), max_size=4))
def test_what_was_summed_passes_and_one_more_byte_does_not(files: dict[str, bytes]) -> None:
    summed = with_sums({f"x{name}": content for name, content in files.items()})
    assert list(verify.check_sums(summed)) == []
    for name in summed:
        if name != "SHA256SUMS":
            assert list(verify.check_sums({**summed, name: summed[name] + b"!"})) == [
                f"{name}: was changed: its SHA-256 is not the one in SHA256SUMS"
            ]


def test_the_verifier_imports_only_the_standard_library_and_parses_on_python_3_9() -> None:
    tree = ast.parse(Path(verify.__file__).read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported <= {"__future__", "argparse", "csv", "hashlib", "io", "json", "os", "pathlib", "sys", "typing",
                        "zipfile"}  # fmt: skip


def test_a_lock_gives_every_version_with_marker_hashes_and_who_needs_it() -> None:
    older, newer, psycopg = read_lock(LOCK)
    assert (older.name, older.version, older.marker) == ("numpy", "2.2.6", "python_full_version < '3.11'")
    assert older.sha256 == ["a" * 64, "b" * 64]
    assert older.needed_by == ["bone-age", "pandas"]
    assert (newer.version, newer.sha256, newer.needed_by) == ("2.3.1", ["b" * 64], ["pandas"])
    assert (psycopg.name, psycopg.version, psycopg.marker) == ("psycopg", "3.2.9", "")


def test_the_extract_ends_with_the_last_entry_about_the_version(tmp_path: Path) -> None:
    ledger = Ledger.open(home_at(tmp_path))
    for entry in (new(Event.TRAINED, run_id="run-7"), new(version=6), promoted(7), new(version=6)):
        ledger.append(entry)
    assert _numbers(Extract.of(ledger, 7, "run-7")) == (3, [1, 3])
    ledger.append(promoted(8, previous_version=7, model_digest="of version 8"))
    ledger.append(new(version=8, previous_version=7))
    extract = Extract.of(ledger, 7, "run-7")
    assert _numbers(extract) == (5, [1, 3, 5])
    assert extract.recorded("model_digest") == ""
    assert Extract.of(ledger, 99, "").files()["ledger/entries.jsonl"] == b""


def test_a_broken_chain_is_refused_with_the_entry_named(tmp_path: Path) -> None:
    ledger = Ledger.open(home_at(tmp_path))
    for version in (1, 2, 3):
        ledger.append(promoted(version))
    rows = [dict(row) for row in ledger.rows()]
    rows[1]["reason"] = "nothing to see"
    pages = iter([rows, []])
    with pytest.raises(BoneAgeError, match="entry 2: was edited"):
        Extract.of(Chain(lambda question: next(pages)), 3, "")


def _numbers(extract: Extract) -> tuple[int, list[int]]:
    def number(entry: Entry) -> int:
        return entry.number

    assert list(map(number, extract.entries)) == list(range(1, len(extract.entries) + 1))
    return len(extract.entries), list(map(number, extract.own))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "![x](http://a.invalid/x.png)", "a|b`c`", "# x", "1. x"])
def test_a_card_shows_hostile_names_as_text(name: str) -> None:
    card = Card("title", "warning", (Section(name, (name, (name,), Table(("what",), ((name,),)))),))
    page, text = to_html(card).decode(), to_markdown(card).decode()
    assert "<script>" not in page + text
    assert "](" not in text
    assert "\n# x" not in text
    assert "\n1. x" not in text
    assert page.count("<tr>") == 2
    assert text.count("a\\|b") in (0, 4)


def test_a_backslash_does_not_undo_the_escape_of_a_cell_border() -> None:
    assert inline("a\\|b") == "a\\\\\\|b"
