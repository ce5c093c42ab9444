"""Tables in Markdown, safe for whatever image ids and data set names contain."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column is left-aligned, the others, mostly figures, right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(inline(value) for value in row)} |" for row in (header, rule, *rows)) + "\n"


def inline(value: object) -> str:
    """Text on one line that Markdown shows as it is: no tag, no cell border, no code, no link and no picture."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    for special, shown in (("\\", "\\\\"), ("|", "\\|"), ("`", "\\`"), ("](", "]\\("), ("][", "]\\[")):
        text = text.replace(special, shown)
    return text
