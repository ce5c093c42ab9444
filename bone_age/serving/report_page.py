"""One answer as a PDF of one A4 page, to be filed or printed: what was estimated, from what, by which model.

Laid out in points from the top, every text measured before it is drawn, so that nothing runs off the page or over its
neighbour: a label or model name that is too long is cut, and warnings that do not fit are counted. Texts that people
typed are drawn as they are, never as formulas; what the font cannot show in its right order is written out (`\\u05d0`).
The same answer and time give the same bytes. Fonts are embedded as TrueType, so text can be searched and copied.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from functools import cache

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from bone_age.growth import Sex
from bone_age.growth.chart import draw_growth
from bone_age.growth.wording import explain_age_consistency, explain_growth
from bone_age.plain_text import on_one_line
from bone_age.serving.attention_picture import overlay
from bone_age.serving.predictor import Answered, Prediction, years_and_months

matplotlib.rcParams["pdf.fonttype"] = 42  # TrueType; read when a file is written, so set once and for all threads

WIDTH_PT, HEIGHT_PT, MARGIN_PT = 595.276, 841.89, 42.0
INNER_PT, GAP_PT = WIDTH_PT - 2 * MARGIN_PT, 12.0
PICTURE_PT, CHART_PT = 178.0, (262.0, 250.0)
FOOTER_PT = 92.0
FONT = "DejaVu Sans"  # comes with matplotlib
INK, GREY, RED = "#222222", "#5A5A5A", "#A32000"
OPACITY = 0.6
LONGEST_TEXT = 2000
NOT_A_DEVICE = (
    "Not a medical device. Nobody's treatment, and no decision about anybody's age in law, may rest on this page."
)
_RIGHT_TO_LEFT = ("R", "AL", "AN")
_NAMES: dict[Sex, str] = {"M": "boy (M)", "F": "girl (F)"}


def report_pdf(answered: Answered, sex: str, made_at: datetime, label: str) -> bytes:
    """Draw an answer as a page.

    Args:
        answered: The answer; with a growth chart where its chronological age was known.
        sex: M or F, as it was asked with.
        made_at: Printed with its offset from UTC where it has one.
        label: What the asker calls the radiograph; printed on one line.
    """
    answer = answered.prediction
    known_sex: Sex = "M" if sex == "M" else "F"
    page = _Page()
    _head(page, answer, known_sex, label)
    _pictures(page, answered)
    _growth(page, answer, known_sex)
    _warnings(page, answer)
    _foot(page, answer, made_at)
    return page.to_pdf(made_at)


def _head(page: _Page, answer: Prediction, sex: Sex, label: str) -> None:
    page.write("Bone age estimate", 17, bold=True)
    page.skip(4)
    age = ""
    if answer.growth is not None:
        months = answer.growth.chronological_age_months
        age = f", age {years_and_months(months)} ({months:.1f} months)"
    page.write(f"{_NAMES[sex]}{age}", 9.5)
    page.write(f"Radiograph: {label}", 9.5, most_lines=1)
    page.skip(GAP_PT)


def _pictures(page: _Page, answered: Answered) -> None:
    answer, top = answered.prediction, page.y
    coloured = overlay(answered.prepared, answered.attention, OPACITY)
    page.picture(answered.prepared, MARGIN_PT, "What the model saw")
    page.picture(coloured, MARGIN_PT + PICTURE_PT + GAP_PT, "Where its months come from")
    left = MARGIN_PT + 2 * (PICTURE_PT + GAP_PT)
    width = WIDTH_PT - MARGIN_PT - left
    words = answer.bone_age.split()
    lower, upper = years_and_months(answer.lower_months), years_and_months(answer.upper_months)
    page.write("Bone age", 9.5, left, width, colour=GREY)
    for line in (" ".join(words[:2]), " ".join(words[2:])):
        page.write(line, 19, left, width, bold=True)
    page.write(f"{answer.bone_age_months:.1f} months", 11, left, width)
    page.skip(10)
    page.write(f"{answer.interval_coverage * 100:.0f} % interval", 9.5, left, width, colour=GREY)
    for line in (f"{lower} to", upper):
        page.write(line, 9.5, left, width, bold=True)
    page.write(f"{answer.lower_months:.1f} to {answer.upper_months:.1f} months", 9.5, left, width)
    page.skip(10)
    page.write("Orange places make the hand look older to the model, blue ones younger.", 7.5, left, width, colour=GREY)
    page.y = top + PICTURE_PT + 12 + GAP_PT


def _growth(page: _Page, answer: Prediction, sex: Sex) -> None:
    if answer.growth is None or answer.age_consistency is None:
        page.write("Growth", 11, bold=True)
        page.write("Not assessed: that takes an age at the examination which the growth reference holds.", 9)
        page.skip(GAP_PT)
        return
    width, height = CHART_PT
    top, left = page.y, MARGIN_PT + width + GAP_PT
    axes = page.axes(MARGIN_PT + 30, top + 12, width - 34, height - 44)
    draw_growth(axes, answer.growth, sex, letters_pt=8.5)
    for title, text in (
        ("Growth", explain_growth(answer.growth)),
        ("Bone age and stated age", explain_age_consistency(answer.age_consistency)),
    ):
        page.write(title, 10.5, left, INNER_PT - width - GAP_PT, bold=True)
        page.write(text, 8, left, INNER_PT - width - GAP_PT)
        page.skip(6)
    page.y = max(page.y, top + height) + GAP_PT / 2


def _warnings(page: _Page, answer: Prediction) -> None:
    if not answer.warnings:
        return
    page.write("Please note", 10.5, bold=True)
    room = HEIGHT_PT - MARGIN_PT - FOOTER_PT - 12
    for number, warning in enumerate(answer.warnings):
        lines = wrapped(f"- {drawable(warning.message)}", 8.5, INNER_PT, most_lines=4)
        if page.y + 12 * len(lines) > room:
            page.write(f"and {len(answer.warnings) - number} more, which the answer itself holds", 8.5, colour=RED)
            return
        page.lines(lines, 8.5, MARGIN_PT, RED, bold=False)


def _foot(page: _Page, answer: Prediction, made_at: datetime) -> None:
    page.y = HEIGHT_PT - MARGIN_PT - FOOTER_PT
    page.rule()
    page.skip(5)
    page.write(NOT_A_DEVICE, 9, bold=True)
    page.skip(3)
    averaged = ", mean over the image and its mirror image" if answer.flip_averaging else ""
    page.write(f"Model {answer.model}", 7.5, colour=GREY, most_lines=1)
    page.write(f"Model digest {answer.model_digest[:16]}{averaged}", 7.5, colour=GREY)
    page.write(f"Trained on the data with fingerprint {answer.dataset_fingerprint}", 7.5, colour=GREY, most_lines=1)
    if answer.growth is not None:
        page.write(f"Growth reference: {answer.growth.reference}", 7.5, colour=GREY, most_lines=1)
    page.write(f"Made {made_at.isoformat(sep=' ', timespec='minutes')}", 7.5, colour=GREY)


class _Page:
    """A figure of A4's size with a place to write at, in points from the top left."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH_PT / 72, HEIGHT_PT / 72), dpi=72, facecolor="white")
        self.y = MARGIN_PT

    def skip(self, points: float) -> None:
        self.y += points

    def write(
        self,
        text: str,
        size: float,
        left: float = MARGIN_PT,
        width: float = INNER_PT,
        *,
        bold: bool = False,
        colour: str = INK,
        most_lines: int = 40,
    ) -> None:
        """Write a text between `left` and `left + width`, and go on below it."""
        self.lines(wrapped(drawable(text), size, width, bold, most_lines), size, left, colour, bold)

    def lines(self, lines: Iterable[str], size: float, left: float, colour: str, bold: bool) -> None:
        for line in lines:
            self.y += 1.36 * size
            self.figure.text(
                left / WIDTH_PT,
                1 - (self.y - 0.3 * size) / HEIGHT_PT,
                line,
                fontproperties=_font(size, bold),
                color=colour,
                verticalalignment="baseline",
                parse_math=False,
            )

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        place = (left / WIDTH_PT, 1 - (top + height) / HEIGHT_PT, width / WIDTH_PT, height / HEIGHT_PT)
        return self.figure.add_axes(place)

    def picture(self, pixels: npt.NDArray[np.uint8], left: float, caption: str) -> None:
        """Draw a grey or RGB square with its caption below; the place to write at stays."""
        axes = self.axes(left, self.y, PICTURE_PT, PICTURE_PT)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
        axes.set_axis_off()
        top = self.y
        self.y += PICTURE_PT
        self.write(caption, 8, left, PICTURE_PT, colour=GREY)
        self.y = top

    def rule(self) -> None:
        axes = self.axes(MARGIN_PT, self.y, INNER_PT, 0.7)
        axes.set_axis_off()
        axes.axhspan(0, 1, color=GREY)

    def to_pdf(self, made_at: datetime) -> bytes:
        buffer = io.BytesIO()
        facts = {"Title": "Bone age estimate", "Creator": "bone-age", "CreationDate": made_at}
        self.figure.savefig(buffer, format="pdf", metadata=facts)
        return buffer.getvalue()


