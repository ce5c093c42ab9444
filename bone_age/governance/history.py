"""Who was champion when, by whose word and why."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Any

from bone_age.errors import InputError
from bone_age.governance.chain import Reign
from bone_age.governance.entries import ACTS, Event
from bone_age.governance.gate import Gate
from bone_age.governance.ledger import Ledger
from bone_age.governance.promotions import overridden_gates, promotion_of
from bone_age.plain_text import on_one_line

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?")


def end_of(day: str) -> datetime:
    """The last moment of a day in UTC, so that `--on` a day includes what happened on it; a moment as it is.

    Raises:
        InputError: The text is neither YYYY-MM-DD nor a full ISO time, or it lies in the future.
    """
    expected = f"--on is {on_one_line(day)!r}, expected a date like 2026-03-01 or a time like 2026-03-01T12:00+01:00"
    now = datetime.now(UTC)
    try:
        if _DATE.fullmatch(day):
            date_of = date.fromisoformat(day)
            moment, is_future = datetime.combine(date_of, time.max, UTC), date_of > now.date()
        elif _TIME.fullmatch(day):
            moment = datetime.fromisoformat(day)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
            is_future = moment > now
        else:
            raise InputError(expected)
    except (ValueError, OverflowError):
        raise InputError(expected) from None
    if is_future:
        raise InputError(f"--on is '{day}', which lies in the future; it is {now:%Y-%m-%d %H:%M} UTC")
    return moment


def reigns_on(ledger: Ledger, on: str | None) -> list[Reign]:
    """All champions, the first one first; with `on` the one of that day, or none."""
    reigns = [reign for reign in ledger.reigns() if reign.version is not None]
    if on is None:
        return reigns
    entry = ledger.champion_on(end_of(on))
    return [reign for reign in reigns if entry is not None and reign.entry == entry.number]


def unsettled(ledger: Ledger) -> str | None:
    """What a command that still runs, or was killed, left open, in words."""
    intent = ledger.open_intent()
    if intent is None:
        return None
    act = ACTS.get(Event(intent.details["for"]), "command")
    return f"a {act} to version {intent.version} by {intent.actor} is not settled; `bone-age promote` settles it"


def overrides_of(ledger: Ledger, reign: Reign) -> list[Gate]:
    """The gates that a person let pass when the version became champion on evidence."""
    return list(overridden_gates(promotion_of(ledger, reign.version)).values()) if reign.version else []


def reign_json(ledger: Ledger, reign: Reign) -> dict[str, Any]:
    """One champion as plain JSON."""
    return {
        "version": reign.version,
        "since": reign.since.isoformat(),
        "until": reign.until.isoformat() if reign.until else None,
        "event": reign.event.value,
        "approver": reign.approver,
        "reason": reign.reason,
        "run_id": reign.run_id,
        "overrides": [
            {"gate": gate.name, "by": gate.overridden_by, "reason": gate.override_reason}
            for gate in overrides_of(ledger, reign)
        ],
        "entry": reign.entry,
    }
