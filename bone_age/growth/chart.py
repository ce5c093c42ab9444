"""The growth chart: a child's bone age with its interval on the bands of the growth reference.

Drawn through matplotlib's objects, never through pyplot, whose global state is not safe in a server's threads. The
bands differ in lightness and the child in colour, form and edge, so that it reads in grey and to colour-blind eyes;
letters are sized for a telephone's width. Importing this takes matplotlib, so the package's `__init__` leaves it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bone_age.growth.assessment import GrowthAssessment
from bone_age.growth.reference import Sex, reference_table

BAND_OUTER, BAND_INNER, MEAN, CHILD, INK = "#D6E6F2", "#9CC5E3", "#0072B2", "#D55E00", "#222222"  # Okabe and Ito's
NAMES: dict[Sex, str] = {"M": "boys", "F": "girls"}


def growth_chart(growth: GrowthAssessment, sex: Sex) -> Figure:
    """The chart as a figure of its own, 5.2 x 4.6 in; `alt_text` says the same in words."""
    figure = Figure(figsize=(5.2, 4.6), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained")
    draw_growth(figure.add_subplot(), growth, sex)
    return figure


def draw_growth(ax: Axes, growth: GrowthAssessment, sex: Sex, letters_pt: float = 12) -> None:
    """Draw the chart into axes, in years: age across, bone age up."""
    table = reference_table(sex)
    ages, mean, sd = table.age_months / 12, table.mean_months / 12, table.sd_months / 12
    for reach, colour in ((2, BAND_OUTER), (1, BAND_INNER)):
        label = f"±{reach} SD of healthy {NAMES[sex]}"
        ax.fill_between(ages, mean - reach * sd, mean + reach * sd, color=colour, linewidth=0, label=label)
    ax.plot(ages, mean, color=MEAN, linewidth=1.4, label="mean")
    age = growth.chronological_age_months / 12
    low, at, high = (_months_at(growth, z) / 12 for z in (growth.z_lower, growth.z, growth.z_upper))
    style: dict[str, Any] = {"color": CHILD, "ecolor": CHILD, "elinewidth": 2.4, "capsize": 5, "capthick": 2}
    # what a strange calibration gives may not contain the estimate: then the bar has length 0 on that side
    reach_of_bar = [[max(at - low, 0)], [max(high - at, 0)]]
    marker: dict[str, Any] = {
        "fmt": "X",
        "markersize": 0.92 * letters_pt,
        "markeredgecolor": "white",
        "markeredgewidth": 1.2,
    }
    ax.errorbar([age], [at], reach_of_bar, label="this child, with interval", zorder=5, **style, **marker)
    years = np.arange(0, 25, 2)
    ax.set_xticks(years, [f"{year}" for year in years])
    ax.set_yticks(years, [f"{year}" for year in years])
    ax.set(xlim=(0, ages[-1] + 0.4), ylim=(0, min(max(19.5, high + 0.5), 24)))
    ax.set_xlabel("age, years", fontsize=letters_pt)
    ax.set_ylabel("bone age, years", fontsize=letters_pt)
    ax.tick_params(labelsize=letters_pt)
    ax.grid(True, color="#FFFFFF", linewidth=0.6, alpha=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="upper left" if growth.z < 0 else "lower right", fontsize=0.88 * letters_pt, frameon=False, labelcolor=INK
    )
    ax.set_title(growth.reference, fontsize=0.8 * letters_pt, color="#555555", loc="right", parse_math=False)


def alt_text(growth: GrowthAssessment, sex: Sex) -> str:
    """The chart in words, for who does not see it."""
    low, at, high = (_months_at(growth, z) for z in (growth.z_lower, growth.z, growth.z_upper))
    mean = growth.reference_mean_months
    return (
        f"Growth chart for {NAMES[sex]}: bone age over age, with bands of 1 and 2 SD around the mean "
        f"({growth.reference}). The child is marked at an age of {growth.chronological_age_months:.0f} months with a "
        f"bone age of {at:.0f} months, interval {low:.0f} to {high:.0f}; the mean there is {mean:.0f} months, "
        f"2 SD reach from {_months_at(growth, -2):.0f} to {_months_at(growth, 2):.0f}. Verdict: {growth.verdict}."
    )


def _months_at(growth: GrowthAssessment, z: float) -> float:
    return growth.reference_mean_months + z * growth.reference_sd_months
