"""What tests of several parts need: a home, a tiny prepared data set, one tiny model that was really trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import mlflow
import pytest

from bone_age.data.loading import load_dataset
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.data.splits import assign_splits
from bone_age.evaluation.evaluated import EvaluatedModel, evaluate_trained
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.bundle import ModelFacts, Origin, write_bundle
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import EvaluationSettings, Home, PlannedTraining, TrainingConfig
from tests import empty_databases
from tests.postgresql import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no finding
hypothesis.settings.load_profile("untimed")

SETTINGS = EvaluationSettings(bootstrap_replicates=100)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An empty home of its own, with its own MLflow."""
    monkeypatch.setenv("BONE_AGE_HOME", str(empty_databases.lay_into(tmp_path / "home")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield Home().prepare()
    mlflow.end_run()


@pytest.fixture(scope="session")
def rsna_dir() -> Path:
    """Real radiographs."""
    if "BONE_AGE_RSNA_DIR" not in os.environ:
        pytest.skip("needs real radiographs: set BONE_AGE_RSNA_DIR")
    return Path(os.environ["BONE_AGE_RSNA_DIR"])


@pytest.fixture(scope="session")
def tiny_config() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "data": {"synthetic": {"n": 80, "seed": 5, "height_px": 128, "width_px": 104}},
            "split": {"validation": 0.25, "test": 0.25},
            "preprocessing": {"image_size_px": 72},
            "training": {"epochs": 2, "batch_size": 8, "batchnorm_momentum": 0.6, "head_units": 16},
        }
    )


@pytest.fixture(scope="session")
def tiny_images(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> PreparedImages:
    """80 synthetic hands, split and preprocessed to 72 px."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(tmp_path_factory.mktemp("tiny-home")))
        dataset = assign_splits(load_dataset(tiny_config.data), tiny_config.split)
    return prepare_images(dataset, tiny_config.preprocessing, 0.0, tmp_path_factory.mktemp("tiny-images"))


@pytest.fixture(scope="session")
def tiny_plan(tiny_config: TrainingConfig) -> PlannedTraining:
    return next(plan for plan in tiny_config.plans if plan.name == "xception_multi")


@pytest.fixture(scope="session")
def tiny_model(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """An Xception with sex, trained for two epochs."""
    from bone_age.modelling.training import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(tmp_path_factory.mktemp("training-home")))
        folder = tmp_path_factory.mktemp("tiny-model")
        return train(tiny_plan, tiny_images, Home().prepare(), folder, lambda epoch, figures: None, "no-run")


@pytest.fixture(scope="session")
def tiny_evaluated(tiny_model: TrainedModel, tiny_images: PreparedImages) -> EvaluatedModel:
    network = OnnxNetwork(tiny_model.onnx)
    return evaluate_trained("tiny", network.predict_months, network.features, tiny_images, SETTINGS, seed=1)


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_model: TrainedModel, tiny_evaluated: EvaluatedModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a self-contained model version."""
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    folder.mkdir()
    facts = ModelFacts(
        architecture="xception_multi",
        inputs="image + sex",
        dataset_name="synthetic",
        dataset_fingerprint=tiny_model.record.dataset_fingerprint,
        synthetic=True,
        images_digest=tiny_model.record.images_digest,
        weights="none",
        seed=3,
        mlflow_run_id="no-run",
        test_mae=tiny_evaluated.test.metrics.mae.value,
    )
    return write_bundle(
        folder,
        tiny_model.folder,
        tiny_evaluated.calibration,
        facts,
        Origin("name: tiny\n", tiny_evaluated.test.to_json()),
        tiny_evaluated.likeness,
    ).folder
