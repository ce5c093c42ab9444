"""A search for real: trials trained, killed, gone on with, pruned; Optuna's file and MLflow looked at afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import yaml
from mlflow.entities import Run
from optuna.trial import TrialState

from bone_age import cli
from bone_age.data import prepared
from bone_age.data.loading import load_dataset
from bone_age.data.splits import assign_splits
from bone_age.errors import BoneAgeError
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.one_process import alone
from bone_age.settings import Home, TrainingConfig, load_config
from bone_age.tuning.space import study_name
from bone_age.tuning.tuner import TuningOutcome, tune

ROOT = Path(__file__).parents[2]

# The exit flow alone learns in seconds. The seed draws a rate that learns, then one far too high, then the first again.
SEARCHED: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "data": {"synthetic": {"n": 60, "seed": 5, "height_px": 128, "width_px": 104}},
    "split": {"validation": 0.25, "test": 0.25},
    "preprocessing": {"image_size_px": 72},
    "training": {
        "trainable_from": "block13_sepconv1",
        "epochs": 2,
        "batch_size": 16,
        "warmup_share": 0,
        "batchnorm_momentum": 0.6,
        "head_units": 16,
        "huber_delta_months": 40,
        "augmentation": None,
    },
    "architectures": {"xception_multi": {}},
    "search": {
        "trials": 3,
        "prune_after_trials": 1,
        "prune_after_epochs": 0,
        "space": {"learning_rate": {"choices": [0.9, 1e-4]}, "dropout": {"low": 0, "high": 0.1}},
    },
}

# `bone-age`, killed when the first epoch has just been recorded.
KILLED_AFTER_ONE_EPOCH = """
import os, signal, sys
from bone_age import cli, tracking
really = tracking.log_epoch
def log_and_die(epoch, figures):
    really(epoch, figures)
    os.kill(os.getpid(), signal.SIGKILL)
tracking.log_epoch = log_and_die
cli.main(sys.argv[1:])
"""


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(SEARCHED | changes, sort_keys=False))
    return path


@pytest.fixture
def tuning_home(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home whose results lie beside it."""
    monkeypatch.setenv("BONE_AGE_RESULTS", str(tmp_path / "results"))
    return Home()


