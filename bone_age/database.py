"""SQLite or PostgreSQL by URL, for what is shared by processes and hosts: the ledger and the prediction log.

Writers can take turns, across processes and hosts: SQLite's always do (`BEGIN IMMEDIATE`), PostgreSQL's by an advisory
lock that ends with its transaction. SQLite keeps its rollback journal rather than a write-ahead log, which would need
shared memory that network file systems do not have, and would leave recent entries in a second file. Each use connects
anew, so a database that was gone and came back is found again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from bone_age.errors import BoneAgeError, DatabaseUnavailableError, EntryRefusedError, InputError


class Database:
    """Connections for reading and writing; nothing is opened before the first is asked for.

    Args:
        database_url: `sqlite:///FILE` or `postgresql://...`.
        subject: What is kept there, as messages call it.
        patience_s: How long a writer waits for its turn, or for a lock.
        engine_options: Passed on to SQLAlchemy.
    Raises:
        InputError: The URL is none, or names another kind of database.
    """

    def __init__(self, database_url: str, subject: str, patience_s: int = 60, **engine_options: Any) -> None:
        self.subject, self._patience_s = subject, patience_s
        self._url = _understood(database_url, subject)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            options: dict[str, Any] = {"connect_args": {"isolation_level": None, "timeout": patience_s}}
        else:
            wait = {} if "connect_timeout" in self._url.query else {"connect_timeout": 10}
            options = {"connect_args": {"client_encoding": "utf8", **wait}, "isolation_level": "READ COMMITTED"}
        self._engine = create_engine(self._url, poolclass=NullPool, **options, **engine_options)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading.

        Raises:
            DatabaseUnavailableError, BoneAgeError: The database does not answer, or refuses.
        """
        with self._errors_in_one_line(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, turns: int | None = None) -> Iterator[Connection]:
        """A transaction, committed at the end and rolled back by an exception.

        Args:
            turns: In PostgreSQL, a number whose transactions do not overlap each other; None overlaps any.
        Raises:
            DatabaseUnavailableError, EntryRefusedError, BoneAgeError: The database does not answer, a value is none
                that it takes, or it refuses.
        """
        with self._errors_in_one_line(), self._engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{self._patience_s}s'")
                if turns is not None:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({turns})")
            yield connection

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            line = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
            line = line.replace(self._url.password, "***") if self._url.password else line
            if isinstance(error, OperationalError | InterfaceError):
                raise DatabaseUnavailableError(f"{self.subject}: the database does not answer: {line}") from None
            refused = EntryRefusedError if isinstance(error, DataError | IntegrityError) else BoneAgeError
            raise refused(f"{self.subject}: the database refuses: {line}") from None


def _understood(database_url: str, subject: str) -> URL:
    try:
        url = make_url(database_url)
        kind = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise InputError("BONE_AGE_DATABASE_URL: this is no database URL") from None
    if kind in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise InputError(f"BONE_AGE_DATABASE_URL: the {subject} is kept in sqlite or postgresql, not in {kind}")
    if not url.database or url.database == ":memory:":
        raise InputError(f"BONE_AGE_DATABASE_URL: sqlite needs a file, a {subject} in memory would be lost")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{Path(url.database).parent}: cannot be created: {error.strerror}") from None
    return url.set(drivername="sqlite")
