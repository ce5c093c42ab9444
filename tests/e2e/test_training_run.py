"""One command from data to champion, and everything an auditor follows afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Finished, World, write_config

MakeConfig = Callable[..., Path]

ARCHITECTURES = {"xception_single", "xception_multi", "resnet50_single", "resnet50_multi"}
ABLATION = "xception_multi_clahe_off"
CONTRACT_TAGS = {
    "architecture", "inputs", "dataset_fingerprint", "preprocessing_digest", "policy_digest", "git_commit", "git_dirty",
    "lock_digest", "seed", "zenml_run_id", "onnx_sha256",
}  # fmt: skip

READ_MLFLOW = """
import json
from bone_age.mlflow_connection import connect, experiment_id
client = connect()
runs = client.search_runs([experiment_id()])
versions = client.search_model_versions("name = 'bone-age'")
aliases = client.get_registered_model("bone-age").aliases
def files(run_id, path=None):
    for item in client.list_artifacts(run_id, path):
        yield from files(run_id, item.path) if item.is_dir else [item.path]
print(json.dumps({
    "runs": [
        {"id": r.info.run_id, "name": r.info.run_name, "status": r.info.status, "tags": r.data.tags,
         "metrics": r.data.metrics, "params": r.data.params, "artifacts": sorted(files(r.info.run_id)),
         "inputs": [{t.key: t.value for t in i.tags} for i in r.inputs.dataset_inputs]}
        for r in runs],
    "versions": {v.version: {"tags": v.tags, "run_id": v.run_id} for v in versions},
    "aliases": aliases}))
