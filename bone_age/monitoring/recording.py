"""Where a look is kept: the verdict in the ledger, where the scheduler reads it; page and figures in MLflow.

The ledger comes first: a verdict counts from then on, whatever happens to MLflow.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
from pydantic import JsonValue

from bone_age.errors import LedgerConditionError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.ledger import Ledger
from bone_age.mlflow_connection import connect
from bone_age.monitoring.report import DOCUMENT, PAGE, flat_metrics, look_json, write_report
from bone_age.monitoring.watching import Look, Verdict
from bone_age.provenance import provenance
from bone_age.registry import REGISTERED_MODEL
from bone_age.scheduling.alerts import alert
from bone_age.scheduling.drift import last_verdict, record_verdict
from bone_age.settings import Home

KIND = "monitoring"


def record_in_ledger(look: Look, home: Home) -> int | None:
    """Record the verdict if it is one on the champion, and tell of drift that was not known before.

    Returns:
        The entry's number; None where there was no verdict, or the model is not (or no longer) champion.
    """
    if look.verdict is Verdict.NONE:
        return None
    ledger = open_ledger()
    champion = ledger.champion_on()
    if champion is None or look.watched.name != f"models:/{REGISTERED_MODEL}/{champion.version}":
        return None
    before = last_verdict(ledger)
    number = _record(look, ledger, champion.version)
    if number is not None and look.verdict is Verdict.DRIFT and not (before and before.drifted):
        alert(home, "drift", f"{look.said} (entry {number} of the ledger)")
    return number


def _record(look: Look, ledger: Ledger, version: int | None) -> int | None:
    shown: dict[str, JsonValue] = {
        name: {"value": one["value"], "bound": one["bound"]} for name, one in look_json(look)["figures"].items()
    }
    figures: dict[str, JsonValue] = {"answers": len(look.window.sample), "questions": look.window.sample.asked, **shown}
    try:
        return record_verdict(ledger, look.verdict is Verdict.DRIFT, look.said, figures, about=version).number
    except LedgerConditionError:  # another version was promoted meanwhile
        return None


def log_look(look: Look, entry: int | None) -> None:
    """Figures, verdict and page into the current MLflow run."""
    mlflow.set_tags(
        {
            "monitored_model": look.watched.name,
            "model_digest": look.watched.digest,
            "dataset_fingerprint": look.watched.bundle.facts.dataset_fingerprint,
            "verdict": look.verdict.value,
            "verdict_reason": look.said[:5000],
            "ledger_entry": "" if entry is None else str(entry),
        }
    )
    mlflow.log_metrics(flat_metrics(look))
    with tempfile.TemporaryDirectory() as folder:
        write_report(look, Path(folder))
        for name in (PAGE, DOCUMENT):
            mlflow.log_artifact(str(Path(folder) / name), "monitoring")


def log_as_run(look: Look, entry: int | None) -> str:
    """The same in a run of its own, of kind `monitoring`. Returns its id."""
    connect()
    tags = {"kind": KIND, "git_commit": provenance().git_commit}
    with mlflow.start_run(run_name=f"monitoring-{look.moment:%Y%m%d-%H%M%S}", tags=tags) as run:
        log_look(look, entry)
    return str(run.info.run_id)
