"""What ZenML's artifact store holds of old runs: prepared images, trained models and the like, which steps made for
each other and caches answer with. The records of runs and artifacts stay; only their data go.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from zenml.client import Client
from zenml.models import ArtifactVersionResponse, PipelineRunResponse
from zenml.utils.pagination_utils import depaginate

import steps  # noqa: F401  (points ZenML to the home)
from bone_age.housekeeping.retention import ZENML, Item


class ZenmlStore:
    """The stores of the active ZenML world."""

    def leftovers(self, before: datetime, keep_last: int) -> Iterator[Item]:
        """Artifacts of runs older than that, less those that a younger run, or one of the newest, answered with."""
        runs = list(depaginate(Client().list_pipeline_runs, sort_by="desc:created", hydrate=True))
        kept = [run for number, run in enumerate(runs) if number < keep_last or _ended(run) >= before]
        in_use = {artifact.id for run in kept for artifact in _artifacts(run)}
        old = {artifact.id: artifact for run in runs if run not in kept for artifact in _artifacts(run)}
        for artifact in old.values():
            if artifact.id in in_use:
                continue
            size = _size(artifact.uri)
            if size:
                yield Item(ZENML, str(artifact.id), size, f"{artifact.artifact.name}, {artifact.created:%Y-%m-%d}")

    def remove(self, name: str) -> None:
        """Let no later step be answered with it, then remove its data."""
        client = Client()
        artifact = client.get_artifact_version(UUID(name))
        if artifact.producer_step_run_id is not None:
            client.update_step_run(artifact.producer_step_run_id, cache_expires_at=datetime.now(UTC))
        client.delete_artifact_version(artifact.id, delete_metadata=False, delete_from_artifact_store=True)


def _ended(run: PipelineRunResponse) -> datetime:
    moment = run.end_time or run.created
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _artifacts(run: PipelineRunResponse) -> Iterator[ArtifactVersionResponse]:
    for step in run.steps.values():
        for artifacts in step.outputs.values():
            yield from artifacts


def _size(uri: str) -> int:
    """Bytes of a local folder; what is linked elsewhere counts in full. 0 where it is gone, 1 where it is remote."""
    if "://" in uri:
        return 1
    return sum(file.stat().st_size for file in Path(uri).rglob("*") if file.is_file())
