"""MLflow for real: a database and an artifact store in a temporary home."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest

from bone_age import registry, tracking
from bone_age.errors import ModelError
from bone_age.mlflow_connection import connect
from bone_age.serving.bundle import load_bundle
from bone_age.serving.references import load_predictor
from bone_age.settings import Home
from bone_age.tracking import PipelineRun

PIPELINE = PipelineRun(zenml_run_id="0000-1", name="tiny-run")


@pytest.fixture
def run_id(home: Home) -> str:
    with tracking.architecture_run(PIPELINE, "xception_multi") as nested:
        return nested


def test_a_registered_bundle_is_found_verified_and_answers(run_id: str, tiny_bundle: Path) -> None:
    version = registry.register_bundle(tiny_bundle, run_id, {"architecture": "xception_multi"}, "tiny")
    exact, folder = registry.resolve(f"models:/bone-age/{version}")
    assert exact == f"models:/bone-age/{version}"
    assert load_bundle(folder).onnx_sha256 == load_bundle(tiny_bundle).onnx_sha256
    assert load_predictor(exact).name == exact


def test_registering_again_makes_no_second_version(run_id: str, tiny_bundle: Path) -> None:
    first = registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    assert registry.register_bundle(tiny_bundle, run_id, {}, "tiny") == first
    assert len(connect().search_model_versions("name = 'bone-age'")) == 1


def test_the_reference_model_is_imported_once_and_never_as_champion(
    home: Home, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(Path(shutil.copytree(tiny_bundle, tmp_path / "reference")))
    version, is_new = registry.import_reference(bundle)
    assert is_new
    assert registry.import_reference(bundle) == (version, False)
    assert registry.version_by_alias("champion") is None
    assert registry.version_by_alias("challenger") is None
    found = connect().get_model_version("bone-age", str(version))
    assert found.tags["onnx_sha256"] == bundle.onnx_sha256
    metrics = connect().get_run(found.run_id).data.metrics
    assert metrics["test_mae"] == pytest.approx(bundle.facts.test_mae, abs=1e-3)
    assert {"test_mae_lo", "test_mae_hi", "test_r2", "test_coverage_90"} <= set(metrics)
    assert load_predictor(f"models:/bone-age/{version}").bundle.onnx_sha256 == bundle.onnx_sha256


def test_a_failed_upload_registers_nothing(run_id: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlflow.pyfunc, "log_model", full_disk)
    with pytest.raises(OSError, match="No space"):
        registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    assert list(connect().search_model_versions()) == []
    assert list(connect().search_registered_models()) == []


def test_an_alias_moves_and_the_exact_version_is_named(run_id: str, tiny_bundle: Path) -> None:
    assert registry.version_by_alias("champion") is None
    version = registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    registry.set_alias("champion", version)
    exact, _ = registry.resolve("models:/bone-age@champion")
    assert exact == f"models:/bone-age/{version}"


@pytest.mark.parametrize("reference", ["models:/bone-age/99", "models:/bone-age@nobody", "models:/other/1"])
def test_a_version_that_is_not_there_is_refused_by_name(reference: str, run_id: str, tiny_bundle: Path) -> None:
    registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    with pytest.raises(ModelError, match=reference):
        registry.resolve(reference)


def test_a_version_that_was_changed_in_the_store_does_not_load(run_id: str, tiny_bundle: Path) -> None:
    version = registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    _, folder = registry.resolve(f"models:/bone-age/{version}")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: checksum"):
        load_predictor(f"models:/bone-age/{version}")


def test_a_run_that_fails_says_failed_and_one_that_is_interrupted_says_killed(home: Home) -> None:
    with pytest.raises(ValueError, match="broken"), tracking.architecture_run(PIPELINE, "xception_multi") as failed:
        raise ValueError("broken")
    with pytest.raises(KeyboardInterrupt), tracking.architecture_run(PIPELINE, "xception_multi") as killed:
        raise KeyboardInterrupt
    client = connect()
    assert client.get_run(failed).info.status == "FAILED"
    assert client.get_run(killed).info.status == "KILLED"


def test_all_steps_of_a_pipeline_run_share_one_parent(home: Home) -> None:
    with tracking.parent_run(PIPELINE) as first:
        pass
    with tracking.parent_run(PIPELINE) as second:
        pass
    with tracking.parent_run(PipelineRun("0000-2", "another")) as other:
        pass
    assert first == second != other


def test_closing_a_parent_closes_what_a_kill_left_open_below_it(home: Home) -> None:
    with tracking.architecture_run(PIPELINE, "xception_multi") as nested:
        pass
    client = connect()
    client.update_run(nested, "RUNNING")
    tracking.close_parent(PIPELINE.zenml_run_id, "KILLED")
    parent = tracking.find_parent(PIPELINE.zenml_run_id)
    assert parent is not None
    assert parent.info.status == "KILLED"
    assert client.get_run(nested).info.status == "KILLED"
