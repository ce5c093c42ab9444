import hashlib
import json
import math
import shutil
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.errors import AnchorError, BoneAgeError, InputError, LedgerConditionError
from bone_age.governance import entries as entries_module
from bone_age.governance import ledger as ledger_module
from bone_age.governance.entries import Entry, Event, NewEntry, canonical_bytes
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

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(TEXT, JSON, max_size=6)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return home_at(tmp_path / "home")


@pytest.fixture(scope="module")
def ten_entries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ledger of ten entries."""
    home = home_at(tmp_path_factory.mktemp("ten"))
    ledger = Ledger.open(home)
    for number in range(1, 11):
        ledger.append(promoted(number, reason=f"number {number}"))
    return home.root / "ledger.db"


@pytest.fixture
def anchor() -> MemoryAnchor:
    return MemoryAnchor()


@pytest.fixture
def ledger(place: Home, anchor: MemoryAnchor, ten_entries: Path) -> Ledger:
    """Ten entries, anchored."""
    place.root.mkdir()
    shutil.copy(ten_entries, place.root)
    ledger = Ledger.open(place, anchor)
    head = ledger.head()
    assert head is not None
    anchor.write(head.number, head.digest)
    return ledger


@contextmanager
def tampering(home: Home) -> Iterator[sqlite3.Connection]:
    """The database in the hands of somebody who switches the guards off, and on again when done."""
    with sqlite3.connect(home.root / "ledger.db") as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in guards:
            connection.execute(sql)
    connection.close()


def rehashed(connection: sqlite3.Connection, number: int, /, **changes: Any) -> str:
    """Change an entry and give it the digest that its new content has."""
    cursor = connection.execute("SELECT * FROM bone_age_ledger WHERE number = ?", [number])
    names = [column[0] for column in cursor.description]
    fields = dict(zip(names, cursor.fetchone(), strict=True)) | changes
    hashed = {name: value for name, value in fields.items() if name not in ("digest", "signature")}
    hashed["details"] = json.loads(hashed["details"])
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    changes["digest"] = digest
    assignments = ", ".join(f"{name} = ?" for name in changes)
    connection.execute(f"UPDATE bone_age_ledger SET {assignments} WHERE number = ?", [*changes.values(), number])
    return digest


def key_file(path: Path, key: Any, password: bytes | None = None) -> Path:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    return path


def public_file(path: Path, key: Ed25519PrivateKey) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


# Entries


def test_an_entry_has_the_canonical_form_that_is_documented() -> None:
    told = NewEntry(
        event=Event.PROMOTED,
        actor="Zoë",
        host="ward-3",
        reason='better "by far"\n',
        version=8,
        model_digest="ab",
        details={"mae": 7.5, "b": [1, True, None], "a": {}},
    )
    entry = Entry.sealed(told, None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    expected = (
        '{"actor":"Zoë","dataset_fingerprint":"","details":{"a":{},"b":[1,true,null],"mae":7.5},"event":"promoted",'
        '"git_commit":"","host":"ward-3","model_digest":"ab","number":1,"policy_digest":"","previous_digest":"'
        + "0"
        * 64
        + '","previous_version":null,"reason":"better \\"by far\\"\\n","run_id":"",'
        '"time":"2026-01-02T03:04:05.000000+00:00","version":8}'
    )
    assert entry.digest == hashlib.sha256(expected.encode("utf-8")).hexdigest()


@given(DOCUMENTS)
def test_the_canonical_form_round_trips_whatever_the_order_of_keys(document: dict[str, Any]) -> None:
    written = canonical_bytes(document)
    assert repr(canonical_bytes(dict(reversed(document.items())))) == repr(written)
    read = json.loads(written)
    assert read == document
    assert canonical_bytes(read) == written


@settings(max_examples=25, deadline=None)
@given(details=DOCUMENTS, reason=TEXT)
def test_entries_come_back_from_the_database_as_they_went_in(
    details: dict[str, Any], reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger.open(home_at(tmp_path_factory.mktemp("any")))
    entry = ledger.append(new(details=details, reason=reason))
    assert ledger.entry(1) == entry
    assert ledger.verify() == []


def test_the_verifier_in_the_documentation_is_all_that_is_needed(ledger: Ledger) -> None:
    code = textwrap.dedent((entries_module.__doc__ or "").split("standard library:\n\n")[1])
    exported = [json.loads(entry.model_dump_json()) for entry in ledger.entries()]
    exec(code, {"json": json, "hashlib": hashlib, "entries": exported})
    exported[4]["reason"] = "another"
    with pytest.raises(AssertionError):
        exec(code, {"json": json, "hashlib": hashlib, "entries": exported})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", "a\0b", {"a": [math.nan]}])
def test_what_canonical_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="ledger: "):
        new(details={"figure": value})


def test_an_entry_needs_its_actor_and_a_number_for_its_intent() -> None:
    with pytest.raises(InputError, match="needs its actor"):
        NewEntry(event=Event.PROMOTED, actor=" ")
    with pytest.raises(InputError, match=r"details\.intent is the number of an entry, not '3'"):
        promoted(1, details={"intent": "3"})


# Appending


def test_entries_are_numbered_chained_and_in_utc(ledger: Ledger) -> None:
    entries = list(ledger.entries())
    assert [entry.number for entry in entries] == list(range(1, 11))
    assert entries[0].previous_digest == "0" * 64
    assert [entry.previous_digest for entry in entries[1:]] == [entry.digest for entry in entries[:-1]]
    assert all(entry.moment.utcoffset() == timedelta(0) for entry in entries)
    assert ledger.verify() == []


def test_a_ledger_that_is_opened_again_goes_on(ledger: Ledger, place: Home) -> None:
    assert Ledger.open(place).append(new()).number == 11
    assert ledger.head() == Ledger.open(place).entry(11)


@pytest.mark.fault
def test_a_clock_that_was_set_back_does_not_turn_time_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    head = ledger.head()
    assert head is not None
    before = head.moment

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return before - timedelta(seconds=90)

    monkeypatch.setattr(ledger_module, "datetime", Earlier)
    entry = ledger.append(new(details={"figure": 1}))
    assert entry.time == head.time
    assert entry.details == {"figure": 1, "clock_behind_seconds": 90.0}
    assert ledger.verify() == []


def test_the_database_itself_refuses_changes(ledger: Ledger, place: Home) -> None:
    columns = "time, event, actor, host, reason, model_digest, dataset_fingerprint, policy_digest, git_commit, run_id"
    columns += ", previous_digest, digest, signature, details"
    with sqlite3.connect(place.root / "ledger.db") as connection:
        for change in (
            "UPDATE bone_age_ledger SET actor = 'nobody' WHERE number = 3",
            "DELETE FROM bone_age_ledger WHERE number = 3",
            f"INSERT OR REPLACE INTO bone_age_ledger (number, {columns}) SELECT 3, {columns} FROM bone_age_ledger",
            f"INSERT INTO bone_age_ledger (number, {columns}) SELECT 99, {columns} FROM bone_age_ledger LIMIT 1",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
                connection.execute(change)
    assert ledger.verify() == []


def test_an_intent_is_recorded_only_if_none_is_open_and_the_champion_is_the_same(ledger: Ledger) -> None:
    with pytest.raises(LedgerConditionError, match="the champion is version 10, no longer version 9"):
        ledger.append(new(Event.INTENT), unless=unless_champion_changed(9))
    intent = ledger.append(new(Event.INTENT), unless=unless_champion_changed(10))
    with pytest.raises(LedgerConditionError, match=r"by Dr\. Wu is at work or was cut short \(entry 11\)"):
        ledger.append(new(Event.INTENT), unless=unless_champion_changed(10))
    assert ledger.head() == intent


def test_the_first_intent_finds_no_champion(place: Home) -> None:
    assert Ledger.open(place).append(new(Event.INTENT), unless=unless_champion_changed(None)).number == 1


def test_an_entry_is_kept_even_if_its_anchor_is_not(ledger: Ledger, anchor: MemoryAnchor) -> None:
    def fails(number: int, digest: str) -> None:
        raise ConnectionError("no route")

    anchor.write = fails  # type: ignore[method-assign]
    with pytest.raises(AnchorError, match="entry 11 is written, its anchor is not: no route"):
        ledger.append(new())
    del anchor.write
    (note,) = ledger.verify()
    assert note.is_note
    assert str(note) == "the anchor holds entry 10, the last is 11; the next entry moves it"
    ledger.append(new())
    assert ledger.verify() == []


@pytest.mark.fault
def test_two_processes_that_append_at_once_make_one_chain(place: Home, tmp_path: Path) -> None:
    check_two_that_append_at_once(place, FileAnchor(tmp_path / "anchor"))


@pytest.mark.fault
def test_a_process_that_is_killed_leaves_a_whole_chain(place: Home, tmp_path: Path) -> None:
    check_one_that_is_killed_while_it_appends(place, FileAnchor(tmp_path / "anchor"))


@pytest.mark.fault
def test_of_two_that_intend_at_once_exactly_one_does(place: Home, tmp_path: Path) -> None:
    check_exactly_one_wins(place, FileAnchor(tmp_path / "anchor"))


# Reading


def test_entries_can_be_read_from_a_number_and_by_event(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bone_age.governance.chain.PAGE", 3)
    ledger.append(new(Event.REJECTED))
    assert [entry.number for entry in ledger.entries(after=6)] == [7, 8, 9, 10, 11]
    assert [entry.number for entry in ledger.entries(events=[Event.REJECTED, Event.GATES])] == [11]
    assert list(ledger.entries(events=[])) == []
    assert ledger.entry(99) is None


def test_a_slow_reader_does_not_keep_a_writer_waiting(ledger: Ledger) -> None:
    for entry in ledger.entries():
        if entry.number < 4:
            ledger.append(new())
    assert ledger.verify() == []


def test_an_intent_is_open_until_an_entry_closes_it(place: Home) -> None:
    ledger = Ledger.open(place)
    assert ledger.open_intent() is None
    ledger.append(promoted(1, details={"intent": 2}))  # before the intent, so it closes nothing
    first = ledger.append(new(Event.INTENT, details={"intent": 1}))
    ledger.append(new(Event.REJECTED, details={"intent": first.number}))
    assert ledger.open_intent() == first
    second = ledger.append(new(Event.INTENT))
    for closing in (Event.PROMOTED, Event.ROLLED_BACK, Event.ALIAS_REPAIRED, Event.ABANDONED):
        ledger.append(new(closing, version=1, details={"intent": second.number}))
        assert ledger.open_intent() == first
    ledger.append(new(Event.ABANDONED, details={"intent": first.number}))
    assert ledger.open_intent() is None


def test_history_says_who_was_champion_when(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(place)
    start = datetime(2026, 3, 1, tzinfo=UTC)

    class Clock(datetime):
        day = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return start + timedelta(days=cls.day)

    monkeypatch.setattr(ledger_module, "datetime", Clock)
    override = {"overridden": [{"gate": "beats_champion", "reason": "recalibrated"}]}
    for Clock.day, entry in enumerate(
        [
            new(Event.TRAINED, version=1),
            promoted(1, reason="first", run_id="r1"),
            new(Event.REJECTED, version=2),
            promoted(3, reason="better", details=override),
            new(Event.ROLLED_BACK, version=1, previous_version=3, reason="drift"),
        ]
    ):
        ledger.append(entry)
    days = [start + timedelta(days=day) for day in range(6)]
    reigns = ledger.reigns()
    assert [(reign.version, reign.since, reign.until, reign.entry) for reign in reigns] == [
        (1, days[1], days[3], 2),
        (3, days[3], days[4], 4),
        (1, days[4], None, 5),
    ]
    assert [(reign.approver, reign.reason, reign.run_id, reign.event) for reign in reigns] == [
        ("Dr. Wu", "first", "r1", Event.PROMOTED),
        ("Dr. Wu", "better", "", Event.PROMOTED),
        ("Dr. Wu", "drift", "", Event.ROLLED_BACK),
    ]
    assert reigns[1].details == override
    champions = [entry and entry.version for entry in map(ledger.champion_on, days)]
    assert champions == [None, 1, 1, 3, 1, 1]
    assert ledger.champion_on(days[3] - timedelta(microseconds=1)) == ledger.entry(2)
    assert ledger.champion_on() == ledger.entry(5)
    with pytest.raises(InputError, match="needs its time zone"):
        ledger.champion_on(datetime(2026, 3, 1))


# Tampering


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("reason", "because"),
        ("version", None),
        ("details", '{"a":2}'),
        ("details", "no JSON"),
        ("event", "crowned"),
        ("actor", b"\xff"),
        ("time", "2026-13-01"),
    ],
)
def test_an_edited_entry_is_named(ledger: Ledger, place: Home, column: str, value: Any) -> None:
    with tampering(place) as connection:
        connection.execute(f"UPDATE bone_age_ledger SET {column} = ? WHERE number = 4", [value])
    assert "entry 4: was edited: its digest is not that of its content" in faults(ledger)


def test_an_entry_that_cannot_be_read_is_named(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        connection.execute("UPDATE bone_age_ledger SET event = 'crowned' WHERE number = 4")
    with pytest.raises(BoneAgeError, match="entry 4 cannot be read: its event has been changed"):
        list(ledger.entries())


def test_removed_entries_are_named(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        connection.execute("DELETE FROM bone_age_ledger WHERE number IN (2, 5, 6, 7)")
    assert faults(ledger) == ["entry 2: missing", "entry 5 to 7: missing"]


def test_entries_that_changed_places_are_found(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        for before, after in ((4, 99), (5, 4), (99, 5)):
            connection.execute("UPDATE bone_age_ledger SET number = ? WHERE number = ?", [after, before])
    found = faults(ledger)
    assert "entry 4 to 5: was edited: its digest is not that of its content" in found
    for number in (4, 5, 6):
        assert f"entry {number}: does not follow entry {number - 1}: that one's digest is another" in found


def test_a_removed_entry_whose_gap_was_closed_is_found(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        connection.execute("DELETE FROM bone_age_ledger WHERE number = 9")
        rehashed(connection, 10, number=9)
    assert faults(ledger) == [
        "entry 9: does not follow entry 8: that one's digest is another",
        "the end is cut off: the anchor holds entry 10, the last is 9",
    ]


def test_a_rehashed_entry_is_found_by_the_next(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        rehashed(connection, 4, actor="nobody")
    assert faults(ledger) == ["entry 5: does not follow entry 4: that one's digest is another"]


def test_a_chain_that_was_written_anew_is_found_by_the_anchor(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        digest = rehashed(connection, 4, actor="nobody")
        for number in range(5, 11):
            digest = rehashed(connection, number, previous_digest=digest)
    assert faults(ledger) == ["entry 10: was replaced: the anchor holds another digest"]


def test_a_time_that_was_turned_back_is_found(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        rehashed(connection, 10, time="2020-01-01T00:00:00.000000+00:00")
    assert any("entry 10: its time 2020-01-01" in fault for fault in faults(ledger))


@pytest.mark.parametrize("left", [9, 0])
def test_a_cut_end_is_found_and_stays_found(ledger: Ledger, place: Home, anchor: MemoryAnchor, left: int) -> None:
    anchored = anchor.held
    with tampering(place) as connection:
        connection.execute("DELETE FROM bone_age_ledger WHERE number > ?", [left])
    assert faults(ledger) == [f"the end is cut off: the anchor holds entry 10, the last is {left}"]
    for _ in range(12 - left):
        ledger.append(new())
    assert anchor.held == anchored
    assert "entry 10: was replaced: the anchor holds another digest" in faults(ledger)


def test_an_entry_put_before_the_first_is_found(ledger: Ledger, place: Home) -> None:
    with tampering(place) as connection:
        rehashed(connection, 1, number=0)
    assert "entry 0: out of order: it comes after entry 0" in faults(ledger)


def test_an_anchor_that_holds_nothing_is_a_note(ledger: Ledger, anchor: MemoryAnchor) -> None:
    anchor.held = None
    assert faults(ledger) == []
    assert ["the anchor holds no entry" in str(finding) for finding in ledger.verify()] == [True]


def test_an_anchor_that_went_is_set_anew_and_the_ledger_says_so_for_good(
    ledger: Ledger, place: Home, anchor: MemoryAnchor
) -> None:
    with tampering(place) as connection:
        connection.execute("DELETE FROM bone_age_ledger WHERE number > 8")
    anchor.held = None
    entry = ledger.append(new())
    renewed = ledger.entry(9)
    assert renewed is not None
    assert (renewed.event, entry.number) == (Event.ANCHOR_RENEWED, 10)
    assert "cut off" in renewed.reason
    assert anchor.held == (10, entry.digest)
    ledger.append(new())
    assert [found.number for found in ledger.entries(events=(Event.ANCHOR_RENEWED,))] == [9]


@pytest.mark.parametrize("guard", ["no_update", "no_delete", "no_replace"])
def test_a_guard_that_fell_is_found_and_not_raised_again(ledger: Ledger, place: Home, guard: str) -> None:
    with sqlite3.connect(place.root / "ledger.db") as connection:
        connection.execute(f"DROP TRIGGER bone_age_ledger_{guard}")
    expected = [f"the database's guard bone_age_ledger_{guard} is gone"]
    assert faults(ledger) == faults(Ledger.open(place)) == expected


def test_a_guard_that_was_made_toothless_is_found(ledger: Ledger, place: Home) -> None:
    with sqlite3.connect(place.root / "ledger.db") as connection:
        connection.execute("DROP TRIGGER bone_age_ledger_no_delete")
        connection.execute(
            "CREATE TRIGGER bone_age_ledger_no_delete BEFORE DELETE ON bone_age_ledger BEGIN SELECT 1; END"
        )
    assert faults(ledger) == ["the database's guard bone_age_ledger_no_delete is gone"]


# Signatures


def test_signed_entries_are_checked_with_either_half_of_the_key(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    place = home_at(tmp_path, ledger_key=key_file(tmp_path / "key.pem", key))
    ledger = Ledger.open(place)
    entry = ledger.append(new())
    assert entry.signature
    assert ledger.verify() == []
    public = public_file(tmp_path / "public.pem", key)
    assert Ledger.open(home_at(tmp_path)).verify(public) == []
    assert Ledger.open(home_at(tmp_path, ledger_public_key=public)).verify() == []
    (note,) = Ledger.open(home_at(tmp_path)).verify()
    assert note.is_note
    assert str(note) == "1 entries are signed; no key was given to check them with"


def test_signing_may_begin_later_and_then_may_not_stop(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    unsigned = Ledger.open(home_at(tmp_path))
    unsigned.append(new())
    unsigned.append(new())
    place = home_at(tmp_path, ledger_key=key_file(tmp_path / "key.pem", key))
    signing = Ledger.open(place)
    assert faults(signing) == ["no entry is signed, though a key is configured"]
    signing.append(new())
    (note,) = signing.verify()
    assert note.is_note
    assert str(note).startswith("entry 1 to 2: not signed; the first signature covers it")
    unsigned.append(new())
    assert faults(signing) == ["entry 4: not signed"]


def test_who_writes_the_chain_anew_without_the_key_is_found(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    place = home_at(tmp_path, ledger_key=key_file(tmp_path / "key.pem", key))
    ledger = Ledger.open(place)
    for _ in range(4):
        ledger.append(new())
    with tampering(place) as connection:
        second = rehashed(connection, 2, actor="nobody")
        third = rehashed(connection, 3, previous_digest=second)
        rehashed(connection, 4, previous_digest=third)
        connection.execute("UPDATE bone_age_ledger SET signature = '' WHERE number = 4")
    assert faults(ledger) == ["entry 2 to 3: its signature is not of the configured key", "entry 4: not signed"]


def test_another_key_vouches_for_nothing(tmp_path: Path) -> None:
    place = home_at(tmp_path, ledger_key=key_file(tmp_path / "key.pem", Ed25519PrivateKey.generate()))
    ledger = Ledger.open(place)
    ledger.append(new())
    other = public_file(tmp_path / "other.pem", Ed25519PrivateKey.generate())
    assert faults(ledger, other) == ["entry 1: its signature is not of the configured key"]


def test_keys_that_cannot_sign_are_refused_by_their_path(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "text.pem").write_text("no key")
    wrong = [
        tmp_path / "absent.pem",
        tmp_path / "text.pem",
        key_file(tmp_path / "encrypted.pem", key, b"secret"),
        key_file(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048)),
        public_file(tmp_path / "public.pem", key),
    ]
    for path in wrong:
        with pytest.raises(InputError, match=path.name):
            Ledger.open(home_at(tmp_path, ledger_key=path))
    for path in (*wrong[:4], key_file(tmp_path / "private.pem", key)):
        with pytest.raises(InputError, match=path.name):
            Ledger.open(home_at(tmp_path, ledger_public_key=path))


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_AGE_LEDGER_KEY", "")
    monkeypatch.setenv("BONE_AGE_LEDGER_PUBLIC_KEY", "public.pem")
    assert Home().ledger_key is None
    assert Home().ledger_public_key == Path("public.pem")


# Databases


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "BONE_AGE_DATABASE_URL: this is no database URL"),
        ("mysql://me:s3cret@host/db", "kept in sqlite or postgresql, not in mysql"),
        ("sqlite://", "sqlite needs a file"),
        ("sqlite:////dev/null/ledger.db", "/dev/null: cannot be created"),
    ],
)
def test_urls_that_name_no_ledger_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Ledger.open(home_at(tmp_path, database_url=url))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_database_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(BoneAgeError, match=r"^ledger: the database does not answer: .*refused") as caught:
        Ledger.open(home_at(tmp_path, database_url=f"{scheme}://me:s3cret@127.0.0.1:1/db"))
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("something else entirely, long enough to be looked at" * 20)
    with pytest.raises(BoneAgeError, match=r"^ledger: the database refuses: file is not a database"):
        Ledger.open(home_at(tmp_path))
