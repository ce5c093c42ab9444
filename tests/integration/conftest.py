"""A world of registered versions for tests of who becomes champion; see `tests.worlds`."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from bone_age.settings import Home
from tests.worlds import ARCHITECTURES, World, copy_world, register


@pytest.fixture(scope="session")
def template_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(folder / "home"))
        for name in ("MLFLOW_TRACKING_URI", "BONE_AGE_DATABASE_URL"):
            patch.delenv(name, raising=False)
        for version, architecture in ARCHITECTURES.items():
            assert register(architecture, float(version), folder / f"scratch-{version}") == version
    mlflow.end_run()
    return folder / "home"


@pytest.fixture
def world(template_world: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> World:
    """Four versions, the last of them a ResNet-50; none has evidence, none is champion."""
    monkeypatch.delenv("BONE_AGE_DATABASE_URL", raising=False)
    copy_world(template_world, home.root)
    return World(home)
