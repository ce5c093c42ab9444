"""The ledger in a real PostgreSQL server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from bone_age.errors import BoneAgeError
from bone_age.governance.entries import Event
from bone_age.governance.ledger import Ledger, unless_champion_changed
from bone_age.settings import Home
from tests.ledgers import (
    FileAnchor,
    MemoryAnchor,
    check_exactly_one_wins,
    check_one_that_is_killed_while_it_appends,
    check_two_that_append_at_once,
    faults,
    home_at,
    new,
    promoted,
)
from tests.postgresql import new_database


@pytest.fixture
def place(postgresql_url: str, tmp_path: Path) -> Home:
    """A home whose ledger is in a new database."""
    return home_at(tmp_path / "home", database_url=new_database(postgresql_url))


@pytest.fixture
def ledger(place: Home) -> Ledger:
    ledger = Ledger.open(place, MemoryAnchor())
    for number in range(1, 6):
        ledger.append(promoted(number, reason="größer 你好", details={"b": 1.0, "a": [1e-300, 2**70, -0.0, "\x01"]}))
    return ledger


@contextmanager
def tampering(home: Home) -> Iterator[psycopg.Connection]:
    """The database in the hands of somebody who switches the guard off, and on again when done."""
    with psycopg.connect(home.database_url) as connection:
        connection.execute("ALTER TABLE bone_age_ledger DISABLE TRIGGER ALL")
        yield connection
        connection.execute("ALTER TABLE bone_age_ledger ENABLE TRIGGER ALL")


def test_entries_come_back_as_they_went_in(ledger: Ledger) -> None:
    entry = ledger.append(new(details={"": {"z": [None, True], "a": "\x7f\\u0000"}}))
    assert ledger.entry(6) == entry
    assert repr(next(ledger.entries()).details) == repr({"a": [1e-300, 2**70, -0.0, "\x01"], "b": 1.0})
    assert ledger.verify() == []


def test_intents_champions_and_reigns_are_found(ledger: Ledger) -> None:
    intent = ledger.append(new(Event.INTENT), unless=unless_champion_changed(5))
    assert ledger.open_intent() == intent
    closing = ledger.append(new(Event.ROLLED_BACK, version=4, details={"intent": intent.number}))
    assert ledger.open_intent() is None
    assert ledger.champion_on() == ledger.champion_on(closing.moment) == closing
    assert [reign.version for reign in ledger.reigns()] == [1, 2, 3, 4, 5, 4]
    assert [entry.number for entry in ledger.entries(after=2, events=[Event.PROMOTED])] == [3, 4, 5]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE bone_age_ledger SET actor = 'nobody' WHERE number = 3",
        "DELETE FROM bone_age_ledger WHERE number = 3",
        "TRUNCATE bone_age_ledger",
        "INSERT INTO bone_age_ledger SELECT * FROM bone_age_ledger ON CONFLICT (number) DO UPDATE SET actor = 'nobody'",
    ],
)
def test_the_database_itself_refuses_changes(ledger: Ledger, place: Home, change: str) -> None:
    with (
        psycopg.connect(place.database_url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match=r"the ledger is append-only: [A-Z]+ is refused"),
    ):
        connection.execute(change)
    assert ledger.verify() == []


@pytest.mark.fault
def test_tampering_is_found(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        connection.execute("UPDATE bone_age_ledger SET actor = 'nobody' WHERE number = 2")
        connection.execute("DELETE FROM bone_age_ledger WHERE number >= 4")
    assert faults(ledger) == [
        "entry 2: was edited: its digest is not that of its content",
        "the end is cut off: the anchor holds entry 5, the last is 3",
    ]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE bone_age_ledger DISABLE TRIGGER ALL",
        "DROP TRIGGER bone_age_ledger_append_only ON bone_age_ledger",
        "CREATE OR REPLACE FUNCTION bone_age_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RETURN NULL; END$$",
        "CREATE OR REPLACE TRIGGER bone_age_ledger_append_only BEFORE TRUNCATE ON bone_age_ledger "
        "FOR EACH STATEMENT EXECUTE FUNCTION bone_age_ledger_refuse()",
    ],
)
def test_a_guard_that_fell_is_found_and_not_raised_again(ledger: Ledger, place: Home, change: str) -> None:
    with psycopg.connect(place.database_url) as connection:
        connection.execute(change)
    expected = ["the database's guard bone_age_ledger_append_only is gone"]
    assert faults(ledger) == faults(Ledger.open(place)) == expected


@pytest.mark.fault
def test_two_processes_that_append_at_once_make_one_chain(place: Home, tmp_path: Path) -> None:
    check_two_that_append_at_once(place, FileAnchor(tmp_path / "anchor"))


@pytest.mark.fault
def test_a_process_that_is_killed_leaves_a_whole_chain(place: Home, tmp_path: Path) -> None:
    check_one_that_is_killed_while_it_appends(place, FileAnchor(tmp_path / "anchor"))


@pytest.mark.fault
def test_of_two_that_intend_at_once_exactly_one_does(place: Home, tmp_path: Path) -> None:
    check_exactly_one_wins(place, FileAnchor(tmp_path / "anchor"))


def test_a_wrong_password_is_not_shown(place: Home, tmp_path: Path) -> None:
    wrong = place.database_url.replace("not-a-secret", "s3cret")
    with pytest.raises(
        BoneAgeError, match=r"^ledger: the database does not answer: .*password authentication"
    ) as caught:
        Ledger.open(home_at(tmp_path, database_url=wrong))
    assert "s3cret" not in str(caught.value)


def test_a_database_whose_sessions_see_old_snapshots_still_makes_one_chain(place: Home, tmp_path: Path) -> None:
    with psycopg.connect(place.database_url, autocommit=True) as connection:
        name = place.database_url.rsplit("/", 1)[1]
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    check_two_that_append_at_once(place, FileAnchor(tmp_path / "anchor"), each_appends=15)
