"""What is old and nothing refers to: shown first, removed when asked to, and recorded before it goes.

What the ledger names, in whatever field of whatever entry, stays, and so do versions with an alias, the runs of kept
versions, and every run that a kept run's tags name (its parent, the models it compared, the attempts it resumed). Runs
are marked deleted in MLflow, which keeps their figures, and lose their artifacts; caches are made again when needed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from mlflow.entities import Run, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from pydantic import Field

from bone_age import registry
from bone_age.errors import BoneAgeError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event, NewEntry
from bone_age.mlflow_connection import connect, experiment_id, first_line
from bone_age.one_process import alone
from bone_age.provenance import operator
from bone_age.scheduling.lease import leased
from bone_age.scratch import is_in_use
from bone_age.settings import Home, Strict

RUN, VERSION, CACHE, ZENML = "run", "version", "cache", "zenml artifact"
RUN_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class Retention(Strict):
    """Nothing younger than `keep_days` goes, nor the newest `keep_last` runs of each kind and what is below them."""

    keep_days: int = Field(90, ge=0)
    keep_last: int = Field(5, ge=0)

    @property
    def before(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=self.keep_days)


@dataclass(frozen=True)
class Item:
    """One thing that may go; `size` in bytes."""

    kind: str
    name: str
    size: int
    said: str

    @property
    def megabytes(self) -> float:
        return self.size / 1e6


@dataclass(frozen=True)
class Plan:
    """What would go, and how many runs and versions stay."""

    retention: Retention
    items: tuple[Item, ...]
    kept: int

    def to_json(self) -> dict[str, object]:
        items = [{"kind": i.kind, "name": i.name, "bytes": i.size, "said": i.said} for i in self.items]
        return {**self.retention.model_dump(), "kept": self.kept, "items": items}


class StepStore(Protocol):
    """The orchestrator's artifact store, of which the library knows no more than this."""

    def leftovers(self, before: datetime, keep_last: int) -> Iterable[Item]: ...

    def remove(self, name: str) -> None: ...


def plan(home: Home, retention: Retention, store: StepStore | None) -> Plan:
    """What may go today; without a store, there is none yet."""
    ledger, runs = open_ledger(), _all_runs()
    versions = registry.all_versions()
    said = _told_by(ledger)
    aliased = {int(v.version) for a in (registry.CHAMPION, registry.CHALLENGER) if (v := registry.version_by_alias(a))}
    recorded = {entry.version for entry in ledger.entries() if entry.version is not None}
    created = _versions_created()
    old_versions = [
        facts
        for facts in versions
        if facts.version not in recorded | aliased and created[facts.version] < retention.before
    ]
    kept_versions = [facts for facts in versions if facts not in old_versions]
    kept = _kept_runs(runs, said | {facts.run_id for facts in kept_versions}, retention)
    items = [Item(VERSION, str(facts.version), 0, "unknown to the ledger, no alias") for facts in old_versions]
    items += [
        Item(RUN, run_id, _artifacts_size(run.info.artifact_uri), _described(run))
        for run_id, run in runs.items()
        if run_id not in kept
    ]
    items += [Item(CACHE, *found) for found in _caches(home, retention.before)]
    items += store.leftovers(retention.before, retention.keep_last) if store else ()
    return Plan(retention, tuple(items), len(kept) + len(kept_versions))


def remove(home: Home, found: Plan, store: StepStore | None) -> int:
    """Write what goes into the ledger, then remove it; cut short, the next one goes on. Returns the entry's number.

    Raises:
        BusyError: A training is at work, whose caches these may be.
        BoneAgeError: A store does not answer.
    """
    with alone(home.root / "training.lock", "training"), leased(home, "training"):
        entry = open_ledger().append(
            NewEntry(
                event=Event.PRUNED,
                actor=operator(),
                reason=f"{len(found.items)} things, {sum(i.size for i in found.items) / 1e6:.1f} MB, older than "
                f"{found.retention.keep_days} days, to which nothing refers",
                details={"removed": [[item.kind, item.name] for item in found.items], **found.retention.model_dump()},
            )
        )
        for item in found.items:
            try:
                _remove(home, item, store)
            except Exception as error:  # each store has its own errors
                raise BoneAgeError(f"{item.kind} {item.name} cannot be removed: {first_line(error)}") from error
    return entry.number


