"""One machine at a time, by a lease in the shared database; with a real PostgreSQL server and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from bone_age.errors import BoneAgeError, BusyError
from bone_age.governance.ledger_storage import Storage
from bone_age.one_process import ended_by_signals
from bone_age.scheduling.lease import LEASES, leased
from bone_age.settings import Home
from tests.ledgers import home_at
from tests.postgresql import new_database

REPOSITORY = Path(__file__).parents[2]
SHORT_S = 2.0
HOLDER = """
import sys, time
from pathlib import Path
from bone_age.scheduling.lease import leased
from tests.ledgers import home_at
with leased(home_at(Path("/nowhere"), database_url=sys.argv[1]), "training", 2.0):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["postgresql", "sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home on a database that others use as well."""
    if request.param == "sqlite":
        return home_at(tmp_path, database_url=f"sqlite:///{tmp_path}/shared.db")
    return home_at(tmp_path, database_url=new_database(request.getfixturevalue("postgresql_url")))


@pytest.fixture
def other() -> Iterator[Callable[[Home], subprocess.Popen[str]]]:
    """A process on another machine, as far as the database knows."""
    started = []

    def start(home: Home) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, home.database_url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "holds"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.fault
def test_the_second_is_refused_and_told_who_is_at_it(shared: Home) -> None:
    with leased(shared, "training"):
        with pytest.raises(BusyError, match=f"another training .process {os.getpid()} on .* is at work"):
            leased(shared, "training").__enter__()
        with leased(shared, "scheduled run"):
            pass
    with leased(shared, "training"):
        pass


@pytest.mark.fault
def test_a_lease_outlives_its_time_as_long_as_its_holder_lives_and_a_killed_holder_frees_it(
    shared: Home, other: Callable[[Home], subprocess.Popen[str]]
) -> None:
    process = other(shared)
    time.sleep(1.5 * SHORT_S)
    with pytest.raises(BusyError, match=str(process.pid)):
        leased(shared, "training", SHORT_S).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    while True:
        try:
            with leased(shared, "training", SHORT_S):
                break
        except BusyError:
            assert time.monotonic() - killed < 3 * SHORT_S, "a killed holder's lease lapses"
            time.sleep(0.1)


@pytest.mark.fault
def test_a_holder_whose_lease_is_gone_ends_its_work(shared: Home) -> None:
    def work() -> None:
        with leased(shared, "training", SHORT_S):
            with Storage(shared.database_url).writing() as connection:
                connection.execute(delete(LEASES))
            time.sleep(5 * SHORT_S)

    with ended_by_signals(), pytest.raises(BoneAgeError, match="training: ended, its lease on the database was lost"):
        work()


def test_a_home_of_its_own_takes_no_lease(tmp_path: Path) -> None:
    home = home_at(tmp_path)
    with leased(home, "training"), leased(home, "training"):
        assert not (tmp_path / "ledger.db").exists()
