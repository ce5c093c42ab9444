"""Plots of one evaluation and of one training.

Drawn through matplotlib's objects, never through pyplot, whose global state is not safe in a server's threads. Colours
are Okabe and Ito's, which colour-blind readers can tell apart; sexes differ in marker too, for prints in grey. Names
from users' files are never read as formulas (a `$` in a folder's name would stop the report otherwise).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.stats import binomtest

from bone_age.data.manifest import MAX_BONE_AGE_MONTHS
from bone_age.evaluation.bootstrap import Estimate

if TYPE_CHECKING:
    from bone_age.evaluation.evaluation import Evaluation

BLUE, ORANGE, GREEN, SKY, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#222222", "#777777"
SEXES = (("M", "boys", BLUE, "o"), ("F", "girls", ORANGE, "^"))
HISTORY_COLUMNS = ("train_loss", "validation_loss", "train_mae", "validation_mae", "learning_rate")
DPI = 110
AGE_BIN_MONTHS = 24
MIN_ROWS_FOR_RIBBON = 5
SEARCH_REACH = 3


def to_png(figure: Figure) -> bytes:
    """PNG of at most 256 colours: a third of the size, and the same bytes for the same figure."""
    canvas: Any = FigureCanvasAgg(figure)  # typed by no stub
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    pixels.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, format="png")
    return buffer.getvalue()


def predicted_against_true(evaluation: Evaluation) -> Figure:
    """Predicted over labelled bone age by sex, with the identity line and the prediction interval."""
    figure, axes = _figure(evaluation.scored_set.synthetic, 6.4, 6.6)
    ax = axes[0]
    table = evaluation.predictions
    low = min(0.0, float(table["predicted_months"].min()))
    high = max(MAX_BONE_AGE_MONTHS, float(table["predicted_months"].max()) + 4)
    ordered = table.sort_values("predicted_months")
    ax.fill_betweenx(
        ordered["predicted_months"],
        ordered["lower_months"],
        ordered["upper_months"],
        color=GREY,
        alpha=0.18,
        linewidth=0,
        label=f"{evaluation.metrics.nominal_coverage:.0%} prediction interval",
    )
    ax.plot([low, high], [low, high], color=INK, linewidth=1.2, label="predicted = true")
    for rows, label, style in _by_sex(table):
        ax.scatter(rows["bone_age_months"], rows["predicted_months"], label=label, **style)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    _months(ax, "x", "true bone age (label), months")
    _months(ax, "y", "predicted bone age, months")
    _title(ax, f"Predicted against true: {evaluation.model}", evaluation.caption)
    _legend(ax, loc="upper left")
    return figure


def before_and_after(before: Evaluation, after: Evaluation) -> Figure:
    """Errors over the label before and after a calibration, radiograph by radiograph, and their means."""
    figure, axes = _figure(after.scored_set.synthetic, 7.2, 5.4)
    ax = axes[0]
    true = after.predictions["bone_age_months"]
    was = before.predictions.set_index("image_id")["predicted_months"].loc[after.predictions["image_id"]].to_numpy()
    errors = [(was - true, GREY, "before"), (after.predictions["predicted_months"] - true, BLUE, "after")]
    ax.vlines(true, errors[0][0], errors[1][0], color=GREY, linewidth=0.7, alpha=0.6)
    for error, colour, label in errors:
        size, bias = float(error.abs().mean()), float(error.mean())
        told = f"{label}: MAE {size:.1f}, bias {_signed(bias)} months"
        ax.scatter(true, error, color=colour, s=20, linewidths=0, label=told)
        ax.axhline(bias, color=colour, linewidth=1.2, linestyle="--")
    ax.axhline(0, color=INK, linewidth=0.8)
    _months(ax, "x", "true bone age (label), months")
    ax.set_ylabel("predicted less true, months")
    _title(ax, f"Site calibration: {before.model}", after.caption)
    _legend(ax, loc="best")
    return figure


def bland_altman(evaluation: Evaluation) -> Figure:
    """Error over the mean of predicted and true, with bias and limits of agreement (bias ± 1.96 SD).

    Source: Bland & Altman, Lancet 1986;327:307-310.
    """
    figure, axes = _figure(evaluation.scored_set.synthetic, 7.2, 5.0)
    ax = axes[0]
    table = evaluation.predictions
    error = table["predicted_months"] - table["bone_age_months"]
    bias, spread = float(error.mean()), 1.96 * float(error.std(ddof=1) if len(error) > 1 else 0.0)
    middle = (table["predicted_months"] + table["bone_age_months"]) / 2
    for rows, label, style in _by_sex(table):
        ax.scatter(middle[rows.index], error[rows.index], label=label, **style)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axhline(bias, color=INK, linewidth=1.6, label=f"bias {_signed(bias)} months")
    ax.axhline(bias - spread, color=INK, linewidth=1.3, linestyle="--")
    limits = f"95 % limits {_signed(bias - spread)} to {_signed(bias + spread)}"
    ax.axhline(bias + spread, color=INK, linewidth=1.3, linestyle="--", label=limits)
    reach = 1.25 * max(6.0, float(error.abs().max()), abs(bias) + spread)
    ax.set_ylim(-reach, reach)
    ax.set_xlim(min(0.0, float(middle.min())), max(MAX_BONE_AGE_MONTHS, float(middle.max())))
    _months(ax, "x", "mean of predicted and true bone age, months")
    ax.set_ylabel("predicted - true, months")
    _title(ax, f"Agreement (Bland-Altman): {evaluation.model}", evaluation.caption)
    _legend(ax, loc="upper center", ncols=2)
    return figure


def error_by_age(evaluation: Evaluation) -> Figure:
    """Median absolute error and its 10th to 90th percentile by true age, over the number of radiographs."""
    figure, axes = _figure(evaluation.scored_set.synthetic, 7.2, 5.4, heights=(3.2, 1.0))
    ax, ax_n = axes
    table = evaluation.predictions
    error = (table["predicted_months"] - table["bone_age_months"]).abs()
    bins = [(start, error[inside]) for start, inside in _age_bins(table["bone_age_months"])]
    dense = [(start + AGE_BIN_MONTHS / 2, values) for start, values in bins if len(values) >= MIN_ROWS_FOR_RIBBON]
    middles = [middle for middle, _ in dense]
    low, median, high = (np.array([values.quantile(q) for _, values in dense]) for q in (0.1, 0.5, 0.9))
    style: dict[str, Any] = {"s": 12, "color": GREY, "alpha": _fading(len(table)), "linewidths": 0}
    ax.scatter(table["bone_age_months"], error, label="one radiograph", **style)
    ax.fill_between(middles, low, high, color=SKY, alpha=0.4, linewidth=0, label="10th to 90th percentile")
    ax.plot(middles, median, color=BLUE, linewidth=2, marker="o", markersize=5, label="median")
    mae = evaluation.metrics.mae
    ax.axhline(mae.value, color=ORANGE, linestyle="--", linewidth=1.4, label=f"MAE of all {mae.value:.1f} months")
    ax.set_ylim(0, max(6.0, 1.3 * float(error.max())))
    ax.set_ylabel("absolute error, months")
    _title(ax, f"Error by age: {evaluation.model}", evaluation.caption)
    _legend(ax, loc="upper right", ncols=2)
    ax_n.bar([start for start, _ in bins], [len(v) for _, v in bins], AGE_BIN_MONTHS - 2, align="edge", color=GREY)
    ax_n.set_ylabel("radiographs")
    for panel in axes:
        panel.set_xlim(0, MAX_BONE_AGE_MONTHS)
        _months(panel, "x", "true bone age (label), months" if panel is ax_n else "")
    return figure


def subgroups(evaluation: Evaluation) -> Figure:
    """MAE and bias by sex and age band with 95 % bounds; n is written under each."""
    figure, axes = _figure(evaluation.scored_set.synthetic, 7.2, 6.4, heights=(1, 1))
    groups = evaluation.subgroups
    places = np.arange(len(groups))
    colour = {sex: colour for sex, _, colour, _ in SEXES}
    for ax, what in zip(axes, ("mae", "bias"), strict=True):
        estimates: list[Estimate] = [getattr(group, what) for group in groups]
        values = np.array([estimate.value for estimate in estimates])
        ax.bar(places, values, 0.7, color=[colour[group.sex] for group in groups], alpha=0.85)
        ax.errorbar(places, values, _reach(estimates), fmt="none", ecolor=INK, capsize=4, linewidth=1.2)
        ax.axhline(0, color=INK, linewidth=0.8)
    overall = evaluation.metrics.mae.value
    axes[0].axhline(overall, color=INK, linestyle="--", linewidth=1.2, label=f"all: {overall:.1f} months")
    axes[0].set_ylabel("MAE, months")
    axes[1].set_ylabel("bias (predicted - true), months")
    for sex, label, shade, _ in SEXES:
        if any(group.sex == sex for group in groups):
            axes[0].bar([0], [0], color=shade, alpha=0.85, label=label)
    axes[0].set_ylim(0, 1.25 * max([overall, *(group.mae.hi for group in groups)]) or 1)
    for ax in axes:
        ax.set_xlim(-0.6, max(len(groups), 4) - 0.4)
    axes[0].set_xticks(places, [""] * len(groups))
    axes[1].set_xticks(places, [f"{group.band_months}\nn = {group.n}" for group in groups])
    axes[1].set_xlabel("true bone age (label), months (whiskers: 95 % bootstrap bounds)")
    _title(axes[0], f"By sex and age: {evaluation.model}", evaluation.caption)
    _legend(axes[0], loc="upper right", ncols=3)
    return figure


def interval_coverage(evaluation: Evaluation) -> Figure:
    """Share of labels inside their interval (bounds: Wilson, 95 %) and mean interval width, by true age."""
    figure, axes = _figure(evaluation.scored_set.synthetic, 7.2, 6.0, heights=(1.3, 1))
    ax, ax_width = axes
    table = evaluation.predictions
    inside = table["bone_age_months"].between(table["lower_months"], table["upper_months"])
    width = table["upper_months"] - table["lower_months"]
    middles, covered, widths = [], [], []
    for start, rows in _age_bins(table["bone_age_months"]):
        if not rows.any():
            continue
        hits, n = int(inside[rows].sum()), int(rows.sum())
        bounds = binomtest(hits, n).proportion_ci(method="wilson")
        middles.append(start + AGE_BIN_MONTHS / 2)
        covered.append(Estimate(hits / n, min(bounds.low, hits / n), max(bounds.high, hits / n)))
        widths.append(float(width[rows].mean()))
    shares = np.array([estimate.value for estimate in covered])
    ax.errorbar(middles, 100 * shares, 100 * _reach(covered), fmt="o", color=BLUE, capsize=4, label="by age")
    nominal, overall = evaluation.metrics.nominal_coverage, evaluation.metrics.coverage.value
    ax.axhline(100 * nominal, color=INK, linestyle="--", linewidth=1.3, label=f"aimed at {nominal:.0%}")
    ax.axhline(100 * overall, color=ORANGE, linewidth=1.3, label=f"all: {overall:.1%}")
    lowest = max(0.0, 100 * min(estimate.lo for estimate in covered) - 5)
    ax.set_ylim(lowest, 100 + 0.3 * (100 - lowest))
    ax.set_yticks([tick for tick in range(0, 101, 20 if lowest < 50 else 10) if tick >= lowest])
    ax.set_ylabel("labels inside the interval, %")
    _title(ax, f"Prediction intervals: {evaluation.model}", evaluation.caption)
    _legend(ax, loc="upper center", ncols=3)
    ax_width.bar(middles, widths, AGE_BIN_MONTHS - 4, color=SKY)
    ax_width.set_ylabel("mean width, months")
    for panel in axes:
        panel.set_xlim(0, MAX_BONE_AGE_MONTHS)
        _months(panel, "x", "true bone age (label), months" if panel is ax_width else "")
    return figure


def loss_curves(history: pd.DataFrame, best_epoch: int, model: str, caption: str, synthetic: bool) -> Figure:
    """Loss, MAE and learning rate by epoch.

    Args:
        history: `HISTORY_COLUMNS`, one row an epoch; MAE in months.
        best_epoch: The epoch whose weights were kept, counted from 0; the plot counts from 1.
        caption: What was validated on, as in `rsna, validation split, n = 1,742`.
    """
    figure, axes = _figure(synthetic, 7.2, 7.2, heights=(2, 2, 1))
    epochs = np.arange(1, len(history) + 1)
    for ax, what, label in ((axes[0], "loss", "loss"), (axes[1], "mae", "MAE, months")):
        ax.plot(epochs, history[f"train_{what}"], color=BLUE, marker="o", markersize=3.5, label="training")
        ax.plot(epochs, history[f"validation_{what}"], color=ORANGE, marker="s", markersize=3.5, label="validation")
        ax.set_ylabel(label)
    axes[2].plot(epochs, history["learning_rate"], color=GREEN, marker="o", markersize=3.5)
    axes[2].set_ylabel("learning rate")
    axes[2].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes[2].set_xlabel("epoch")
    for ax in axes:
        ax.axvline(best_epoch + 1, color=INK, linestyle=":", linewidth=1.4, label=f"best epoch ({best_epoch + 1})")
        ax.set_xlim(0.5, len(history) + 0.5)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _title(axes[0], f"Training: {model}", caption)
    _legend(axes[0], loc="upper right", ncols=3)
    return figure


def models_compared(
    estimates: Iterable[tuple[str, Estimate]], baseline: Estimate, best: str, caption: str, synthetic: bool
) -> Figure:
    """Test MAE of each model with 95 % bounds against the baseline's.

    Args:
        estimates: Name and MAE of each model, in months, in the order shown from the top.
        best: The name that is drawn filled.
    """
    rows = list(estimates)
    figure, axes = _figure(synthetic, 7.2, 2.0 + 0.5 * len(rows))
    ax = axes[0]
    for place, (name, mae) in enumerate(rows):
        face = BLUE if name == best else "white"
        style: dict[str, Any] = {"fmt": "o", "markersize": 9, "color": BLUE, "markerfacecolor": face, "capsize": 5}
        ax.errorbar([mae.value], [place], xerr=_reach([mae]), **style)
        ax.annotate(f"{mae.value:.1f}", (mae.value, place), (0, 9), textcoords="offset points", ha="center")
    ax.axvspan(baseline.lo, baseline.hi, color=ORANGE, alpha=0.2, linewidth=0)
    ax.axvline(baseline.value, color=ORANGE, linewidth=1.6, label=f"mean for that sex: {baseline.value:.1f} months")
    ax.set_xlim(0, 1.12 * max(baseline.hi, *(mae.hi for _, mae in rows)))
    ax.set_ylim(len(rows) - 0.4, -1.3)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows], parse_math=False)
    ax.set_xlabel("MAE, months, with 95 % bounds (filled: best on validation)")
    ax.grid(False, axis="y")
    _title(ax, "Models compared", caption)
    _legend(ax, loc="upper left")
    return figure


def changes_compared(
    effects: Iterable[tuple[str, Estimate, float]], model: str, caption: str, synthetic: bool
) -> Figure:
    """What changes to the radiographs do to MAE (bars, 95 % bounds) and how far answers move (diamonds).

    Args:
        effects: Description, increase of MAE and mean absolute shift of each change, in months.
    """
    rows = sorted(effects, key=lambda row: row[1].value, reverse=True)
    figure, axes = _figure(synthetic, 8.4, 2.8 + 0.32 * len(rows))
    ax = axes[0]
    increases = [increase for _, increase, _ in rows]
    colours = [ORANGE if increase.lo > 0 else GREY for increase in increases]
    values, places = [increase.value for increase in increases], np.arange(len(rows))
    ax.barh(places, values, 0.62, color=colours, alpha=0.85)
    ax.errorbar(values, places, xerr=_reach(increases), fmt="none", ecolor=INK, capsize=3, linewidth=1.1)
    shifts = [shift for _, _, shift in rows]
    ax.plot(shifts, places, linestyle="none", marker="D", markersize=6, color=BLUE, label="mean |shift| of an answer")
    for shade, label in ((ORANGE, "MAE rises (bounds above 0)"), (GREY, "no rise could be shown")):
        ax.barh([0], [0], color=shade, alpha=0.85, label=label)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_ylim(len(rows) + 2.4, -0.6)  # room for the legend below the last bar
    ax.set_yticks(places, [description for description, _, _ in rows], parse_math=False)
    ax.set_xlabel("increase of MAE, months (whiskers: 95 % bootstrap bounds)")
    ax.grid(False, axis="y")
    _title(ax, f"Changed radiographs: {model}", caption)
    _legend(ax, loc="lower right")
    return figure


def bias_by_band(
    panels: Sequence[tuple[str, Sequence[tuple[str, int, Estimate]]]],
    bound_months: float,
    model: str,
    caption: str,
    synthetic: bool,
) -> Figure:
    """Bias by age band with 95 % bounds against a bound, a panel for each way of forming the bands.

    Args:
        panels: Which age the bands are of, and for each band its name, its number of rows and its bias in months.
    """
    figure, axes = _figure(synthetic, 7.2, 6.4, heights=(1,) * len(panels))
    reach = max([bound_months, *(max(abs(bias.lo), abs(bias.hi)) for _, rows in panels for _, _, bias in rows)])
    for ax, (label, rows) in zip(axes, panels, strict=True):
        places, estimates = np.arange(len(rows)), [bias for _, _, bias in rows]
        values = [bias.value for bias in estimates]
        ax.axhspan(-bound_months, bound_months, color=GREEN, alpha=0.12, linewidth=0, label=f"±{bound_months:g} months")
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.errorbar(places, values, _reach(estimates), fmt="o", color=BLUE, ecolor=INK, capsize=4, linewidth=1.2)
        ax.set_xticks(places, [f"{band}\nn = {n}" for band, n, _ in rows])
        ax.set_xlim(-0.6, max(len(rows), 4) - 0.4)
        ax.set_ylim(-1.1 * reach, 1.4 * reach)  # the legend stands above the whiskers
        ax.set_xlabel(label)
        ax.set_ylabel("bias, months")
    axes[-1].set_xlabel(f"{panels[-1][0]} (whiskers: 95 % bootstrap bounds)")
    _title(axes[0], f"Bias by age (predicted - true): {model}", caption)
    _legend(axes[0], loc="upper right")
    return figure


def search_history(trials: pd.DataFrame, study: str, caption: str, synthetic: bool) -> Figure:
    """Validation MAE of each trial of a search in its order, and the best so far.

    Figures above `SEARCH_REACH` times the best are drawn at that height: one diverged trial would flatten all others.

    Args:
        trials: `number`, `outcome` (complete, pruned or failed) and `validation_mae` in months, a row a trial.
    """
    figure, axes = _figure(synthetic, 7.2, 4.6)
    ax = axes[0]
    best = trials.loc[trials["outcome"] == "complete", "validation_mae"].cummin()
    trials = trials.assign(shown=trials["validation_mae"].clip(upper=SEARCH_REACH * best.iloc[-1]))
    outcomes = (("complete", BLUE, "o", "trained to the end"), ("pruned", ORANGE, "x", "pruned, at its last epoch"))
    for outcome, colour, marker, label in outcomes:
        rows = trials[trials["outcome"] == outcome]
        if len(rows):
            ax.scatter(rows["number"], rows["shown"], color=colour, marker=marker, label=f"{label}: {len(rows)}")
    for number in trials.loc[trials["outcome"] == "failed", "number"]:
        ax.axvline(number, color=GREY, linestyle=":", linewidth=1)
    label = f"best so far, at the end {best.iloc[-1]:.2f} months"
    heights = best.clip(upper=trials["shown"].max())
    ax.step(trials.loc[best.index, "number"], heights, where="post", color=INK, linewidth=1.4, label=label)
    low, high = float(trials["shown"].min()), float(trials["shown"].max())
    span = max(high - low, 1.0)
    ax.set_ylim(max(0.0, low - 0.1 * span), high + 0.6 * span)
    ax.set_xlabel("trial" + (" (dotted: failed)" if (trials["outcome"] == "failed").any() else ""))
    cut = bool((trials["shown"] < trials["validation_mae"]).any())
    ax.set_ylabel("validation MAE, months" + (f" (drawn up to {high:.0f})" if cut else ""))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _title(ax, f"Search: {study}", caption)
    _legend(ax, loc="upper right")
    return figure


OF_AN_EVALUATION: dict[str, Callable[[Evaluation], Figure]] = {
    "predicted_against_true.png": predicted_against_true,
    "bland_altman.png": bland_altman,
    "error_by_age.png": error_by_age,
    "subgroups.png": subgroups,
    "interval_coverage.png": interval_coverage,
}


def _figure(
    synthetic: bool, width_in: float, height_in: float, heights: tuple[float, ...] = (1,)
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each of `heights`, marked where the images were synthetic."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    grid = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": list(heights)})
    axes: list[Axes] = list(grid[:, 0])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#DDDDDD", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=10)
        ax.xaxis.label.set_fontsize(11)
        ax.yaxis.label.set_fontsize(11)
    if synthetic:
        figure.suptitle("SYNTHETIC IMAGES", color="#B00020", fontsize=12, fontweight="bold", x=0.99, ha="right")
    return figure, axes


def _title(ax: Axes, title: str, caption: str) -> None:
    text = "\n".join(" ".join(line.split())[:90] for line in (title, caption))
    ax.set_title(text, fontsize=12, loc="left", color=INK, parse_math=False)


def _legend(ax: Axes, **place: Any) -> None:
    legend = ax.legend(fontsize=10, framealpha=0.9, edgecolor="none", **place)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):  # points that fade in the plot stay readable in the legend
            handle.set_alpha(1)


def _months(ax: Axes, axis: str, label: str) -> None:
    """Label an axis of ages, with a tick every two years, or fewer where a broken model's predictions run far."""
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    step = 24 * np.ceil((high - low) / 300)
    ticks = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    if axis == "x":
        ax.set_xticks(ticks)
        ax.set_xlabel(label)
    else:
        ax.set_yticks(ticks)
        ax.set_ylabel(label)


