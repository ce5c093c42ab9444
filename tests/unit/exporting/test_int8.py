from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bone_age.data.prepared import PreparedImages
from bone_age.errors import InputError, ModelError
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.exporting.int8 import Int8Export, export_int8
from bone_age.modelling.trained import TrainedModel
from bone_age.serving import int8 as processors
from bone_age.serving.bundle import CARD, CHECKSUMS, MODEL_KERAS, Bundle, Origin, load_bundle, write_bundle
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.predictor import Predictor
from bone_age.settings import Home, TrainingConfig

HAND = np.random.default_rng(4).integers(0, 256, (90, 70), dtype=np.uint8)


@pytest.fixture(scope="module")
def parent(
    tiny_bundle: Path,
    tiny_model: TrainedModel,
    tiny_evaluated: EvaluatedModel,
    tiny_config: TrainingConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """The tiny model with the configuration that trained it."""
    origin = Origin(tiny_config.portable_yaml, tiny_evaluated.test.to_json())
    folder, facts = tmp_path_factory.mktemp("parent"), load_bundle(tiny_bundle).facts
    return write_bundle(folder, tiny_model.folder, tiny_evaluated.calibration, facts, origin)


@pytest.fixture(scope="module")
def exported(parent: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Int8Export:
    _needs_vnni()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(tmp_path_factory.mktemp("int8-home")))
        Home().prepare()
        return export_int8(parent, "synthetic", tmp_path_factory.mktemp("int8") / "model")


def _needs_vnni() -> None:
    try:
        processors.require_exact_sums()
    except ModelError as error:
        pytest.skip(str(error))


def test_its_convolutions_take_eight_bits_and_its_months_stay_near(
    exported: Int8Export, parent: Bundle, tiny_images: PreparedImages
) -> None:
    kinds = [node.op_type for node in onnx.load(exported.bundle.onnx).graph.node]
    assert kinds.count("DequantizeLinear") >= 2 * kinds.count("Conv") > 0  # of each, both inputs
    assert exported.bundle.onnx.stat().st_size < 0.35 * parent.onnx.stat().st_size
    sex = np.ones((16, 1), np.float32)
    networks = (OnnxNetwork(parent.onnx), OnnxNetwork(exported.bundle.onnx))
    before, after = (network.run(tiny_images.images[:16], sex) for network in networks)
    assert np.abs(before.bone_age_months - after.bone_age_months).max() < 3.0
    assert before.attention.shape == after.attention.shape


def test_it_is_measured_anew_on_the_same_test_rows(
    exported: Int8Export, parent: Bundle, tiny_evaluated: EvaluatedModel
) -> None:
    before, after = tiny_evaluated.test.predictions, exported.evaluated.test.predictions
    assert list(after["image_id"]) == list(before["image_id"])
    assert (after["predicted_months"] != before["predicted_months"]).any()
    facts = exported.bundle.facts
    assert facts.int8 is not None
    assert facts.int8.parent_digest == parent.digest
    assert facts.int8.parent_test_mae == parent.facts.test_mae
    assert facts.test_mae == exported.evaluated.test.metrics.mae.value == exported.bundle.figures()["mae"]
    assert 0 < facts.int8.mean_absolute_difference_months <= facts.int8.largest_difference_months < 3.0
    assert facts.mlflow_run_id == parent.facts.mlflow_run_id  # an auditor still finds its training


def test_the_folder_stands_alone_and_its_card_says_what_it_is(exported: Int8Export, parent: Bundle) -> None:
    bundle = load_bundle(exported.bundle.folder)
    assert not (bundle.folder / MODEL_KERAS).exists()
    assert MODEL_KERAS not in (bundle.folder / CHECKSUMS).read_text()
    card = (bundle.folder / CARD).read_text()
    assert "In eight bits" in card
    assert parent.digest[:12] in card
    assert "In eight bits" not in (parent.folder / CARD).read_text()
    before, after = (Predictor(model, "model").predict(HAND, "F") for model in (parent, bundle))
    assert after.model_digest == bundle.digest != before.model_digest
    assert after.bone_age_months == pytest.approx(before.bone_age_months, abs=3)


def test_other_data_than_trained_it_are_refused(
    parent: Bundle, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_vnni()
    monkeypatch.setenv("BONE_AGE_HOME", str(tmp_path_factory.mktemp("other-home")))
    others = replace(parent, facts=parent.facts.model_copy(update={"dataset_fingerprint": "0" * 64}))
    with pytest.raises(InputError, match=r"fingerprint .*, but the model was trained on synthetic 000000000000"):
        export_int8(others, "synthetic", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_eight_bits_is_not_rounded_again(exported: Int8Export, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in eight bits already"):
        export_int8(exported.bundle, "synthetic", tmp_path / "model")


def test_a_processor_that_would_overflow_does_not_answer(
    exported: Int8Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx avx2 avx512f\n")
    monkeypatch.setattr(processors, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(ModelError, match="needs a processor with VNNI"):
        Predictor(exported.bundle, "int8")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    Predictor(exported.bundle, "int8")
