"""`bone-age monitor`: one look at a time, written, recorded and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bone_age.monitoring.recording import log_as_run, record_in_ledger
from bone_age.monitoring.report import write_report
from bone_age.monitoring.watching import DAYS, Look, Watched, look
from bone_age.one_process import alone
from bone_age.scheduling.lease import leased
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.references import load_predictor
from bone_age.settings import Home

WORK = "monitoring"


@dataclass(frozen=True, eq=False)
class Monitored:
    """A look, the number of its entry in the ledger (None where there is none), and where its page lies."""

    look: Look
    entry: int | None
    page: Path | None


def monitor(
    home: Home,
    model: str | None = None,
    days: float = DAYS,
    out: Path | None = None,
    log_in: Callable[[Look, int | None], object] = log_as_run,
) -> Monitored:
    """Look once.

    Args:
        model: As for `predict`; None is the champion or, where there is none, the reference model.
        days: How old an answer may be.
        out: Where page, JSON and Prometheus' text file go beside MLflow.
        log_in: What keeps the look in MLflow.
    Raises:
        BusyError: Another monitoring is at work in this home or on its shared database.
        InputError, ModelError, DatabaseUnavailableError: As `look`; or `out` cannot be written.
        BoneAgeError: Ledger or MLflow do not answer.
    """
    with alone(home.prepare().root / "monitoring.lock", WORK), leased(home, WORK):
        predictor = load_predictor(model)
        watched = Watched(predictor.name, predictor.digest, predictor.bundle)
        found = look(PredictionLog.open(home), watched, days)
        page = write_report(found, out) if out is not None else None
        entry = record_in_ledger(found, home)
        log_in(found, entry)
    return Monitored(found, entry, page)
