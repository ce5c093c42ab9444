"""Tables in Markdown, safe for whatever image ids and data set names contain."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column is left-aligned, the others, mostly figures, right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in (header, rule, *rows)) + "\n"


def _cell(value: object) -> str:
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|").replace("`", "\\`")
