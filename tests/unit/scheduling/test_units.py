"""The schedule in the words of systemd and cron: parsed and run by them where they are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bone_age.scheduling.cron import Cron
from bone_age.scheduling.units import crontab, systemd

ARGUMENTS = ["100% of it", 'a "quoted" $HOME', "plain"]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['PLACE'], os.environ.get('SECRET')]))"


def _line(secrets: Path) -> str:
    command = [sys.executable, "-c", SHOW, *ARGUMENTS]
    return crontab(Cron.parse("0 3 * * 1-5"), command, {"PLACE": "a place"}, "/tmp", str(secrets))


def test_a_crontab_line_runs_the_very_command_with_its_environment_and_secrets(tmp_path: Path) -> None:
    secrets = tmp_path / "schedule.env"
    secrets.write_text("SECRET='a b'\n")
    line = _line(secrets)
    assert line.startswith("0 3 * * 1,2,3,4,5 cd /tmp && ")
    as_cron_runs_it = line.split(" ", 5)[5].replace("\\%", "%")  # cron turns a bare % into a new line
    assert "%" not in line.replace("\\%", "")
    done = subprocess.run(["sh", "-c", as_cron_runs_it], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [ARGUMENTS, "a place", "a b"]


def test_a_crontab_line_runs_without_secrets(tmp_path: Path) -> None:
    as_cron_runs_it = _line(tmp_path / "none").split(" ", 5)[5].replace("\\%", "%")
    done = subprocess.run(["sh", "-c", as_cron_runs_it], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [ARGUMENTS, "a place", None]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bone_age.cli", "schedule", "--config", "/tmp/a file.yaml", "100%"]
    text = systemd(Cron.parse("*/20 3 * * sun"), command, {"PLACE": "a place"}, "/tmp", "/tmp/schedule.env")
    service, timer = text.split("# ~/.config/systemd/user/bone-age-retraining.timer\n")
    (tmp_path / "bone-age-retraining.service").write_text(service)
    (tmp_path / "bone-age-retraining.timer").write_text(timer)
    assert f'ExecStart={sys.executable} -m bone_age.cli schedule --config "/tmp/a file.yaml" 100%%' in service
    assert "OnCalendar=Sun *-*-* 03:00,20,40:00" in timer
    assert "Persistent=true" in timer
    try:
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / "bone-age-retraining.timer")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs systemd-analyze")
    about_ours = [line for line in checked.stderr.splitlines() if "bone-age-retraining" in line]
    assert about_ours == []