def drawable(text: str) -> str:
    """The text with what the font cannot show, or not in its right order, written out; at most `LONGEST_TEXT` long."""
    composed = on_one_line(unicodedata.normalize("NFC", text[:LONGEST_TEXT]))
    return "".join(
        character if _shows(character) else character.encode("unicode_escape").decode("ascii") for character in composed
    )


def _shows(character: str) -> bool:
    return (
        ord(character) in _known_characters()
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and unicodedata.category(character) not in ("Mn", "Me")  # would be stacked over the lines above
    )


def wrapped(text: str, size: float, width: float, bold: bool = False, most_lines: int = 40) -> list[str]:
    """Lines of at most `width` points; words that are longer are broken, what does not fit ends in an ellipsis."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < most_lines:
        fits = _longest_fit(rest, size, width, bold)
        space = rest.rfind(" ", 0, fits + 1)
        end = fits if fits == len(rest) or space <= 0 else space
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        last = lines[-1]
        lines[-1] = last[: _longest_fit(last, size, width - _width("…", size, bold), bold)] + "…"
    return lines


def _longest_fit(text: str, size: float, width: float, bold: bool) -> int:
    """How many characters fit into a line; at least one."""
    low, high = 1, min(len(text), int(4 * width / size) + 1)  # letters are wider than a quarter of their size
    while low < high:
        middle = (low + high + 1) // 2
        if _width(text[:middle], size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _width(text: str, size: float, bold: bool) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size, bold), ismath=False)
    return float(width)


def _font(size: float, bold: bool) -> FontProperties:
    return FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")


@cache
def _known_characters() -> frozenset[int]:
    """In both weights."""
    maps = (get_font(findfont(_font(10, bold))).get_charmap() for bold in (False, True))
    return frozenset.intersection(*(frozenset(characters) for characters in maps))
