"""The last verdict on drift, as monitoring records it and a scheduled run reads it: an entry of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from bone_age.governance.chain import Chain
from bone_age.governance.entries import Entry, Event, NewEntry
from bone_age.governance.ledger import Ledger
from bone_age.provenance import operator


@dataclass(frozen=True)
class DriftVerdict:
    """What monitoring found: whether anything was above its bound, in one line what, and when."""

    drifted: bool
    said: str
    moment: datetime


def record_verdict(
    ledger: Ledger, drifted: bool, said: str, figures: dict[str, JsonValue], about: int | None = None
) -> Entry:
    """Write a verdict on the champion into the ledger.

    Args:
        said: One line for people: which figure is above which bound.
        figures: What it rests on, by name.
        about: The version that was looked at; None is whichever is champion.
    Raises:
        LedgerConditionError: `about` is not champion any more; nothing was written.
    """

    def no_longer_champion(chain: Chain) -> str | None:
        today = chain.champion_on()
        if about is None or (today is not None and today.version == about):
            return None
        return f"version {about} is not champion any more"

    champion = ledger.champion_on()
    details: dict[str, JsonValue] = {"drift": drifted, "figures": figures}
    details["champion"] = champion.version if champion else None
    new = NewEntry(event=Event.MONITORED, actor=operator(), reason=said, details=details)
    return ledger.append(new, unless=no_longer_champion)


def last_verdict(ledger: Chain) -> DriftVerdict | None:
    """The newest verdict, if it is about the version that is champion now."""
    champion = ledger.champion_on()
    verdicts = list(ledger.entries(events=(Event.MONITORED,)))
    if not verdicts or champion is None or verdicts[-1].details.get("champion") != champion.version:
        return None
    newest = verdicts[-1]
    return DriftVerdict(bool(newest.details.get("drift")), newest.reason, newest.moment)
