"""A real training that a schedule started, the home looked at afterwards, and what is old removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import empty_databases
from tests.e2e.conftest import LIGHT, World, write_config


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path, str]:
    """A home in which a scheduled run found reason to train one small network."""
    folder = tmp_path_factory.mktemp("scheduled")
    world, config = World(empty_databases.lay_into(folder / "home")), write_config(folder, **LIGHT)
    finished = world.run("schedule", "--once", "--config", config)
    assert finished.exit_code == 0, finished.err
    return world, config, finished.out


def test_a_scheduled_run_trains_for_a_reason_and_the_next_one_finds_none(scheduled: tuple[World, Path, str]) -> None:
    world, config, said = scheduled
    assert "there is no champion: " in said
    assert "models:/bone-age/1 (xception_multi)" in said
    assert len(said.splitlines()) == 1
    again = world.run("schedule", "--once", "--config", config)
    assert (again.exit_code, again.out.rstrip().endswith("no reason to train")) == (0, True), again.out + again.err


def test_doctor_finds_a_trained_home_in_order(scheduled: tuple[World, Path, str]) -> None:
    world, _, _ = scheduled
    finished = world.run("doctor", "--json")
    found = {check["name"]: check for check in json.loads(finished.out)}
    assert finished.exit_code == 0, found
    assert found["ledger"]["state"] == "ok"
    assert found["ledger"]["said"].endswith("ledger, registry and files agree")
    assert found["ZenML"]["state"] == "ok"
    assert "orchestrator default (local)" in found["ZenML"]["said"]


USE_SCHEDULABLE = """
import steps
from bone_age.provenance import PROJECT
from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.utils import source_utils
source_utils.set_custom_source_root(str(PROJECT))
client = Client()
client.create_flavor("tests.schedulable_orchestrator.SchedulableFlavor", StackComponentType.ORCHESTRATOR)
client.create_stack_component("cluster", "schedulable", StackComponentType.ORCHESTRATOR, configuration={})
parts = {StackComponentType.ORCHESTRATOR: "cluster", StackComponentType.ARTIFACT_STORE: "default"}
client.create_stack("cluster", parts)
client.activate_stack("cluster")
"""
SCHEDULED = """
import steps
from bone_age.provenance import PROJECT
from zenml.client import Client
from zenml.utils import source_utils
source_utils.set_custom_source_root(str(PROJECT))
client = Client()
[schedule] = client.list_schedules().items
[run] = client.list_pipeline_runs(pipeline_name="bone-age-retraining").items
print(schedule.name, schedule.cron_expression, schedule.catchup, run.schedule.name, run.status.value)
print(run.steps["retrain_if_due"].output.load())
client.activate_stack("default")
"""


def test_an_orchestrator_that_keeps_schedules_is_given_this_one(scheduled: tuple[World, Path, str]) -> None:
    world, config, _ = scheduled
    world.python(USE_SCHEDULABLE)
    finished = world.run("schedule", "--cron", "0 3 * * 1-5", "--config", config)
    assert finished.exit_code == 0, finished.err
    assert finished.out.splitlines()[-1].startswith(
        "schedule bone-age-tiny: 0 3 * * 1,2,3,4,5, kept by the orchestrator"
    )
    again = world.run("schedule", "--cron", "0 3 * * 1-5", "--config", config)
    assert (again.exit_code, "schedule bone-age-tiny is there already" in again.error_line) == (2, True)
    seconds = world.run("schedule", "--cron", "*/5 0 3 * * 1-5", "--config", config)
    assert seconds.exit_code == 2
    told = world.python(SCHEDULED).splitlines()
    assert told[-2:] == ["bone-age-tiny 0 3 * * 1,2,3,4,5 False bone-age-tiny completed", "no reason to train"]


def test_pruning_everything_leaves_an_audit_trail_that_verifies_and_a_pipeline_that_runs(
    scheduled: tuple[World, Path, str],
) -> None:
    world, config, _ = scheduled
    everything = ("prune", "--keep-days", "0", "--keep-last", "0")
    before = world.run("history", "--json").out
    shown = json.loads(world.run(*everything, "--json").out)
    kinds = {item["kind"] for item in shown["items"]}
    assert {"zenml artifact", "cache"} <= kinds
    images = [item for item in shown["items"] if item["said"].startswith("prepared_images")]
    assert sum(item["bytes"] for item in images) > 90 * 72 * 72
    size = _size(world.home)
    removed = world.run(*everything, "--apply")
    assert removed.exit_code == 0, removed.err
    assert _size(world.home) < size - sum(item["bytes"] for item in images)
    assert world.run("audit", "verify").exit_code == 0
    assert world.run("history", "--json").out == before
    assert json.loads(world.run(*everything, "--json").out)["items"] == []
    trained = world.run("train", "--config", config)
    assert trained.exit_code == 0, trained.err
    assert world.run("audit", "verify").exit_code == 0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
