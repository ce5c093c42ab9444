"""Cron expressions as crontab(5) means them, with seconds in front where there are six fields.

Each field is written out into its values, because the three that read them disagree: for APScheduler 0 is Monday, for
cron Sunday, and systemd knows names only. Times are those of this machine's zone (`TZ`), summer time included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from bone_age.errors import InputError

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}
BOUNDS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
PART = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?")
Values = tuple[int, ...] | None


@dataclass(frozen=True)
class Cron:
    """A schedule; a field's value is None where every one is meant, weekdays count from Sunday, 0."""

    expression: str
    second: Values
    minute: Values
    hour: Values
    day: Values
    month: Values
    weekday: Values

    @classmethod
    def parse(cls, expression: str) -> Cron:
        """Read an expression of five fields, or of six with seconds first, or `@daily` and the like.

        Raises:
            InputError: It is none, names a date that never comes, or both a day of the month and one of the week.
        """
        text = SHORT.get(expression.strip().lower(), expression)
        fields = text.lower().split()
        if len(fields) not in (5, 6):
            raise InputError(
                f"--cron is '{expression}', expected minute hour day month weekday, like '0 3 * * 1-5' (seconds first "
                "where there are six)"
            )
        fields = fields if len(fields) == 6 else ["0", *fields]
        values = {name: _values(name, field, expression) for name, field in zip(BOUNDS, fields, strict=True)}
        cron = cls(expression.strip(), **values)
        if cron.day is not None and cron.weekday is not None:
            raise InputError(f"--cron is '{expression}': cron takes day of month and weekday for either; name one")
        if cron.next_after(datetime.now(UTC)) is None:
            raise InputError(f"--cron is '{expression}', a date that never comes")
        return cron

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time later than a moment (with its time zone); None where none ever comes."""
        names = None if self.weekday is None else ",".join(DAYS[day] for day in self.weekday)
        given = (self.month, self.day, self.hour, self.minute, self.second)
        month, day, hour, minute, second = ("*" if values is None else _listed(values) for values in given)
        trigger = CronTrigger(
            month=month, day=day, day_of_week=names or "*", hour=hour, minute=minute, second=second
        )  # in the machine's zone
        found: datetime | None = trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
        return found

    @property
    def crontab(self) -> str:
        """Five fields.

        Raises:
            InputError: It has seconds, which cron has not.
        """
        if self.second != (0,):
            raise InputError(f"--cron is '{self.expression}': only this program's own process knows seconds")
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join("*" if values is None else _listed(values) for values in fields)

    @property
    def calendar(self) -> str:
        """As systemd's `OnCalendar=` wants it."""
        days = "" if self.weekday is None else ",".join(DAYS[day].capitalize() for day in self.weekday) + " "
        date = (self.month, self.day)
        time = (self.hour, self.minute, self.second)
        return f"{days}*-{'-'.join(map(_two_digits, date))} {':'.join(map(_two_digits, time))}"


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


def _two_digits(values: Values) -> str:
    return "*" if values is None else ",".join(f"{value:02d}" for value in values)


def _values(name: str, field: str, expression: str) -> Values:
    low, high = BOUNDS[name]
    if field == "*":
        return None
    found: set[int] = set()
    for part in field.split(","):
        match = PART.fullmatch(part)
        if match is None:
            raise InputError(f"--cron is '{expression}': {name} '{part}' is not understood")
        start, end, step = match.groups()
        if start == "*":
            first, last = low, 6 if name == "weekday" else high
            if end is not None:
                raise InputError(f"--cron is '{expression}': {name} '{part}' is not understood")
        else:
            first = _number(name, start, expression)
            last = _number(name, end, expression) if end else first if step is None else high
        if not low <= first <= last <= high or step == "0":
            raise InputError(f"--cron is '{expression}': {name} '{part}' is outside {low} to {high}")
        found.update(range(first, last + 1, int(step or 1)))
    return tuple(sorted({value % 7 for value in found} if name == "weekday" else found))


def _number(name: str, text: str, expression: str) -> int:
    names = {"weekday": DAYS, "month": MONTHS}.get(name, ())
    if text in names:
        return names.index(text) + (name == "month")
    if not text.isdigit():
        raise InputError(f"--cron is '{expression}': {name} '{text}' is not understood")
    return int(text)
