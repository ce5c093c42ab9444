"""Answers to several radiographs as rows, and as CSV that a spreadsheet takes for text and figures, never for formulas.

Source: OWASP, CSV Injection.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from bone_age.serving.desk import Reply

_COLUMNS = (
    "file",
    "sex",
    "bone_age_months",
    "lower_months",
    "upper_months",
    "chronological_age_months",
    "growth",
    "warnings",
    "problem",
    "model",
    "model_digest",
)
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Row:
    """A file's name with its answer, or with why there is none."""

    file: str
    reply: Reply | None
    problem: str = ""


def as_csv(rows: list[Row]) -> bytes:
    """UTF-8 with a byte-order mark, as spreadsheets expect it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([_harmless(cell) for cell in _cells(row)] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _cells(row: Row) -> list[str]:
    if row.reply is None:
        return [row.file, *[""] * 7, row.problem, "", ""]
    answer, age = row.reply.answered.prediction, row.reply.chronological_age_months
    return [
        row.file,
        row.reply.sex,
        f"{answer.bone_age_months:.1f}",
        f"{answer.lower_months:.1f}",
        f"{answer.upper_months:.1f}",
        "" if age is None else f"{age:.1f}",
        "" if answer.growth is None else answer.growth.verdict,
        "; ".join(warning.message for warning in answer.warnings),
        "",
        answer.model,
        answer.model_digest,
    ]


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" ").startswith(_STARTS_A_FORMULA) else cell
