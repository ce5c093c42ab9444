"""The model that the project ships: whole, small, with its terms, and the same answer for either size of a hand."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from benchmarks.full_size import predicted_pairs
from bone_age.serving.bundle import CARD, MODEL_KERAS, Bundle
from bone_age.serving.references import REFERENCE_MODEL, load_predictor, reference_model
from bone_age.settings import load_config

ONCE_COMMITTED_BYTES = 45_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return reference_model()  # raises where a checksum does not match


def test_it_is_small_and_needs_no_training_library(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundle.folder.iterdir()) < ONCE_COMMITTED_BYTES
    assert not (bundle.folder / MODEL_KERAS).exists()


def test_its_graph_has_the_documented_inputs_and_outputs(bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    assert {value.name: value.type for value in session.get_inputs()} == {
        "image": "tensor(uint8)",
        "sex": "tensor(float)",
    }
    assert {value.name for value in session.get_outputs()} == {"bone_age_months", "pooled_features", "attention"}


def test_it_was_trained_on_radiographs_and_says_by_which_terms_and_recipe(bundle: Bundle) -> None:
    card = (bundle.folder / CARD).read_text()
    assert not bundle.facts.synthetic
    assert bundle.facts.architecture == "xception_multi"
    assert all(words in card for words in ("Not a medical device", "research and education", "| MAE, months |"))
    config = load_config(bundle.folder / "config.yaml")
    assert (config.seed, config.data.source) == (bundle.facts.seed, "DIR")


def test_a_full_size_radiograph_is_answered_like_its_small_copy(rsna_dir: Path) -> None:
    predictor = load_predictor(str(REFERENCE_MODEL))
    pairs = predicted_pairs(predictor, rsna_dir, rsna_dir / "boneage-training-dataset")
    differences = sorted(abs(pair.difference) for pair in pairs)
    assert len(differences) == 24
    assert differences[-2] < 3
    assert differences[-1] < 4  # 1418, a child of 2 years (docs/experiments.md)
