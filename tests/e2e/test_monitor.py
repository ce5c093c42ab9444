"""Monitoring as a ZenML run, for orchestrators that keep schedules."""

from __future__ import annotations

import json
from pathlib import Path

from bone_age.serving.bundle import load_bundle
from tests.e2e.conftest import World
from tests.monitored import drawn, sample, write
from tests.worlds import write_small_bundle


def test_drift_that_a_pipeline_found_ends_the_command_with_3_and_its_run_well(world: World, tmp_path: Path) -> None:
    folder = write_small_bundle(tmp_path / "model", 5.0, held_out=sample(drawn(400, 1))).folder
    digest = load_bundle(folder).digest
    write(f"sqlite:///{world.home / 'predictions.db'}", drawn(150, 2, digest=digest, brighter=30))
    finished = world.run("monitor", "--model", folder, "--out", tmp_path / "out", "--pipeline", "--json")
    assert finished.exit_code == 3, finished.err
    told, logged = json.loads(finished.out), world.logged_run("monitoring", "monitoring")
    assert told["verdict"] == "drift"
    assert told["figures"]["grey_mean"]["is_drift"]
    assert (tmp_path / "out" / "monitoring.html").is_file()
    assert (logged["status"], logged["tags"]["verdict"]) == ("FINISHED", "drift")
    assert logged["metrics"]["drift_grey_mean"] == told["figures"]["grey_mean"]["value"]
    assert set(logged["files"]) == {"monitoring/monitoring.html", "monitoring/monitoring.json"}
