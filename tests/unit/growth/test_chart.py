"""The growth chart: what is drawn where, in figures that other threads cannot disturb."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from bone_age.growth import GrowthAssessment, Sex, assess_growth
from bone_age.growth.chart import alt_text, growth_chart


def delayed(sex: Sex = "F") -> GrowthAssessment:
    return assess_growth(84.0, 72.0, 96.0, 120.0, sex)


def bar(figure: Figure) -> ErrorbarContainer:
    (container,) = figure.axes[0].containers
    assert isinstance(container, ErrorbarContainer)
    return container


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_the_child_stands_at_age_and_bone_age_with_the_interval_in_years() -> None:
    point, _, (interval,) = bar(growth_chart(delayed(), "F"))
    assert point is not None
    np.testing.assert_allclose(point.get_xydata(), [[10, 7]])
    np.testing.assert_allclose(interval.get_segments(), [[[10, 6], [10, 8]]])


@pytest.mark.parametrize(("sex", "low", "high"), [("M", 125.68 - 2 * 9.79, 125.68 + 2 * 9.79),
                                                  ("F", 125.66 - 2 * 11.73, 125.66 + 2 * 11.73)])  # fmt: skip
def test_the_outer_band_is_two_sd_of_that_sex_at_each_age(sex: Sex, low: float, high: float) -> None:
    outer = growth_chart(delayed(sex), sex).axes[0].collections[0]
    assert isinstance(outer, FillBetweenPolyCollection)
    corners = outer.get_paths()[0].vertices
    at_ten = np.unique(corners[np.isclose(corners[:, 0], 10), 1].round(6))
    np.testing.assert_allclose(at_ten, [low / 12, high / 12], atol=1e-5)


def test_what_a_strange_calibration_gives_is_drawn_without_an_error() -> None:
    for months in ((84.0, 0.0, 500.0), (84.0, 90.0, 80.0), (0.0, 0.0, 0.0), (300.0, 200.0, 400.0)):
        assert png(growth_chart(assess_growth(*months, 120.0, "M"), "M"))


def test_many_threads_draw_what_one_draws() -> None:
    alone = png(growth_chart(delayed(), "F"))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: png(growth_chart(delayed(), "F")), range(24))) == {alone}


def test_child_and_bands_differ_in_grey_too() -> None:
    drawn = Image.open(io.BytesIO(png(growth_chart(delayed(), "F")))).convert("RGB")
    colours = ("#D6E6F2", "#9CC5E3", "#0072B2", "#D55E00")
    shades = [np.array(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0] for colour in colours[:3]]
    assert min(abs(np.diff(np.array(shades, int)))) > 30
    counts = {colour: count for count, colour in drawn.getcolors(2**20) or []}
    for colour in colours:
        assert counts[tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))] > 50


def test_the_words_hold_what_the_picture_shows() -> None:
    assert alt_text(delayed(), "F") == (
        "Growth chart for girls: bone age over age, with bands of 1 and 2 SD around the mean (Brush Foundation series, "
        "Greulich & Pyle 1959). The child is marked at an age of 120 months with a bone age of 84 months, interval 72 "
        "to 96; the mean there is 126 months, 2 SD reach from 102 to 149. Verdict: delayed."
    )
