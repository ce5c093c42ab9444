"""The governance ledger: who did what to which model and why, append-only, each entry bound to the one before it.

The alias in MLflow says which version serves; the ledger says since when, by whom and why. Whoever can write to the
database can also switch its guards off, so tampering is not prevented but found: by the chain of digests, by an anchor
kept outside the database, and by signatures where a key is configured (`BONE_AGE_LEDGER_KEY`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, Select, insert

from bone_age.errors import AnchorError, LedgerConditionError
from bone_age.governance.chain import Chain, Row, rows_of
from bone_age.governance.entries import Entry, Event, NewEntry
from bone_age.governance.ledger_signature import read_private_key, read_public_key, sign
from bone_age.governance.ledger_storage import ANCHORING, LEDGER, Storage
from bone_age.governance.ledger_verification import Finding, check_chain, merged
from bone_age.settings import Home

Refusal = Callable[[Chain], str | None]
_RENEWED = NewEntry(
    event=Event.ANCHOR_RENEWED,
    actor="ledger",
    reason="the anchor was gone and is set anew; whether the end was cut off before this entry cannot be seen",
)


class Anchor(Protocol):
    """Number and digest of an entry, kept where who can write to the ledger's database cannot."""

    def read(self) -> tuple[int, str] | None: ...

    def write(self, number: int, digest: str) -> None: ...


class Ledger(Chain):
    """The ledger of a home; open it with `Ledger.open`."""

    def __init__(
        self,
        storage: Storage,
        anchor: Anchor | None = None,
        signs_with: Ed25519PrivateKey | None = None,
        verifies_with: Ed25519PublicKey | None = None,
    ) -> None:
        super().__init__(self._fetch_alone)
        self._storage, self._anchor = storage, anchor
        self._private, self._public = signs_with, verifies_with

    @classmethod
    def open(cls, home: Home, anchor: Anchor | None = None) -> Ledger:
        """Open the home's ledger, or the shared one that `BONE_AGE_DATABASE_URL` names, and create it where absent.

        Raises:
            InputError: The URL or a key is not usable.
            BoneAgeError: The database does not answer.
        """
        private = read_private_key(home.ledger_key) if home.ledger_key else None
        public = read_public_key(home.ledger_public_key) if home.ledger_public_key else None
        if public is None and private is not None:
            public = private.public_key()
        return cls(Storage(home.ledger_url), anchor, private, public)

    def append(self, new: NewEntry, unless: Refusal | None = None) -> Entry:
        """Write the next entry, then move the anchor to the end of the chain.

        Args:
            new: What is to be recorded.
            unless: Asked when it is this entry's turn, with nobody able to write in between; what it returns is why
                the entry is not written, None lets it be.
        Raises:
            LedgerConditionError: `unless` refused; nothing was written.
            AnchorError: The entry is written, its anchor is not; the next append moves it.
            BoneAgeError: The database does not answer.
        """
        with self._storage.writing() as connection:
            chain = Chain.within(connection)
            if unless is not None and (why := unless(chain)) is not None:
                raise LedgerConditionError(f"ledger: {new.event} is not recorded: {why}")
            head = chain.head()
            if head is not None and head.number > 1 and self._lost_its_anchor():
                head = self._write(connection, _RENEWED, head)
            entry = self._write(connection, new, head)
        try:
            self._move_anchor()
        except Exception as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise AnchorError(f"ledger: entry {entry.number} is written, its anchor is not: {why}") from error
        return entry

    def _write(self, connection: Connection, new: NewEntry, head: Entry | None) -> Entry:
        entry = Entry.sealed(new, head, datetime.now(UTC))
        if self._private is not None:
            entry = entry.model_copy(update={"signature": sign(self._private, entry.digest)})
        connection.execute(insert(LEDGER).values(entry.model_dump(mode="json")))
        return entry

    def _lost_its_anchor(self) -> bool:
        """An anchor that does not answer is not lost; `append` says so when it cannot move it."""
        try:
            return self._anchor is not None and self._anchor.read() is None
        except Exception:  # anchors are kept in services of any kind
            return False

    def verify(self, public_key: Path | None = None) -> list[Finding]:
        """Check the whole ledger: digests, order, times, signatures, anchor, and the database's guards.

        Args:
            public_key: PEM; default the configured one, or that of the configured private key.
        """
        key = read_public_key(public_key) if public_key else self._public
        guards = [Finding(None, f"the database's guard {name} is gone") for name in self._storage.fallen_guards()]
        anchored = self._anchor.read() if self._anchor else None
        return guards + merged(check_chain(self.rows(after=-(2**31)), anchored, self._anchor is not None, key))

    @property
    def checks_signatures(self) -> bool:
        """Whether `verify` has a key to check them with."""
        return self._public is not None

    @property
    def is_anchored(self) -> bool:
        """Whether the anchor holds an entry, whichever."""
        return self._anchor is not None and self._anchor.read() is not None

    def _move_anchor(self) -> None:
        """Only forward, and only if what it holds is still in the chain: evidence of tampering stays as it is."""
        if self._anchor is None:
            return
        with self._storage.writing(ANCHORING) as connection:
            chain = Chain.within(connection)
            anchored, head = self._anchor.read(), chain.head()
            if head is None:
                return
            if anchored is not None:
                held = chain.entry(anchored[0])
                if held is None or held.digest != anchored[1] or held.number == head.number:
                    return
            self._anchor.write(head.number, head.digest)

    def _fetch_alone(self, question: Select[Any]) -> list[Row]:
        with self._storage.reading() as connection:
            return rows_of(connection, question)


def unless_champion_changed(version: int | None) -> Refusal:
    """Lets an intent be recorded only if no other is open and `version` (None: none yet) is still champion."""

    def refusal(chain: Chain) -> str | None:
        if (intent := chain.open_intent()) is not None:
            return f"a promotion or rollback by {intent.actor} is at work or was cut short (entry {intent.number})"
        champion = chain.champion_on()
        today = champion.version if champion else None
        return None if today == version else f"the champion is version {today}, no longer version {version}"

    return refusal
