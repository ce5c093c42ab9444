"""The process that keeps a schedule: waits, runs, and makes up for one missed time, not for ten.

Times are looked at by the wall clock in short waits, so a machine that slept or a clock that was set costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from bone_age.scheduling.cron import Cron

NAP_S = 20.0


def keep(cron: Cron, run: Callable[[], datetime | None], last: datetime | None) -> NoReturn:
    """Run whenever it is due, until an exception ends it.

    Args:
        run: Does the work; returns when it wants to be tried again before its time, or None.
        last: When it last ran in an earlier process: times since then are made up for at once, by one run.
    """
    due = next_due(cron, last or datetime.now(UTC), None)
    while True:
        _wait_until(due)
        started = datetime.now(UTC)
        due = next_due(cron, started, run())


def next_due(cron: Cron, since: datetime, again_at: datetime | None) -> datetime:
    """The first time after `since`, or the earlier one that was asked for. One that lies in the past is due at once;
    as the next is counted from then, it stands for all that were missed.
    """
    due = cron.next_after(since)
    assert due is not None  # `Cron.parse` refuses dates that never come
    return min(due, again_at) if again_at is not None else due


def _wait_until(due: datetime) -> None:
    while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
        time.sleep(min(left, NAP_S))