"""


@pytest.fixture(scope="module")
def trained_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Finished]:
    """A home in which the tiny pipeline has run once: all four architectures, and one of them without CLAHE."""
    folder = tmp_path_factory.mktemp("trained")
    world = World(folder / "home")
    finished = world.run("train", "--config", write_config(folder))
    assert finished.exit_code == 0, finished.err
    return world, finished


@pytest.fixture(scope="module")
def records(trained_world: tuple[World, Finished]) -> dict[str, Any]:
    """What MLflow holds after the run."""
    records: dict[str, Any] = json.loads(trained_world[0].python(READ_MLFLOW))
    return records


def nested(records: dict[str, Any]) -> dict[str, dict[str, Any]]:
    runs = [run for run in records["runs"] if run["tags"]["kind"] == "architecture"]
    return {run["tags"]["architecture"]: run for run in runs if run["name"] != ABLATION}


def parent(records: dict[str, Any]) -> dict[str, Any]:
    return next(r for r in records["runs"] if r["tags"]["kind"] == "pipeline")


def test_the_last_lines_name_models_reason_report_and_decision(trained_world: tuple[World, Finished]) -> None:
    out = trained_world[1].out
    assert all(name in out for name in ARCHITECTURES)
    assert "mean for that sex" in out
    assert "SYNTHETIC" in out
    assert "mlflow ui" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("models:/bone-age/")
    assert "test MAE" in last


def test_mlflow_holds_one_parent_and_four_nested_runs(records: dict[str, Any]) -> None:
    assert set(nested(records)) == ARCHITECTURES
    assert len(records["runs"]) == 6  # and that of the ablation
    assert {r["status"] for r in records["runs"]} == {"FINISHED"}
    assert {r["tags"]["mlflow.parentRunId"] for r in nested(records).values()} == {parent(records)["id"]}


def test_nested_runs_hold_parameters_epochs_inputs_and_pictures(records: dict[str, Any]) -> None:
    fingerprint = parent(records)["tags"]["dataset_fingerprint"]
    for run in nested(records).values():
        assert run["params"]["training.epochs"] == "2"
        per_epoch = ("train_loss", "train_mae", "validation_mae", "learning_rate", "images_per_second")
        assert {f"epoch/{name}" for name in per_epoch} <= set(run["metrics"])
        assert {"test_mae", "test_mae_lo", "test_mae_hi", "test_r2", "test_coverage_90"} <= set(run["metrics"])
        assert {tags["mlflow.data.context"] for tags in run["inputs"]} == {"train", "validation"}
        assert all(tags["dataset_fingerprint"] == fingerprint for tags in run["inputs"])
        assert {"training/loss_curves.png", "environment.json", "evaluation/test/plots/bland_altman.png"} <= set(
            run["artifacts"]
        )


def test_the_ablation_is_trained_and_reported_and_never_registered(
    trained_world: tuple[World, Finished], records: dict[str, Any]
) -> None:
    (run,) = [run for run in records["runs"] if run["name"] == ABLATION]
    assert run["params"]["preprocessing.clahe"] == "None"
    assert run["id"] not in {version["run_id"] for version in records["versions"].values()}
    report = next(trained_world[0].results.glob("*/report.html")).read_text()
    assert ABLATION in report or "without CLAHE" in report


def test_the_parent_run_holds_manifest_validation_and_report(records: dict[str, Any]) -> None:
    assert {tags["mlflow.data.context"] for tags in parent(records)["inputs"]} == {"train", "validation", "test"}
    assert {
        "config.json",
        "dataset/manifest.csv",
        "data_validation/data_docs.html",
        "data_validation/great_expectations.json",
        "splits/manifest.csv",
        "splits/balance.csv",
        "report/report.html",
        "report/report.json",
    } <= set(parent(records)["artifacts"])


def test_every_model_is_a_version_with_all_its_tags(records: dict[str, Any]) -> None:
    versions = records["versions"]
    assert {v["tags"]["architecture"] for v in versions.values()} == ARCHITECTURES
    for version in versions.values():
        assert set(version["tags"]) >= CONTRACT_TAGS
        assert all(version["tags"][tag] for tag in CONTRACT_TAGS)
        assert version["run_id"] == nested(records)[version["tags"]["architecture"]]["id"]


def test_only_the_best_xception_by_validation_may_be_champion(records: dict[str, Any]) -> None:
    xceptions = ("xception_single", "xception_multi")
    best = min(xceptions, key=lambda name: nested(records)[name]["metrics"]["validation_mae"])
    decision = parent(records)["tags"]["decision"]
    decided = records["versions"][parent(records)["tags"]["decided_version"]]
    assert decided["tags"]["architecture"] == best
    if decision == "promoted":
        assert records["aliases"]["champion"] == parent(records)["tags"]["decided_version"]
    else:
        assert "champion" not in records["aliases"]
        assert "failed" in parent(records)["tags"]["decision_reason"]


def test_the_report_lies_under_results_with_the_same_figures(
    trained_world: tuple[World, Finished], records: dict[str, Any]
) -> None:
    (folder,) = trained_world[0].results.iterdir()
    document = json.loads((folder / "report.json").read_text())
    runs = {run["name"]: run for run in records["runs"]}
    for model in document["models"]:
        assert model["test"]["mae"] == pytest.approx(runs[model["name"]]["metrics"]["test_mae"])
    html = (folder / "report.html").read_text()
    assert "SYNTHETIC" in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_a_second_run_with_nothing_changed_is_served_from_the_cache(
    trained_world: tuple[World, Finished], records: dict[str, Any]
) -> None:
    world, _ = trained_world
    again = world.run("train", "--config", world.home.parent / "config.yaml")
    assert again.exit_code == 0, again.err
    assert "epoch" not in again.err
    after = json.loads(world.python(READ_MLFLOW))
    assert set(after["versions"]) == set(records["versions"])
    assert after["aliases"] == records["aliases"]


def test_pyfunc_in_a_fresh_process_gives_what_evaluation_measured(
    trained_world: tuple[World, Finished], records: dict[str, Any]
) -> None:
    """For every version, through path, bytes and array."""
    world, _ = trained_world
    manifest_rows = world.python(
        "from bone_age.settings import Home; import glob; print(glob.glob(str(Home().datasets / '*'))[0])"
    ).strip()
    code = """
