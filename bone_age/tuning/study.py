"""A study in its SQLite file: opened, gone on with, read.

A killed trial is marked failed and its values are queued again; since a training is resumed by its recipe, the second
attempt goes on from the last finished epoch. The sampler is made anew for every trial from the seed and the number of
finished trials, so that a study that was interrupted tries what it would have tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from bone_age.settings import SearchSettings

Outcome = Literal["complete", "pruned", "failed"]
RECIPE, RUN, CHECKPOINT, REASON = "recipe", "mlflow_run_id", "checkpoint", "reason"
RETRY_OF, FIRST_ATTEMPT = "retry_of", "first_attempt"
_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that will not be tried again.

    Attributes:
        number: In the study, from 0; a killed attempt has a number of its own and is no finished trial.
        outcome: `failed` is a recipe that cannot be trained.
        validation_mae: Months; of the best epoch, for a pruned trial of its last one, None for a failed one.
        epochs: How many were trained.
        recipe: The values that were tried.
        reason: Why it failed.
    """

    number: int
    outcome: Outcome
    validation_mae: float | None
    epochs: int
    recipe: dict[str, Any]
    reason: str | None


def open_study(name: str, file: Path, search: SearchSettings) -> optuna.Study:
    """The study of this name, made where there is none; its folder exists."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=f"sqlite:///{file}",
        study_name=name,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=search.prune_after_trials, n_warmup_steps=search.prune_after_epochs
        ),
        load_if_exists=True,
    )


def next_trial(study: optuna.Study, seed: int) -> optuna.Trial:
    """A queued trial if there is one, else one that the sampler chooses (the first ten at random)."""
    drawn = int(np.random.SeedSequence([seed, len(finished_trials(study))]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=drawn)
    return study.ask()


def first_attempt(trial: optuna.Trial) -> int:
    """The number of the trial whose values these are: its own, unless it repeats a killed one."""
    return int(trial.user_attrs.get(FIRST_ATTEMPT, trial.number))


def queue_killed_again(study: optuna.Study) -> None:
    """Mark trials that were cut off as failed, and queue their values; nobody else is at the study now."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        if trial.number not in queued:  # else it was killed between the two
            values = trial.system_attrs.get("fixed_params", {}) | trial.params
            first = trial.user_attrs.get(FIRST_ATTEMPT, trial.number)
            study.enqueue_trial(values, user_attrs={RETRY_OF: trial.number, FIRST_ATTEMPT: first})
        study.tell(trial.number, state=TrialState.FAIL)


def finished_trials(study: optuna.Study) -> list[FinishedTrial]:
    """All that count, in their order."""
    return [_read(trial) for trial in _finished(study)]


def finished_checkpoints(study: optuna.Study) -> list[str]:
    """Keys of the checkpoints that no trial needs any more."""
    return [key for trial in _finished(study) if (key := trial.user_attrs.get(CHECKPOINT))]


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [trial for trial in trials if trial.state in _OUTCOMES and trial.number not in repeated]


def _read(trial: FrozenTrial) -> FinishedTrial:
    outcome = _OUTCOMES[trial.state]
    return FinishedTrial(
        number=trial.number,
        outcome=outcome,
        validation_mae=None if outcome == "failed" else trial.value,
        epochs=len(trial.intermediate_values),
        recipe=trial.user_attrs.get(RECIPE, {}),
        reason=trial.user_attrs.get(REASON),
    )
