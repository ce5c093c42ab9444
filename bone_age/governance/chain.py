"""Questions to the ledger: its entries, the intent that is open, who was champion when.

Entries are read in pages by number and no transaction stays open between them: a slow reader of a long ledger never
makes a writer wait. Questions about champions read only the events that make one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Integer, Select, cast, func, or_, select

from bone_age.errors import InputError
from bone_age.governance.entries import CLOSES_INTENT, NEW_CHAMPION, Entry, Event, timestamp
from bone_age.governance.ledger_storage import LEDGER

PAGE = 5000
Row = dict[str, Any]
_is = LEDGER.c


@dataclass(frozen=True)
class Reign:
    """A time during which a version was champion, and what the entry that made it so says.

    `until` is None for today's champion; `version` is None where the alias was found to be gone, and so recorded.
    """

    version: int | None
    since: datetime
    until: datetime | None
    approver: str
    reason: str
    run_id: str
    event: Event
    entry: int
    details: dict[str, Any]

    @classmethod
    def made_by(cls, entry: Entry, until: datetime | None) -> Reign:
        told = {name: getattr(entry, name) for name in ("version", "reason", "run_id", "event", "details")}
        return cls(since=entry.moment, until=until, approver=entry.actor, entry=entry.number, **told)


class Chain:
    """The ledger as it stands; inside the transaction of an append, as it stays until that entry is written."""

    def __init__(self, fetch: Callable[[Select[Any]], list[Row]]) -> None:
        self._fetch = fetch

    @classmethod
    def within(cls, connection: Connection) -> Chain:
        """The ledger as this transaction sees it."""
        return Chain(partial(rows_of, connection))

    def head(self) -> Entry | None:
        """The last entry."""
        return self._one(select(LEDGER).order_by(_is.number.desc()).limit(1))

    def entry(self, number: int) -> Entry | None:
        """The entry of that number."""
        return self._one(select(LEDGER).where(_is.number == number))

    def entries(self, after: int = 0, events: Collection[Event] | None = None) -> Iterator[Entry]:
        """Entries with a number above `after`, in order; only those of `events`, if given."""
        return map(Entry.from_row, self.rows(after, events))

    def rows(self, after: int = 0, events: Collection[Event] | None = None) -> Iterator[Row]:
        """The same as the database holds them, readable as entries or not."""
        wanted = select(LEDGER) if events is None else select(LEDGER).where(_is.event.in_([*events]))
        while page := self._fetch(wanted.where(_is.number > after).order_by(_is.number).limit(PAGE)):
            yield from page
            after = page[-1]["number"]

    def open_intent(self) -> Entry | None:
        """The oldest intent that no later entry closes."""
        intent = cast(_is.details["intent"].as_integer(), Integer).label("intent")
        closed_by = func.max(_is.number).label("closed_by")
        closed = select(intent, closed_by).where(_is.event.in_(CLOSES_INTENT)).group_by(intent).subquery()
        intents = select(LEDGER).outerjoin(closed, closed.c.intent == _is.number).where(_is.event == Event.INTENT)
        is_open = or_(closed.c.closed_by.is_(None), closed.c.closed_by <= _is.number)
        return self._one(intents.where(is_open).order_by(_is.number).limit(1))

    def champion_on(self, moment: datetime | None = None) -> Entry | None:
        """The entry that made the champion of that moment (with its time zone), or of now.

        Raises:
            InputError: The moment has no time zone.
        """
        crowned = select(func.max(_is.number)).where(_is.event.in_(NEW_CHAMPION))
        if moment is not None:
            if moment.tzinfo is None:
                raise InputError(f"{moment}: a moment needs its time zone")
            crowned = crowned.where(_is.time <= timestamp(moment))
        return self._one(select(LEDGER).where(_is.number == crowned.scalar_subquery()))

    def reigns(self) -> list[Reign]:
        """All champions, the first one first."""
        crowned = list(self.entries(events=NEW_CHAMPION))
        ends = [entry.moment for entry in crowned[1:]]
        return [Reign.made_by(entry, until) for entry, until in zip(crowned, [*ends, None], strict=False)]

    def _one(self, question: Select[Any]) -> Entry | None:
        found = self._fetch(question)
        return Entry.from_row(found[0]) if found else None


def rows_of(connection: Connection, question: Select[Any]) -> list[Row]:
    """What the database answers."""
    answer = connection.execute(question)
    names = tuple(answer.keys())
    return [dict(zip(names, row, strict=True)) for row in answer]
