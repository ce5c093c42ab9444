"""MkDocs asks this: pages that lie outside of `docs/` and belong to the site all the same, at the same place in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parents[1]
PARTS = ("models/reference/MODEL_CARD.md", "results/rsna/limits/limits.md", "results/rsna/limits/plots/*.png")


def on_files(files: Files, config: Any) -> Files:
    """Add them."""
    for file in (file for part in PARTS for file in sorted(PROJECT.glob(part))):
        files.append(File.generated(config, file.relative_to(PROJECT).as_posix(), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """On the site they are one folder nearer than in the repository."""
    up = "../" * page.file.src_uri.count("/")
    for folder in ("models", "results"):
        markdown = markdown.replace(f"](../{up}{folder}/", f"]({up}{folder}/")
    return markdown
