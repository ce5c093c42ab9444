"""The script as it is called, with a model that was really trained, on the data it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import model_limits
from bone_age.data.splits import split_of
from bone_age.data.synthetic import write_synthetic
from bone_age.settings import TrainingConfig


@pytest.fixture(scope="module")
def data(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("data"), tiny_config.data.synthetic)


def run(*arguments: object) -> int:
    return model_limits.main([*map(str, arguments), "--replicates", "100", "--changed", "3", "--worst", "5"])


def test_only_the_test_split_is_measured_where_a_configuration_is_given(
    tiny_bundle: Path, tiny_config: TrainingConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\nsplit: {validation: 0.25, test: 0.25}\n")
    assert run("--model", tiny_bundle, "--data", data, "--config", config, "--out", tmp_path / "out") == 0
    manifest = pd.read_csv(data / "manifest.csv")
    expected = [split_of(patient, tiny_config.split) == "test" for patient in manifest["patient_id"]]
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv")["image_id"]
    assert set(predicted) == set(manifest["image"][expected].str.removesuffix(".png"))
    document = json.loads((tmp_path / "out" / "limits.json").read_text())
    assert document["scored_set"]["split"] == "test"
    assert document["n"] == len(predicted)
    assert document["robustness"]["n"] == 3
    assert len(document["failures"]["worst"]) == 5
    assert "test split" in (tmp_path / "out" / "limits.md").read_text()
    assert "it has seen" not in capsys.readouterr().err


def test_a_model_measured_on_what_it_learned_from_says_so(
    tiny_bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", tiny_bundle, "--data", data, "--limit", 6, "--out", tmp_path) == 0
    assert "it has seen" in capsys.readouterr().err
    assert "it has seen" in (tmp_path / "limits.md").read_text()
    assert "Only 6 of 80 rows were measured" in (tmp_path / "limits.md").read_text()
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 6


def test_what_is_not_there_is_one_line_and_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", tmp_path, "--data", tmp_path, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
