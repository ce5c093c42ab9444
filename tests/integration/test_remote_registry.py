"""Versions behind a real MLflow server: fetched once, into the home, and gone with the process that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bone_age import registry, tracking
from bone_age.errors import ModelError
from bone_age.mlflow_connection import connect
from bone_age.serving.bundle import load_bundle
from bone_age.settings import Home
from bone_age.tracking import PipelineRun
from tests.integration.test_mlflow_serving import free_port

PIPELINE = PipelineRun(zenml_run_id="0000-1", name="tiny-run")


@pytest.fixture
def store(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which a server keeps artifacts; nobody else reads it."""
    folder, port = tmp_path / "store", free_port()
    database = f"sqlite:///{home.root / 'mlflow.db'}"
    arguments = ["--backend-store-uri", database, "--artifacts-destination", folder.as_uri(), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), *arguments]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where MLflow looks for uvicorn
    environment = os.environ | {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < until, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        connect()
        yield folder
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_a_version_is_fetched_once_into_the_home_and_leaves_nothing_elsewhere(
    store: Path, home: Home, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    with tracking.architecture_run(PIPELINE, "xception_multi") as run_id:
        pass
    version = registry.register_bundle(tiny_bundle, run_id, {"architecture": "xception_multi"}, "tiny")
    _, folder = registry.resolve(f"models:/bone-age/{version}")
    assert load_bundle(folder).onnx_sha256 == load_bundle(tiny_bundle).onnx_sha256
    assert folder.is_relative_to(home.root / "scratch")
    [onnx] = store.rglob("model.onnx")
    onnx.unlink()
    assert registry.resolve(f"models:/bone-age/{version}")[1] == folder
    assert list(elsewhere.iterdir()) == []


def test_a_server_that_follows_promotions_fills_no_disk(
    store: Path, home: Home, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_FETCHED_KEPT", 1)
    folders = []
    for seed in (1, 2):
        with tracking.architecture_run(PIPELINE, f"xception_multi_{seed}") as run_id:
            pass
        version = registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
        folders.append(registry.resolve(f"models:/bone-age/{version}")[1])
    assert [folder.exists() for folder in folders] == [False, True]
    again = registry.resolve("models:/bone-age/1")[1]
    assert load_bundle(again).onnx_sha256 == load_bundle(tiny_bundle).onnx_sha256
    assert not folders[1].exists()


def test_files_that_are_gone_are_said_in_one_line(store: Path, home: Home, tiny_bundle: Path) -> None:
    with tracking.architecture_run(PIPELINE, "xception_multi") as run_id:
        pass
    version = registry.register_bundle(tiny_bundle, run_id, {}, "tiny")
    [onnx] = store.rglob("model.onnx")
    for file in onnx.parent.iterdir():
        file.unlink()
    with pytest.raises(ModelError, match=f"^models:/bone-age/{version}: [^\n]+$"):
        load_bundle(registry.resolve(f"models:/bone-age/{version}")[1])
