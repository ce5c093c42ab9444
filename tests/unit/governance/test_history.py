"""Which moment `bone-age history --on` means, and what the command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bone_age.errors import InputError
from bone_age.governance.history import end_of


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", "2026-03-01T23:59:59.999999+00:00"),
        ("2026-03-01T12:00", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01 12:00:30", "2026-03-01T12:00:30+00:00"),
        ("2026-03-01T12:00:30.5+02:00", "2026-03-01T10:00:30.500000+00:00"),
        ("2026-03-01T12:00Z", "2026-03-01T12:00:00+00:00"),
    ],
)
def test_a_date_is_the_end_of_its_day_and_a_time_is_itself(text: str, moment: str) -> None:
    assert end_of(text).isoformat() == moment
    assert end_of(text).utcoffset() == timedelta()


@pytest.mark.parametrize(
    "text",
    ["", "soon", "20260301", "2026-W09-7", "2026W097", "2026-03", "2026-3-1", "2026-03-01T12", "20260301T1200",
     "2026-02-30", "2026-03-01T25:00", "2026-03-01\n", "٢٠٢٦-03-01", "9999-12-31T23:59:59-23:00",
     "0001-01-01T00:00+14:00"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="expected a date like 2026-03-01") as refused:
        end_of(text)
    assert "\n" not in str(refused.value)


def test_the_future_is_refused_and_today_is_not() -> None:
    now = datetime.now(UTC)
    assert end_of(f"{now:%Y-%m-%d}").date() == now.date()
    for text in (f"{now + timedelta(days=2):%Y-%m-%d}", f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M}", "9999-12-31"):
        with pytest.raises(InputError, match="lies in the future"):
            end_of(text)


def test_it_loads_no_mlflow_and_nothing_that_draws_or_trains(tmp_path: Path) -> None:
    code = """
import sys
from bone_age.cli import main
try:
    main(["history"])
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted({"tensorflow", "keras", "zenml", "mlflow", "matplotlib", "scipy", "onnxruntime"} & set(sys.modules)))
"""
    environment = os.environ | {"BONE_AGE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == ["there was no champion yet", "[]"], done.stderr
