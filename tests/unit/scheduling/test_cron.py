"""Times of a schedule: as cron means them, whoever is to keep it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import tzlocal
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.scheduling.cron import BOUNDS, Cron

MONDAY = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def move_to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        tzlocal.reload_localzone()

    move_to("UTC")
    yield move_to
    monkeypatch.undo()
    tzlocal.reload_localzone()


def times(expression: str, n: int = 3, after: datetime = MONDAY) -> list[str]:
    cron, found = Cron.parse(expression), []
    for _ in range(n):
        following = cron.next_after(after)
        assert following is not None
        assert following > after
        found.append(f"{following:%a %d.%m. %H:%M:%S}")
        after = following
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", ["Tue 03.03. 03:00:00", "Wed 04.03. 03:00:00", "Thu 05.03. 03:00:00"]),
        ("*/20 * * * *", ["Mon 02.03. 12:20:00", "Mon 02.03. 12:40:00", "Mon 02.03. 13:00:00"]),
        ("*/2 * * * * *", ["Mon 02.03. 12:00:02", "Mon 02.03. 12:00:04", "Mon 02.03. 12:00:06"]),
        ("0 3 * * 0", ["Sun 08.03. 03:00:00", "Sun 15.03. 03:00:00", "Sun 22.03. 03:00:00"]),
        ("0 3 * * 7", ["Sun 08.03. 03:00:00", "Sun 15.03. 03:00:00", "Sun 22.03. 03:00:00"]),
        ("0 3 * * 5-7", ["Fri 06.03. 03:00:00", "Sat 07.03. 03:00:00", "Sun 08.03. 03:00:00"]),
        ("0 3 * * mon,wed", ["Wed 04.03. 03:00:00", "Mon 09.03. 03:00:00", "Wed 11.03. 03:00:00"]),
        ("30 6 1 jan-feb *", ["Fri 01.01. 06:30:00", "Mon 01.02. 06:30:00", "Sat 01.01. 06:30:00"]),
        ("0 0 29 2 *", ["Tue 29.02. 00:00:00", "Sun 29.02. 00:00:00", "Fri 29.02. 00:00:00"]),
        ("@weekly", ["Sun 08.03. 00:00:00", "Sun 15.03. 00:00:00", "Sun 22.03. 00:00:00"]),
    ],
)
def test_an_expression_means_what_cron_means_by_it(expression: str, expected: list[str]) -> None:
    assert times(expression) == expected


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", "expected minute hour day month weekday"),
        ("* * * *", "expected minute hour day month weekday"),
        ("60 * * * *", "minute '60' is outside 0 to 59"),
        ("0 0 0 * *", "day '0' is outside 1 to 31"),
        ("*/0 * * * *", "minute '*/0' is outside"),
        ("5-1 * * * *", "minute '5-1' is outside"),
        ("*-5 * * * *", "minute '*-5' is not understood"),
        ("0 3 * * monday", "weekday 'monday' is not understood"),
        ("0 3 L * *", "day 'l' is not understood"),
        ("0 3 1 * 1", "cron takes day of month and weekday for either; name one"),
        ("0 0 30 2 *", "a date that never comes"),
        ("0 3 * * $(id)", "weekday '$(id)' is not understood"),
    ],
)
def test_what_is_no_schedule_is_refused_by_name(expression: str, named: str) -> None:
    with pytest.raises(InputError) as refused:
        Cron.parse(expression)
    assert named in str(refused.value)


def test_summer_time_moves_no_nightly_run(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    cron, moment = Cron.parse("0 5 * * *"), datetime(2026, 3, 27, 12, tzinfo=UTC)
    found = []
    for _ in range(4):
        following = cron.next_after(moment)
        assert following is not None
        found.append(following.astimezone(UTC))
        moment = following
    assert [one.hour for one in found] == [4, 3, 3, 3]  # 5 o'clock in Berlin, before and after 29 March
    assert all(later.date() - earlier.date() == timedelta(days=1) for earlier, later in pairwise(found))


_fields = st.tuples(*(st.lists(st.integers(*BOUNDS[name]), min_size=1, max_size=3) for name in ("minute", "hour")))


@given(_fields, st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_every_schedule_can_be_written_for_cron_again(fields: tuple[list[int], ...], weekdays: list[int]) -> None:
    expression = " ".join(",".join(map(str, values)) for values in fields) + f" * * {','.join(map(str, weekdays))}"
    cron = Cron.parse(expression)
    again = Cron.parse(cron.crontab)
    assert again.next_after(MONDAY) == cron.next_after(MONDAY)


def test_seconds_cannot_be_written_for_cron() -> None:
    with pytest.raises(InputError, match="seconds"):
        _ = Cron.parse("*/2 * * * * *").crontab


@pytest.mark.parametrize("expression", ["0 3 * * 1-5", "*/20 * * * *", "15 4 1,15 * *", "0 3 * * 0", "*/7 5 6 * * *"])
def test_systemd_comes_to_the_same_times(expression: str) -> None:
    command = ["systemd-analyze", "calendar", "--iterations=3", "--base-time=2026-03-02 12:00:00 UTC"]
    try:
        told = subprocess.run([*command, Cron.parse(expression).calendar], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs systemd-analyze")
    found = [line.partition(": ")[2].split(" UTC")[0] for line in told.stdout.splitlines() if " UTC" in line]
    cron, moment, expected = Cron.parse(expression), MONDAY, []
    for _ in range(3):
        following = cron.next_after(moment)
        assert following is not None
        expected.append(f"{following:%a %Y-%m-%d %H:%M:%S}")
        moment = following
    assert [line for line in found if line in expected] == expected
