"""The model card as a page and as Markdown; whatever it says is escaped, wherever it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jinja2

from bone_age.evaluation.markdown import inline, markdown_table
from bone_age.governance.audit_bundle.card import Block, Card, Table


def to_html(card: Card) -> bytes:
    """One page that asks no other host for anything."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["table"] = lambda block: isinstance(block, Table)
    return environment.get_template("model_card.html.jinja").render(card=card).encode()


def to_markdown(card: Card) -> bytes:
    """The same for who reads it without a browser."""
    return ("\n\n".join(_markdown(card)) + "\n").encode()


def _markdown(card: Card) -> Iterator[str]:
    yield f"# {inline(card.title)}"
    yield f"**{inline(card.warning)}**"
    for section in card.sections:
        yield f"## {inline(section.title)}"
        yield from map(_block, section.blocks)


def _block(block: Block) -> str:
    if isinstance(block, str):
        return re.sub(r"^([-+#>]|\d+[.)])", r"\\\1", inline(block))
    if isinstance(block, Table):
        return markdown_table(block.header, block.rows).rstrip()
    return "\n".join(f"- {inline(line)}" for line in block)
