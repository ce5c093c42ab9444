"""Every MLflow name and call that more than one place needs.

One parent run a pipeline run, found by its ZenML run id, so that no step has to hand it on and steps on several
machines agree; one nested run an architecture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from bone_age.data.manifest import SPLITS, Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.data.splits import SplitBalance
from bone_age.data.validation import DataValidation
from bone_age.errors import InputError
from bone_age.evaluation import plots
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.report import write_report
from bone_age.evaluation.robustness import Robustness
from bone_age.governance.policy import Policy
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.modelling.trained import TrainedModel
from bone_age.provenance import operator, provenance
from bone_age.serving.batch import BatchReport
from bone_age.settings import PlannedTraining, TrainingConfig, digest_of

PARENT, NESTED = "pipeline", "architecture"
REPORT = "report"


@dataclass(frozen=True)
class PipelineRun:
    """The ZenML run that a step belongs to."""

    zenml_run_id: str
    name: str


def find_parent(zenml_run_id: str) -> Run | None:
    """The pipeline run's parent run; where two steps raced to make it, all agree on the oldest."""
    runs = connect().search_runs(
        [experiment_id()],
        f"tags.zenml_run_id = '{zenml_run_id}' and tags.kind = '{PARENT}'",
        order_by=["start_time ASC"],
    )
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id)) if runs else None


@contextmanager
def parent_run(pipeline: PipelineRun) -> Iterator[str]:
    """Make the pipeline run's parent run current; creates it on first use. Yields its id."""
    client = connect()
    run = find_parent(pipeline.zenml_run_id)
    if run is None:
        client.create_run(experiment_id(), run_name=pipeline.name, tags=_run_tags(pipeline, PARENT))
        run = find_parent(pipeline.zenml_run_id)
        assert run is not None
    with _current(run.info.run_id, end=False):
        yield run.info.run_id


@contextmanager
def architecture_run(pipeline: PipelineRun, name: str) -> Iterator[str]:
    """A nested run for one architecture, marked FAILED or KILLED when it did not end well. Yields its id."""
    with parent_run(pipeline) as parent:
        tags = _run_tags(pipeline, NESTED) | {"mlflow.parentRunId": parent, "architecture": name}
        run = mlflow.MlflowClient().create_run(experiment_id(), run_name=name, tags=tags)
    with _current(run.info.run_id, end=True):
        yield run.info.run_id


@contextmanager
def _current(run_id: str, end: bool) -> Iterator[None]:
    client = mlflow.MlflowClient()
    mlflow.start_run(run_id=run_id)
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        mlflow.end_run()
        ended = end or status != "FINISHED"
        client.set_terminated(run_id, status) if ended else client.update_run(run_id, "RUNNING")


def _run_tags(pipeline: PipelineRun, kind: str) -> dict[str, str]:
    return {"kind": kind, "zenml_run_id": pipeline.zenml_run_id, "zenml_run_name": pipeline.name, **code_tags()}


def code_tags() -> dict[str, str]:
    """Which code and which packages a run was made with, and by whom."""
    known = provenance()
    return {
        "git_commit": known.git_commit,
        "git_dirty": known.git_dirty,
        "lock_digest": known.lock_digest,
        "trained_by": operator(),
    }


def close_parent(zenml_run_id: str, status: str) -> None:
    """Give the parent run its final status, and every run below it that a kill left open."""
    parent = find_parent(zenml_run_id)
    if parent is None:
        return
    close_children(parent.info.run_id)
    mlflow.MlflowClient().set_terminated(parent.info.run_id, status)


def close_children(parent_run_id: str) -> list[str]:
    """Nested runs that still say RUNNING though nobody is at them any more were killed. Returns their ids."""
    client = mlflow.MlflowClient()
    children = client.search_runs([experiment_id()], f"tags.`mlflow.parentRunId` = '{parent_run_id}'")
    killed = [run.info.run_id for run in children if run.info.status == "RUNNING"]
    for run_id in killed:
        client.set_terminated(run_id, "KILLED")
    return killed


def mark_killed(run_ids: list[str]) -> None:
    """Earlier attempts of a resumed training: whatever still says RUNNING was killed."""
    client = connect()
    for run_id in run_ids:
        try:
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, "KILLED")
        except MlflowException:
            continue  # deleted since