@dataclass(frozen=True)
class Searched:
    """What was seen of a search that was killed in its first trial and started again."""

    config: TrainingConfig
    home: Home
    outcome: TuningOutcome
    decoded: frozenset[str]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    folder = tmp_path_factory.mktemp("searched")
    config, decoded = written(folder), set()
    really = prepared.read_image

    def read_image(path: Path) -> object:
        decoded.add(path.stem)
        return really(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(folder / "home"))
        patch.setenv("BONE_AGE_RESULTS", str(folder / "results"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        command = [sys.executable, "-c", KILLED_AFTER_ONE_EPOCH, "tune", "--config", str(config)]
        killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert killed.returncode == -9, killed.stderr
        for folder_of_killed in Home().tuning.glob("images/*"):
            for file in folder_of_killed.iterdir():
                file.unlink()  # prepared again below, where it is seen which images are read
            folder_of_killed.rmdir()
        patch.setattr(prepared, "read_image", read_image)
        outcome = tune(load_config(config), Home())
        yield Searched(load_config(config), Home(), outcome, frozenset(decoded))


@pytest.fixture
def searched_world(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> Searched:
    """The search, with MLflow pointed to its home."""
    enter(searched.home, monkeypatch)
    return searched


def enter(home: Home, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("BONE_AGE_HOME", str(home.root))
    patch.setenv("BONE_AGE_RESULTS", str(home.results))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for the home before


def runs_of(kind: str) -> list[Run]:
    found = connect().search_runs([experiment_id()], f"tags.kind = '{kind}'", order_by=["start_time ASC"])
    return list(found)


@pytest.mark.fault
def test_a_killed_trial_is_tried_again_and_ends_with_the_figures_it_would_have_had(
    searched: Searched, tuning_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = searched.outcome.trials
    assert [trial.number for trial in trials] == [1, 2, 3], "0 was killed and is repeated by 1"
    uninterrupted = tune(searched.config, tuning_home, n=1)
    assert uninterrupted.trials[0].recipe == trials[0].recipe
    assert uninterrupted.trials[0].validation_mae == trials[0].validation_mae
    enter(searched.home, monkeypatch)
    first, second = runs_of("trial")[:2]
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert second.data.tags["resumed_from"] == first.info.run_id
    assert second.data.params["training.dropout"] == first.data.params["training.dropout"]


def test_a_hopeless_trial_is_pruned_in_its_first_epoch(searched: Searched) -> None:
    good, hopeless = searched.outcome.trials[:2]
    assert (good.recipe["learning_rate"], good.outcome, good.epochs) == (1e-4, "complete", 2)
    assert (hopeless.recipe["learning_rate"], hopeless.outcome, hopeless.epochs) == (0.9, "pruned", 1)


def test_no_test_row_is_read_or_measured(searched_world: Searched) -> None:
    dataset = assign_splits(load_dataset(searched_world.config.data), searched_world.config.split)
    of = {
        split: {Path(path).stem for path in dataset.split(split)["path"]} for split in ("train", "validation", "test")
    }
    assert of["test"]
    assert searched_world.decoded == of["train"] | of["validation"]
    assert set(searched_world.outcome.images.table["split"]) == {"train", "validation"}
    for run in [*runs_of("trial"), *runs_of("tuning")]:
        assert not [name for name in run.data.metrics if "test" in name]
        contexts = {tag.value for used in run.inputs.dataset_inputs for tag in used.tags if "context" in tag.key}
        assert contexts == {"train", "validation"}


def test_an_auditor_finds_every_attempt_below_one_parent(searched_world: Searched) -> None:
    (parent,) = runs_of("tuning")
    nested = runs_of("trial")
    assert parent.info.run_id == searched_world.outcome.mlflow_run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["dataset_fingerprint"] == searched_world.outcome.images.dataset_fingerprint
    assert parent.data.metrics["trials_complete"] + parent.data.metrics["trials_pruned"] == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert [run.data.tags.get("outcome") for run in nested][:3] == ["killed", "complete", "pruned"]
    for run, trial in zip(nested[1:], searched_world.outcome.trials, strict=True):
        assert float(run.data.params["training.learning_rate"]) == trial.recipe["learning_rate"]
        assert len(connect().get_metric_history(run.info.run_id, "epoch/validation_mae")) == trial.epochs
        assert run.data.metrics.get("validation_mae") == (trial.validation_mae if trial.outcome == "complete" else None)
        assert {"git_commit", "lock_digest", "study", "architecture"} <= set(run.data.tags)
    files = {item.path for item in connect().list_artifacts(parent.info.run_id, "tuning")}
    assert files == {"tuning/best.yaml", "tuning/history.png"}


def test_the_result_is_written_and_training_state_is_gone(searched: Searched) -> None:
    folder = searched.outcome.folder
    assert folder.name == f"tune-{searched.outcome.study}"
    best = min(
        (t for t in searched.outcome.trials if t.outcome == "complete"), key=lambda trial: trial.validation_mae or 0
    )
    assert load_config(folder / "best.yaml").plans[0].training.dropout == best.recipe["dropout"]
    assert (folder / "history.png").is_file()
    assert not list(searched.home.checkpoints.iterdir())


def test_a_finished_search_trains_nothing_again(searched_world: Searched) -> None:
    again = tune(searched_world.config, searched_world.home)
    assert again.trials == searched_world.outcome.trials
    assert again.mlflow_run_id == searched_world.outcome.mlflow_run_id
    assert len(runs_of("trial")) == 4


@pytest.mark.fault
def test_a_second_tuner_of_a_study_is_refused(searched_world: Searched) -> None:
    dataset = assign_splits(load_dataset(searched_world.config.data), searched_world.config.split)
    lock = searched_world.home.tuning / f"{study_name(searched_world.config, 'xception_multi', dataset)}.lock"
    assert lock.is_file()
    with alone(lock, "test"), pytest.raises(BoneAgeError, match=rf"another tuning of study {lock.stem} \(process \d+"):
        tune(searched_world.config, searched_world.home, n=9)


def test_a_recipe_that_cannot_be_trained_is_a_failed_trial(tuning_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from bone_age.modelling import network

    monkeypatch.setattr(network, "MONTHS_SD", 1e30)
    space = {"huber_delta_months": {"choices": [1e30, 2e30]}}
    config = TrainingConfig.model_validate(SEARCHED | {"search": {"space": space}})
    with pytest.raises(BoneAgeError, match="none of 1 trials was trained to its end: trial-0: epoch 1 gave"):
        tune(config, tuning_home, n=1)
    (run,), (parent,) = runs_of("trial"), runs_of("tuning")
    assert (run.info.status, run.data.tags["outcome"]) == ("FAILED", "failed")
    assert "lower training.learning_rate" in run.data.tags["reason"]
    assert (parent.info.status, mlflow.active_run()) == ("FAILED", None)


@pytest.mark.parametrize(
    ("cut", "raised", "said", "status"),
    [
        (KeyboardInterrupt(), BoneAgeError, "interrupted; the same command goes on", "KILLED"),
        (OSError(28, "No space left on device"), OSError, "No space left", "FAILED"),
    ],
    ids=["interrupted", "full disk"],
)
def test_a_trial_that_is_cut_off_is_queued_again(
    cut: BaseException,
    raised: type[Exception],
    said: str,
    status: str,
    tuning_home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut_off(*arguments: object) -> None:
        raise cut

    monkeypatch.setattr("bone_age.modelling.training.train", cut_off)
    with pytest.raises(raised, match=said):
        tune(TrainingConfig.model_validate(SEARCHED), tuning_home)
    assert [run.info.status for run in runs_of("trial") + runs_of("tuning")] == [status, status]
    (file,) = tuning_home.tuning.glob("*.db")
    study = optuna.load_study(study_name=file.stem, storage=f"sqlite:///{file}")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize(
    ("changes", "arguments", "named"),
    [
        ({"search": None}, (), "has no `search:`"),
        ({}, ("--architecture", "resnet50_multi"), "'resnet50_multi', configuration tiny has xception_multi"),
        ({}, ("--trials", "0"), "--trials"),
        ({"search": {"space": {"dropuot": {"low": 0, "high": 1}}}}, (), "dropuot"),
        ({}, ("--data", "no/such/folder"), "no/such/folder"),
    ],
)
def test_what_cannot_be_searched_is_one_line_and_exit_code_2(
    changes: dict[str, Any],
    arguments: tuple[str, ...],
    named: str,
    tmp_path: Path,
    tuning_home: Home,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["tune", "--config", str(written(tmp_path, **changes)), *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not tuning_home.tuning.exists()
