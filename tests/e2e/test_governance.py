"""A version waits for a person, is promoted, answers, and leaves a trail that shows who tampered with it."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests import empty_databases
from tests.e2e.conftest import LIGHT, Finished, World, write_config

WIDE = {
    "test_mae_months": 500, "test_mae_upper_months": 500, "share_of_baseline_mae": 50, "test_r2": -500,
    "subgroup_rows": 2, "subgroup_mae_months": 500, "subgroup_bias_months": 500, "large_errors_share": 1,
    "coverage_tolerance": 0.89, "subgroup_coverage": 0.0001, "onnx_difference_months": 5,
    "robustness_months": {"marker": 500},
}  # fmt: skip
MANUAL = {"promotion": "manual", "robustness_rows": 6}
APPROVED = ("--approver", "A. Roe", "--reason", "looked at the report")
MOVE_ALIAS = """
from bone_age.mlflow_connection import connect
connect().delete_registered_model_alias("bone-age", "champion")
"""


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path, Finished]:
    """A home with one Xception that passed its gates under a manual policy; and that policy."""
    folder = tmp_path_factory.mktemp("waiting")
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(MANUAL | {"synthetic_bounds": WIDE}))
    config = write_config(folder, **LIGHT)
    world = World(empty_databases.lay_into(folder / "home"))
    trained = world.run("train", "--config", config, "--policy", policy)
    assert trained.exit_code == 0, trained.err
    return world, policy, trained


@pytest.mark.fault
def test_a_version_waits_is_promoted_and_its_trail_shows_tampering(
    waiting: tuple[World, Path, Finished], tmp_path: Path
) -> None:
    world, policy, trained = waiting
    assert "challenger" in trained.out.splitlines()[-1]
    assert "no champion yet" in world.run("history").out
    image = next(world.home.rglob("data/**/*.png"))

    unexplained = world.run("promote", "--version", "1", "--approver", "A. Roe", "--reason", " ", "--policy", policy)
    assert unexplained.exit_code == 2
    assert "--reason is empty" in unexplained.error_line

    under_another_policy = world.run("promote", "--version", "1", *APPROVED)
    assert under_another_policy.exit_code == 3
    assert "stale: measured with policy" in under_another_policy.out

    promoted = world.run("promote", "--version", "1", *APPROVED, "--policy", policy, "--pipeline")
    assert promoted.exit_code == 0, promoted.err
    (answer,) = json.loads(world.run("predict", image, "--sex", "F", "--json").out)
    assert answer["model"] == "models:/bone-age/1"

    (reign,) = json.loads(world.run("history", "--on", f"{datetime.now(UTC):%Y-%m-%d}", "--json").out)
    assert (reign["version"], reign["approver"], reign["reason"]) == (1, "A. Roe", "looked at the report")
    assert json.loads(world.run("history", "--on", "2020-01-01", "--json").out) == []

    clean = world.run("audit", "verify")
    assert clean.exit_code == 0, clean.out
    world.python(MOVE_ALIAS)
    tampered = world.run("audit", "verify")
    assert tampered.exit_code == 1
    assert tampered.out.strip() == "alias champion: points to version none, the ledger says 1"
    nowhere = world.run("rollback", *APPROVED, "--policy", policy)
    assert nowhere.exit_code == 2
    assert "put back to version 1" in nowhere.err
    assert world.run("audit", "verify").exit_code == 0

    bundle = tmp_path / "bundle.zip"
    made = world.run("audit", "bundle", "--version", "1", "--out", bundle)
    assert made.exit_code == 0, made.err
    names = zipfile.ZipFile(bundle).namelist()
    assert any(name.endswith("verify.py") for name in names)


def test_a_second_run_finds_its_model_serving_already(waiting: tuple[World, Path, Finished]) -> None:
    world, policy, _ = waiting
    again = world.run("train", "--config", world.home.parent / "config.yaml", "--policy", policy)
    assert again.exit_code == 0, again.err
    assert "already" in again.out.splitlines()[-1]
    assert "epoch" not in again.err