import csv, json, sys, pathlib
import mlflow
from bone_age.mlflow_connection import connect
client = connect()
assert "tensorflow" not in sys.modules
folder = pathlib.Path(sys.argv[1])
differences = []
for version in client.search_model_versions("name = 'bone-age'"):
    model = mlflow.pyfunc.load_model(f"models:/bone-age/{version.version}")
    table = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="evaluation/test/predictions.csv")
    for row in list(csv.DictReader(open(table)))[:4]:
        (path,) = folder.rglob(row["image_id"] + ".png")
        from bone_age.imaging import read_image
        for image in (str(path), path.read_bytes(), read_image(path)):
            answer = model.predict([{"image": image, "sex": row["sex"]}])
            for name, column in (("bone_age_months", "predicted_months"), ("lower_months", "lower_months")):
                differences.append(abs(float(answer[name].iloc[0]) - float(row[column])))
print(json.dumps([len(differences), max(differences)]))
"""
    n, largest = json.loads(world.python(code, manifest_rows).splitlines()[-1])
    assert n == 4 * 4 * 3 * 2
    assert largest < 0.01


def test_the_commands_of_the_lineage_page_work(trained_world: tuple[World, Finished], tmp_path: Path) -> None:
    """Its first Python block, from a version to the images and their digests; then its check of the bytes."""
    world, _ = trained_world
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "follow-a-prediction.md").read_text()
    script = page.split("```python\n", 1)[1].split("```", 1)[0]
    environment = "import os\nfrom bone_age.settings import Home\nos.environ.update(Home().exports())\n"
    out = world.python(environment + script, "models:/bone-age/1")
    assert "data validation: passed" in out
    manifest = Path(out.strip().splitlines()[-1].split(": ", 1)[1])
    check = page.split("<<'PY'\n", 1)[1].split("\nPY\n", 1)[0]
    (folder,) = world.home.glob("data/*/")
    unchanged = world.python(f"import os\nos.chdir({str(folder)!r})\n" + check, manifest)
    assert unchanged.strip() == "90 of 90 images are as they were"
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    spoilt = next(copy.rglob("*.png"))
    spoilt.write_bytes(spoilt.read_bytes() + b"x")
    changed = world.python(f"import os\nos.chdir({str(copy)!r})\n" + check, manifest)
    assert "89 of 90 images are as they were" in changed
    assert spoilt.name in changed


def test_an_age_outside_the_growth_table_costs_the_assessment_and_not_the_answer(
    trained_world: tuple[World, Finished],
) -> None:
    world, _ = trained_world
    image = next(world.home.rglob("data/**/*.png"))
    arguments = ("--sex", "F", "--model", "models:/bone-age/1", "--chronological-age", "230", "--json")
    done = world.run("predict", image, *arguments)
    assert done.exit_code == 0, done.err
    (answer,) = json.loads(done.out)
    assert answer["growth"] is None
    assert "no_growth_assessment" in {warning["code"] for warning in answer["warnings"]}


def test_nothing_that_a_run_leaves_is_a_pickle(trained_world: tuple[World, Finished]) -> None:
    """Neither by name nor by its first bytes: what lies in the stores of ZenML and MLflow can be given away."""
    files = [file for file in trained_world[0].home.rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) > 100
    for file in files:
        assert file.suffix not in (".pkl", ".pickle", ".joblib"), file
        with file.open("rb") as stream:
            start = stream.read(2)
        assert not (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), file


def test_predict_and_evaluate_answer_in_json(trained_world: tuple[World, Finished], tmp_path: Path) -> None:
    world, _ = trained_world
    image = next(world.home.rglob("data/**/*.png"))
    done = world.run("predict", image, image, "--sex", "F", "--model", "models:/bone-age/1", "--json",
                     "--chronological-age", "120")  # fmt: skip
    assert done.exit_code == 0, done.err
    answers = json.loads(done.out)
    assert len(answers) == 2
    assert set(answers[0]) == {
        "image", "bone_age_months", "bone_age", "lower_months", "upper_months", "interval_coverage", "model",
        "model_digest", "dataset_fingerprint", "flip_averaging", "warnings", "growth", "age_consistency",
    }  # fmt: skip
    assert answers[0]["age_consistency"]["spread_months"] >= answers[0]["growth"]["reference_sd_months"]
    assert answers[0]["model"] == "models:/bone-age/1"
    assert "synthetic_model" in {warning["code"] for warning in answers[0]["warnings"]}
    out = tmp_path / "evaluation"
    done = world.run("evaluate", "--model", "models:/bone-age/1", "--data", image.parents[1], "--out", out, "--json")
    assert done.exit_code == 0, done.err
    document = json.loads(done.out)
    assert document == json.loads((out / "metrics.json").read_text())
    assert {"n", "mae", "rmse", "r2", "bias", "p90_ae", "within_12m", "coverage_90", "mae_lo", "mae_hi", "subgroups",
            "dataset_fingerprint", "model"} <= set(document)  # fmt: skip
    header = (out / "predictions.csv").read_text().splitlines()[0]
    assert header == "image_id,sex,bone_age_months,predicted_months,lower_months,upper_months"
    assert list((out / "plots").glob("*.png"))


def epochs_kept(world: World) -> int:
    return sum(len(json.loads(file.read_text())["epochs"]) for file in world.home.glob("checkpoints/*/history.json"))


@pytest.mark.fault
def test_a_killed_training_resumes_and_ends_with_the_same_figures(
    trained_world: tuple[World, Finished], world: World, make_config: MakeConfig
) -> None:
    """kill -9 after the first epoch; the uninterrupted training is the one of `trained_world`."""
    config = make_config(architectures={"xception_multi": {}}, ablations={})
    process = world.start("train", "--config", config)
    deadline = time.monotonic() + 300
    while not epochs_kept(world) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = world.run("train", "--config", config)
    assert done.exit_code == 0, done.err
    assert "epoch 2/2" in done.err
    assert "epoch 1/2" not in done.err
    figures = """
