"""How the page looks: Gradio's plain theme with the system's own fonts, and one style sheet and script on top."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
from gradio.themes import Base

from bone_age.serving.page.examples import Example

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"]
_MONO = ["ui-monospace", "Cascadia Mono", "DejaVu Sans Mono", "monospace"]


_ACCENT = "#0b6472"


def theme() -> Base:
    plain = Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_MONO)
    return plain.set(
        checkbox_background_color_selected=_ACCENT,
        checkbox_background_color_selected_dark=_ACCENT,
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
    )


def head(examples: tuple[Example, ...]) -> str:
    """Style and script of the page, and the examples' pictures on their buttons; all inline, nothing to fetch."""
    here = Path(__file__).parent
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    pictures = "\n".join(_picture(number, example) for number, example in enumerate(examples))
    return f"<style>{style}\n{pictures}</style><script>{script}</script>"


def _picture(number: int, example: Example) -> str:
    drawn = cv2.resize(example.drawing, (104, 128), interpolation=cv2.INTER_AREA)
    coded = base64.b64encode(cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()).decode()
    return f'#examples #example-{number}::before {{ background-image: url("data:image/jpeg;base64,{coded}"); }}'