class SavesItself(Protocol):
    """An artifact that writes its files into a folder."""

    def save(self, folder: Path) -> None: ...


def log_saved(artifact: SavesItself, path: str) -> None:
    """Everything an artifact saves, as artifacts of the current run."""
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder))
        mlflow.log_artifacts(folder, path)


def log_dataset(dataset: Dataset) -> None:
    """Manifest and fingerprint of a data set, before validation, with the current run."""
    mlflow.set_tags(dataset_tags(dataset))
    mlflow.log_metric("dataset_rows", len(dataset))
    log_saved(dataset, "dataset")


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """What names a data set on a run."""
    return {
        "dataset_name": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "synthetic": str(dataset.synthetic),
    }


def log_validation(validation: DataValidation) -> None:
    """The verdict, the Great Expectations result and its data docs."""
    mlflow.set_tag("data_validation", "passed" if validation.passed else "failed")
    mlflow.log_metrics({"validation_errors": len(validation.errors), "validation_warnings": len(validation.warnings)})
    log_saved(validation, "data_validation")


def log_splits(dataset: Dataset, balance: SplitBalance) -> None:
    """Which row went where, and how the splits are balanced; the rows are also the run's MLflow inputs."""
    for split in SPLITS:
        log_input(dataset.split(split), dataset.name, dataset.fingerprint, split)
        mlflow.log_metric(f"{split}_rows", len(dataset.split(split)))
    mlflow.log_text(balance.counts.to_csv(index=False), "splits/balance.csv")
    mlflow.log_text(dataset.table.to_csv(index=False), "splits/manifest.csv")
    mlflow.log_dict({"warnings": list(balance.warnings)}, "splits/warnings.json")


def log_plan(plan: PlannedTraining, images: PreparedImages) -> None:
    """Parameters, environment and inputs of one training with its quarantined images, logged before it starts."""
    log_params(plan.model_dump(mode="json"))
    mlflow.log_dict(asdict(provenance()), "environment.json")
    mlflow.log_dict(plan.preprocessing.model_dump(mode="json"), "preprocessing/preprocessing.json")
    mlflow.log_text(images.quarantined.to_csv(index=False), "preprocessing/quarantine.csv")
    mlflow.log_metric("quarantined_images", len(images.quarantined))
    for split in ("train", "validation"):
        log_input(images.split(split), images.dataset_name, images.dataset_fingerprint, split)


def log_epoch(epoch: int, figures: dict[str, float]) -> None:
    """One epoch's figures of the current run, counted from 0; `validation_mae` itself is the evaluation's."""
    mlflow.log_metrics({f"epoch/{name}": figure for name, figure in figures.items()}, step=epoch)


def log_training(model: TrainedModel, images: PreparedImages) -> None:
    """What a finished training adds: its record, counts, and the earlier attempts that it resumed."""
    record = model.record
    mlflow.log_metrics(
        {
            "parameters_total": record.parameters_total,
            "parameters_trained": record.parameters_trained,
            "best_epoch": record.best_epoch,
            "seconds_per_epoch": record.seconds_per_epoch,
            "onnx_difference_months": record.onnx_difference_months,
        }
    )
    mlflow.log_artifact(str(model.folder / "training.json"))
    caption = f"{model.plan.architecture}, best epoch {record.best_epoch + 1}"
    curves = plots.loss_curves(
        pd.DataFrame(record.epochs), record.best_epoch, model.plan.name, caption, images.synthetic
    )
    log_pictures({"loss_curves.png": curves}, "training")
    if record.mlflow_run_ids[:-1]:
        mlflow.set_tag("resumed_from", ",".join(record.mlflow_run_ids[:-1]))
        mark_killed(record.mlflow_run_ids[:-1])


def log_evaluated(evaluated: EvaluatedModel) -> None:
    """Figures `<split>_<metric>` with bounds and subgroups, predictions, plots and the interval calibration."""
    mlflow.log_metrics(evaluated.flat_metrics())
    log_saved(evaluated, "evaluation")
    log_pictures({name: draw(evaluated.test) for name, draw in plots.OF_AN_EVALUATION.items()}, "evaluation/test/plots")


