"""What a search leaves behind: the best configuration as a file, its history as a picture, a table on the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from bone_age.data.prepared import PreparedImages
from bone_age.errors import BoneAgeError
from bone_age.evaluation import plots
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import Architecture, TrainingConfig
from bone_age.tuning.study import FinishedTrial

BEST, HISTORY = "best.yaml", "history.png"
SHOWN_TRIALS = 5


def ranked(trials: list[FinishedTrial]) -> list[FinishedTrial]:
    """Trials that were trained to their end, the best first."""
    complete = [trial for trial in trials if trial.outcome == "complete"]
    return sorted(complete, key=lambda trial: (trial.validation_mae, trial.number))


def best_trial(trials: list[FinishedTrial]) -> FinishedTrial:
    """The one of the lowest validation MAE.

    Raises:
        BoneAgeError: None was trained to its end; says why one failed.
    """
    order = ranked(trials)
    if not order:
        reason = next((trial.reason for trial in trials if trial.reason), "there are none")
        raise BoneAgeError(f"none of {len(trials)} trials was trained to its end: {reason}")
    return order[0]


def write_result(
    folder: Path,
    study: str,
    config: TrainingConfig,
    architecture: Architecture,
    trials: list[FinishedTrial],
    images: PreparedImages,
) -> None:
    """Write `best.yaml`, a configuration for `bone-age train`, and `history.png` into `folder`.

    Raises:
        InputError: The folder cannot be written.
    """
    best = best_trial(trials)
    tuned = config.with_recipe(architecture, best.recipe)
    tuned = tuned.model_copy(update={"name": f"{config.name}-tuned", "search": None})
    head = (
        f"# {architecture} as in trial {best.number} of study {study}:\n"
        f"# validation MAE {best.validation_mae:.2f} months, the lowest of {len(trials)} trials ({caption(images)}).\n"
        "# A figure that was chosen by flatters; the test split, which the search never read, tells.\n"
        f"#   bone-age train --config {BEST}\n"
    )
    body = yaml.safe_dump(tuned.model_dump(mode="json", exclude={"search"}), sort_keys=False, allow_unicode=True)
    write_whole(folder / BEST, (head + body).encode())
    table = pd.DataFrame([asdict(trial) for trial in trials])
    picture = plots.search_history(table, study, caption(images), images.synthetic)
    write_whole(folder / HISTORY, plots.to_png(picture))


def caption(images: PreparedImages) -> str:
    """What the figures were measured on."""
    return f"{images.dataset_name}, validation split, n = {len(images.split('validation')):,}"


def show_trials(trials: list[FinishedTrial], images: PreparedImages, folder: Path) -> None:
    """The best trials with their values, and where the rest is."""
    console = Console(highlight=False)
    counts = pd.Series([trial.outcome for trial in trials]).value_counts()
    told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    console.print(f"{len(trials)} trials: {told}", soft_wrap=True)
    console.print(f"{caption(images)}; months of validation MAE", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    best = ranked(trials)[:SHOWN_TRIALS]
    for column in ("trial", "MAE", "epochs", *best[0].recipe):
        table.add_column(column)
    for trial in best:
        values = (_short(value) for value in trial.recipe.values())
        row = (str(trial.number), f"{trial.validation_mae:.2f}", str(trial.epochs), *values)
        table.add_row(*row, style="bold" if trial is best[0] else None)
    console.print(table)
    if images.synthetic:
        console.print("SYNTHETIC IMAGES: the figures show that the search works, nothing about children.\n")
    console.print(f"History: {folder / HISTORY}", soft_wrap=True)
    console.print(f"Train:   bone-age train --config {folder / BEST}", soft_wrap=True, style="bold")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
