"""What is written to the ledger before anybody decides: a model was trained, a version was registered. Once each."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from bone_age import registry
from bone_age.errors import LedgerConditionError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event, NewEntry, timestamp
from bone_age.mlflow_connection import connect
from bone_age.modelling.trained import TrainedModel
from bone_age.provenance import UNKNOWN, operator, provenance
from bone_age.registry import VersionFacts
from bone_age.serving.bundle import Bundle

LATER_TAGS = ("decision", "evidence_sha256")  # written after the registration, and anew when a version is judged again


def record_trained(model: TrainedModel) -> None:
    """A training ended well, in the run that it names."""
    record, plan = model.record, model.plan
    run = connect().get_run(record.mlflow_run_id)
    told = NewEntry(
        event=Event.TRAINED,
        actor=run.data.tags.get("trained_by") or operator(),
        reason=f"training of {plan.name} finished",
        dataset_fingerprint=record.dataset_fingerprint,
        git_commit=run.data.tags.get("git_commit", UNKNOWN),
        run_id=record.mlflow_run_id,
        details={
            "architecture": plan.architecture,
            "epochs": len(record.epochs),
            "images_digest": record.images_digest,
            "seed": plan.seed,
            "ended": timestamp(datetime.fromtimestamp((run.info.end_time or 0) / 1000, UTC)),
        },
    )
    _once(told, "run_id", record.mlflow_run_id)


def record_registered(version: VersionFacts) -> None:
    """A version is complete in the registry."""
    told = NewEntry(
        event=Event.REGISTERED,
        actor=operator(),
        reason=f"{version.architecture} registered as version {version.version}",
        version=version.version,
        model_digest=version.model_digest,
        dataset_fingerprint=version.dataset_fingerprint,
        git_commit=provenance().git_commit,
        run_id=version.run_id,
        details={"tags": {name: value for name, value in version.tags.items() if name not in LATER_TAGS}},
    )
    _once(told, "version", version.version)


def import_reference(bundle: Bundle) -> tuple[int, bool]:
    """Register the project's reference model; see `registry.import_reference`."""
    version, is_new = registry.import_reference(bundle)
    record_registered(registry.version_facts(version))
    return version, is_new


def _once(told: NewEntry, name: str, value: str | int) -> None:
    """Leave it at one entry of that event, however often a step is repeated."""

    def is_there(chain: Chain) -> str | None:
        there = any(getattr(entry, name) == value for entry in chain.entries(events=(told.event,)))
        return "it is there already" if there else None

    with suppress(LedgerConditionError):
        open_ledger().append(told, unless=is_there)
