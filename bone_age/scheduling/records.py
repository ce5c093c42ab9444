"""Decisions and outcomes of scheduled runs in the ledger, and beside it in MLflow for who looks there.

The ledger is what the next run goes by; a run of kind `retraining` in MLflow names its entry and may be pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from bone_age.governance.chain import Chain
from bone_age.governance.entries import Entry, Event, NewEntry
from bone_age.governance.ledger import Ledger
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.provenance import operator, provenance
from bone_age.scheduling.job import Job
from bone_age.scheduling.reasons import Finished

KIND = "retraining"
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(days=1)


class Outcome(StrEnum):
    """How a training ended."""

    PROMOTED = "promoted"
    NOT_PROMOTED = "not promoted"
    AWAITS_APPROVAL = "awaits approval"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


COMES_AGAIN = (Outcome.FAILED, Outcome.INTERRUPTED)
STATUS = {Outcome.FAILED: "FAILED", Outcome.INTERRUPTED: "KILLED"}


@dataclass(frozen=True)
class Ended:
    """A training's outcome in words, and the file with what it printed."""

    outcome: Outcome
    said: str
    version: int | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Decision:
    """A recorded decision: its entry in the ledger, its run in MLflow, and the reasons to train, none for not to."""

    entry: Entry
    run_id: str
    reasons: dict[str, str]


def record_decision(ledger: Ledger, job: Job, fingerprint: str, reasons: dict[str, str]) -> Decision:
    """Why this run trains, or does not."""
    said = "; ".join(reasons.values()) or "no reason to train"
    decision = "train" if reasons else "no reason"
    entry = ledger.append(
        NewEntry(
            event=Event.RETRAINING,
            actor=operator(),
            reason=said,
            dataset_fingerprint=fingerprint,
            policy_digest=job.policy.digest,
            git_commit=provenance().git_commit,
            details={"decision": decision, "reasons": dict(reasons), **_of_job(job)},
        )
    )
    tags = {"kind": KIND, "decision": decision, "ledger_entry": str(entry.number)}
    tags |= {"reason": said[:5000], "dataset_fingerprint": fingerprint, "reasons": ",".join(reasons)}
    tags |= {"schedule": job.cron, "config_digest": job.config_digest}
    client = connect()
    run_id = client.create_run(experiment_id(), run_name=f"{job.config.name}-{decision}", tags=tags).info.run_id
    if not reasons:
        client.set_terminated(run_id)
    return Decision(entry, run_id, reasons)


def record_end(ledger: Ledger, job: Job, fingerprint: str, ended: Ended, decision: Decision | None) -> None:
    """How it ended; without a decision where it could not even be made."""
    ledger.append(
        NewEntry(
            event=Event.RETRAINED,
            actor=operator(),
            reason=ended.said,
            dataset_fingerprint=fingerprint,
            policy_digest=job.policy.digest,
            git_commit=provenance().git_commit,
            details={
                "outcome": ended.outcome.value,
                "decision": decision.entry.number if decision else None,
                "trained_version": ended.version,
                **_of_job(job),
            },
        )
    )
    if decision is not None:
        client = connect()
        client.set_tag(decision.run_id, "outcome", ended.outcome.value)
        client.set_tag(decision.run_id, "outcome_reason", ended.said[:5000])
        client.set_terminated(decision.run_id, STATUS.get(ended.outcome, "FINISHED"))


def close_cut_short() -> None:
    """Decisions whose run was killed before it could say how its training ended; nobody else is at one now."""
    client = connect()
    for run in client.search_runs([experiment_id()], f"tags.kind = '{KIND}' and attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, "KILLED")


def finished(ledger: Chain) -> tuple[Finished, ...]:
    """Scheduled trainings that came to their end, the first one first."""
    return tuple(
        Finished(entry.moment, entry.dataset_fingerprint, f"{entry.details.get('config_digest')} {entry.policy_digest}")
        for entry in ledger.entries(events=(Event.RETRAINED,))
        if entry.details.get("outcome") not in COMES_AGAIN
    )


def waits_until(ledger: Chain, job: Job, first: timedelta = FIRST_WAIT) -> datetime | None:
    """After failures in a row, when to try this configuration again: twice as late each time, at most a day."""
    ends = [entry for entry in ledger.entries(events=(Event.RETRAINED,)) if _is_of(entry, job)]
    failures = 0
    for entry in reversed(ends):
        if entry.details.get("outcome") != Outcome.FAILED:
            break
        failures += 1
    if not failures:
        return None
    return ends[-1].moment + min(first * 2.0 ** min(failures - 1, 30), LONGEST_WAIT)


def last_decided(ledger: Chain, job: Job) -> datetime | None:
    """When this schedule last came to a decision, for what it missed since."""
    events = (Event.RETRAINING, Event.RETRAINED)
    moments = [entry.moment for entry in ledger.entries(events=events) if _is_of(entry, job)]
    return moments[-1] if moments else None


def _is_of(entry: Entry, job: Job) -> bool:
    return all(entry.details.get(name) == value for name, value in _of_job(job).items())


def _of_job(job: Job) -> dict[str, str]:
    return {"config": job.config.name, "config_digest": job.config_digest, "schedule": job.cron}
