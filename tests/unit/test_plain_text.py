"""What people typed cannot forge a line, nor hide one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.cli import main
from bone_age.errors import InputError
from bone_age.governance.approval import require_words, with_overrides
from bone_age.governance.gate import Decision, Gate
from bone_age.governance.policy import Policy
from bone_age.plain_text import is_blank, on_one_line
from bone_age.serving.references import REFERENCE_MODEL
from bone_age.settings import Home
from bone_age.summary import show_outcome
from tests.worlds import predicted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mine\n2026-01-01 forged\x1b[31m", r"mine\n2026-01-01 forged\x1b[31m"),
        ("a\r\tb\x00\x9b", r"a\r\tb\x00\x9b"),
        ("\u202eright to left, \u2028line, \u200bzero", r"\u202eright to left, \u2028line, \u200bzero"),
        ("half \udc80", r"half \udc80"),
        ("Zoë Müller, 李明: 7 ≤ 9, fine", "Zoë Müller, 李明: 7 ≤ 9, fine"),
    ],
)
def test_what_does_not_show_as_itself_is_written_out(text: str, shown: str) -> None:
    assert on_one_line(text) == shown


@given(st.text())
def test_whatever_is_written_is_one_line(text: str) -> None:
    assert len(on_one_line(text).splitlines()) <= 1
    assert "\x1b" not in on_one_line(text)


@pytest.mark.parametrize("text", ["", " \t", "\u200b", "\u00ad\u200d", "\u3164", "\u2800 ", "\u034f", "\ufeff"])
def test_what_shows_nothing_is_empty(text: str) -> None:
    assert is_blank(text)
    for words in ((text, "reviewed"), ("A. Roe", text)):
        with pytest.raises(InputError, match="is empty"):
            require_words(*words)


@pytest.mark.parametrize("hidden", ["\n", "\x1b[31m", "\r", "\u202e", "\u200b", "\u2028", "\x00"])
def test_neither_approver_nor_reason_may_hold_what_does_not_show(hidden: str) -> None:
    for words in ((f"A.{hidden}Roe", "reviewed"), ("A. Roe", f"mine{hidden}forged")):
        with pytest.raises(InputError, match="holds the control character") as refused:
            require_words(*words)
        assert hidden[0] not in str(refused.value)
    require_words("Zoë Müller", "read the report of 12 March; 7 ≤ 9")


def test_words_that_the_ledger_would_cut_are_refused() -> None:
    require_words("A. Roe", "x" * 2000)
    with pytest.raises(InputError, match="--reason: has 2001 characters, the ledger keeps 2000"):
        require_words("A. Roe", "x" * 2001)
    failed = Gate(name="latency", figure=2, bound=1, meaning="time")
    policy = Policy(overridable=("latency",))
    longest = 2000 - len("latency: ")  # the entry is of both
    with_overrides((failed,), {"latency": "x" * longest}, policy, "A. Roe")
    with pytest.raises(InputError, match="--override latency: has"):
        with_overrides((failed,), {"latency": "x" * (longest + 1)}, policy, "A. Roe")


def test_the_reason_of_a_run_is_one_line_and_no_mark_up(capsys: pytest.CaptureFixture[str]) -> None:
    comparison: Any = SimpleNamespace(baseline=predicted(8.0), models=(), dataset=SimpleNamespace(synthetic=False))
    reason = "overridden by A. Roe: [/]mine\nReport: elsewhere\x1b[2J"
    told = {"version": 1, "architecture": "xception_multi", "test_mae": 7.0, "gates": (), "policy_digest": ""}
    decision = Decision(outcome="promoted", reason=reason, previous_champion=None, **told)
    show_outcome(comparison, decision, Path("report.html"), Home())
    lines = capsys.readouterr().out.splitlines()
    assert r"Why:    overridden by A. Roe: [/]mine\nReport: elsewhere\x1b[2J" in lines
    assert len([line for line in lines if line.startswith("Report:")]) == 1


def test_a_file_name_cannot_forge_a_line_of_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "predict",
                str(tmp_path / "a\nerror: all is well\x1b[31m.png"),
                "--sex",
                "F",
                "--model",
                str(REFERENCE_MODEL),
            ]
        )
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said
