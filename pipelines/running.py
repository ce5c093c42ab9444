"""Starting the pipelines: one training at a time in a home, cleaned up after when it is killed.

ZenML and MLflow keep their own records of a run; what a killed process left open in them is closed by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse
from zenml.orchestrators.signal_handler import SignalHandler
from zenml.pipelines.pipeline_definition import Pipeline
from zenml.utils import source_utils

from bone_age import tracking
from bone_age.errors import BoneAgeError
from bone_age.evaluation.comparison import Comparison
from bone_age.governance.gate import Decision
from bone_age.governance.policy import Policy
from bone_age.mlflow_connection import connect, world_key
from bone_age.one_process import alone, ended_by_signals
from bone_age.provenance import PROJECT
from bone_age.scheduling.lease import leased
from bone_age.serving.batch import BatchReport
from bone_age.settings import Home, TrainingConfig
from pipelines.batch_inference import batch_inference_pipeline
from pipelines.monitoring import monitoring_pipeline
from pipelines.promotion import promotion_pipeline
from pipelines.stacks import on_active_stack
from pipelines.training import training_pipeline


@dataclass(frozen=True)
class TrainingOutcome:
    """What a finished pipeline run made; `report` is the HTML file under `results/`."""

    comparison: Comparison
    decision: Decision
    mlflow_run_id: str
    report: Path


def run_training(config: TrainingConfig, policy: Policy, home: Home, dataset_key: str) -> TrainingOutcome:
    """Run the training pipeline on the active ZenML stack and wait for it.

    Args:
        dataset_key: Of the data set that `config` names, by `bone_age.data.loading.dataset_key`.
    Raises:
        InputError: The data set or an image is not usable; the step's own message.
        BoneAgeError: Another training runs in this home or on its shared database, the run failed, or was interrupted.
    """
    home.prepare()
    with alone(home.root / "training.lock", "training"), ended_by_signals():
        try:
            with leased(home, "training"):
                return _run(config, policy, home, dataset_key)
        except KeyboardInterrupt:
            raise BoneAgeError("interrupted; the same command goes on from at most five minutes before") from None


def run_promotion(
    version: int, approver: str, reason: str, overrides: dict[str, str], policy: Policy, home: Home
) -> Decision:
    """Run the promotion pipeline on the active ZenML stack and wait for it.

    Raises:
        BoneAgeError: As `governance.approval.promote_version` raises; the step's own message.
    """
    home.prepare()
    connect()
    source_utils.set_custom_source_root(str(PROJECT))
    run_name = f"promotion-{version}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    arguments = (version, approver, reason, overrides, policy)
    on_active_stack(promotion_pipeline, run_name, *arguments)(*arguments)
    decision: Decision = _output(Client().get_pipeline_run(run_name), "promote_judged_version")
    return decision


def run_batch_inference(
    data: Path, out: Path, model: str | None, engine: str, sex: str | None, home: Home
) -> BatchReport:
    """Run the batch pipeline on the active ZenML stack and wait for it.

    Raises:
        BoneAgeError: As `bone_age.serving.batch.run_batch` raises; the step's own message.
    """
    home.prepare()
    arguments = (str(data.resolve()), str(out.resolve()), model, engine, sex)
    report: BatchReport = _run_of_one_step(batch_inference_pipeline, "batch", "answer_radiographs", *arguments)
    return report


def run_monitoring(model: str | None, days: float, out: Path | None, home: Home) -> dict[str, Any]:
    """Run the monitoring pipeline on the active ZenML stack and wait for it. Returns the document of the look.

    Raises:
        BoneAgeError: As `bone_age.monitoring.monitor.monitor` raises; the step's own message.
    """
    home.prepare()
    arguments = (model, days, str(out.resolve()) if out else None)
    document: dict[str, Any] = _run_of_one_step(monitoring_pipeline, "monitoring", "watch_for_drift", *arguments)
    return document


def _run_of_one_step(pipeline: Any, kind: str, step: str, *arguments: Any) -> Any:
    """What the step of a pipeline gave; its MLflow run is closed however it ends."""
    connect()
    source_utils.set_custom_source_root(str(PROJECT))
    run_name = f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    ended = "FAILED"
    try:
        _start(pipeline, run_name, *arguments)
        ended = "FINISHED"
    finally:
        _close(run_name, ended)
    return _output(Client().get_pipeline_run(run_name), step)


def _run(config: TrainingConfig, policy: Policy, home: Home, dataset_key: str) -> TrainingOutcome:
    connect()
    source_utils.set_custom_source_root(str(PROJECT))
    _close_killed_runs()
    run_name = f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        arguments = (config, policy, dataset_key, world_key())
        _start(training_pipeline, run_name, *arguments)
    except KeyboardInterrupt:
        _close(run_name, "KILLED")
        raise
    except Exception:
        _close(run_name, "FAILED")
        raise
    return _outcome(run_name, home)


def _start(pipeline: Pipeline, run_name: str, *arguments: Any) -> None:
    """Run it under `ended_by_signals` alone.

    ZenML's handler, made for runs that its server stops, asks the database amid whatever statement a signal meets, and
    raises there: the transaction stays open, and the next one waits for it.
    """
    with patch.object(SignalHandler, "register", lambda handler: handler):
        on_active_stack(pipeline, run_name, *arguments)(*arguments)


def _outcome(run_name: str, home: Home) -> TrainingOutcome:
    run = Client().get_pipeline_run(run_name)
    tracking.close_parent(str(run.id), "FINISHED")
    parent = tracking.find_parent(str(run.id))
    if run.status != ExecutionStatus.COMPLETED or parent is None:
        raise BoneAgeError(f"pipeline run {run_name} ended as {run.status}")
    return TrainingOutcome(
        comparison=_output(run, "compare_models"),
        decision=_output(run, "promote_best"),
        mlflow_run_id=parent.info.run_id,
        report=tracking.fetch_report(str(run.id), home.results / run_name),
    )


def _output(run: PipelineRunResponse, step: str) -> Any:
    return run.steps[step].output.load()


def _close(run_name: str, status: str) -> None:
    for run in Client().list_pipeline_runs(name=run_name):
        tracking.close_parent(str(run.id), status)


def _close_killed_runs() -> None:
    """Nothing else runs in this home now, so what ZenML still calls running was killed."""
    for run in Client().list_pipeline_runs(status="running", size=50):
        parent = tracking.find_parent(str(run.id))
        if parent is not None and parent.info.status == "RUNNING":
            tracking.close_parent(str(run.id), "KILLED")
