"""The way to MLflow: where it is, the experiment, and errors in one line. Imports neither ZenML nor TensorFlow."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")  # a minute; by itself it tries every request for four

import mlflow
from mlflow.exceptions import MlflowException

from bone_age.errors import BoneAgeError
from bone_age.settings import Home

EXPERIMENT = "bone-age"
_active: set[str] = set()  # where the experiment was made the current one


def connect() -> mlflow.MlflowClient:
    """Point MLflow at the home's database (or `MLFLOW_TRACKING_URI`) and make sure of the experiment.

    Raises:
        BoneAgeError: The tracking server or database does not answer.
    """
    home = Home().prepare()
    _quiet()
    try:
        mlflow.set_tracking_uri(home.tracking_uri)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            local = home.tracking_uri.startswith("sqlite:")
            place = home.artifacts.as_uri() if local else None
            try:
                client.create_experiment(EXPERIMENT, artifact_location=place)
            except MlflowException:
                if client.get_experiment_by_name(EXPERIMENT) is None:  # else another process was first
                    raise
            _active.clear()
        if _active != {home.tracking_uri}:  # asked of the server once, not with every question
            mlflow.set_experiment(EXPERIMENT)
            _active.clear()
            _active.add(home.tracking_uri)
    except Exception as error:
        raise BoneAgeError(f"MLflow does not answer: {first_line(error)}") from error
    return client


def _quiet() -> None:
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def world_key() -> str:
    """Names this MLflow world; part of cache keys, so that a cached step never points into a database that is gone."""
    experiment = connect().get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    text = f"{experiment.experiment_id}:{experiment.creation_time}:{experiment.artifact_location}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def experiment_id() -> str:
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return str(experiment.experiment_id)


@contextmanager
def reopened(run_id: str) -> Iterator[None]:
    """Make an existing run current, to add to it; its status stays as it was."""
    connect()
    status = mlflow.get_run(run_id).info.status
    try:
        with mlflow.start_run(run_id=run_id):
            yield
    finally:
        mlflow.MlflowClient().set_terminated(run_id, status if status != "RUNNING" else "FINISHED")
