"""The report of a run: one HTML file for people, one JSON file for programs, the plots beside them.

The HTML holds its pictures and style and asks no other host for anything, so it can be mailed, archived and opened in
ten years. Whatever comes from users (data set names, warnings, configuration) is escaped by the template.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from bone_age.evaluation import plots
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.comparison import Comparison, ModelSummary
from bone_age.evaluation.whole_file import write_whole
from bone_age.governance.gate import shown

SCHEMA_VERSION = 1
PLOT_TITLES = {
    "loss_curves.png": "Loss, error and learning rate by epoch",
    "predicted_against_true.png": "Predicted against true bone age",
    "bland_altman.png": "Agreement of predicted and true bone age",
    "error_by_age.png": "Absolute error by age",
    "subgroups.png": "Error and bias by sex and age band",
    "interval_coverage.png": "Coverage and width of the prediction intervals by age",
}


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write `report.html`, `report.json` and `plots/`, and return the path of the HTML.

    A report that is there already (without the decision, say) is replaced, each file whole.

    Raises:
        InputError: The folder cannot be written.
    """
    pictures = {}
    for name, png in _pictures(comparison):
        write_whole(folder / "plots" / name, png)
        pictures[name] = png
    document = json.dumps(report_json(comparison), indent=2, allow_nan=False)
    write_whole(folder / "report.json", document.encode())
    write_whole(folder / "report.html", report_html(comparison, pictures).encode())
    return folder / "report.html"


def report_json(comparison: Comparison) -> dict[str, Any]:
    """Every figure of the report; `schema_version` rises when a key changes its meaning or goes."""
    candidate = comparison.best_xception
    return {
        "schema_version": SCHEMA_VERSION,
        "run": comparison.run_name,
        "dataset": asdict(comparison.dataset),
        "test_set": str(comparison.test_set),
        "best_on_validation": comparison.best.name,
        "candidate": candidate.name if candidate else None,
        "baseline": comparison.baseline.to_json(),
        "models": [_model_json(comparison, model) for model in comparison.models],
        "ablations": [asdict(ablation) | {"finding": ablation.finding} for ablation in comparison.ablations],
        "robustness": [robustness.model_dump(mode="json") for robustness in comparison.robustness],
        "decision": comparison.decision.to_json() if comparison.decision else None,
        "config_yaml": comparison.config_yaml,
    }


def report_html(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are PNGs by their path below `plots/`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "months": lambda value: f"{value:.1f}",
        "bounds": _bounds,
        "thousands": lambda count: f"{count:,}",
        "gate_figure": shown,
        "millions": lambda count: f"{count / 1e6:.1f}\N{NO-BREAK SPACE}M",
    }
    images = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in pictures.items()}
    return environment.get_template("report.html").render(
        comparison=comparison, dataset=comparison.dataset, images=images, plot_titles=PLOT_TITLES
    )


def _bounds(estimate: Estimate, style: str = "plain") -> str:
    """`8.5 [8.1, 8.9]`, in months, with signs, as a share in % or with three digits."""
    forms = {"plain": "{:.1f}", "signed": "{:+.1f}", "percent": "{:.1%}", "three": "{:.3f}"}
    value, lo, hi = (forms[style].format(figure) for figure in (estimate.value, estimate.lo, estimate.hi))
    return f"{value} [{lo}, {hi}]".replace("-", "\N{MINUS SIGN}")


def _model_json(comparison: Comparison, model: ModelSummary) -> dict[str, Any]:
    return {
        **model.facts(),
        "epochs_run": len(model.history),
        "test": model.test.to_json(),
        "validation": model.validation.to_json(),
        "mae_difference_to_baseline": asdict(comparison.against_baseline[model.name]),
    }


def _pictures(comparison: Comparison) -> Iterator[tuple[str, bytes]]:
    """Draw one PNG after the other, by path: a folder that cannot be written is noticed at the first."""
    yield "comparison.png", _comparison_plot(comparison)
    for robustness in comparison.robustness:
        yield f"{robustness.model}/robustness.png", plots.to_png(robustness.figure())
    for model in comparison.models:
        yield f"{model.name}/loss_curves.png", _loss_plot(model)
        for name, draw in plots.OF_AN_EVALUATION.items():
            yield f"{model.name}/{name}", plots.to_png(draw(model.test))


def _loss_plot(model: ModelSummary) -> bytes:
    caption, synthetic = model.validation.caption, model.validation.scored_set.synthetic
    curves = plots.loss_curves(model.history, model.best_epoch, model.name, f"validated on {caption}", synthetic)
    return plots.to_png(curves)


def _comparison_plot(comparison: Comparison) -> bytes:
    figure = plots.models_compared(
        [(model.name, model.test.metrics.mae) for model in comparison.models],
        comparison.baseline.metrics.mae,
        comparison.best.name,
        comparison.baseline.caption,
        comparison.dataset.synthetic,
    )
    return plots.to_png(figure)
