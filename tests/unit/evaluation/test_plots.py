"""Plots: that they say what they show, and that odd input does not stop a report."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from bone_age.evaluation import plots
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.evaluation import Evaluation

Evaluate = Callable[..., Evaluation]
Simulate = Callable[..., pd.DataFrame]
Draw = Callable[[Evaluation], Figure]
EACH = pytest.mark.parametrize("draw", plots.OF_AN_EVALUATION.values(), ids=plots.OF_AN_EVALUATION)


def texts(figure: Figure) -> str:
    found = [figure.get_suptitle()]
    for ax in figure.axes:
        found += [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()]
        legend = ax.get_legend()
        found += [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join(found)


@EACH
def test_a_plot_names_its_model_its_test_set_and_n(evaluate: Evaluate, draw: Draw, simulate: Simulate) -> None:
    shown = texts(draw(evaluate(simulate(60))))
    assert "xception_multi" in shown
    assert "hands, test split, n = 60" in shown
    assert "months" in shown


@EACH
def test_synthetic_images_are_marked_and_real_ones_are_not(evaluate: Evaluate, draw: Draw, simulate: Simulate) -> None:
    assert "SYNTHETIC IMAGES" in texts(draw(evaluate(simulate(20))))
    assert "SYNTHETIC" not in texts(draw(evaluate(simulate(20), synthetic=False)))


@EACH
def test_one_radiograph_can_be_drawn(evaluate: Evaluate, draw: Draw, simulate: Simulate) -> None:
    assert plots.to_png(draw(evaluate(simulate(1)))).startswith(b"\x89PNG")


@EACH
def test_perfect_predictions_can_be_drawn(evaluate: Evaluate, draw: Draw, simulate: Simulate) -> None:
    table = simulate(12)
    assert plots.to_png(draw(evaluate(table.assign(predicted_months=table["bone_age_months"])))).startswith(b"\x89PNG")


@EACH
def test_absurd_predictions_and_names_that_look_like_formulas_can_be_drawn(
    evaluate: Evaluate, draw: Draw, simulate: Simulate
) -> None:
    table = simulate(12).assign(predicted_months=np.linspace(-400, 9000, 12))
    assert plots.to_png(
        draw(evaluate(table, model=r"models:/a$\frac{$", dataset="x$_^{$ <b>\n" + "long" * 60))
    ).startswith(b"\x89PNG")


def test_predicted_and_true_have_the_same_scale(evaluate: Evaluate, simulate: Simulate) -> None:
    ax = plots.predicted_against_true(evaluate(simulate(60))).axes[0]
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_aspect() == 1


def test_every_error_lies_inside_the_axes(evaluate: Evaluate, simulate: Simulate) -> None:
    table = simulate(60)
    table.loc[7, "predicted_months"] = table.loc[7, "bone_age_months"] + 95.0
    assert plots.error_by_age(evaluate(table)).axes[0].get_ylim()[1] > 95
    assert plots.bland_altman(evaluate(table)).axes[0].get_ylim()[1] > 95


def test_every_sex_and_band_carries_its_n(evaluate: Evaluate, simulate: Simulate) -> None:
    evaluation = evaluate(simulate(80))
    labels = [text.get_text() for text in plots.subgroups(evaluation).axes[1].get_xticklabels()]
    assert [int(label.rpartition(" ")[2]) for label in labels] == [group.n for group in evaluation.subgroups]


@pytest.mark.parametrize("epochs", [1, 40])
def test_loss_curves_mark_the_best_epoch_counted_from_one(epochs: int) -> None:
    history = pd.DataFrame({name: np.linspace(9, 3, epochs) for name in plots.HISTORY_COLUMNS})
    figure = plots.loss_curves(history, epochs - 1, "resnet50_multi", "hands, validation split, n = 40", True)
    assert f"best epoch ({epochs})" in texts(figure)
    assert "SYNTHETIC IMAGES" in texts(figure)
    plots.to_png(figure)


def test_models_are_compared_with_the_baseline() -> None:
    rows = [("xception_multi", Estimate(8, 7, 9)), ("resnet50_multi", Estimate(70, 60, 80))]
    shown = plots.models_compared(rows, Estimate(34, 30, 38), "xception_multi", "hands, test split, n = 60", False)
    assert "mean for that sex: 34.0 months" in texts(shown)
    assert shown.axes[0].get_xlim()[1] > 80


def test_changes_are_ordered_by_harm_and_named_as_they_are() -> None:
    effects = [("blurred $_^{$", Estimate(0.2, -0.1, 0.5), 1.0), ("upside down", Estimate(9, 7, 11), 40.0)]
    figure = plots.changes_compared(effects, r"models:/a$\frac{$", "hands, test split, n = 60", True)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["upside down", "blurred $_^{$"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_xlim()[1] > 40
    assert "SYNTHETIC IMAGES" in texts(figure)
    assert plots.to_png(figure).startswith(b"\x89PNG")


def test_bias_is_drawn_against_its_bound_with_every_n() -> None:
    panels = [
        ("true bone age, months", [("0-60", 12, Estimate(8, 5, 14)), ("60-120", 130, Estimate(0, -1, 1))]),
        ("predicted bone age, months", []),
    ]
    figure = plots.bias_by_band(panels, 3.0, "xception_multi", "hands, test split, n = 142", False)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0-60\nn = 12", "60-120\nn = 130"]
    assert figure.axes[0].get_ylim()[1] > 14
    assert "±3 months" in texts(figure)
    assert plots.to_png(figure).startswith(b"\x89PNG")


def test_pictures_are_small_and_readable_and_the_same_each_time(evaluate: Evaluate, simulate: Simulate) -> None:
    evaluation = evaluate(simulate(5000))
    first, second = (plots.to_png(plots.bland_altman(evaluation)) for _ in range(2))
    assert first == second
    assert len(first) < 150_000
    assert min(Image.open(io.BytesIO(first)).size) >= 500


@pytest.mark.parametrize("outcomes", [["complete"], ["complete", "pruned", "failed", "complete"]])
def test_a_search_is_drawn_with_its_best_figure(outcomes: list[str]) -> None:
    maes = {"complete": 12.5, "pruned": 30.0, "failed": np.nan}
    trials = pd.DataFrame([{"number": n, "outcome": o, "validation_mae": maes[o]} for n, o in enumerate(outcomes)])
    figure = plots.search_history(trials, "x-xception_multi-1-2", "hands, validation split, n = 40", True)
    shown = texts(figure)
    assert "at the end 12.50 months" in shown
    assert "hands, validation split, n = 40" in shown
    assert ("pruned, at its last epoch: 1" in shown) == ("pruned" in outcomes)
    assert ("dotted: failed" in shown) == ("failed" in outcomes)
    assert "drawn up to" not in shown
    plots.to_png(figure)


def test_a_diverged_trial_does_not_flatten_a_search() -> None:
    trials = pd.DataFrame({"number": [0, 1, 2], "outcome": ["complete"] * 3, "validation_mae": [1e12, 14.0, 12.0]})
    figure = plots.search_history(trials, "x", "hands, validation split, n = 40", False)
    assert figure.axes[0].get_ylim()[1] < 100
    assert "drawn up to 36" in texts(figure)
    assert "at the end 12.00 months" in texts(figure)
