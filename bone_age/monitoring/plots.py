"""Plots of one look: how far each figure is from its bound, distributions, and the rolling error."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from matplotlib.figure import Figure

from bone_age.evaluation.answer_sample import BOY, FIGURES, GREY_LEVELS, LIKENESS, MONTHS, WIDTH
from bone_age.evaluation.plots import BLUE, GREY, INK, ORANGE
from bone_age.monitoring.bounds import Compared
from bone_age.monitoring.readers import ROLLING, ReaderErrors
from bone_age.monitoring.watching import Look

ALWAYS_SHOWN = (*GREY_LEVELS[:2], "feature_norm", LIKENESS, MONTHS, WIDTH)
MAX_DISTRIBUTIONS = 9


def of_a_look(look: Look) -> dict[str, Figure]:
    """Plots by their titles; none where there was nothing to compare."""
    drawn = {}
    if look.compared:
        drawn["Every figure as a share of its bound"] = _shares_of_bounds(look.compared)
    if any(one.name in FIGURES for one in look.compared):
        drawn["Distributions in service and in the reference"] = _distributions(look)
    if look.errors and look.errors.rolling:
        drawn[f"Error over each {ROLLING} read answers"] = _rolling(look.errors)
    return drawn


def _shares_of_bounds(compared: tuple[Compared, ...]) -> Figure:
    figure = Figure(figsize=(7.2, 1.2 + 0.2 * len(compared)), layout="constrained")
    ax = figure.subplots()
    shares = [min(np.nan_to_num(one.value / max(one.bound, 1e-9), nan=4.0), 4.0) for one in compared]
    ax.barh(
        [one.name for one in compared], shares, color=[ORANGE if one.is_drift else BLUE for one in compared], height=0.7
    )
    ax.axvline(1, color=INK, linewidth=1)
    ax.invert_yaxis()
    ax.tick_params(labelsize=7)
    ax.set(xlabel="value / bound; drift above 1, cut at 4", xlim=(0, max(1.2, *shares)))
    return figure


def _distributions(look: Look) -> Figure:
    """Cumulative shares; the distance is the largest gap between the two lines."""
    reference, service = look.watched.bundle.held_out, look.window.sample
    assert reference is not None
    beyond = [one.name for one in look.drifted if one.name in FIGURES and one.name != BOY]
    names = [*beyond, *(name for name in ALWAYS_SHOWN if name not in beyond)]
    names = [name for name in names if name in reference.figures and name in service.figures][:MAX_DISTRIBUTIONS]
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(9.6, 0.4 + 2.4 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, 3)).ravel()
    for ax, name in zip(axes, names, strict=False):
        ax.ecdf(reference.figures[name], color=GREY, label="reference")
        ax.ecdf(service.figures[name], color=ORANGE if name in beyond else BLUE, label="in service")
        ax.set_title(name, fontsize=9)
        ax.tick_params(labelsize=7)
    axes[0].legend(fontsize=7)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    return figure


def _rolling(errors: ReaderErrors) -> Figure:
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    times = [datetime.fromisoformat(one.name) for one in errors.rolling]
    for ax, what, label in zip(
        axes, ("mae", "bias", "coverage"), ("MAE, months", "bias, months", "coverage"), strict=True
    ):
        estimates = [getattr(one, what) for one in errors.rolling]
        ax.plot(times, [one.value for one in estimates], color=BLUE, marker="o", markersize=3)
        ax.fill_between(times, [one.lo for one in estimates], [one.hi for one in estimates], color=BLUE, alpha=0.2)
        ax.set_ylabel(label, fontsize=8)
        ax.tick_params(labelsize=7)
    axes[-1].tick_params(axis="x", labelrotation=20)
    axes[-1].set_xlabel("time of the newest of them, UTC; bands are 95 % bounds", fontsize=8)
    return figure