def log_robustness(robustness: Robustness) -> None:
    """How far answers move when radiographs are changed: metrics, table and plot."""
    mlflow.log_metrics(robustness.flat_metrics())
    log_saved(robustness, "robustness")


def log_pictures(figures: dict[str, Figure], path: str) -> None:
    """Plots as PNG artifacts of the current run."""
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in figures.items():
            (Path(folder) / name).write_bytes(plots.to_png(figure))
        mlflow.log_artifacts(folder, path)


def log_report(comparison: Comparison) -> None:
    """The report of a pipeline run with its decision, and where its models were trained, in its parent run."""
    with tempfile.TemporaryDirectory() as folder:
        write_report(comparison, Path(folder))
        mlflow.log_artifacts(folder, REPORT)
    tags = {"models_of_runs": ",".join(model.mlflow_run_id for model in comparison.models)}
    tags |= {"dataset_name": comparison.dataset.name, "dataset_fingerprint": comparison.dataset.fingerprint}
    if comparison.decision is not None:
        tags |= {"decision": comparison.decision.outcome, "decision_reason": comparison.decision.reason[:5000]}
        tags |= {"decided_version": str(comparison.decision.version or "")}
    mlflow.set_tags(tags)
    figures = {f"test_mae__{model.name}": model.test.metrics.mae.value for model in comparison.models}
    mlflow.log_metrics(figures | {"test_mae__baseline": comparison.baseline.metrics.mae.value})


def fetch_report(zenml_run_id: str, target: Path) -> Path:
    """Copy a pipeline run's report from MLflow into `target`; appears whole. Returns the path of the HTML file.

    Raises:
        InputError: The folder cannot be written.
    """
    parent = find_parent(zenml_run_id)
    assert parent is not None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".report-") as scratch:
            fetched = mlflow.artifacts.download_artifacts(
                run_id=parent.info.run_id, artifact_path=REPORT, dst_path=scratch
            )
            shutil.copytree(fetched, f"{scratch}/whole")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(f"{scratch}/whole", target)
    except OSError as error:
        raise InputError(f"{target}: the report cannot be written: {error.strerror}") from None
    return target / "report.html"


def log_config(config: TrainingConfig, policy: Policy) -> None:
    """The whole configuration of a pipeline run, as parameters and as a file, and the policy that it is under."""
    log_params({k: v for k, v in config.model_dump(mode="json").items() if k != "architectures"})
    mlflow.log_dict(config.model_dump(mode="json"), "config.json")
    mlflow.log_text(policy.model_dump_json(indent=2), policy.artifact)
    mlflow.set_tags({"config_digest": digest_of(config), "policy_digest": policy.digest})


def log_batch(report: BatchReport) -> None:
    """Which model answered which radiographs in a batch, how many and how fast; the answers are its artifacts."""
    log_params({"data": report.data, "out": report.out, "engine": report.engine})
    mlflow.set_tags(
        {
            "batch_model": report.model,
            "model_digest": report.model_digest,
            "dataset_fingerprint": report.dataset_fingerprint,
            "input_fingerprint": report.input_fingerprint,
        }
    )
    counts = ("rows", "answered", "failed_rows", "resumed_rows", "seconds", "images_per_second")
    mlflow.log_metrics({name: getattr(report, name) for name in counts})
    mlflow.log_dict(report.to_json(), "batch/report.json")
    for file in filter(None, (report.out, report.failed)):
        mlflow.log_artifact(file, "batch")


def log_params(params: dict[str, Any]) -> None:
    """Nested settings as flat parameters of the current run, `training.epochs` and the like."""
    mlflow.log_params({key: str(value)[:500] for key, value in _flat(params).items()})


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) and item else {f"{prefix}{key}": item}
    return flat


def log_input(table: pd.DataFrame, name: str, fingerprint: str, context: str) -> None:
    """The rows a run used as an MLflow input, with the fingerprint as its digest (MLflow keeps 36 characters of it).

    The split is part of the name: MLflow takes inputs of one name and digest for one and keeps the first alone.
    """
    columns = ["image_id", "sha256", "sex", "bone_age_months", "patient_id", "split"]
    rows = table[columns].astype({"bone_age_months": float})
    data = from_pandas(rows, name=f"{name}-{context}", digest=fingerprint[:36])
    mlflow.log_input(data, context=context, tags={"dataset_fingerprint": fingerprint})
