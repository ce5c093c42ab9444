"""The report as a reader of PDFs sees it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from bone_age.growth import assess_age_consistency, assess_growth
from bone_age.serving.predictor import Answered, Prediction, Warning
from bone_age.serving.report_page import drawable, report_pdf, wrapped
from bone_age.serving.statistics import ImageStatistics

MADE_AT = datetime(2026, 3, 4, 10, 20, tzinfo=timezone(timedelta(hours=1)))


def answered(**changes: object) -> Answered:
    prediction = Prediction(
        image="hand.png",
        bone_age_months=112.3,
        lower_months=98.1,
        upper_months=126.5,
        interval_coverage=0.9,
        model="models:/bone-age/7",
        model_digest="9f2c1e0b7a64d853" * 4,
        dataset_fingerprint="d657bea0037072aa" * 4,
        flip_averaging=True,
        warnings=(Warning("inverted", "The radiograph looked inverted (dark bones) and was turned back."),),
        growth=assess_growth(112.3, 98.1, 126.5, 126.0, "F"),
        age_consistency=assess_age_consistency(112.3, 126.0, "F", 9.4),
    )
    seen = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    attention = np.array([[40, 0], [0, -20]], np.float32)
    answer = replace(prediction, **changes)  # type: ignore[arg-type]
    return Answered(answer, seen, attention, np.zeros(8, np.float32), ImageStatistics.of(seen, 64, 64), None)


def text_of(pdf: bytes) -> str:
    (page,) = PdfReader(io.BytesIO(pdf)).pages
    return " ".join(page.extract_text().split())


def inside(pdf: bytes) -> bool:
    """Does every piece of text begin on the page, above its lower margin?"""
    (page,) = PdfReader(io.BytesIO(pdf)).pages
    places: list[tuple[float, float]] = []
    page.extract_text(
        visitor_text=lambda text, cm, tm, fonts, size: (
            places.append((cm[4] + tm[4], cm[5] + tm[5])) if text.strip() else None
        )
    )
    return len(places) > 10 and all(0 <= x < 595 - 42 and 42 <= y < 842 - 20 for x, y in places)


def test_the_page_holds_the_answer_and_where_it_comes_from() -> None:
    pdf = report_pdf(answered(), "F", MADE_AT, "hand.png")
    text = text_of(pdf)
    for said in (
        "girl (F), age 10 years 6 months (126.0 months)", "Radiograph: hand.png", "9 years 4 months 112.3 months",
        "90 % interval 8 years 2 months to 10 years 6 months 98.1 to 126.5 months",
        "Indeterminate: the model's interval",
        "Consistent: the bone age agrees with the stated age", "looked inverted", "models:/bone-age/7",
        "Model digest 9f2c1e0b7a64d853", "fingerprint d657bea0037072aa", "mean over the image and its mirror image",
        "Growth reference: Brush Foundation series, Greulich & Pyle 1959", "Made 2026-03-04 10:20+01:00",
        "Not a medical device",
    ):  # fmt: skip
        assert said in text
    assert inside(pdf)


def test_it_is_one_a4_page_with_two_pictures_and_truetype_letters() -> None:
    (page,) = PdfReader(io.BytesIO(report_pdf(answered(), "F", MADE_AT, "hand.png"))).pages
    assert [float(side) for side in page.mediabox[2:]] == pytest.approx([595.28, 841.89], abs=0.1)
    assert len(page.images) == 2
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    embedded = [font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font for font in fonts]
    assert {font["/Subtype"] for font in embedded} <= {"/TrueType", "/CIDFontType2"}
    assert all("/FontFile2" in font["/FontDescriptor"].get_object() for font in embedded)


def test_without_an_age_there_is_no_growth_and_no_reference() -> None:
    text = text_of(report_pdf(answered(growth=None, age_consistency=None), "M", MADE_AT, "hand.png"))
    assert "boy (M) Radiograph" in text
    assert "Not assessed" in text
    assert "Brush" not in text


def test_the_same_answer_gives_the_same_bytes_in_another_process_and_in_threads() -> None:
    pdf = report_pdf(answered(), "F", MADE_AT, "hand.png")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: report_pdf(answered(), "F", MADE_AT, "hand.png"), range(4))) == {pdf}
    code = (
        "import sys; from tests.unit.serving.test_report_page import *;"
        "sys.stdout.buffer.write(report_pdf(answered(), 'F', MADE_AT, 'hand.png'))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment).stdout == pdf


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (r"$\frac{1}{0}$ $x^2$", r"$\frac{1}{0}$ $x^2$"),
        ("a\nNot a\x1b[31m\x00 line", r"a\nNot a\x1b[31m\x00 line"),
        ("שלום", r"\u05e9\u05dc\u05d5\u05dd"),
        ("张伟.png", r"\u5f20\u4f1f.png"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("e\u0301 Z\u0351\u0351\u0351", "é Z\\u0351\\u0351\\u0351"),
        ("\ud800", r"\ud800"),
        ("Łódź Ωμέγα Привет ½ №", "Łódź Ωμέγα Привет ½ №"),
    ],
)
def test_a_label_is_shown_and_never_interpreted(label: str, shown: str) -> None:
    assert drawable(label) == shown
    assert f"Radiograph: {shown}" in text_of(report_pdf(answered(), "F", MADE_AT, label))


@pytest.mark.parametrize("label", ["W" * 5000, "i" * 5000, "a b " * 3000, "", " ", "\u4e2d" * 4000])
def test_a_label_of_any_length_stays_on_one_line(label: str) -> None:
    pdf = report_pdf(answered(), "F", MADE_AT, label)
    assert inside(pdf)
    assert "Made 2026-03-04" in text_of(pdf)
    assert len(text_of(pdf)) < len(text_of(report_pdf(answered(), "F", MADE_AT, "x"))) + 250


def test_warnings_that_do_not_fit_are_counted_and_cover_nothing() -> None:
    many = tuple(Warning("w", f"warning {number} " + "with $ many words " * number) for number in range(30))
    pdf = report_pdf(answered(warnings=many, model="/folder" * 500), "F", MADE_AT, "hand.png")
    text = text_of(pdf)
    assert inside(pdf)
    shown = text.count("- warning ")
    assert 2 < shown < 30
    assert f"and {30 - shown} more, which the answer itself holds" in text
    assert "Model digest 9f2c1e0b7a64d853" in text


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300), st.floats(4, 30), st.floats(20, 520), st.integers(1, 5))
def test_lines_are_never_wider_than_asked_nor_more(text: str, size: float, width: float, most: int) -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    lines = wrapped(drawable(text), size, width, most_lines=most)
    assert len(lines) <= most
    for line in lines:
        measured = text_to_path.get_text_width_height_descent(
            line, FontProperties(family="DejaVu Sans", size=size), False
        )[0]
        assert measured <= width or len(line) <= 2  # a letter that is wider than the column


def test_a_time_without_an_offset_is_printed_as_it_is() -> None:
    assert "Made 2026-03-04 09:20+00:00" in text_of(report_pdf(answered(), "F", MADE_AT.astimezone(UTC), "x"))
    assert "Made 2026-03-04 10:20" in text_of(report_pdf(answered(), "F", MADE_AT.replace(tzinfo=None), "x"))
