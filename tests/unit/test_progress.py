from __future__ import annotations

import pytest
from rich.progress import Progress

from bone_age.progress import bar, bars_stopped


def test_a_bar_whose_owner_was_ended_by_an_exception_is_stopped() -> None:
    bars: list[Progress] = []

    def start_and_fail() -> None:
        bars.append(bar())
        bars[0].start()
        raise ValueError("ended")

    with pytest.raises(ValueError, match="ended"), bars_stopped():
        start_and_fail()
    assert not bars[0].live.is_started


def test_a_bar_from_outside_goes_on() -> None:
    with bar() as outside:
        with bars_stopped():
            pass
        assert outside.live.is_started
