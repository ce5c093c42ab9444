"""The command line as users run it: a process of its own, a home of its own, exit code and output looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import empty_databases

# What trains the last block alone is compiled in seconds.
LAST_BLOCK = {
    "xception": {"trainable_from": "block13_sepconv1", "freeze_batchnorm": True},
    "resnet50": {"trainable_from": "conv5_block3_1_conv", "freeze_batchnorm": True},
}

# The smallest run that has every part: four architectures and an ablation, enough validation rows for intervals.
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"source": "synthetic", "synthetic": {"n": 90, "seed": 5, "height_px": 128, "width_px": 104}},
    "split": {"validation": 0.25, "test": 0.25, "warn_band_below": 0},
    "preprocessing": {"image_size_px": 72},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "batchnorm_momentum": 0.6,
        "head_units": 16,
        "huber_delta_months": 40,
    },
    "architectures": {
        "xception_single": LAST_BLOCK["xception"],
        "xception_multi": {},
        "resnet50_single": LAST_BLOCK["resnet50"],
        "resnet50_multi": LAST_BLOCK["resnet50"],
    },
    "evaluation": {"bootstrap_replicates": 200},
    "ablations": {"xception_multi_clahe_off": {"preprocessing": {"clahe": None}}},
}

# One network that learns in seconds, for tests of what comes after a training.
LIGHT: dict[str, Any] = {
    "training": TINY["training"] | {"epochs": 1},
    "architectures": {"xception_multi": LAST_BLOCK["xception"]},
    "ablations": {},
}

# What MLflow holds of the one run of a pipeline whose name begins with argv[1], and of its artifacts below argv[2].
RUN_IN_MLFLOW = """
import json, sys
from bone_age.mlflow_connection import connect, experiment_id
client = connect()
[run] = client.search_runs([experiment_id()], f"tags.zenml_run_name LIKE '{sys.argv[1]}-%'")
files = [file.path for file in client.list_artifacts(run.info.run_id, sys.argv[2])]
print(json.dumps({"status": run.info.status, "tags": run.data.tags, "metrics": run.data.metrics, "files": files}))
"""


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    exit_code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line that says what went wrong; progress may stand before it, a traceback nowhere."""
        assert "Traceback" not in self.err + self.out, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0]


@dataclass(frozen=True)
class World:
    """A home, and the command line in it."""

    home: Path

    @property
    def results(self) -> Path:
        return self.home.parent / f"{self.home.name}-results"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BONE_AGE_", "MLFLOW_", "ZENML_"))}
        return inherited | {"BONE_AGE_HOME": str(self.home), "BONE_AGE_RESULTS": str(self.results), "COLUMNS": "200"}

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "bone_age.cli"]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        command = [*self.command, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self.environment, cwd="/")

    def run(self, *arguments: str | Path) -> Finished:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=900)
        return Finished(process.returncode, out, err)

    def python(self, code: str, *arguments: str | Path) -> str:
        """What a script prints that runs in a fresh process of this world."""
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd="/", timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def logged_run(self, pipeline: str, folder: str) -> dict[str, Any]:
        """Status, tags, metrics and artifacts that MLflow holds of a pipeline's only run."""
        logged: dict[str, Any] = json.loads(self.python(RUN_IN_MLFLOW, pipeline, folder))
        return logged


def write_config(folder: Path, **changes: Any) -> Path:
    """A tiny configuration with some keys replaced."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A home in which nothing happened yet."""
    return World(empty_databases.lay_into(tmp_path / "home"))


@pytest.fixture
def no_world(tmp_path: Path) -> World:
    """A home that is not there."""
    return World(tmp_path / "no-home")


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Path]:
    def make(**changes: Any) -> Path:
        return write_config(tmp_path, **changes)

    return make
