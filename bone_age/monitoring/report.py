"""What a look found, as a page for people, JSON for programs, and a text file for Prometheus.

The page holds its plots and style and asks no other host for anything; it names no request, so that it can be mailed.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.plots import to_png
from bone_age.evaluation.whole_file import write_whole
from bone_age.monitoring import plots
from bone_age.monitoring.bounds import FALSE_ALARMS, MIN_READ
from bone_age.monitoring.readers import ROLLING
from bone_age.monitoring.watching import Look, Verdict

SCHEMA_VERSION = 1
PAGE, DOCUMENT, PROMETHEUS = "monitoring.html", "monitoring.json", "monitoring.prom"


def write_report(look: Look, folder: Path) -> Path:
    """Write page, JSON and metrics into `folder`, each whole; returns the path of the page.

    Raises:
        InputError: The folder cannot be written.
    """
    write_whole(folder / DOCUMENT, json.dumps(look_json(look), indent=2, allow_nan=False).encode())
    write_whole(folder / PROMETHEUS, prometheus_text(look).encode())
    write_whole(folder / PAGE, page(look).encode())
    return folder / PAGE


def look_json(look: Look) -> dict[str, Any]:
    """Every figure; `schema_version` rises when a key changes its meaning or goes. What is no number is null."""
    window = look.window
    document = {
        "schema_version": SCHEMA_VERSION,
        "verdict": look.verdict.value,
        "said": look.said,
        "model": look.watched.name,
        "model_digest": look.watched.digest,
        "time": look.moment.isoformat(timespec="seconds"),
        "since": look.since.isoformat(timespec="seconds"),
        "answers": window.answers,
        "answers_of_other_models": window.others,
        "compared_answers": len(window.sample),
        "compared_questions": window.sample.asked,
        "first_answer": window.first.isoformat(timespec="seconds") if window.first else None,
        "last_answer": window.last.isoformat(timespec="seconds") if window.last else None,
        "read_answers": len(window.read),
        "false_alarms": FALSE_ALARMS,
        "figures": {one.name: asdict(one) | {"is_drift": one.is_drift} for one in look.compared},
        "readers": asdict(look.errors) if look.errors else None,
    }
    finite: dict[str, Any] = _finite(document)
    return finite


def flat_metrics(look: Look) -> dict[str, float]:
    """Figures for MLflow: `drift` (1 or 0, absent without a verdict), `drift_<name>`, `drift_<name>_bound`, errors."""
    figures = {"monitored_answers": float(len(look.window.sample)), "read_answers": float(len(look.window.read))}
    if look.verdict is not Verdict.NONE:
        figures["drift"] = float(look.verdict is Verdict.DRIFT)
    for one in look.compared:
        figures |= {f"drift_{one.name}": one.value, f"drift_{one.name}_bound": one.bound}
    for group in (look.errors.overall, *look.errors.groups) if look.errors else ():
        tail = "" if group.name == "all" else f"__{group.name}"
        for what in ("mae", "bias", "coverage"):
            estimate: Estimate = getattr(group, what)
            figures |= {f"readers_{what}{tail}": estimate.value, f"readers_{what}{tail}_lo": estimate.lo}
            figures[f"readers_{what}{tail}_hi"] = estimate.hi
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def prometheus_text(look: Look) -> str:
    """For node_exporter's textfile collector; gauges without a sample are left out."""
    gauges = {
        "bone_age_monitoring_time_seconds": ("When monitoring last looked", [("", look.moment.timestamp())]),
        "bone_age_monitoring_answers": ("Answers that were compared", [("", float(len(look.window.sample)))]),
        "bone_age_drift": (
            "1 where a figure is beyond its bound; absent without a verdict",
            [] if look.verdict is Verdict.NONE else [("", float(look.verdict is Verdict.DRIFT))],
        ),
        "bone_age_drift_value": ("How far a figure drifted", [(_label(c.name), c.value) for c in look.compared]),
        "bone_age_drift_bound": ("Beyond which it is drift", [(_label(c.name), c.bound) for c in look.compared]),
    }
    lines = []
    for name, (meaning, samples) in gauges.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"] if samples else []
        lines += [f"{name}{label} {float(value)!r}".replace(" nan", " NaN") for label, value in samples]
    return "\n".join(lines) + "\n"


def page(look: Look) -> str:
    """The HTML page."""
    folders = [Path(__file__).parent / "templates", Path(__file__).parents[1] / "evaluation" / "templates"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": lambda value: "" if value is None else f"{value:.3g}", "bounds": _bounds}
    images = {
        title: "data:image/png;base64," + base64.b64encode(to_png(figure)).decode()
        for title, figure in plots.of_a_look(look).items()
    }
    template = environment.get_template("monitoring.html")
    return template.render(look=look, images=images, false_alarms=FALSE_ALARMS, min_read=MIN_READ, rolling=ROLLING)


def _bounds(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.lo:.3g}, {estimate.hi:.3g}]".replace("-", "\N{MINUS SIGN}")


def _label(figure: str) -> str:
    return f'{{figure="{figure}"}}'


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
