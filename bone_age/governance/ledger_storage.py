"""The ledger's table in SQLite or PostgreSQL, and the database's own refusal to change what is written.

Writers take turns, across processes and hosts: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by an advisory lock that ends
with its transaction. SQLite keeps its rollback journal rather than a write-ahead log, which would need shared memory
that network file systems do not have, and would leave recent entries in a second file. The guards are made with the
table and never again, so one that was removed stays removed for `verify` to find.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, Integer, MetaData, Table, Text, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from bone_age.errors import BoneAgeError, InputError
from bone_age.governance.entries import canonical_bytes

APPENDING, ANCHORING = 7_305_114_001, 7_305_114_002
PATIENCE_S = 60
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
        self._url = _understood(database_url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        if self._is_sqlite:
            options: dict[str, Any] = {"connect_args": {"isolation_level": None, "timeout": PATIENCE_S}}
        else:
            wait = {} if "connect_timeout" in self._url.query else {"connect_timeout": 10}
            options = {"connect_args": {"client_encoding": "utf8", **wait}, "isolation_level": "READ COMMITTED"}
        self._engine = create_engine(
            self._url,
            poolclass=NullPool,
            json_serializer=lambda value: canonical_bytes(value).decode(),
            json_deserializer=_json_or_text,
            **options,
        )
        self._create()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading."""
        with self._errors_in_one_line(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, turn: int = APPENDING) -> Iterator[Connection]:
        """A transaction that nobody else's overlaps; committed at the end, rolled back by an exception.

        Args:
            turn: What is taken in turns; in PostgreSQL, appending and anchoring do not wait for each other.
        """
        with self._errors_in_one_line(), self._engine.begin() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({turn})")
            yield connection

    def fallen_guards(self) -> list[str]:
        """Names of the triggers that are absent, switched off, or not what they were."""
        with self.reading() as connection:
            if self._is_sqlite:
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
            if self._is_sqlite:
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

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            silent = isinstance(error, OperationalError | InterfaceError)
            line = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
            line = line.replace(self._url.password, "***") if self._url.password else line
            raise BoneAgeError(f"ledger: the database {'does not answer' if silent else 'refuses'}: {line}") from None


def _understood(database_url: str) -> URL:
    try:
        url = make_url(database_url)
        kind = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise InputError("BONE_AGE_DATABASE_URL: this is no database URL") from None
    if kind in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise InputError(f"BONE_AGE_DATABASE_URL: the ledger is kept in sqlite or postgresql, not in {kind}")
    if not url.database or url.database == ":memory:":
        raise InputError("BONE_AGE_DATABASE_URL: sqlite needs a file, a ledger in memory would be lost")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{Path(url.database).parent}: cannot be created: {error.strerror}") from None
    return url.set(drivername="sqlite")


def _json_or_text(stored: str | bytes) -> Any:
    """What somebody overwrote with no JSON is shown as it is, for `verify` to name its entry."""
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return repr(stored)