import json
from bone_age.mlflow_connection import connect, experiment_id
runs = connect().search_runs([experiment_id()], "tags.architecture = 'xception_multi'")
print(json.dumps([[r.info.status, r.data.metrics.get("test_mae"), r.data.metrics.get("test_rmse")] for r in runs]))
"""
    resumed = json.loads(world.python(figures).splitlines()[-1])
    (whole,) = json.loads(trained_world[0].python(figures).splitlines()[-1])
    assert sorted(status for status, _, _ in resumed) == ["FINISHED", "KILLED"]
    assert next(row for row in resumed if row[0] == "FINISHED") == whole
    lineage = """
import json
from bone_age.mlflow_connection import connect, experiment_id
client = connect()
(run,) = client.search_runs(
    [experiment_id()], "tags.architecture = 'xception_multi' and attributes.status = 'FINISHED'")
parent = client.get_run(run.data.tags["mlflow.parentRunId"])
folders = [item.path for item in client.list_artifacts(parent.info.run_id)]
print(json.dumps([parent.data.tags["data_validation"], parent.data.tags["dataset_fingerprint"], folders]))
"""
    verdict, fingerprint, folders = json.loads(world.python(lineage).splitlines()[-1])
    assert verdict == "passed", "the resumed run took validation from the cache, and says so all the same"
    assert len(fingerprint) == 64
    assert {"dataset", "data_validation", "splits", "config.json", "report"} <= set(folders)


def test_predict_answers_the_good_images_and_names_the_bad_one(
    trained_world: tuple[World, Finished], tmp_path: Path
) -> None:
    world, _ = trained_world
    good = next(world.home.rglob("data/**/*.png"))
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:200])
    done = world.run("predict", bad, good, "--sex", "M", "--model", "models:/bone-age/1", "--json")
    assert done.exit_code == 2
    assert str(bad) in done.error_line
    assert [answer["image"] for answer in json.loads(done.out)] == [str(good)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--sex", "male"), "male"),
        (("--sex", "M", "--chronological-age", "-3"), "-3"),
        (("--sex", "M", "--model", "models:/bone-age/99"), "99"),
        (("--sex", "M", "--model", "no/such/folder"), "no/such/folder"),
        ((), "--sex"),
    ],
)
def test_predict_refuses_wrong_arguments(
    arguments: tuple[str, ...], named: str, trained_world: tuple[World, Finished]
) -> None:
    world, _ = trained_world
    image = next(world.home.rglob("data/**/*.png"))
    done = world.run("predict", image, *arguments)
    assert done.exit_code == 2
    assert named in done.error_line
