"""The page's private folder empties by itself, and the model card is shown without running what it holds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import gradio
from gradio.routes import App

from bone_age.serving.page.card import card_page
from bone_age.serving.page.mounting import delete_older, forget_visits


def test_old_uploads_go_with_their_folders_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.png", tmp_path / "b" / "new.png"
    for file in (old, new):
        file.parent.mkdir()
        file.write_bytes(b"x")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    delete_older(tmp_path, time.time() - 600)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["new.png"]
    os.utime(old.parent, (hour_ago, hour_ago))
    delete_older(tmp_path, time.time() - 600)
    assert not old.parent.exists()


def test_what_a_visitor_saw_is_forgotten_after_a_while() -> None:
    with gradio.Blocks(analytics_enabled=False) as page:
        gradio.HTML("nothing yet")
    visits = App.create_app(page).state_holder
    for visit in ("early", "late"):
        visits[visit]._update_value_in_config(1, f"what {visit} saw")
    visits.time_last_used["early"] -= timedelta(hours=1)
    forget_visits(visits, time.time() - 600)
    assert list(visits.session_data) == list(visits.time_last_used) == ["late"]


def test_html_in_a_model_card_is_shown_and_not_run(tmp_path: Path) -> None:
    @dataclass
    class Bundle:
        folder: Path
        digest: str = "abc"

    (tmp_path / "MODEL_CARD.md").write_text(
        "# Card\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](http://elsewhere.example/y.png)\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    page = card_page(Bundle(tmp_path), "<b>name</b>")  # type: ignore[arg-type]
    assert "<h1>Card</h1>" in page
    assert "<td>1</td>" in page
    for hostile in ("<script", 'href="javascript', "<img", "<b>name"):
        assert hostile not in page
    (tmp_path / "MODEL_CARD.md").unlink()
    assert "without a model card" in card_page(Bundle(tmp_path), "n")  # type: ignore[arg-type]
