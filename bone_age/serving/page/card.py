"""The model card as a page of its own: Markdown from the bundle, with whatever HTML it holds shown and not run."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup

from bone_age.serving.bundle import CARD, Bundle

_TEMPLATE = Path(__file__).with_name("model_card.html.jinja")


def card_page(bundle: Bundle, name: str) -> str:
    """HTML of a model's card, or of a page that says there is none."""
    try:
        text = (bundle.folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = "This model came without a model card."
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    template = Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    shown = Markup(markdown.render(text))  # noqa: S704 - what HTML the text holds was escaped
    return template.render(name=name, digest=bundle.digest, card=shown)
