"""A training as a process of its own: whatever ends it, what started it lives on and says so.

What came of it is read from the ledger, where every decision stands, not from what the process printed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml

from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event
from bone_age.governance.ledger import Ledger
from bone_age.scheduling.job import Job
from bone_age.scheduling.records import Ended, Outcome
from bone_age.settings import Home, Strict

LOGS_KEPT = 20
PATIENCE_S = 90  # for a training that was asked to end: it closes its runs in MLflow first
RULINGS = {
    Event.PROMOTED: Outcome.PROMOTED,
    Event.REJECTED: Outcome.NOT_PROMOTED,
    Event.GATES: Outcome.AWAITS_APPROVAL,
}


def train_in_process(job: Job, home: Home, ledger: Ledger) -> Ended:
    """Run `bone-age train` and wait for it. An interruption ends it politely, and then goes on as itself."""
    home.schedule.mkdir(exist_ok=True)
    log = _new_log(home.schedule)
    before = head.number if (head := ledger.head()) else 0
    with tempfile.TemporaryDirectory(dir=home.schedule) as folder, log.open("w") as output:
        options = ["--config", _written(job.config, Path(folder)), "--policy", _written(job.policy, Path(folder))]
        process = subprocess.Popen(
            [sys.executable, "-m", "bone_age.cli", "train", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
    if code:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Ended(Outcome.FAILED, f"training failed, {how}: {_last_line(log)}", log=log)
    return _ruled(ledger, before, log)


def _ruled(ledger: Chain, before: int, log: Path) -> Ended:
    rulings = list(ledger.entries(after=before, events=tuple(RULINGS)))
    if not rulings:
        return Ended(Outcome.UNCHANGED, f"nothing to decide: {_last_line(log)}", log=log)
    ruling = rulings[-1]
    return Ended(RULINGS[ruling.event], _last_line(log), ruling.version, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _written(settings: Strict, folder: Path) -> str:
    path = folder / f"{type(settings).__name__.lower()}.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    return str(path)


def _new_log(folder: Path) -> Path:
    for old in sorted(folder.glob("train-*.log"))[: -LOGS_KEPT + 1]:
        old.unlink()
    return folder / f"train-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log"


def _last_line(log: Path) -> str:
    """The command line's own last word: its error, or version, figure and decision."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it printed nothing"
