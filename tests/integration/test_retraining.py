"""A scheduled run in a home with a champion: real MLflow, real ledger, real processes; only the training is shorter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import yaml

from bone_age.data.loading import load_dataset
from bone_age.errors import BusyError
from bone_age.governance.entries import Entry, Event
from bone_age.governance.ledger import Ledger
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.one_process import alone
from bone_age.scheduling.cron import Cron
from bone_age.scheduling.drift import last_verdict, record_verdict
from bone_age.scheduling.job import Job
from bone_age.scheduling.keeper import keep
from bone_age.scheduling.reasons import Limits
from bone_age.scheduling.records import Ended, Outcome, last_decided, waits_until
from bone_age.scheduling.retraining import attempt, gather, retrain_if_due
from bone_age.settings import Home, TrainingConfig
from tests.worlds import FINGERPRINT, POLICY, World

REPOSITORY = Path(__file__).parents[2]
DATA = {"synthetic": {"n": 24, "seed": 5, "height_px": 128, "width_px": 104}}


class Trainings:
    """Stands where a training of minutes would: ends as it is told, and counts."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes, self.times = list(outcomes), 0

    def __call__(self, job: Job, home: Home, ledger: Ledger) -> Ended:
        self.times += 1
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.NOT_PROMOTED
        return Ended(outcome, f"the training says {outcome.value}", 1)


