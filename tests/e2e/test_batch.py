"""A batch as a ZenML run: its lineage is in MLflow, and its answers are those without ZenML."""

from __future__ import annotations

import json
from pathlib import Path

from bone_age.serving.references import REFERENCE_MODEL
from tests.batch_data import draw, write_manifest
from tests.e2e.conftest import World


def test_a_batch_as_a_pipeline_answers_the_same_and_records_its_lineage(world: World, tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", [("0.png", "F"), ("gone.png", "M"), ("1.png", "M")])
    for number in range(2):
        draw(data / f"{number}.png", number)
    plain = world.run("batch", "--data", data, "--out", tmp_path / "plain.csv", "--json")
    assert plain.exit_code == 0, plain.err
    finished = world.run("batch", "--data", data, "--out", tmp_path / "a.csv", "--pipeline", "--json")
    assert finished.exit_code == 0, finished.err
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    told, lineage = json.loads(finished.out), world.logged_run("batch", "batch")
    facts = json.loads((REFERENCE_MODEL / "model.json").read_text())
    assert lineage["status"] == "FINISHED"
    assert lineage["tags"]["batch_model"] == "reference"
    assert lineage["tags"]["model_digest"] == told["model_digest"] == json.loads(plain.out)["model_digest"]
    assert lineage["tags"]["dataset_fingerprint"] == facts["dataset_fingerprint"]
    assert lineage["tags"]["input_fingerprint"] == told["input_fingerprint"]
    assert (lineage["metrics"]["rows"], lineage["metrics"]["answered"], lineage["metrics"]["failed_rows"]) == (3, 2, 1)
    assert lineage["metrics"]["seconds"] > 0
    assert set(lineage["files"]) == {"batch/a.csv", "batch/a.failed.csv", "batch/report.json"}


def test_a_batch_pipeline_that_cannot_work_is_refused_in_one_line(world: World, tmp_path: Path) -> None:
    finished = world.run("batch", "--data", tmp_path, "--out", tmp_path / "a.csv", "--pipeline")
    assert finished.exit_code == 2
    assert "needs --sex" in finished.error_line
