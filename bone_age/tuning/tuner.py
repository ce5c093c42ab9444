"""One search from its configuration to its result; Optuna chooses, `modelling.training` trains, MLflow keeps."""

from __future__ import annotations

import gc
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import optuna
from optuna.trial import TrialState

from bone_age import tracking
from bone_age.data.loading import load_dataset
from bone_age.data.manifest import require_labels
from bone_age.data.prepared import PreparedImages
from bone_age.data.splits import assign_splits
from bone_age.errors import BoneAgeError, InputError, ModelError
from bone_age.one_process import alone, ended_by_signals
from bone_age.progress import bars_stopped
from bone_age.quiet_import import quietly
from bone_age.scratch import scratch_folder
from bone_age.settings import Architecture, Home, PlannedTraining, TrainingConfig
from bone_age.tuning import runs
from bone_age.tuning.images import searched_images, without_test
from bone_age.tuning.result import best_trial, ranked, write_result
from bone_age.tuning.space import choose_architecture, plan_trial, require_values, searched, study_name, suggest
from bone_age.tuning.study import (
    CHECKPOINT,
    REASON,
    RECIPE,
    RUN,
    FinishedTrial,
    finished_checkpoints,
    finished_trials,
    first_attempt,
    next_trial,
    open_study,
    queue_killed_again,
)


@dataclass(frozen=True)
class TuningOutcome:
    """A study that has as many trials as were asked for; `folder` holds `best.yaml` and `history.png`."""

    study: str
    trials: list[FinishedTrial]
    images: PreparedImages
    mlflow_run_id: str
    folder: Path


def tune(config: TrainingConfig, home: Home, architecture: str | None = None, n: int | None = None) -> TuningOutcome:
    """Try values of the recipe until the study has `n` finished trials (those of earlier starts included).

    Args:
        config: With a `search`.
        architecture: One of the configuration's; default `xception_multi`, else the first.
        n: Instead of `search.trials`.
    Raises:
        InputError: No search, an architecture that is not planned, values that it cannot take, unusable data.
        BoneAgeError: Another process is at this study, no trial could be trained to its end, or interrupted.
    """
    search, chosen = searched(config), choose_architecture(config, architecture)
    require_values(config, chosen)
    home.prepare()
    dataset = assign_splits(load_dataset(config.data), config.split)
    require_labels(without_test(dataset))
    name = study_name(config, chosen, dataset)
    home.tuning.mkdir(exist_ok=True)
    with alone(home.tuning / f"{name}.lock", f"tuning of study {name}"), ended_by_signals():
        preprocessing = next(plan for plan in config.plans if plan.name == chosen).preprocessing
        images = searched_images(dataset, preprocessing, config.validation.error_unreadable_share, home)
        opened = open_study(name, home.tuning / f"{name}.db", search)
        queue_killed_again(opened)
        try:
            with runs.study_run(name) as parent:
                runs.log_study(parent, config, chosen, dataset, images)
                tuner = _Tuner(config, chosen, images, home, opened, parent)
                tuner.until(n or search.trials)
                trials = finished_trials(opened)
                folder = home.results / f"tune-{name}"
                write_result(folder, name, config, chosen, trials, images)
                runs.log_result(parent, trials, best_trial(trials), folder)
        except KeyboardInterrupt:
            raise BoneAgeError("interrupted; the same command goes on from the last finished epoch") from None
        return TuningOutcome(name, trials, images, parent, folder)


@dataclass(frozen=True)
class _Tuner:
    config: TrainingConfig
    architecture: Architecture
    images: PreparedImages
    home: Home
    study: optuna.Study
    parent: str

    def until(self, n: int) -> None:
        """Run trials until `n` are finished; one that is cut off is queued again."""
        try:
            while (done := len(finished_trials(self.study))) < n:
                self._forget_checkpoints()
                trial = next_trial(self.study, self.config.seed)
                self._try(trial, f"trial {trial.number} ({done + 1} of {n})")
                gc.collect()  # a pruned trial's traceback held its network
        finally:
            queue_killed_again(self.study)
            self._forget_checkpoints()

    def _try(self, trial: optuna.Trial, title: str) -> None:
        """Train one trial and tell the study; a recipe that cannot be trained is a failed trial, no more."""
        try:
            with runs.trial_run(self.parent, self.study.study_name, trial, self.architecture) as run_id:
                mae = self._train(trial, run_id)
        except optuna.TrialPruned as pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            self._say(f"{title}: pruned {pruned}")
        except (InputError, ModelError):  # wrong for every trial
            raise
        except BoneAgeError as error:
            trial.set_user_attr(REASON, str(error)[:500])
            self.study.tell(trial, state=TrialState.FAIL)
            self._say(f"{title}: failed, {error}")
        else:
            self.study.tell(trial, mae)
            self._say(f"{title}: validation MAE {mae:.2f} months")

    def _train(self, trial: optuna.Trial, run_id: str) -> float:
        """Train the trial's recipe within its current MLflow run. Returns the best epoch's validation MAE, months."""
        with quietly():
            from bone_age.modelling.training import train, training_key  # imports TensorFlow
        plan = self._plan(trial, run_id)
        trial.set_user_attr(CHECKPOINT, training_key(plan, self.images))
        tracking.log_plan(plan, self.images)

        def on_epoch(epoch: int, figures: dict[str, float]) -> None:
            tracking.log_epoch(epoch, figures)
            trial.report(figures["validation_mae"], epoch)
            if epoch + 1 < plan.training.epochs and trial.should_prune():
                raise optuna.TrialPruned(f"after epoch {epoch + 1} at {figures['validation_mae']:.2f} months")

        folder = scratch_folder()
        try:
            with bars_stopped():
                model = train(plan, self.images, self.home, folder, on_epoch, run_id)
            tracking.log_training(model, self.images)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        mae = model.record.epochs[model.record.best_epoch]["validation_mae"]
        mlflow.log_metric("validation_mae", mae)
        return mae

    def _plan(self, trial: optuna.Trial, run_id: str) -> PlannedTraining:
        recipe = suggest(trial, searched(self.config).space)
        trial.set_user_attr(RECIPE, recipe)
        trial.set_user_attr(RUN, run_id)
        try:
            return plan_trial(self.config, self.architecture, recipe, f"trial-{first_attempt(trial)}")
        except InputError as error:  # each value is valid, together they are not
            raise BoneAgeError(str(error)) from None

    def _forget_checkpoints(self) -> None:
        """Drop the training state of finished trials; each is several times the size of its model."""
        for key in finished_checkpoints(self.study):
            shutil.rmtree(self.home.checkpoints / key, ignore_errors=True)

    def _say(self, line: str) -> None:
        best = ranked(finished_trials(self.study))[:1]
        told = f"; best so far trial {best[0].number}, {best[0].validation_mae:.2f}" if best else ""
        print(f"{line}{told}", file=sys.stderr)
