"""Work that one machine does at a time, where several share a database (`BONE_AGE_DATABASE_URL`).

A file lock ends with its process but ends at the machine; a lease is a row that its holder renews as long as it lives,
and that anybody may take once it was not renewed for a minute. Times are the database's own, so that hosts whose clocks
differ agree. Without a shared database the home's file lock (`one_process.alone`) is enough.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)

from bone_age.errors import BoneAgeError, BusyError
from bone_age.governance.ledger_storage import Storage
from bone_age.settings import Home

LEASE_S = 60.0
LEASING = 7_305_114_003
LEASES = Table(
    "bone_age_leases",
    MetaData(),
    Column("work", Text, primary_key=True),
    Column("token", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("until", Float, nullable=False),
)


class Lease:
    """The right to do one kind of work, taken from the database and renewed."""

    def __init__(self, storage: Storage, work: str, seconds: float) -> None:
        self._storage, self._work, self._seconds = storage, work, seconds
        self._token = uuid4().hex
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        with storage.writing(LEASING) as connection:
            LEASES.create(connection, checkfirst=True)

    def take(self) -> None:
        """Take it, from nobody or from who let it lapse.

        Raises:
            BusyError: It is held.
        """
        with self._storage.writing(LEASING) as connection:
            now = _now(connection)
            held = connection.execute(select(LEASES).where(LEASES.c.work == self._work)).first()
            if held is not None and held.until > now:
                raise BusyError(f"another {self._work} ({held.holder}) is at work on this database")
            connection.execute(delete(LEASES).where(LEASES.c.work == self._work))
            taken = {"work": self._work, "token": self._token, "holder": self._holder, "until": now + self._seconds}
            connection.execute(insert(LEASES).values(taken))

    def renew(self) -> bool:
        """Hold it for as long again; False where it is no longer this holder's."""
        with self._storage.writing(LEASING) as connection:
            until = _now(connection) + self._seconds
            return connection.execute(update(LEASES).where(self._is_own).values(until=until)).rowcount == 1

    def give_back(self) -> None:
        """Let others take it at once."""
        with self._storage.writing(LEASING) as connection:
            connection.execute(delete(LEASES).where(self._is_own))

    @property
    def _is_own(self) -> ColumnElement[bool]:
        return (LEASES.c.work == self._work) & (LEASES.c.token == self._token)


@contextmanager
def leased(home: Home, work: str, seconds: float = LEASE_S) -> Iterator[None]:
    """Do work that no other machine on the same database does; nothing to take where the database is the home's own.

    A holder that cannot renew in time sends itself SIGTERM (see `one_process.ended_by_signals`): another may be at the
    work by then.

    Raises:
        BusyError: Another is at it.
        BoneAgeError: The database does not answer, or the lease was lost while the work went on.
    """
    if not home.database_url:
        yield
        return
    lease = Lease(Storage(home.database_url), work, seconds)
    lease.take()
    done, lost = threading.Event(), threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, seconds, done, lost), daemon=True)
    renewing.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise BoneAgeError(f"{work}: ended, its lease on the database was lost") from None
        raise
    finally:
        done.set()
        renewing.join()
        if not lost.is_set():
            with suppress(BoneAgeError):  # without an answer it lapses by itself
                lease.give_back()


def _renew(lease: Lease, seconds: float, done: threading.Event, lost: threading.Event) -> None:
    renewed = time.monotonic()
    while not done.wait(seconds / 4):
        asked = time.monotonic()
        try:
            is_held = lease.renew()
        except BoneAgeError:  # the database may be back in time
            is_held = time.monotonic() - renewed < seconds * 3 / 4
        else:
            renewed = asked if is_held else renewed
        if not is_held:
            lost.set()
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _now(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock; SQLite's is this machine's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
