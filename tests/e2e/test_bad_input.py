"""What users get wrong and what breaks under them: one line, an exit code, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient

from bone_age.data.expectations import validate_dataset
from bone_age.data.loading import load_dataset
from bone_age.data.synthetic import write_synthetic
from bone_age.errors import InputError
from bone_age.settings import DataSettings, SyntheticData, ValidationBounds
from tests import empty_databases
from tests.e2e.conftest import Finished, World

MakeConfig = Callable[..., Path]
N = 60


@pytest.fixture(scope="module")
def good_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound data set of synthetic hands."""
    settings = SyntheticData(n=N, seed=9, height_px=128, width_px=104)
    return write_synthetic(tmp_path_factory.mktemp("good"), settings)


@pytest.fixture
def data(good_data: Path, tmp_path: Path) -> Path:
    """A copy to spoil; `manifest.csv` with `image,sex,bone_age_months,…` and `images/`."""
    return Path(shutil.copytree(good_data, tmp_path / "data"))


def spoil_row(data: Path, row: int, **values: str) -> None:
    """Replace values in one data row of the manifest, counted from 0."""
    lines = (data / "manifest.csv").read_text().splitlines()
    columns = lines[0].split(",")
    cells = lines[row + 1].split(",")
    for name, value in values.items():
        cells[columns.index(name)] = value
    lines[row + 1] = ",".join(cells)
    (data / "manifest.csv").write_text("\n".join(lines) + "\n")


def image_of_row(data: Path, row: int) -> Path:
    lines = (data / "manifest.csv").read_text().splitlines()
    return data / lines[row + 1].split(",")[lines[0].split(",").index("image")]


def nothing_was_made(world: World) -> bool:
    """No version in the registry and no model file in the artifact store."""
    client = MlflowClient(f"sqlite:///{world.home / empty_databases.MLFLOW}")
    return not client.search_model_versions("name = 'bone-age'") and not list(world.home.rglob("model.onnx"))


def train(world: World, config: Path, data: Path) -> Finished:
    return world.run("train", "--config", config, "--data", data)


# The folder and its table ---------------------------------------------------------------------------------------------


def missing_folder(data: Path) -> None:
    shutil.rmtree(data)


def empty_folder(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def missing_column(data: Path) -> None:
    lines = (data / "manifest.csv").read_text().replace("bone_age_months", "age", 1)
    (data / "manifest.csv").write_text(lines)


def empty_csv(data: Path) -> None:
    (data / "manifest.csv").write_text("")


def header_only(data: Path) -> None:
    header = (data / "manifest.csv").read_text().splitlines()[0]
    (data / "manifest.csv").write_text(header + "\n")


def path_leaves_folder(data: Path) -> None:
    shutil.copy(image_of_row(data, 0), data.parent / "outside.png")
    spoil_row(data, 0, image="../outside.png")


# Rows -----------------------------------------------------------------------------------------------------------------


def unknown_sex(data: Path) -> None:
    spoil_row(data, 3, sex="X")


def age_is_nan(data: Path) -> None:
    spoil_row(data, 3, bone_age_months="nan")


def age_is_negative(data: Path) -> None:
    spoil_row(data, 3, bone_age_months="-4")


def age_is_over_240(data: Path) -> None:
    spoil_row(data, 3, bone_age_months="241")


def duplicate_id(data: Path) -> None:
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join([*lines, lines[1]]) + "\n")


def image_is_absent(data: Path) -> None:
    image_of_row(data, 3).unlink()


# More images than the quarantine may hold ----------------------------------------------------------------------------


def spoil_images(data: Path, content: Callable[[bytes], bytes]) -> None:
    for row in range(5):
        file = image_of_row(data, row)
        file.write_bytes(content(file.read_bytes()))


