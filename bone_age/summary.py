"""What a command says at its end, for people at a terminal."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluation import Evaluation
from bone_age.governance.gate import Decision
from bone_age.plain_text import on_one_line
from bone_age.settings import Home

_OUTCOMES = {
    "promoted": "promoted to champion",
    "not promoted": "not promoted",
    "awaits approval": "challenger; `bone-age promote` makes it champion",
    "already champion": "unchanged, it is the champion already",
}


def show_outcome(comparison: Comparison, decision: Decision, report: Path, home: Home) -> None:
    """The models against the baseline, why one was promoted or not, and where to look; the decision comes last."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, title=f"{comparison.baseline.caption}; months of test MAE", title_justify="left")
    for column in ("model", "MAE (95 %)", "R²", "to baseline (95 %)"):
        table.add_column(column, no_wrap=True)
    for model in comparison.models:
        style = "bold" if model is comparison.best_xception else None
        difference = comparison.against_baseline[model.name]
        table.add_row(model.name, *_row(model.test), _bounds(difference, signed=True), style=style)
    table.add_row(comparison.baseline.model, *_row(comparison.baseline), "baseline", style="dim")
    console.print(table)
    if comparison.dataset.synthetic:
        console.print("SYNTHETIC IMAGES: the figures show that the pipeline works, nothing about children.\n")
    console.print(f"Why:    {on_one_line(decision.reason)}", soft_wrap=True, markup=False)
    console.print(f"Report: {report}", soft_wrap=True)
    console.print(f"MLflow: {mlflow_command(home)}", soft_wrap=True)
    console.print(_decision_line(decision), soft_wrap=True, style="bold")


def mlflow_command(home: Home) -> str:
    """What opens MLflow on this home."""
    if home.tracking_uri.startswith("sqlite:"):
        return f"make mlflow   (or: .venv/bin/mlflow ui --backend-store-uri {home.tracking_uri})"
    return home.tracking_uri


def show_evaluation(evaluation: Evaluation, out: Path) -> None:
    """The figures of one evaluation with their bounds."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, title=f"{evaluation.model} on {evaluation.caption}", title_justify="left")
    table.add_column("figure")
    table.add_column("value (95 %)")
    for name, estimate in evaluation.metrics.estimates().items():
        table.add_row(name, f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]")
    console.print(table)
    console.print(f"Written to {out}", soft_wrap=True)


def _row(evaluation: Evaluation) -> tuple[str, str]:
    r2 = evaluation.metrics.r2
    return _bounds(evaluation.metrics.mae), "undefined" if r2 is None else f"{r2.value:.3f}"


def _bounds(estimate: Estimate, signed: bool = False) -> str:
    form = "{:+.1f}" if signed else "{:.1f}"
    value, lo, hi = (form.format(figure) for figure in (estimate.value, estimate.lo, estimate.hi))
    return f"{value} [{lo}, {hi}]"


def _decision_line(decision: Decision) -> str:
    if decision.version is None:
        return f"no version: {_OUTCOMES[decision.outcome]}"
    mae = "missing" if decision.test_mae is None else f"{decision.test_mae:.1f} months"
    return (
        f"models:/bone-age/{decision.version} ({decision.architecture}), test MAE {mae}: {_OUTCOMES[decision.outcome]}"
    )
