"""The table to download: a spreadsheet takes nothing in it for a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.serving.page.table import Row, as_csv


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5))
def test_every_name_and_problem_comes_back_and_none_starts_a_formula(texts: list[tuple[str, str]]) -> None:
    table = as_csv([Row(name, None, problem) for name, problem in texts]).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(rows) == len(texts)
    for row, (name, problem) in zip(rows, texts, strict=True):
        assert row["file"] in (name, f"'{name}")
        assert row["problem"] in (problem, f"'{problem}")
        assert not any(cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row.values())


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1"])
def test_a_formula_is_made_text(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(as_csv([Row(name, None)]).decode("utf-8-sig"), newline=""))
    assert row["file"] == f"'{name}"
