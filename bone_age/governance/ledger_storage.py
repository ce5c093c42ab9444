"""The ledger's table in SQLite or PostgreSQL, and the database's own refusal to change what is written.

The guards are made with the table and never again, so one that was removed stays removed for `verify` to find.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, Integer, MetaData, Table, Text, inspect, text

from bone_age.database import Database
from bone_age.governance.entries import canonical_bytes

APPENDING, ANCHORING = 7_305_114_001, 7_305_114_002
WHO, WHICH = ("time", "event", "actor", "host", "reason"), ("model_digest", "dataset_fingerprint", "policy_digest")
TEXTS = (*WHO, *WHICH, "git_commit", "run_id", "previous_digest", "digest", "signature")

LEDGER = Table(
    "bone_age_ledger",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in TEXTS),
    Column("version", Integer),
    Column("previous_version", Integer),
    Column("details", JSON, nullable=False),
    Index("bone_age_ledger_events", "event", "number"),
)

SQLITE_GUARDS = {
    "bone_age_ledger_no_update": "BEFORE UPDATE ON bone_age_ledger BEGIN "
    "SELECT RAISE(ABORT, 'the ledger is append-only: UPDATE is refused'); END",
    "bone_age_ledger_no_delete": "BEFORE DELETE ON bone_age_ledger BEGIN "
    "SELECT RAISE(ABORT, 'the ledger is append-only: DELETE is refused'); END",
    # INSERT OR REPLACE deletes without asking the trigger on DELETE
    "bone_age_ledger_no_replace": "BEFORE INSERT ON bone_age_ledger "
    "WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM bone_age_ledger) BEGIN "
    "SELECT RAISE(ABORT, 'the ledger is append-only: only the next number is accepted'); END",
}
POSTGRESQL_GUARD = "bone_age_ledger_append_only"
POSTGRESQL_REFUSAL = (
    "BEGIN RAISE EXCEPTION USING MESSAGE = 'the ledger is append-only: ' || TG_OP || ' is refused'; END"
)
# 58: before the statement, on DELETE, UPDATE and TRUNCATE
POSTGRESQL_GUARD_STANDS = text(
    "SELECT 1 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = to_regclass('bone_age_ledger') "
    "AND t.tgname = :guard AND t.tgenabled IN ('O', 'A') AND t.tgtype = 58 AND t.tgqual IS NULL AND p.prosrc = :refusal"
)


class Storage:
    """Connections to the ledger's table, which is created where it is absent.

    Raises:
        InputError: The URL is none, or names another kind of database.
        BoneAgeError: The database does not answer.
    """

    def __init__(self, database_url: str) -> None:
        self._database = Database(
            database_url,
            "ledger",
            json_serializer=lambda value: canonical_bytes(value).decode(),
            json_deserializer=_json_or_text,
        )
        self.reading = self._database.reading
        self._create()

    def writing(self, turn: int = APPENDING) -> AbstractContextManager[Connection]:
        """A transaction that nobody else's overlaps; in PostgreSQL, appending and anchoring do not wait for each other.

        Raises:
            BoneAgeError: The database does not answer.
        """
        return self._database.writing(turn)

    def fallen_guards(self) -> list[str]:
        """Names of the triggers that are absent, switched off, or not what they were."""
        with self.reading() as connection:
            if self._database.is_sqlite:
                stored = set(connection.execute(text("SELECT sql FROM sqlite_master WHERE type = 'trigger'")).scalars())
                return [name for name, does in SQLITE_GUARDS.items() if f"CREATE TRIGGER {name} {does}" not in stored]
            asked = {"guard": POSTGRESQL_GUARD, "refusal": POSTGRESQL_REFUSAL}
            return [] if connection.execute(POSTGRESQL_GUARD_STANDS, asked).first() else [POSTGRESQL_GUARD]

    def _create(self) -> None:
        with self.reading() as connection:
            if inspect(connection).has_table(LEDGER.name):
                return
        with self.writing() as connection:
            if inspect(connection).has_table(LEDGER.name):
                return
            LEDGER.create(connection)
            if self._database.is_sqlite:
                for name, does in SQLITE_GUARDS.items():
                    connection.exec_driver_sql(f"CREATE TRIGGER {name} {does}")
                return
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION bone_age_ledger_refuse() RETURNS trigger LANGUAGE plpgsql "
                f"AS $${POSTGRESQL_REFUSAL}$$"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER {POSTGRESQL_GUARD} BEFORE UPDATE OR DELETE OR TRUNCATE ON bone_age_ledger "
                "FOR EACH STATEMENT EXECUTE FUNCTION bone_age_ledger_refuse()"
            )


def _json_or_text(stored: str | bytes) -> Any:
    """What somebody overwrote with no JSON is shown as it is, for `verify` to name its entry."""
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return repr(stored)
