"""One scheduled run: is there reason, and if so a training; recorded, one at a time, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bone_age import registry
from bone_age.data.loading import load_dataset
from bone_age.errors import BoneAgeError, BusyError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event
from bone_age.governance.ledger import Ledger
from bone_age.mlflow_connection import first_line
from bone_age.one_process import alone
from bone_age.registry import VersionFacts
from bone_age.scheduling.alerts import alert
from bone_age.scheduling.drift import last_verdict
from bone_age.scheduling.job import Job
from bone_age.scheduling.lease import leased
from bone_age.scheduling.reasons import Champion, Grounds, reasons_to_train
from bone_age.scheduling.records import (
    Ended,
    Outcome,
    close_cut_short,
    finished,
    record_decision,
    record_end,
    waits_until,
)
from bone_age.scheduling.training_process import train_in_process
from bone_age.settings import Home

Training = Callable[[Job, Home, Ledger], Ended]
ALERTS = {
    Outcome.FAILED: "failure",
    Outcome.NOT_PROMOTED: "refusal",
    Outcome.AWAITS_APPROVAL: "refusal",
    Outcome.PROMOTED: "promotion",
}


@dataclass(frozen=True)
class Result:
    """What a scheduled run came to, in one line; after failures, when to try again."""

    said: str
    failed: bool = False
    again_at: datetime | None = None


def retrain_if_due(job: Job, home: Home, train: Training = train_in_process) -> Result:
    """Decide, record, train if there is reason to, record and tell how it ended.

    Whatever goes wrong in the training or with the data is a result, not an exception.

    Raises:
        BusyError: Another scheduled run or a training is at work; nothing is recorded.
        BoneAgeError: The records cannot be written.
    """
    with alone(home.prepare().root / "schedule.lock", "scheduled run"), leased(home, "scheduled run"):
        _require_no_training(home)
        ledger = open_ledger()
        close_cut_short()
        again_at = waits_until(ledger, job)
        if again_at is not None and again_at > datetime.now(UTC):
            return Result(f"the last training failed; waits until {again_at:%Y-%m-%d %H:%M:%S} UTC", False, again_at)
        try:
            return _decided(ledger, job, home, gather(ledger, job), train)
        except BoneAgeError as error:
            ended = Ended(Outcome.FAILED, str(error))
            record_end(ledger, job, "", ended, None)
            alert(home, "failure", ended.said)
            return Result(ended.said, True, waits_until(ledger, job))


def attempt(job: Job, home: Home, train: Training = train_in_process) -> Result:
    """The same, and whatever happens the schedule goes on: a database that is down today may be up tomorrow."""
    try:
        return retrain_if_due(job, home, train)
    except BusyError as error:
        return Result(f"skipped: {error}")
    except Exception as error:
        said = str(error) if isinstance(error, BoneAgeError) else f"{type(error).__name__}: {first_line(error)}"
        alert(home, "failure", said)
        return Result(said, failed=True)


def gather(ledger: Chain, job: Job) -> Grounds:
    """All that a decision rests on, as it is now.

    Raises:
        InputError: The data set is not usable.
    """
    return Grounds(
        now=datetime.now(UTC),
        fingerprint=load_dataset(job.config.data).fingerprint,
        recipe=job.recipe,
        champion=_champion(ledger),
        drift=last_verdict(ledger),
        finished=finished(ledger),
    )


def _decided(ledger: Ledger, job: Job, home: Home, grounds: Grounds, train: Training) -> Result:
    reasons = reasons_to_train(grounds, job.limits)
    decision = record_decision(ledger, job, grounds.fingerprint, reasons)
    if not reasons:
        return Result(decision.entry.reason)
    if "drift" in reasons:
        alert(home, "drift", reasons["drift"])
    try:
        ended = train(job, home, ledger)
    except KeyboardInterrupt:
        ended = Ended(Outcome.INTERRUPTED, "interrupted; the next run goes on from there")
        record_end(ledger, job, grounds.fingerprint, ended, decision)
        raise
    record_end(ledger, job, grounds.fingerprint, ended, decision)
    if ended.outcome in ALERTS:
        alert(home, ALERTS[ended.outcome], f"{ended.said} (trained because: {decision.entry.reason})")
    is_failed = ended.outcome is Outcome.FAILED
    said = f"{decision.entry.reason}: {ended.outcome.value}: {ended.said}"
    return Result(said, is_failed, waits_until(ledger, job) if is_failed else None)


def _require_no_training(home: Home) -> None:
    """One that somebody started by hand goes first; its lock is only looked at."""
    with alone(home.root / "training.lock", "training"), leased(home, "training"):
        pass


def _champion(ledger: Chain) -> Champion | None:
    found = registry.version_by_alias(registry.CHAMPION)
    if found is None:
        return None
    facts = VersionFacts.of(found)
    registered = [e for e in ledger.entries(events=(Event.REGISTERED,)) if e.version == facts.version]
    made = registered[0].moment if registered else datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return Champion(facts.version, made, facts.dataset_fingerprint)
