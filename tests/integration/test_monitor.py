"""`bone-age monitor` over a real log, ledger and MLflow: what it says, records and exits with."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bone_age import registry
from bone_age.governance.entries import Event
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.monitoring.monitor import monitor
from bone_age.monitoring.watching import Verdict
from bone_age.one_process import alone
from bone_age.scheduling.drift import last_verdict
from bone_age.settings import Home
from tests.monitored import drawn, sample, write, write_findings
from tests.worlds import World, register


@pytest.fixture
def watched(world: World, tmp_path: Path) -> World:
    """A world whose champion, version 5, carries a sample of held-out radiographs."""
    assert register("xception_multi", 5.0, tmp_path / "scratch", sample(drawn(800, 1))) == 5
    world.crown(5)
    return world


@pytest.fixture
def digest(watched: World) -> str:
    return registry.version_facts(5).model_digest


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """The real command in a process of its own."""
    import os

    command = [sys.executable, "-m", "bone_age.cli", "monitor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def looks_in_mlflow() -> list[Any]:
    return connect().search_runs([experiment_id()], "tags.kind = 'monitoring'", order_by=["attributes.start_time ASC"])


def test_drift_ends_with_3_and_is_reported_recorded_and_read_by_the_scheduler(
    watched: World, digest: str, tmp_path: Path
) -> None:
    write(Home().prediction_log_url, drawn(300, 2, digest=digest, brighter=20, read_share=0.4))
    code, said, err = run("--out", str(tmp_path / "out"))
    assert (code, err) == (3, "")
    assert said.startswith("drift: grey_mean ")
    assert "300 answers of models:/bone-age/5" in said
    verdict = last_verdict(watched.ledger)
    assert verdict is not None
    assert verdict.drifted
    assert verdict.said.startswith("grey_mean ")
    document = json.loads((tmp_path / "out" / "monitoring.json").read_text())
    assert [name for name, one in document["figures"].items() if one["is_drift"]] == ["grey_mean"]
    assert document["readers"]["overall"]["mae"]["lo"] < 6.4 < document["readers"]["overall"]["mae"]["hi"]
    page = (tmp_path / "out" / "monitoring.html").read_text()
    assert "grey_mean (drift)" in page
    assert "://" not in page
    assert 'bone_age_drift_value{figure="grey_mean"}' in (tmp_path / "out" / "monitoring.prom").read_text()
    (logged,) = looks_in_mlflow()
    assert (logged.info.status, logged.data.tags["verdict"]) == ("FINISHED", "drift")
    assert logged.data.metrics["drift"] == 1
    assert logged.data.metrics["drift_grey_mean"] > logged.data.metrics["drift_grey_mean_bound"]
    assert {file.path for file in connect().list_artifacts(logged.info.run_id, "monitoring")} == {
        "monitoring/monitoring.html", "monitoring/monitoring.json",
    }  # fmt: skip
    assert watched.findings() == []


def test_without_drift_it_ends_with_0_and_clears_what_was_recorded(watched: World, digest: str) -> None:
    write(
        Home().prediction_log_url, drawn(300, 2, digest=digest, brighter=20, newest=datetime.now(UTC) - timedelta(15))
    )
    assert monitor(Home()).look.verdict is Verdict.DRIFT
    write(Home().prediction_log_url, drawn(300, 3, digest=digest))
    code, said, _ = run("--json")
    assert (code, json.loads(said)["verdict"], json.loads(said)["answers"]) == (0, "no drift", 600)
    verdict = last_verdict(watched.ledger)
    assert verdict is not None
    assert not verdict.drifted


@pytest.mark.parametrize("n", [0, 40])
def test_too_few_answers_are_no_verdict_and_clear_nothing(watched: World, digest: str, n: int, tmp_path: Path) -> None:
    write(Home().prediction_log_url, drawn(n, 2, digest=digest)) if n else None
    monitored = monitor(Home(), out=tmp_path / "out")
    assert monitored.look.verdict is Verdict.NONE
    assert monitored.look.said.startswith(f"{n} answers of models:/bone-age/5 since")
    assert list(watched.ledger.entries(events=(Event.MONITORED,))) == []
    assert "drift" not in looks_in_mlflow()[0].data.metrics
    assert "bone_age_drift " not in (tmp_path / "out" / "monitoring.prom").read_text()


def test_answers_of_other_versions_are_left_aside(watched: World, digest: str) -> None:
    others = drawn(400, 2, digest="cd" * 32, model="models:/bone-age/4", brighter=60)
    write(Home().prediction_log_url, others + drawn(200, 3, digest=digest))
    found = monitor(Home()).look
    assert (found.verdict, found.window.others) == (Verdict.NO_DRIFT, {"models:/bone-age/4": 400})


def test_refusals_alone_are_drift_where_nothing_is_answered_any_more(watched: World, digest: str) -> None:
    write_findings(Home().prediction_log_url, "refused_unlike_training", 150, digest)
    found = monitor(Home()).look
    assert [one.name for one in found.drifted] == ["refused_unlike_training"]
    assert "0 answers of models:/bone-age/5 and 150 refusals" in found.said


def test_readers_who_disagree_are_drift(watched: World, digest: str) -> None:
    answers = drawn(300, 2, digest=digest, read_share=0.5, reader_offset_months=8)
    write(Home().prediction_log_url, answers)
    names = {one.name for one in monitor(Home()).look.drifted}
    assert {"reader_mae_months", "reader_bias_months"} <= names <= {
        "reader_mae_months", "reader_bias_months", "reader_outside_interval",
    }  # fmt: skip


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_days_are_counted_in_utc_wherever_it_runs(watched: World, digest: str, zone: str) -> None:
    now = datetime.now(UTC)
    inside = [replace(one, time=now - timedelta(hours=23)) for one in drawn(150, 2, digest=digest)]
    outside = [replace(one, time=now - timedelta(hours=25)) for one in drawn(150, 3, digest=digest)]
    write(Home().prediction_log_url, inside + outside)
    code, said, _ = run("--json", "--days", "1", TZ=zone)
    assert (code, json.loads(said)["answers"]) == (0, 150)


@pytest.mark.fault
def test_a_database_that_is_gone_is_one_line_and_1(watched: World) -> None:
    gone = "postgresql://reader:secret-word@127.0.0.1:9/none?connect_timeout=2"
    code, said, err = run(BONE_AGE_DATABASE_URL=gone)
    assert (code, said) == (1, "")
    assert err.count("\n") == 1
    assert "does not answer" in err
    assert "secret-word" not in err


@pytest.mark.fault
def test_the_second_of_two_monitors_says_so(watched: World) -> None:
    with alone(Home().root / "monitoring.lock", "monitoring"):
        code, _, err = run()
    assert code == 1
    assert "another monitoring" in err


def test_a_model_from_before_there_was_monitoring_says_what_to_do(world: World) -> None:
    world.crown(1)
    code, _, err = run()
    assert code == 2
    assert "models:/bone-age/1: carries no sample of held-out radiographs" in err
    assert "train and promote a version" in err
    assert err.count("\n") == 1


def test_a_version_that_is_not_champion_is_looked_at_but_not_recorded(watched: World, digest: str) -> None:
    watched.crown(1)
    write(Home().prediction_log_url, drawn(300, 2, digest=digest, brighter=20))
    code, said, _ = run("--model", "models:/bone-age/5")
    assert code == 3
    assert "entry" not in said
    assert list(watched.ledger.entries(events=(Event.MONITORED,))) == []


def test_a_log_of_an_earlier_release_gets_the_table_it_lacks(watched: World, digest: str) -> None:
    write(Home().prediction_log_url, drawn(150, 2, digest=digest))
    with closing(sqlite3.connect(Home().root / "predictions.db")) as database, database:
        database.execute("DROP TABLE bone_age_findings")
    assert monitor(Home()).look.verdict is Verdict.NO_DRIFT
