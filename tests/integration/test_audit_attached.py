"""What an auditor is sent to in MLflow is under the ledger's seal: a changed artifact, metric or run is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bone_age import registry
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.audit import verify
from bone_age.governance.audit_bundle.bundle import attach
from bone_age.mlflow_connection import connect
from tests.audit_world import AuditWorld, audit_world

Undo = Callable[[], object]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditWorld]:
    with audit_world(tmp_path_factory) as made:
        attach(made.promoted)
        attach(made.promoted)  # which changes nothing
        yield made


def findings(world: AuditWorld) -> list[str]:
    """Those about the version; the world's own decision tags are not what is asked here."""
    return [line for line in verify(open_ledger()) if line.startswith(f"version {world.promoted}: ")]


def runs(world: AuditWorld) -> dict[str, str]:
    own = connect().get_run(registry.version_facts(world.promoted).run_id)
    return {"own": own.info.run_id, "pipeline": own.data.tags["mlflow.parentRunId"]}


def artifact(world: AuditWorld, run: str, path: str) -> Path:
    return Path(urlsplit(str(connect().get_run(runs(world)[run]).info.artifact_uri)).path) / path


def changed(file: Path) -> Undo:
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    return lambda: file.write_bytes(content)


def removed(file: Path) -> Undo:
    content = file.read_bytes()
    file.unlink()
    return lambda: file.write_bytes(content)


def test_an_attached_bundle_alone_is_no_finding(world: AuditWorld) -> None:
    assert findings(world) == []


@pytest.mark.parametrize(
    ("run", "path", "named"),
    [
        ("own", "evaluation/test/metrics.json", "evaluation/test/metrics.json"),
        ("own", "evaluation/validation/predictions.csv", "evaluation/validation/predictions.csv"),
        ("own", "environment.json", "environment/environment.json"),
        ("own", "preprocessing/quarantine.csv", "preprocessing/quarantine.csv"),
        ("pipeline", "data_validation/data_docs.html", "data_validation/data_docs.html"),
        ("pipeline", "splits/manifest.csv", "dataset/manifest.csv"),
        ("pipeline", "report/report.json", "report/report.json"),
    ],
)
def test_a_changed_or_removed_artifact_is_found(run: str, path: str, named: str, world: AuditWorld) -> None:
    file = artifact(world, run, path)
    undo = changed(file)
    assert findings(world) == [f"version {world.promoted}: {named} is not what its audit bundle holds"]
    undo()
    undo = removed(file)
    assert findings(world) == [f"version {world.promoted}: {named} of its audit bundle no longer with its runs"]
    undo()
    assert findings(world) == []


def test_a_bundle_that_was_exchanged_is_found_also_with_its_tag(world: AuditWorld) -> None:
    version, file = world.promoted, artifact(world, "own", f"audit/bone-age-{world.promoted}.zip")
    undo = changed(file)
    assert findings(world) == [f"version {version}: audit/bone-age-{version}.zip is not what the ledger recorded"]
    undo()
    undo = removed(file)
    assert findings(world) == [f"version {version}: audit/bone-age-{version}.zip is gone"]
    undo()
    before = registry.version_facts(version).tags["audit_bundle_sha256"]
    registry.set_version_tag(version, "audit_bundle_sha256", "66" * 32)
    said = f"tag audit_bundle_sha256 is {'66' * 32}, the ledger recorded {before}"
    assert findings(world) == [f"version {version}: {said}"]
    registry.set_version_tag(version, "audit_bundle_sha256", before)


def test_a_pipeline_run_that_was_deleted_is_found(world: AuditWorld) -> None:
    parent = runs(world)["pipeline"]
    connect().delete_run(parent)
    assert f"version {world.promoted}: the pipeline run {parent} above its run is deleted" in findings(world)
    connect().restore_run(parent)
    assert findings(world) == []


def test_another_trainer_on_the_run_is_found(world: AuditWorld) -> None:
    run = runs(world)["own"]
    before = connect().get_run(run).data.tags.get("trained_by")
    connect().set_tag(run, "trained_by", "Somebody")
    said = f"its run says it was trained by Somebody, its audit bundle {before}"
    assert findings(world) == [f"version {world.promoted}: {said}"]
    connect().set_tag(run, "trained_by", before) if before else connect().delete_tag(run, "trained_by")


def test_a_decision_that_the_ledger_does_not_hold_is_found(world: AuditWorld) -> None:
    before = registry.version_facts(world.promoted).tags.get("decision", "promoted: as judged")
    registry.set_version_tag(world.promoted, "decision", "awaits approval: all 28 gates hold")
    assert any("tag decision says 'awaits approval', the ledger recorded" in line for line in findings(world))
    registry.set_version_tag(world.promoted, "decision", before)


def test_a_better_metric_that_was_logged_later_is_found(world: AuditWorld) -> None:
    connect().log_metric(runs(world)["own"], "test_mae", 1.0)
    assert findings(world) == [f"version {world.promoted}: metrics.json is not what its audit bundle holds"]
