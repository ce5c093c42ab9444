"""The prediction log in real databases: what comes back, and what happens while they are slow, locked, gone, killed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest
from sqlalchemy import create_engine, inspect, text

from bone_age.data.synthetic import render_hand
from bone_age.errors import BoneAgeError, DatabaseUnavailableError, InputError, UnknownRequestError
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.imaging import ImageError
from bone_age.imaging.grey import UnknownFormatError
from bone_age.serving.prediction_log import LogCounts, PredictionLog
from bone_age.serving.predictor import Warning
from bone_age.serving.references import REFERENCE_MODEL, load_predictor
from bone_age.serving.rest.server import _Recorded
from bone_age.settings import Home
from tests.answers import SECRET_NAME, answered
from tests.ledgers import home_at
from tests.postgresql import Server, new_database

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'predictions.db'}"
    return new_database(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def log(url: str) -> Iterator[PredictionLog]:
    opened = PredictionLog.open(url)
    yield opened
    opened.close(0)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def records_without_waiting(log: PredictionLog, times: int, prefix: str = "r") -> bool:
    """Most within 5 ms, and none as long as a database that is waited for; a busy machine takes what is between."""
    answer, taken = answered(), []
    for number in range(times):
        began = time.perf_counter()
        log.record(f"{prefix}-{number}", "F", answer, 0.08)
        taken.append(time.perf_counter() - began)
        time.sleep(0.001)
    return bool(np.median(taken) < 0.005 and max(taken) < 0.5)


def request_ids(url: str) -> list[str]:
    return [entry.request_id for entry in PredictionLog.open(url).entries()]


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


# What is kept --------------------------------------------------------------------------------------------------------


def test_an_answer_comes_back_as_it_was(log: PredictionLog) -> None:
    before, answer = datetime.now(UTC), answered(months=101.5)
    log.record("request-1", "M", answer, 0.125)
    assert log.close(30) == LogCounts(written=1, waiting=0, dropped=0, last_error=None)
    (entry,) = log.entries()
    assert before <= entry.time <= datetime.now(UTC)
    assert (entry.request_id, entry.sex, entry.latency_s) == ("request-1", "M", 0.125)
    assert (entry.bone_age_months, entry.lower_months, entry.upper_months) == (101.5, 89.5, 113.5)
    assert (entry.model, entry.model_digest) == ("models:/bone-age/7", "ab" * 32)
    assert entry.statistics == answer.statistics
    assert entry.features.norm == pytest.approx(np.linalg.norm(answer.pooled_features), rel=1e-6)
    assert len(entry.features.projections) == 16
    assert entry.readings == ()


def test_a_real_answer_of_the_reference_model_is_kept(log: PredictionLog) -> None:
    hand = render_hand(96, "F", 4, 640, 512)
    answer = load_predictor(str(REFERENCE_MODEL)).answer(hand, "F")
    log.record("request-1", "F", answer, 0.2)
    log.close(30)
    (entry,) = log.entries()
    assert entry.bone_age_months == answer.prediction.bone_age_months
    assert (entry.statistics.height_px, entry.statistics.width_px) == (640, 512)
    assert entry.statistics.mean == pytest.approx(answer.prepared.mean())
    assert entry.model_digest == answer.prediction.model_digest
    assert entry.likeness_distance == pytest.approx(answer.likeness_distance)


def test_nothing_that_leads_to_a_child_has_a_column(log: PredictionLog, url: str) -> None:
    """A new column has to be weighed and added here."""
    log.record("request-1", "F", answered(), 0.1)
    log.close(30)
    log.feedback("request-1", 100, "r7")
    engine = create_engine(sqlalchemy_url(url))
    columns = {
        table: {column["name"] for column in inspect(engine).get_columns(table)}
        for table in inspect(engine).get_table_names()
    }
    assert columns == {
        "bone_age_prediction_schema": {"version"},
        "bone_age_findings": {"entry_id", "code", "time", "model_digest"},
        "bone_age_readings": {"number", "time", "request_id", "reader", "bone_age_months"},
        "bone_age_predictions": {
            "entry_id", "time", "request_id", "model", "model_digest", "sex",
            "bone_age_months", "lower_months", "upper_months", "latency_s",
            "height_px", "width_px", "mean", "sd", "black_share", "white_share", "feature_norm", "feature_projections",
            "likeness_distance",
        },
    }  # fmt: skip
    with engine.connect() as connection:
        rows = [str(tuple(row)) for table in columns for row in connection.execute(text(f"SELECT * FROM {table}"))]
    assert len(rows) == 3
    assert not [row for row in rows if SECRET_NAME in row or "incoming" in row or "doe" in row]
    assert max(len(row) for row in rows) < 1000  # no room for a picture
    engine.dispose()


def test_what_was_put_right_and_what_was_refused_is_counted_by_model(log: PredictionLog) -> None:
    began = datetime.now(UTC)
    answer = answered()
    told = tuple(Warning(code, "") for code in ("reference_model", "inverted", "unlike_training"))
    log.record("r1", "F", replace(answer, prediction=replace(answer.prediction, warnings=told)), 0.1)
    witness = _Recorded(log, lambda: SimpleNamespace(digest="ab" * 32))  # type: ignore[arg-type, return-value]
    for error in (UnlikeTrainingError("no hand", 3.0), ImageError("image is blank"), UnknownFormatError("a text")):
        witness.refused(error)
    witness.refused(InputError("sex is 'X'"))
    _Recorded(log, lambda: None).refused(ImageError("before there is a model"))
    log.close(30)
    until = datetime.now(UTC)
    counted = {"inverted": 1, "rotated": 0, "unlike_training": 1}
    counted |= {"refused_unlike_training": 1, "refused_unusable_image": 1}
    assert log.findings("ab" * 32, began, until) == counted
    assert set(log.findings("cd" * 32, began, until).values()) == {0}
    assert set(log.findings("ab" * 32, began - timedelta(1), began).values()) == {0}
    assert [entry.request_id for entry in log.entries()] == ["r1"]


def test_entries_are_streamed_by_time_from_since_to_before_until(log: PredictionLog) -> None:
    for number in range(2500):
        log.record(f"r{number:04}", "F", answered(months=number / 20), 0.1)
    log.close(60)
    everything = list(log.entries())
    assert [entry.request_id for entry in everything] == [f"r{number:04}" for number in range(2500)]
    since, before = everything[700].time, everything[2100].time
    part = [entry.request_id for entry in log.entries(since, before)]
    assert part == [entry.request_id for entry in everything if since <= entry.time < before]
    assert 1390 <= len(part) <= 1401
    abroad = since.astimezone(tz=datetime.now().astimezone().tzinfo) + timedelta(0)
    assert [entry.request_id for entry in log.entries(abroad, before)] == part


def test_a_reader_of_entries_keeps_no_writer_waiting(log: PredictionLog, url: str) -> None:
    for number in range(1200):
        log.record(f"r{number}", "F", answered(), 0.1)
    log.close(60)
    slow = log.entries()
    next(slow)
    other = PredictionLog.open(url)
    other.record("late", "F", answered(), 0.1)
    assert other.close(10).written == 1
    assert sum(1 for _ in slow) >= 1199


def test_a_home_has_its_own_log_and_a_shared_database_comes_first(tmp_path: Path, url: str) -> None:
    own, shared = home_at(tmp_path / "own"), home_at(tmp_path / "other", database_url=url)
    for number, home in enumerate((own, shared)):
        log = PredictionLog.open(home)
        log.record(f"r{number}", "F", answered(), 0.1)
        log.close(30)
    assert (tmp_path / "own" / "predictions.db").is_file()
    assert request_ids(url) == ["r1"]


def test_tables_of_another_release_are_refused_by_version(log: PredictionLog, url: str) -> None:
    log.record("r", "F", answered(), 0.1)
    log.close(30)
    engine = create_engine(sqlalchemy_url(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE bone_age_prediction_schema SET version = 9"))
    engine.dispose()
    with pytest.raises(BoneAgeError, match="of version 9, this is 1"):
        list(PredictionLog.open(url).entries())
    later = PredictionLog.open(url)
    later.record("r2", "F", answered(), 0.1)
    counts = later.close(0.5)
    assert counts.dropped == 1
    assert "version 9" in str(counts.last_error)


@pytest.mark.parametrize("unusable", ["", "mysql://me:s3cret@host/db", "sqlite://", "nonsense"])
def test_an_unusable_url_is_refused_at_the_start(unusable: str) -> None:
    with pytest.raises(InputError, match="BONE_AGE_DATABASE_URL") as refusal:
        PredictionLog.open(unusable)
    assert "s3cret" not in str(refusal.value)


# Readers' bone ages --------------------------------------------------------------------------------------------------


def test_several_readings_of_an_answer_are_kept_in_their_order(log: PredictionLog) -> None:
    log.record("r", "F", answered(), 0.1)
    log.feedback("r", 110, "ab")
    log.feedback("r", 112.5)
    log.feedback("r", 108, "ab")
    (entry,) = log.entries()
    assert [(reading.reader, reading.bone_age_months) for reading in entry.readings] == [
        ("ab", 110), (None, 112.5), ("ab", 108),
    ]  # fmt: skip


def test_a_reading_sent_twice_is_kept_once(log: PredictionLog) -> None:
    log.record("r", "F", answered(), 0.1)
    for months, reader in ((110, "ab"), (110, "ab"), (110, None), (110, None), (111, "ab"), (110, "ab")):
        log.feedback("r", months, reader)
    (entry,) = log.entries()
    assert [(reading.reader, reading.bone_age_months) for reading in entry.readings] == [
        ("ab", 110), (None, 110), ("ab", 111), ("ab", 110),
    ]  # fmt: skip


def test_feedback_right_after_its_answer_finds_it(log: PredictionLog) -> None:
    """The entry may still be in the queue."""
    for number in range(20):
        log.record(f"r{number}", "F", answered(), 0.1)
        log.feedback(f"r{number}", 100)
    assert all(len(entry.readings) == 1 for entry in log.entries())


@pytest.mark.parametrize("request_id", ["other", "", "x" * 500, "a\0b", "\ud800"])
def test_feedback_to_an_unknown_request_is_an_error_of_one_line(log: PredictionLog, request_id: str) -> None:
    log.record("r", "F", answered(), 0.1)
    with pytest.raises(UnknownRequestError, match=r"^request.*no answer is on record under this id$"):
        log.feedback(request_id, 100)


@pytest.mark.parametrize("months", [-0.1, 240.1, float("nan"), float("inf")])
def test_feedback_out_of_range_is_refused(log: PredictionLog, months: float) -> None:
    log.record("r", "F", answered(), 0.1)
    with pytest.raises(InputError, match=r"^bone_age_months is .*, expected 0 to 240$"):
        log.feedback("r", months)


@pytest.mark.parametrize("reader", ["", "Jane Doe", "jane@example.org", "x" * 17, "a\n", "Müller"])
def test_a_reader_is_a_code_and_no_name(log: PredictionLog, reader: str) -> None:
    log.record("r", "F", answered(), 0.1)
    with pytest.raises(InputError, match="reader is no short code"):
        log.feedback("r", 100, reader)


def test_feedback_to_an_id_of_two_answers_is_refused(log: PredictionLog) -> None:
    for _ in range(2):
        log.record("r", "F", answered(), 0.1)
    with pytest.raises(InputError, match="2 answers have this id"):
        log.feedback("r", 100)


# Slow, locked, gone --------------------------------------------------------------------------------------------------


@pytest.mark.fault
def test_a_database_that_is_locked_for_seconds_delays_no_request_and_loses_no_entry(
    log: PredictionLog, url: str
) -> None:
    log.record("first", "F", answered(), 0.1)
    until(lambda: log.counts().written == 1)
    locked, free = threading.Event(), threading.Event()

    def lock() -> None:
        if url.startswith("sqlite"):
            connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
        else:
            connection = psycopg.connect(url)
            connection.execute("LOCK TABLE bone_age_predictions IN ACCESS EXCLUSIVE MODE")
        locked.set()
        free.wait(60)
        connection.rollback()
        connection.close()

    thread = threading.Thread(target=lock)
    thread.start()
    assert locked.wait(10)
    assert records_without_waiting(log, 300)
    until(lambda: log.counts().last_error is not None)  # longer than a writer's patience
    assert records_without_waiting(log, 300, "later")
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailableError, match=r"^prediction log: the database"):
        log.feedback("r-1", 100)
    assert time.monotonic() - began < 15
    assert log.counts().waiting == 600
    free.set()
    thread.join()
    assert log.close(30) == LogCounts(written=601, waiting=0, dropped=0, last_error=None)
    assert len(set(request_ids(url))) == 601


@pytest.mark.fault
def test_a_server_that_dies_and_comes_back_is_written_to_again(postgresql_server: Server) -> None:
    url = new_database(postgresql_server.url)
    log = PredictionLog.open(url)
    assert records_without_waiting(log, 300, "before")
    postgresql_server.stop()
    try:
        assert records_without_waiting(log, 300, "while")
        until(lambda: log.counts().last_error is not None)
        with pytest.raises(DatabaseUnavailableError, match="does not answer"):
            log.feedback("before-0", 100)
        counts = log.counts()
        assert counts.waiting >= 300
        assert counts.written + counts.waiting == 600
        assert counts.dropped == 0
    finally:
        postgresql_server.start()
    assert records_without_waiting(log, 50, "after")
    assert log.close(60) == LogCounts(written=650, waiting=0, dropped=0, last_error=None)
    assert sorted(request_ids(url)) == sorted(
        f"{prefix}-{number}"
        for prefix, count in (("before", 300), ("while", 300), ("after", 50))
        for number in range(count)
    )


@pytest.mark.fault
def test_a_server_that_is_away_from_the_start_is_written_to_when_it_comes(postgresql_server: Server) -> None:
    url = new_database(postgresql_server.url)
    postgresql_server.stop()
    try:
        log = PredictionLog.open(url)
        log.record("r", "F", answered(), 0.1)
        until(lambda: log.counts().last_error is not None)
    finally:
        postgresql_server.start()
    until(lambda: log.counts().written == 1)
    assert log.close(1).last_error is None


@pytest.mark.fault
def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody:s3cret@127.0.0.1:1/none"
    log = PredictionLog.open(nowhere, capacity=50)
    assert records_without_waiting(log, 180)
    until(lambda: log.counts().last_error is not None)
    counts = log.counts()
    assert (counts.written, counts.waiting, counts.dropped) == (0, 50, 130)
    assert "does not answer" in str(counts.last_error)
    assert "s3cret" not in str(counts.last_error)
    began = time.monotonic()
    closed = log.close(1)
    assert time.monotonic() - began < 2
    assert (closed.written, closed.waiting, closed.dropped) == (0, 0, 180)
    log.record("after", "F", answered(), 0.1)
    assert log.counts().dropped == 181


@pytest.mark.fault
def test_a_database_file_that_is_none_is_named_and_hurts_no_request(tmp_path: Path) -> None:
    (tmp_path / "predictions.db").write_bytes(b"no database at all" * 100)
    log = PredictionLog.open(f"sqlite:///{tmp_path / 'predictions.db'}")
    assert records_without_waiting(log, 20)
    until(lambda: log.counts().last_error is not None)
    assert "not a database" in str(log.counts().last_error)
    assert log.close(0.1).dropped == 20


def test_an_answer_that_cannot_be_recorded_is_dropped_alone(log: PredictionLog, url: str) -> None:
    """NaN is refused by the database, a NUL by PostgreSQL, half a surrogate by both; their neighbours are written."""
    odd = answered()
    odd_name = replace(odd, prediction=replace(odd.prediction, model="models/\ud800"))
    log.record("good-1", "F", answered(), 0.1)
    log.record("nan", "F", answered(months=float("nan")) if url.startswith("sqlite") else odd_name, 0.1)
    log.record("odd", "F", odd_name, 0.1)
    log.record("a\0b", "F", odd, 0.1)
    log.record(None, "F", odd, 0.1)  # type: ignore[arg-type]
    log.record("no answer", "F", None, 0.1)  # type: ignore[arg-type]
    log.record("good-2", "F", answered(), 0.1)
    counts = log.close(30)
    assert (counts.written, counts.dropped) == (2, 5)
    assert counts.last_error is not None
    assert request_ids(url) == ["good-1", "good-2"]


# Many at once --------------------------------------------------------------------------------------------------------


def test_eight_threads_record_and_read_back_without_a_loss(log: PredictionLog, url: str) -> None:
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(200):
                log.record(f"{thread}-{number}", "M", answered(), 0.1)
                if number % 50 == 0:
                    log.feedback(f"{thread}-{number}", 100 + thread, f"reader{thread}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert log.close(60) == LogCounts(written=1600, waiting=0, dropped=0, last_error=None)
    entries = list(log.entries())
    assert len({entry.request_id for entry in entries}) == len(entries) == 1600
    assert sum(len(entry.readings) for entry in entries) == 32


def recording(url: str, prefix: str, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.answers", url, prefix, str(times)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


@pytest.mark.fault
def test_two_processes_make_the_tables_and_write_at_once(url: str) -> None:
    both = [recording(url, prefix, 2000) for prefix in ("a", "b")]
    for each in both:
        assert "written=2000, waiting=0, dropped=0" in each.communicate(timeout=120)[0]
    found = request_ids(url)
    assert len(set(found)) == len(found) == 4000


@pytest.mark.fault
def test_a_process_that_is_killed_leaves_a_readable_log(url: str) -> None:
    for round_number in range(3):
        victim = recording(url, f"round{round_number}", 0)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "recording\n"
        before = len(request_ids(url)) if round_number else 0
        until(lambda before=before: len(request_ids(url)) > before + 300)
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=60)
        log = PredictionLog.open(url)
        log.record(f"after{round_number}", "F", answered(), 0.1)
        assert log.close(30).written == 1
        assert f"after{round_number}" in request_ids(url)
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.fault
def test_a_write_whose_success_was_not_heard_of_is_not_doubled(log: PredictionLog, url: str) -> None:
    """The same batch once more, as after a connection that broke at the commit."""
    log.record("r", "F", answered(), 0.1)
    log.close(30)
    entries = list(log.entries())
    log._table.add(entries)
    assert list(log.entries()) == entries


def test_counts_are_json(log: PredictionLog) -> None:
    assert json.dumps(vars(log.counts())) == '{"written": 0, "waiting": 0, "dropped": 0, "last_error": null}'


def test_opening_a_log_touches_no_database(tmp_path: Path) -> None:
    home = Home(home=tmp_path / "home", database_url="")
    assert PredictionLog.open(home).close(1).written == 0
    assert not (tmp_path / "home" / "predictions.db").exists()
