"""Folders that go with their process, and with no other one's word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bone_age.scratch import is_in_use

WORKS = """
import sys
from bone_age.scratch import scratch_folder
print(scratch_folder(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"BONE_AGE_HOME": str(tmp_path / "home")}


def started(environment: dict[str, str], *around: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [*around, sys.executable, "-c", WORKS], env=environment, stdin=-1, stdout=-1, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.fault
def test_a_folder_goes_when_its_process_ends_and_a_killed_ones_at_the_next_start(environment: dict[str, str]) -> None:
    ended, polite = started(environment)
    assert polite.is_dir()
    ended.communicate("")
    assert not polite.parent.exists()

    process, killed = started(environment)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert killed.is_dir()
    assert not is_in_use(killed.parent)
    next_one, _ = started(environment)
    assert not killed.exists()
    next_one.communicate("")


@pytest.mark.fault
def test_one_who_cannot_see_the_other_process_leaves_its_folder(environment: dict[str, str]) -> None:
    """As two containers on one home; a process number of the first is nobody's, or another's, in the second."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no process namespace can be made here")
    first, folder = started(environment)
    second, other = started(environment, *unshare)
    assert folder.is_dir()
    assert folder.parent != other.parent
    assert is_in_use(folder.parent)
    for process in (second, first):
        process.communicate("")
