"""An evaluation: what it holds, what it writes, what it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.evaluation.evaluation import Evaluation, predictions_csv

Evaluate = Callable[..., Evaluation]
Simulate = Callable[..., pd.DataFrame]
CONTRACT = [
    "n",
    "mae",
    "rmse",
    "r2",
    "bias",
    "p90_ae",
    "within_12m",
    "coverage_90",
    "mae_lo",
    "mae_hi",
    "subgroups",
    "dataset_fingerprint",
    "model",
]


def test_metrics_json_has_the_keys_others_rely_on(evaluate: Evaluate, simulate: Simulate) -> None:
    document = evaluate(simulate(50)).to_json()
    assert set(CONTRACT) <= set(document)
    assert (document["n"], document["model"], document["dataset_fingerprint"]) == (50, "xception_multi", "ab" * 32)
    assert sum(group["n"] for group in document["subgroups"].values()) == 50


def test_a_tracker_gets_every_figure_by_its_name(evaluate: Evaluate, simulate: Simulate) -> None:
    table = simulate(50).assign(sex="F", bone_age_months=75.0)
    flat = evaluate(table.assign(predicted_months=78.0)).flat("test_")
    assert (flat["test_mae"], flat["test_mae_lo"], flat["test_mae_hi"]) == (3, 3, 3)
    assert (flat["test_mae__F_060_120"], flat["test_bias__F_060_120"], flat["test_n__F_060_120"]) == (3, 3, 50)
    assert "test_mae__M_060_120" not in flat
    assert all(np.isfinite(value) for value in flat.values())


def test_figures_can_be_recomputed_from_the_csv(evaluate: Evaluate, tmp_path: Path, simulate: Simulate) -> None:
    evaluation = evaluate(simulate(50))
    evaluation.save_tables(tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_id", "sex", "bone_age_months", "predicted_months", "lower_months", "upper_months"]
    errors = [abs(float(row["predicted_months"]) - float(row["bone_age_months"])) for row in rows]
    inside = [float(r["lower_months"]) <= float(r["bone_age_months"]) <= float(r["upper_months"]) for r in rows]
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["mae"] == pytest.approx(sum(errors) / 50, abs=1e-12)
    assert document["coverage_90"] == sum(inside) / 50


def test_an_evaluation_survives_its_folder(evaluate: Evaluate, tmp_path: Path, simulate: Simulate) -> None:
    names = ["001", "NA", "1e5", "=cmd|' /C calc'!A0", "'quoted", 'a,"b"', "-7", "ünï"]
    table = simulate(len(names)).assign(image_id=names)
    evaluation = evaluate(table)
    evaluation.save_tables(tmp_path)
    loaded = Evaluation.load(tmp_path)
    assert loaded.to_json() == evaluation.to_json()
    assert loaded.metrics == evaluation.metrics
    assert loaded.subgroups == evaluation.subgroups
    pd.testing.assert_frame_equal(loaded.predictions, evaluation.predictions, check_exact=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=5, unique=True))
def test_no_image_id_starts_a_formula_in_a_spreadsheet(names: list[str]) -> None:
    table = pd.DataFrame({"image_id": names, "sex": "F", "bone_age_months": 90.0})
    rows = list(csv.reader(io.StringIO(predictions_csv(table).decode(), newline="")))[1:]
    assert not [row for row in rows if row and row[0].startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_save_writes_figures_predictions_and_plots(evaluate: Evaluate, tmp_path: Path, simulate: Simulate) -> None:
    evaluate(simulate(30)).save(tmp_path)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "predicted_against_true.png",
        "bland_altman.png",
        "error_by_age.png",
        "subgroups.png",
        "interval_coverage.png",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "predictions.csv", "plots"}


def test_a_folder_that_cannot_be_written_is_named_in_one_line(
    evaluate: Evaluate, tmp_path: Path, simulate: Simulate
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"taken.*cannot be written") as caught:
        evaluate(simulate(30)).save_tables(tmp_path / "taken")
    assert "\n" not in str(caught.value)


def test_undefined_r2_is_null_and_survives(evaluate: Evaluate, tmp_path: Path, simulate: Simulate) -> None:
    evaluate(simulate(12).assign(bone_age_months=100.0)).save_tables(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["r2"] is None
    assert Evaluation.load(tmp_path).metrics.r2 is None


def test_predictions_of_a_network_may_be_float32(evaluate: Evaluate, simulate: Simulate) -> None:
    table = simulate(20)
    exact = evaluate(table).metrics.mae.value
    assert evaluate(table.astype({"predicted_months": np.float32})).metrics.mae.value == pytest.approx(exact, abs=1e-4)


def test_radiographs_of_one_patient_are_resampled_together(evaluate: Evaluate, simulate: Simulate) -> None:
    metrics = evaluate(simulate(40).assign(patient_id=["a", "b"] * 20)).metrics
    assert metrics.n_patients == 2
    assert evaluate(simulate(40).drop(columns="patient_id")).metrics.n_patients == 40
    assert evaluate(simulate(40).assign(patient_id=None)).metrics.n_patients == 40


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("predicted_months", np.nan, "image-3.*predicted nan"),
        ("predicted_months", np.inf, "image-3.*predicted inf"),
        ("bone_age_months", np.nan, "image-3.*bone age is nan"),
        ("bone_age_months", -1.0, "image-3.*bone age is -1"),
        ("bone_age_months", 241.0, "image-3.*bone age is 241"),
        ("sex", "", "image-3.*sex is ''"),
        ("sex", "male", "image-3.*sex is 'male'"),
        ("image_id", "image-2", "image-2.*more than once"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_and_named(
    evaluate: Evaluate, column: str, value: object, message: str, simulate: Simulate
) -> None:
    table = simulate(10)
    table.loc[3, column] = value
    with pytest.raises(InputError, match=message):
        evaluate(table)


def test_a_missing_column_is_named(evaluate: Evaluate, simulate: Simulate) -> None:
    with pytest.raises(InputError, match="lack the column 'predicted_months'"):
        evaluate(simulate(10).drop(columns="predicted_months"))


def test_an_empty_table_is_refused(evaluate: Evaluate, simulate: Simulate) -> None:
    with pytest.raises(InputError, match="no radiograph"):
        evaluate(simulate(10).iloc[:0])


@pytest.mark.parametrize("damage", ["metrics.json", "predictions.csv", "header", "truncated"])
def test_a_damaged_folder_is_refused_in_one_line(
    evaluate: Evaluate, tmp_path: Path, damage: str, simulate: Simulate
) -> None:
    evaluate(simulate(10)).save_tables(tmp_path)
    if damage == "header":
        (tmp_path / "predictions.csv").write_text("a,b\n1,2\n")
    elif damage == "truncated":
        path = tmp_path / "metrics.json"
        path.write_text(path.read_text()[:200])
    else:
        (tmp_path / damage).unlink()
    with pytest.raises(InputError, match="no evaluation") as caught:
        Evaluation.load(tmp_path)
    assert "\n" not in str(caught.value)