def _by_sex(table: pd.DataFrame) -> Iterable[tuple[pd.DataFrame, str, dict[str, Any]]]:
    """Rows, legend and marker of each sex; points fade as they become many."""
    for sex, label, colour, marker in SEXES:
        rows = table[table["sex"] == sex]
        if len(rows):
            style = {"color": colour, "marker": marker, "s": 18, "alpha": _fading(len(table)), "linewidths": 0}
            yield rows, f"{label}, n = {len(rows):,}", style


def _fading(n_points: int) -> float:
    """Opacity at which points that lie on each other can still be told from single ones."""
    return float(np.clip(30 / np.sqrt(n_points), 0.2, 0.85))


def _age_bins(ages: pd.Series[float]) -> Iterable[tuple[int, pd.Series[bool]]]:
    """Start and membership of each bin of `AGE_BIN_MONTHS`; the last one holds the oldest age."""
    last = int(MAX_BONE_AGE_MONTHS) - AGE_BIN_MONTHS
    for start in range(0, last + 1, AGE_BIN_MONTHS):
        end = np.inf if start == last else start + AGE_BIN_MONTHS
        yield start, (ages >= start) & (ages < end)


def _reach(estimates: list[Estimate]) -> npt.NDArray[np.float64]:
    """Lengths of the error bars, shape [2, n]; never negative, since a percentile bound may lie past the value."""
    return np.array([[max(e.value - e.lo, 0.0) for e in estimates], [max(e.hi - e.value, 0.0) for e in estimates]])


def _signed(months: float) -> str:
    return f"{months:+.1f}"
