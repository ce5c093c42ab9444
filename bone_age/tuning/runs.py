"""A study in MLflow: one parent run of kind `tuning`, a nested run of kind `trial` for every attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import optuna

from bone_age import tracking
from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.settings import Architecture, TrainingConfig, digest_of
from bone_age.tuning.study import FinishedTrial

PARENT, NESTED = "tuning", "trial"
ARTIFACTS = "tuning"


@contextmanager
def study_run(study: str) -> Iterator[str]:
    """The study's parent run, made where there is none; open, but not current, while trials run. Yields its id.

    Nested runs that an earlier, killed start left open are closed as KILLED.
    """
    client = connect()
    of_this = f"tags.kind = '{PARENT}' and tags.study = '{study}'"
    found = client.search_runs([experiment_id()], of_this, order_by=["start_time ASC"], max_results=1)
    if found:
        run_id = found[0].info.run_id
    else:
        run_id = client.create_run(
            experiment_id(), run_name=f"tune-{study}", tags={"kind": PARENT, "study": study}
        ).info.run_id
    for killed in tracking.close_children(run_id):
        client.set_tag(killed, "outcome", "killed")
    client.update_run(run_id, "RUNNING")
    status = "FAILED"
    try:
        yield run_id
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run_id, status)


@contextmanager
def trial_run(parent: str, study: str, trial: optuna.Trial, architecture: Architecture) -> Iterator[str]:
    """A nested run, current meanwhile; its tag `outcome` says how the trial ended. Yields its id."""
    tags = {
        "kind": NESTED,
        "mlflow.parentRunId": parent,
        "study": study,
        "trial": str(trial.number),
        "architecture": architecture,
        **tracking.code_tags(),
    }
    run = mlflow.MlflowClient().create_run(experiment_id(), run_name=f"trial-{trial.number}", tags=tags)
    status, outcome = "FAILED", "failed"
    mlflow.start_run(run_id=run.info.run_id)
    try:
        yield run.info.run_id
        status, outcome = "FINISHED", "complete"
    except optuna.TrialPruned:
        status, outcome = "FINISHED", "pruned"
        raise
    except (KeyboardInterrupt, SystemExit):
        status, outcome = "KILLED", "killed"
        raise
    except Exception as error:
        mlflow.set_tag("reason", str(error)[:500])
        raise
    finally:
        mlflow.set_tag("outcome", outcome)
        mlflow.end_run(status)


def log_study(
    run_id: str, config: TrainingConfig, architecture: Architecture, dataset: Dataset, images: PreparedImages
) -> None:
    """What a search starts from: configuration, code, and the rows that it may see."""
    assert config.search is not None
    with _current(run_id):
        tags = {"architecture": architecture, "config_digest": digest_of(config), "chosen_on": "validation"}
        mlflow.set_tags(tags | tracking.dataset_tags(dataset) | tracking.code_tags())
        space = {name: dimension.model_dump(exclude_defaults=True) for name, dimension in config.search.space.items()}
        tracking.log_params({"architecture": architecture, "space": space, "seed": config.seed})
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")
        for split in ("train", "validation"):
            tracking.log_input(images.split(split), dataset.name, dataset.fingerprint, split)


def log_result(run_id: str, trials: list[FinishedTrial], best: FinishedTrial, folder: Path) -> None:
    """How many trials ended how, the best one's figure, and the files that `write_result` made."""
    assert best.validation_mae is not None
    counts = {f"trials_{outcome}": _count(trials, outcome) for outcome in ("complete", "pruned", "failed")}
    with _current(run_id):
        mlflow.log_metrics(counts | {"best_validation_mae": best.validation_mae})
        mlflow.set_tag("best_trial", str(best.number))
        mlflow.log_artifacts(str(folder), ARTIFACTS)


def _count(trials: list[FinishedTrial], outcome: str) -> int:
    return sum(trial.outcome == outcome for trial in trials)


@contextmanager
def _current(run_id: str) -> Iterator[None]:
    """Make the parent run current for a while; it stays open."""
    mlflow.start_run(run_id=run_id)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")
