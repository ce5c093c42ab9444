"""What pruning takes away, and that it never takes what the ledger refers to."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from bone_age import registry
from bone_age.errors import BusyError
from bone_age.governance.entries import Event
from bone_age.governance.history import reign_json, reigns_on
from bone_age.housekeeping.retention import Item, Plan, Retention, plan, remove
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.one_process import alone
from bone_age.scratch import scratch_folder
from bone_age.settings import Home
from tests.ledgers import new
from tests.worlds import World

ALL = Retention(keep_days=0, keep_last=0)


def planned(retention: Retention = ALL) -> Plan:
    return plan(Home(), retention, None)


def going(kind: str, retention: Retention = ALL) -> set[str]:
    return {item.name for item in planned(retention).items if item.kind == kind}


def prune(retention: Retention = ALL) -> None:
    found = planned(retention)
    if found.items:
        remove(Home(), found, None)


def run(days: float = 100, artifact: str = "", **tags: str) -> str:
    """A finished run that started and ended so many days ago."""
    client = connect()
    started = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)
    run_id = client.create_run(experiment_id(), start_time=started, tags=tags).info.run_id
    if artifact:
        client.log_text(run_id, artifact, "some/artifact.txt")
    client.set_terminated(run_id, end_time=started + 1000)
    return str(run_id)


def child(parent: str, **more: object) -> str:
    return run(**{"mlflow.parentRunId": parent} | more)  # type: ignore[arg-type]


def is_there(run_id: str) -> bool:
    return bool(connect().get_run(run_id).info.lifecycle_stage == "active")


def test_the_ledgers_versions_and_runs_stay_and_an_unfinished_attempt_goes(world: World) -> None:
    world.crown(1, 2)
    attempt = run(artifact="much")
    recorded = {facts.run_id for facts in registry.all_versions()}
    assert going("version") == set()
    assert going("run") == {attempt}
    prune()
    assert not is_there(attempt)
    assert all(is_there(run_id) for run_id in recorded)
    assert world.findings() == []


def test_a_run_that_any_entry_names_anywhere_stays(world: World) -> None:
    in_a_field, in_details, in_a_reason, unnamed = run(), run(), run(), run()
    world.ledger.append(
        new(run_id=in_a_field, details={"deep": [{"runs": f"{in_details},x"}]}, reason=f"({in_a_reason})")
    )
    assert going("run") == {unnamed}


def test_what_a_kept_run_names_stays_with_it_above_below_and_beside(world: World) -> None:
    grandparent = run()
    parent = child(grandparent)
    resumed, compared = run(), run()
    leaf = child(parent, resumed_from=resumed, models_of_runs=f"{compared},{resumed}")
    sibling = child(parent)
    world.ledger.append(new(run_id=leaf))
    assert going("run") == {sibling}


def test_young_runs_and_the_newest_with_all_below_them_stay(world: World) -> None:
    old = run(100)
    newer = run(50)
    below = child(newer, days=200)
    young = run(1)
    assert going("run", Retention(keep_days=90, keep_last=0)) == {old, below}
    assert going("run", Retention(keep_days=10, keep_last=2)) == {old}
    assert going("run", Retention(keep_days=0, keep_last=0)) == {old, newer, below, young}


def test_a_version_that_the_ledger_does_not_know_goes_unless_it_has_an_alias(world: World) -> None:
    world.crown(1)
    run_id, source = registry.version_facts(2).run_id, connect().get_model_version("bone-age", "2").source
    for _ in range(2):
        connect().create_model_version("bone-age", source, run_id)
    registry.set_alias("challenger", 5)
    time.sleep(0.01)
    assert going("version") == {"6"}
    prune()
    with pytest.raises(MlflowException):
        connect().get_model_version("bone-age", "6")
    assert connect().get_model_version("bone-age", "5").version


def test_showing_changes_nothing_and_removing_is_recorded_before_it_is_done(world: World) -> None:
    attempt = run(artifact="x" * 1000)
    head = world.ledger.head()
    shown = planned(Retention(keep_days=30, keep_last=0))
    assert [(item.name, item.size) for item in shown.items] == [(attempt, 1000)]
    assert world.ledger.head() == head
    assert is_there(attempt)

    folder = Path(connect().get_run(attempt).info.artifact_uri.removeprefix("file://"))
    assert (folder / "some" / "artifact.txt").is_file()
    number = remove(Home(), shown, None)
    entry = world.ledger.entry(number)
    assert entry is not None
    assert entry.event is Event.PRUNED
    assert entry.details == {"removed": [["run", attempt]], "keep_days": 30, "keep_last": 0}
    assert not folder.exists() or not list(folder.rglob("*.txt"))
    assert world.ledger.verify() == []


def test_one_that_was_cut_short_is_finished_by_the_next(world: World) -> None:
    first, second = run(), run()
    found = planned()
    broken = Plan(found.retention, (found.items[0], Item("zenml artifact", "gone", 1, "?"), found.items[1]), 0)
    with pytest.raises(Exception, match="zenml artifact gone cannot be removed"):
        remove(Home(), broken, None)
    assert [is_there(one) for one in (first, second)].count(True) == 1
    prune()
    assert not is_there(first)
    assert not is_there(second)


def test_old_caches_go_and_a_living_processs_scratch_stays(world: World) -> None:
    home = world.home
    own = scratch_folder().parent
    for name in (
        "checkpoints/old",
        "checkpoints/new",
        "features/old",
        "scratch/of-a-killed-one",
    ):
        folder = home.root / name
        folder.mkdir(parents=True)
        (folder / "state.npz").write_bytes(b"x" * 100)
        if "new" not in name:
            past = time.time() - 40 * 86400
            for path in (folder / "state.npz", folder):
                os.utime(path, (past, past))
    for path in (*own.rglob("*"), own):
        os.utime(path, (past, past))
    found = planned(Retention(keep_days=30, keep_last=0))
    caches = {item.name for item in found.items if item.kind == "cache"}
    assert caches == {"checkpoints/old", "features/old", "scratch/of-a-killed-one"}
    assert all(item.size >= 100 for item in found.items)
    remove(Home(), found, None)
    assert not (home.root / "checkpoints" / "old").exists()
    assert (home.root / "checkpoints" / "new" / "state.npz").is_file()


def test_nothing_is_removed_while_a_training_is_at_work(world: World) -> None:
    attempt = run()
    found = planned()
    with alone(world.home.root / "training.lock", "training"), pytest.raises(BusyError, match="another training"):
        remove(Home(), found, None)
    assert is_there(attempt)


_retentions = st.builds(Retention, keep_days=st.integers(0, 120), keep_last=st.integers(0, 6))
_runs = st.lists(st.tuples(st.floats(0, 150), st.booleans(), st.booleans()), max_size=4)


def test_after_any_pruning_the_audit_verifies_and_history_is_whole(world: World) -> None:
    world.crown(1, 2)
    world.crown(3)
    referred = {facts.run_id for facts in registry.all_versions()}
    history = [reign_json(world.ledger, reign) for reign in reigns_on(world.ledger, None)]

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_retentions, _runs)
    def holds(retention: Retention, runs: list[tuple[float, bool, bool]]) -> None:
        parent = None
        for days, is_child, is_named in runs:
            parent = child(parent, days=days) if is_child and parent else run(days)
            if is_named:
                world.ledger.append(new(details={"about": parent}))
                referred.add(parent)
        before = {row["number"]: row for row in world.ledger.rows()}
        prune(retention)
        assert world.findings() == []
        assert [reign_json(world.ledger, reign) for reign in reigns_on(world.ledger, None)] == history
        after = {row["number"]: row for row in world.ledger.rows()}
        assert {number: after[number] for number in before} == before
        assert all(is_there(run_id) for run_id in referred)

    holds()