@pytest.fixture
def job() -> Job:
    config = TrainingConfig.model_validate({"name": "night", "data": DATA})
    return Job(config=config, policy=POLICY, cron="0 3 * * *")


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A webhook that is really called."""
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("BONE_AGE_ALERT_URLS", f"json://someone:secret-word@127.0.0.1:{server.server_port}/hook")
    yield received
    server.shutdown()
    server.server_close()


def entries(world: World, event: Event) -> list[Entry]:
    return list(world.ledger.entries(events=(event,)))


def decisions_in_mlflow() -> list[dict[str, str]]:
    runs = connect().search_runs([experiment_id()], "tags.kind = 'retraining'", order_by=["attributes.start_time ASC"])
    return [{**run.data.tags, "status": run.info.status} for run in runs]


def test_a_reason_trains_once_and_both_decisions_are_recorded(world: World, job: Job) -> None:
    world.crown(1)
    trainings = Trainings(Outcome.NOT_PROMOTED)
    first, second = (retrain_if_due(job, Home(), trainings) for _ in range(2))
    assert trainings.times == 1
    assert f"are not those of champion version 1, {FINGERPRINT[:12]}: not promoted" in first.said
    assert second.said == "no reason to train"
    told = [(e.details["decision"], sorted(e.details["reasons"])) for e in entries(world, Event.RETRAINING)]
    assert told == [("train", ["new_data"]), ("no reason", [])]
    ended = entries(world, Event.RETRAINED)
    assert [e.details["outcome"] for e in ended] == ["not promoted"]
    assert ended[0].dataset_fingerprint == load_dataset(job.config.data).fingerprint
    seen = [(t["decision"], t["reasons"], t.get("outcome"), t["status"]) for t in decisions_in_mlflow()]
    assert seen == [("train", "new_data", "not promoted", "FINISHED"), ("no reason", "", None, "FINISHED")]
    assert world.findings() == []


def test_drift_that_monitoring_recorded_is_a_reason_and_is_told(
    world: World, job: Job, alerts: list[dict[str, Any]]
) -> None:
    world.crown(1)
    retrain_if_due(job, Home(), Trainings())  # uses up the new data
    alerts.clear()
    record_verdict(world.ledger, True, "brightness 0.31 above 0.20", {"brightness": 0.31})
    trainings = Trainings(Outcome.PROMOTED)
    assert "brightness 0.31" in retrain_if_due(job, Home(), trainings).said
    assert retrain_if_due(job, Home(), trainings).said == "no reason to train"
    assert trainings.times == 1
    assert [one["title"] for one in alerts] == ["bone-age: drift", "bone-age: promotion"]
    assert all("brightness 0.31 above 0.20" in one["message"] for one in alerts)


def test_drift_of_a_former_champion_is_none_of_todays(world: World) -> None:
    world.crown(1)
    record_verdict(world.ledger, True, "brightness", {})
    assert last_verdict(world.ledger) is not None
    world.crown(2)
    assert last_verdict(world.ledger) is None


def test_the_champions_age_counts_from_its_registration(world: World, job: Job) -> None:
    world.crown(1, 2)
    registered = next(e for e in entries(world, Event.REGISTERED) if e.version == 2)
    champion = gather(world.ledger, job).champion
    assert champion is not None
    assert (champion.version, champion.made, champion.fingerprint) == (2, registered.moment, FINGERPRINT)


def test_failures_wait_twice_as_long_each_time_and_are_told(
    world: World, job: Job, alerts: list[dict[str, Any]]
) -> None:
    world.crown(1)
    trainings = Trainings(Outcome.FAILED, Outcome.FAILED)
    result = retrain_if_due(job, Home(), trainings)
    assert result.failed
    ended = entries(world, Event.RETRAINED)[-1].moment
    assert result.again_at == ended + timedelta(minutes=10)
    assert "waits until" in retrain_if_due(job, Home(), trainings).said
    assert trainings.times == 1
    assert len(entries(world, Event.RETRAINING)) == 1
    assert [one["title"] for one in alerts] == ["bone-age: failure"]
    _failed_again(world, job)
    ends = entries(world, Event.RETRAINED)
    assert waits_until(world.ledger, job) == ends[-1].moment + timedelta(minutes=20)
    other = job.model_copy(update={"config": job.config.model_copy(update={"seed": 99})})
    assert waits_until(world.ledger, other) is None, "another configuration has not failed"


def _failed_again(world: World, job: Job) -> None:
    from bone_age.scheduling.records import record_end

    record_end(world.ledger, job, "", Ended(Outcome.FAILED, "again"), None)


def test_data_that_cannot_be_read_are_a_failed_run(world: World, job: Job, tmp_path: Path) -> None:
    world.crown(1)
    gone = job.model_copy(update={"config": job.config.with_source(str(tmp_path / "gone"))})
    trainings = Trainings()
    result = retrain_if_due(gone, Home(), trainings)
    assert (result.failed, trainings.times) == (True, 0)
    assert "gone" in entries(world, Event.RETRAINED)[0].reason


def test_an_alert_that_nobody_takes_ends_nothing_and_shows_no_password(
    world: World, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.crown(1)
    monkeypatch.setenv("BONE_AGE_ALERT_URLS", "json://u:secret-word@127.0.0.1:1/x nonsense://secret-word")
    assert "not promoted" in retrain_if_due(job, Home(), Trainings()).said
    said = capsys.readouterr().err
    assert "not delivered to json://***" in said
    assert "not delivered to nonsense://***" in said
    assert "secret-word" not in said


def test_a_training_by_hand_goes_first_and_nothing_is_recorded(world: World, job: Job) -> None:
    world.crown(1)
    trainings = Trainings()
    with alone(world.home.root / "training.lock", "training"), pytest.raises(BusyError, match="another training"):
        retrain_if_due(job, Home(), trainings)
    with alone(world.home.root / "schedule.lock", "scheduled run"):
        assert "skipped: another scheduled run" in attempt(job, Home(), trainings).said
    assert (trainings.times, entries(world, Event.RETRAINING)) == (0, [])


@pytest.mark.fault
def test_two_machines_of_one_database_do_not_train_at_once(
    world: World, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.crown(1)
    monkeypatch.setenv("BONE_AGE_DATABASE_URL", f"sqlite:///{world.home.root}/ledger.db")
    here, there = Home(), Home(home=tmp_path / "another-machine")
    meanwhile: list[str] = []

    def train(job: Job, home: Home, ledger: Ledger) -> Ended:
        meanwhile.append(attempt(job, there, Trainings()).said)
        return Ended(Outcome.NOT_PROMOTED, "trained")

    assert not attempt(job, here, train).failed
    assert meanwhile[0].startswith("skipped: another scheduled run (process ")
    assert attempt(job, there, train).said == "no reason to train"
    assert len(meanwhile) == 1


@pytest.mark.fault
def test_a_run_that_was_killed_is_closed_by_the_next_one_which_trains(world: World, job: Job) -> None:
    world.crown(1)

    def killed(*_: object) -> Ended:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    if not (pid := os.fork()):
        retrain_if_due(job, Home(), killed)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert [one["status"] for one in decisions_in_mlflow()] == ["RUNNING"]
    trainings = Trainings(Outcome.PROMOTED)
    assert "promoted" in retrain_if_due(job, Home(), trainings).said
    assert [one["status"] for one in decisions_in_mlflow()] == ["KILLED", "FINISHED"]
    assert trainings.times == 1


class EnoughError(Exception):
    """Ends a schedule that has shown what it should."""


def _kept(cron: str, run: Callable[[int], Any], until: int, last: datetime | None = None) -> list[datetime]:
    """By a real clock, until it ran so often."""
    moments: list[datetime] = []

    def noted() -> datetime | None:
        moments.append(datetime.now(UTC))
        if len(moments) == until:
            raise EnoughError
        again: datetime | None = run(len(moments))
        return again

    with pytest.raises(EnoughError):
        keep(Cron.parse(cron), noted, last)
    return moments


def test_a_run_of_many_times_its_interval_is_followed_by_one_not_by_all_that_it_missed() -> None:
    moments = _kept("* * * * * *", lambda number: time.sleep(4.3) if number == 1 else None, until=4)
    assert 4.2 < (moments[1] - moments[0]).total_seconds() < 6, "made up for at once"
    seconds = [moment.replace(microsecond=0) for moment in moments[1:]]
    assert len({*seconds}) == 3, f"then by the clock again: {moments}"


def test_a_schedule_that_was_down_makes_up_for_one_time() -> None:
    started = datetime.now(UTC)
    moments = _kept("*/2 * * * * *", lambda _: None, until=3, last=started - timedelta(days=30))
    assert (moments[0] - started).total_seconds() < 0.5
    assert all(moment.second % 2 == 0 for moment in moments[1:])
    assert (moments[2] - moments[1]).total_seconds() > 1


def test_a_failure_is_tried_again_before_its_time() -> None:
    def run(number: int) -> datetime | None:
        return datetime.now(UTC) + timedelta(seconds=1) if number == 1 else None

    moments = _kept("0 0 1 1 *", run, until=2, last=datetime.now(UTC) - timedelta(days=800))
    assert 0.9 < (moments[1] - moments[0]).total_seconds() < 2


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`bone-age schedule` as a process; on so few images its training fails for real."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "night", "data": DATA, "split": {"validation": 0.05, "test": 0.05}}))
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY.model_dump(mode="json")))
    running = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bone_age.cli", "schedule", "--config", str(config), "--policy", str(policy)]
        environment = {**os.environ, "BONE_AGE_HOME": str(world.home.root), "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def _until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to it"
        time.sleep(0.2)
    return found


@pytest.mark.fault
def test_the_process_looks_by_the_clock_and_a_second_one_after_a_kill_makes_up_for_one(
    world: World, start: Callable[..., subprocess.Popen[str]]
) -> None:
    world.crown(1)
    config = TrainingConfig.model_validate({"name": "night", "data": DATA, "split": {"validation": 0.05, "test": 0.05}})
    job = Job(config=config, policy=POLICY, cron="*/3 * * * * *")
    retrain_if_due(job, Home(), Trainings())  # uses up the new data: from here on there is no reason
    process = start("--cron", "*/3 * * * * *")
    _until(lambda: len(entries(world, Event.RETRAINING)) >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(entries(world, Event.RETRAINING))
    time.sleep(7)  # two times go by
    again = start("--cron", "*/3 * * * * *")
    _until(lambda: len(entries(world, Event.RETRAINING)) > before)
    again.terminate()
    out, err = again.communicate(timeout=60)
    assert (again.returncode, "error" in err) == (0, False), err
    assert out.splitlines()[-1] == "night: ended"
    assert all(entry.details["decision"] == "no reason" for entry in entries(world, Event.RETRAINING)[1:])
    assert last_decided(world.ledger, job) == entries(world, Event.RETRAINING)[-1].moment
    assert world.findings() == []


@pytest.mark.fault
def test_a_training_that_crashes_is_an_entry_an_alert_and_exit_code_1(
    world: World, start: Callable[..., subprocess.Popen[str]], alerts: list[dict[str, Any]]
) -> None:
    world.crown(1)
    process = start("--once")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert "Traceback" not in out + err
    ended = entries(world, Event.RETRAINED)
    assert [entry.details["outcome"] for entry in ended] == ["failed"]
    assert ended[0].reason.startswith("training failed, exit code 2: error: ")
    assert [one["title"] for one in alerts] == ["bone-age: failure"]
    assert ended[0].reason.split(": error: ")[1] in alerts[0]["message"]
    assert world.alias == 1


def _training_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The child that trains; the process also asks git for its commit, in a child that ends at once."""

    def trains(child: psutil.Process) -> bool:
        try:
            return "train" in child.cmdline()
        except psutil.Error:
            return False

    found: psutil.Process = _until(lambda: next(filter(trains, psutil.Process(process.pid).children()), None))
    return found