def _remove(home: Home, item: Item, store: StepStore | None) -> None:
    client = connect()
    if item.kind == CACHE:
        path = home.root / item.name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif item.kind == ZENML:
        assert store is not None
        store.remove(item.name)
    elif item.kind == VERSION:
        client.delete_model_version(registry.REGISTERED_MODEL, item.name)
    else:
        run = client.get_run(item.name)
        models = client.search_logged_models([experiment_id()], filter_string=f"source_run_id = '{item.name}'")
        for model in models:
            _delete_artifacts(model.artifact_location)
            client.delete_logged_model(model.model_id)
        _delete_artifacts(run.info.artifact_uri)
        client.delete_run(item.name)


def _delete_artifacts(uri: str) -> None:
    repository: Any = get_artifact_repository(uri)
    repository.delete_artifacts()


def _told_by(ledger: Chain) -> set[str]:
    """Every run that any entry names, wherever in it; that something was pruned refers to nothing any more."""
    text = (json.dumps(row, default=str) for row in ledger.rows() if row["event"] != Event.PRUNED)
    return {run_id for one in text for run_id in RUN_ID.findall(one)}


def _all_runs() -> dict[str, Run]:
    client, token, found = connect(), None, {}
    while True:
        page = client.search_runs(
            [experiment_id()], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
        )
        found.update({run.info.run_id: run for run in page})
        token = page.token
        if not token:
            return found


def _kept_runs(runs: dict[str, Run], referred: set[str], retention: Retention) -> set[str]:
    of_kind: dict[str, list[Run]] = {}
    for run in sorted(runs.values(), key=lambda run: run.info.start_time or 0, reverse=True):
        if "mlflow.parentRunId" not in run.data.tags:
            of_kind.setdefault(run.data.tags.get("kind", ""), []).append(run)
    newest_ids = {run.info.run_id for some in of_kind.values() for run in some[: retention.keep_last]}
    limit = retention.before.timestamp() * 1000
    kept = set(referred) | newest_ids
    kept |= {run_id for run_id, run in runs.items() if max(run.info.start_time or 0, run.info.end_time or 0) >= limit}
    kept |= {run_id for run_id, run in runs.items() if run.data.tags.get("mlflow.parentRunId") in newest_ids}
    unread = [*kept]
    while unread:
        found = runs.get(unread.pop())
        named = set(RUN_ID.findall(" ".join(found.data.tags.values()))) if found else set()
        unread += named - kept
        kept |= named
    return kept & set(runs)


def _versions_created() -> dict[int, datetime]:
    found = connect().search_model_versions(f"name = '{registry.REGISTERED_MODEL}'")
    return {int(one.version): datetime.fromtimestamp(one.creation_timestamp / 1000, UTC) for one in found}


def _described(run: Run) -> str:
    started = datetime.fromtimestamp((run.info.start_time or 0) / 1000, UTC)
    return f"{run.data.tags.get('kind', 'run')} {run.info.run_name}, {run.info.status.lower()}, {started:%Y-%m-%d}"


def _artifacts_size(uri: str) -> int:
    """Bytes; 0 where the store does not say."""
    repository = get_artifact_repository(uri)

    def size(path: str | None) -> int:
        return sum(size(file.path) if file.is_dir else file.file_size or 0 for file in repository.list_artifacts(path))

    try:
        return size(None)
    except Exception:  # each store has its own errors; what cannot be listed can still be named
        return 0


def _caches(home: Home, before: datetime) -> Iterator[tuple[str, int, str]]:
    """Checkpoints, features, what killed processes left, logs: by the newest file in each."""
    for folder in (home.checkpoints, home.feature_cache, home.root / "scratch", home.schedule):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            files = [file.stat() for file in (path, *path.rglob("*")) if not file.is_symlink() and file.exists()]
            used = datetime.fromtimestamp(max((stat.st_mtime for stat in files), default=0), UTC)
            if used < before and not is_in_use(path):
                size = sum(stat.st_size for stat in files)
                yield str(path.relative_to(home.root)), size, f"last written {used:%Y-%m-%d}"