def truncated_images(data: Path) -> None:
    spoil_images(data, lambda png: png[: len(png) // 3])


def zero_bytes(data: Path) -> None:
    spoil_images(data, lambda _: b"")


def text_named_png(data: Path) -> None:
    spoil_images(data, lambda _: b"this is no picture\n" * 20)


def one_pixel(data: Path) -> None:
    spoil_images(data, lambda _: cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes())


def hundred_megapixels(data: Path) -> None:
    bomb = cv2.imencode(".png", np.zeros((11_000, 10_000), np.uint8))[1].tobytes()
    spoil_images(data, lambda _: bomb)


QUICKLY_REFUSED: dict[Callable[[Path], None], tuple[str, ...]] = {
    missing_folder: ("data",),
    empty_folder: ("data",),
    missing_column: ("manifest.csv", "bone_age_months"),
    empty_csv: ("manifest.csv",),
    header_only: ("manifest.csv",),
    path_leaves_folder: ("manifest.csv", "../outside.png"),
}
REFUSED_BY_VALIDATION: dict[Callable[[Path], None], tuple[str, ...]] = {
    unknown_sex: ("manifest.csv:5", "X"),
    age_is_nan: ("manifest.csv:5", "nan"),
    age_is_negative: ("manifest.csv:5", "-4"),
    age_is_over_240: ("manifest.csv:5", "241"),
    duplicate_id: ("more than once",),
    image_is_absent: ("manifest.csv:5",),
    truncated_images: (".png",),
    zero_bytes: (".png", "empty"),
    text_named_png: (".png",),
    one_pixel: ("manifest.csv:2 (1)", "below 64 px"),
    hundred_megapixels: (".png",),
}


@pytest.mark.fault
@pytest.mark.parametrize("spoil", [*QUICKLY_REFUSED, unknown_sex, truncated_images], ids=lambda case: case.__name__)
def test_training_refuses_bad_data_in_one_line(
    spoil: Callable[[Path], None], world: World, data: Path, make_config: MakeConfig
) -> None:
    spoil(data)
    done = train(world, make_config(), data)
    assert done.exit_code == 2, done.err
    for named in (QUICKLY_REFUSED | REFUSED_BY_VALIDATION)[spoil]:
        assert named in done.error_line
    assert nothing_was_made(world)


@pytest.mark.fault
@pytest.mark.parametrize("spoil", REFUSED_BY_VALIDATION, ids=lambda case: case.__name__)
def test_validation_names_file_row_and_value(spoil: Callable[[Path], None], data: Path) -> None:
    """What the pipeline's step does with each of them, without a pipeline around it."""
    spoil(data)
    with pytest.raises(InputError) as refused:
        validate_dataset(load_dataset(DataSettings(source=str(data))), ValidationBounds()).raise_on_errors()
    for named in REFUSED_BY_VALIDATION[spoil]:
        assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_failed_validation_leaves_its_result_and_data_docs_in_mlflow(
    world: World, data: Path, make_config: MakeConfig
) -> None:
    spoil_row(data, 3, bone_age_months="-4")
    assert train(world, make_config(), data).exit_code == 2
    code = """
import json
from bone_age.mlflow_connection import connect, experiment_id
(run,) = connect().search_runs([experiment_id()])
files = [f.path for f in connect().list_artifacts(run.info.run_id, "data_validation")]
print(json.dumps([run.info.status, run.data.tags["data_validation"], files]))
"""
    status, verdict, files = json.loads(world.python(code).splitlines()[-1])
    assert (status, verdict) == ("FAILED", "failed")
    assert {"data_validation/great_expectations.json", "data_validation/data_docs.html"} <= set(files)


# The configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochz": 3}, "epochz"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"architectures": {"vgg16": {}}}, "vgg16"),
        ({"architectures": {"xception_multi": {"epohcs": 1}}}, "epohcs"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_work(
    change: dict[str, Any], named: str, no_world: World, make_config: MakeConfig
) -> None:
    done = no_world.run("train", "--config", make_config(**change))
    assert done.exit_code == 2
    assert named in done.error_line
    assert not no_world.home.exists()


def test_absent_weights_are_refused_before_any_work(no_world: World, make_config: MakeConfig) -> None:
    done = no_world.run("train", "--config", make_config(architectures={"xception_multi": {"weights": "none.h5"}}))
    assert done.exit_code == 2
    assert "weights of xception_multi: none.h5" in done.error_line
    assert not no_world.home.exists()


def test_weights_that_are_no_weights_are_refused_by_name(world: World, make_config: MakeConfig, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_text("no weights")
    done = world.run("train", "--config", make_config(architectures={"xception_multi": {"weights": str(wrong)}}))
    assert done.exit_code == 2
    assert str(wrong) in done.error_line


# The machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault
def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / "file").write_text("")
    done = World(tmp_path / "file" / "home").run("train", "--config", make_config())
    assert done.exit_code == 2
    assert "BONE_AGE_HOME" in done.error_line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB: room for databases, not for a model."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.fault
def test_a_full_disk_ends_the_run_in_one_line_and_registers_nothing(
    small_disk: Path, data: Path, make_config: MakeConfig
) -> None:
    world = World(empty_databases.lay_into(small_disk / "home"))
    done = train(world, make_config(architectures={"xception_multi": {}}, ablations={}), data)
    assert done.exit_code == 1, done.err
    assert "space" in done.error_line or "disk" in done.error_line
    (small_disk / "home" / "training.lock").unlink()
    for leftover in ("checkpoints", "scratch"):
        shutil.rmtree(small_disk / "home" / leftover, ignore_errors=True)
    assert nothing_was_made(world)


@pytest.mark.fault
def test_a_second_training_in_the_same_home_is_refused(world: World, make_config: MakeConfig) -> None:
    config = make_config()
    first = world.start("train", "--config", config)
    try:
        while not (world.home / "training.lock").exists() or not (world.home / "training.lock").read_text():
            assert first.poll() is None
            time.sleep(0.05)
        done = world.run("train", "--config", config)
        assert done.exit_code == 1
        assert f"process {first.pid}" in done.error_line
        while not (world.home / "data").exists():  # the pipeline draws hands
            assert first.poll() is None
            time.sleep(0.05)
    finally:
        first.terminate()
        _, err = first.communicate(timeout=120)
    assert "interrupted" in err.splitlines()[-1]
    assert first.returncode == 1