@pytest.mark.fault
def test_a_training_that_is_killed_leaves_the_schedule_running(
    world: World, start: Callable[..., subprocess.Popen[str]]
) -> None:
    world.crown(1)
    process = start("--cron", "*/2 * * * * *")
    _training_of(process).kill()
    ended = _until(lambda: entries(world, Event.RETRAINED))
    assert ended[0].reason.startswith("training failed, signal 9: ")
    assert process.poll() is None
    time.sleep(5)  # two times go by in which it waits before it tries again
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the last training failed; waits until" in out
    assert len(entries(world, Event.RETRAINING)) == 1


@pytest.mark.fault
def test_a_schedule_that_is_ended_ends_its_training_and_says_so(
    world: World, start: Callable[..., subprocess.Popen[str]]
) -> None:
    world.crown(1)
    process = start("--once")
    training = _training_of(process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (1, "error: interrupted; the next run goes on from there")
    assert not training.is_running()
    assert [entry.details["outcome"] for entry in entries(world, Event.RETRAINED)] == ["interrupted"]
    assert [one["status"] for one in decisions_in_mlflow()] == ["KILLED"]


def test_no_reason_is_exit_code_0(world: World, start: Callable[..., subprocess.Popen[str]]) -> None:
    world.crown(1)
    config = TrainingConfig.model_validate({"name": "night", "data": DATA, "split": {"validation": 0.05, "test": 0.05}})
    retrain_if_due(Job(config=config, policy=POLICY), Home(), Trainings())
    process = start("--once")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, "error" in err) == (0, False), err
    assert out.strip().endswith("no reason to train")


def test_an_always_wanted_training_is_one_however_little_speaks_for_it(world: World, job: Job) -> None:
    world.crown(1)
    trainings = Trainings()
    always = job.model_copy(update={"limits": Limits(always=True)})
    for _ in range(2):
        retrain_if_due(always, Home(), trainings)
    assert trainings.times == 2
    assert gather(world.ledger, job).was_tried
