"""kill -9 at any moment of a training run, from the first import to the last line; what the next start makes of it.

One moment in every test run, and BONE_AGE_FAULT_TRIALS of them (`make faults`: ten), spread over the whole run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import LIGHT, World, write_config

TRIALS = int(os.environ.get("BONE_AGE_FAULT_TRIALS", "1"))
STATE = """
import json
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.governance.anchoring import open_ledger
client = connect()
versions = client.search_model_versions("name = 'bone-age'")
runs = client.search_runs([experiment_id()])
entries = list(open_ledger().entries())
print(json.dumps({
    "versions": [[v.tags["architecture"], v.tags["onnx_sha256"], v.tags["dataset_fingerprint"]] for v in versions],
    "champion": str(client.get_registered_model("bone-age").aliases.get("champion")),
    "test_mae": sorted({r.data.metrics["test_mae"] for r in runs if "test_mae" in r.data.metrics}),
    "running": [r.info.run_id for r in runs if r.info.status == "RUNNING"],
    "promotions": [e.event.value for e in entries if e.event.value == "promoted"],
    "open_intent": open_ledger().open_intent() is not None,
}))
"""


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed."""

    config: Path
    seconds: float
    state: dict[str, Any]


def state_of(world: World) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(world.python(STATE).splitlines()[-1])
    return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, **LIGHT | {"training": LIGHT["training"] | {"epochs": 3}})
    world = World(folder / "home")
    started = time.monotonic()
    done = world.run("train", "--config", config)
    assert done.exit_code == 0, done.err
    return Whole(config, time.monotonic() - started, state_of(world))


@pytest.mark.fault
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_run_that_is_killed_anywhere_ends_as_if_nobody_had(whole: Whole, world: World, trial: int) -> None:
    moment = whole.seconds * (trial + random.random()) / TRIALS
    process = subprocess.Popen(
        [*world.command, "train", "--config", str(whole.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=world.environment,
        cwd="/",
        start_new_session=True,  # with everything it has started
    )
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    said = process.communicate()[1]
    last = said.split("\r")[-1].splitlines()[-1:] or ["nothing yet"]
    print(f"killed after {moment:.1f} of {whole.seconds:.0f} s, it had last said: {last[0][:90]}")

    again = world.run("train", "--config", whole.config)
    assert again.exit_code == 0, again.err
    state = state_of(world)
    assert state["versions"] == whole.state["versions"], "the same bytes, and no version twice"
    assert state["champion"] == whole.state["champion"]
    assert state["test_mae"] == whole.state["test_mae"]
    assert state["promotions"] == whole.state["promotions"]
    assert not state["running"]
    assert not state["open_intent"]
    verified = world.run("audit", "verify")
    assert verified.exit_code == 0, verified.out
