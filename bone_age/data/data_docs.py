"""Great Expectations' own page of a validation result, as one HTML file that loads nothing.

Its sections and tables are kept; the frame around them, which names ten other hosts for scripts, styles and a logo, is
ours (`templates/data_docs.j2`). A content security policy makes the browser hold to that, also against what a label
file may contain.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader

_NO_MARKUP = str.maketrans("<>", "\u2039\u203a")  # single angle quotation marks


@dataclass(frozen=True)
class DataDocsHeader:
    """What stands above Great Expectations' tables."""

    dataset_name: str
    n: int
    fingerprint: str
    synthetic: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def render_data_docs(outcome: ExpectationSuiteValidationResult, header: DataDocsHeader) -> str:
    """One self-contained HTML page.

    Args:
        outcome: Its results hold JSON values only (Great Expectations' renderer trips over NumPy numbers).
        header: Shown first.
    """
    outcome = copy.deepcopy(outcome)
    for one in outcome.results:
        one.result = _without_markup(one.result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(outcome)
    view = DefaultJinjaPageView()
    own_templates = FileSystemLoader(Path(__file__).parent / "templates")
    view.env.loader = ChoiceLoader([own_templates, *([view.env.loader] if view.env.loader else [])])
    return str(view.render(document, template="data_docs.j2", report=header))  # type: ignore[no-untyped-call]


def _without_markup(value: Any) -> Any:
    """Values from label files reach the page's tables unescaped, so angle brackets are replaced beforehand."""
    if isinstance(value, str):
        return value.translate(_NO_MARKUP)
    if isinstance(value, dict):
        return {key: _without_markup(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_markup(item) for item in value]
    return value
