"""What the ledger holds: entries, each bound to the one before it by a digest.

An entry's `digest` is the SHA-256 (hex) of its canonical bytes: every field but `digest` and `signature` as one JSON
object, keys sorted by code point, no white space, characters as themselves in UTF-8, numbers as Python prints them,
neither NaN nor infinity. `signature`, where there is one, is Base64 of Ed25519 over the digest's 64 ASCII characters.
Whoever has the entries as JSON recomputes the chain with the standard library:

    previous = "0" * 64
    for entry in entries:
        fields = {name: value for name, value in entry.items() if name not in ("digest", "signature")}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        assert entry["previous_digest"] == previous
        assert entry["digest"] == hashlib.sha256(text.encode("utf-8")).hexdigest()
        previous = entry["digest"]
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from bone_age.errors import BoneAgeError, InputError
from bone_age.settings import Strict

GENESIS = "0" * 64
CLOCK_BEHIND = "clock_behind_seconds"
NOT_HASHED = ("digest", "signature")
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]


class Event(StrEnum):
    """What happened."""

    TRAINED = "trained"
    REGISTERED = "registered"
    EVIDENCE = "evidence"
    GATES = "gates"
    INTENT = "intent"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    OVERRIDDEN = "overridden"
    ROLLED_BACK = "rolled_back"
    ALIAS_REPAIRED = "alias_repaired"
    ABANDONED = "abandoned"
    BUNDLED = "bundled"
    ANCHOR_RENEWED = "anchor_renewed"
    MONITORED = "monitored"
    RETRAINING = "retraining"
    RETRAINED = "retrained"
    PRUNED = "pruned"


ACTS = {Event.PROMOTED: "promotion", Event.ROLLED_BACK: "rollback", Event.ALIAS_REPAIRED: "repair of the alias"}
NEW_CHAMPION = tuple(ACTS)
CLOSES_INTENT = (*NEW_CHAMPION, Event.ABANDONED)


def canonical_bytes(fields: Mapping[str, Any]) -> bytes:
    """The one way to write JSON that digests are made of.

    Raises:
        InputError: NaN, infinity, half a surrogate pair, or what is no JSON at all.
    """
    try:
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"ledger: cannot be written as JSON: {error}") from None


def digest_of_entry(fields: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the canonical bytes of an entry's fields, less those that are not hashed."""
    hashed = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    return hashlib.sha256(canonical_bytes(hashed)).hexdigest()


def timestamp(moment: datetime) -> str:
    """UTC, ISO 8601 with microseconds; such texts sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _as_written(time: str) -> str:
    if timestamp(datetime.fromisoformat(time)) != time:
        raise ValueError("not UTC with microseconds")
    return time


class _Told(Strict):
    event: Event
    actor: str
    host: str = Field(default_factory=socket.gethostname)
    reason: str = ""
    version: VersionNumber | None = None
    previous_version: VersionNumber | None = None
    model_digest: str = ""
    dataset_fingerprint: str = ""
    policy_digest: str = ""
    git_commit: str = ""
    run_id: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class NewEntry(_Told):
    """What is to be recorded; number, time, digests and signature are the ledger's to give.

    An entry that closes an intent names it in `details["intent"]`.

    Raises:
        InputError: No actor, a NUL character (PostgreSQL cannot keep one), or what canonical JSON cannot say.
    """

    details: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if not self.actor.strip():
            raise InputError("ledger: an entry needs its actor")
        document = self.model_dump(mode="python")
        canonical_bytes(document)
        if _has_nul(document):
            raise InputError("ledger: a NUL character cannot be recorded")
        intent = self.details.get("intent")
        if self.event in CLOSES_INTENT and intent is not None and type(intent) is not int:
            raise InputError(f"ledger: details.intent is the number of an entry, not {intent!r}")
        return self


class Entry(_Told):
    """One link of the chain."""

    number: int
    time: Annotated[str, AfterValidator(_as_written)] = Field(description="UTC, ISO 8601 with microseconds")
    previous_digest: str
    digest: str
    signature: str = ""

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.time)

    @classmethod
    def sealed(cls, new: NewEntry, previous: Entry | None, now: datetime) -> Self:
        """The entry that follows `previous`, unsigned; a clock that is behind it gives the same time once more."""
        details = new.details
        if previous is not None and now < previous.moment:
            details = details | {CLOCK_BEHIND: (previous.moment - now).total_seconds()}
            now = previous.moment
        fields = new.model_dump(mode="python") | {
            "details": details,
            "number": previous.number + 1 if previous else 1,
            "time": timestamp(now),
            "previous_digest": previous.digest if previous else GENESIS,
        }
        return cls(**fields, digest=digest_of_entry(fields))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read back what the database holds.

        Raises:
            BoneAgeError: Somebody wrote there what no entry can be.
        """
        try:
            return cls.model_validate(dict(row))
        except ValidationError as error:
            what = error.errors()[0]["loc"][0]
            raise BoneAgeError(f"ledger: entry {row['number']} cannot be read: its {what} has been changed") from None


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value
