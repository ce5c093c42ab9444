"""Moving the alias `champion` so that alias and ledger agree, also after a crash: intent, then alias, then entry.

An open intent is also the lock: while one is open nobody else may begin, on this machine or another. Who began it and
died leaves it open; the next command finds out from the alias how far it came, finishes or abandons it, and says so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from mlflow.entities.model_registry import ModelVersion

from bone_age import registry
from bone_age.errors import BoneAgeError, LedgerConditionError
from bone_age.governance.chain import Chain
from bone_age.governance.entries import ACTS, Entry, Event, NewEntry
from bone_age.governance.ledger import Ledger, Refusal, unless_champion_changed
from bone_age.provenance import operator
from bone_age.registry import VersionFacts

OTHER_HOST_SECONDS = 600  # an intent of another machine is taken for dead after this
_at_work: set[str] = set()  # tokens of the intents that this process is at


class UnderWayError(BoneAgeError):
    """Another promotion or rollback is at work, or was first."""


def install(ledger: Ledger, act: NewEntry, overrides: Iterable[NewEntry] = ()) -> Entry:
    """Make `act.version` champion and record `act`, a `promoted` or `rolled_back`.

    Args:
        act: Its `previous_version` is the champion that the decision was made against.
        overrides: Recorded first, and only by whom no other promotion can come before any more.
    Raises:
        UnderWayError: Another one is at work, or the champion is no longer that one; nothing was done.
        BoneAgeError: MLflow or the database does not answer; the next command finishes or abandons what was begun.
    """
    assert act.version is not None
    with _intent(ledger, act) as intent:
        for override in overrides:
            ledger.append(override)
        registry.set_alias(registry.CHAMPION, act.version)
        return _close(ledger, act, intent)


def reconcile(ledger: Ledger) -> list[str]:
    """Finish or abandon what a killed command left open, and put back an alias that was moved past the ledger.

    Returns:
        What was done, a sentence each; empty where all was well.
    Raises:
        UnderWayError: What is open belongs to a command that still runs.
    """
    said = []
    if (intent := ledger.open_intent()) is not None:
        if _is_alive(intent):
            raise UnderWayError(f"another command is at work since {intent.time}: {_named(intent)}")
        said.append(_close_dead(ledger, intent))
    champion, alias = ledger.champion_on(), registry.version_by_alias(registry.CHAMPION)
    if _number(alias) == (champion.version if champion else None):
        return said + _told_late(champion, alias)
    if champion is None and alias is not None and _is_older(alias, ledger):
        return [*said, _adopt(ledger, VersionFacts.of(alias))]
    return said + _put_back(ledger, champion)


def _told_late(champion: Entry | None, alias: ModelVersion | None) -> list[str]:
    """A promotion that died after its last entry has left the version's page with the decision before it."""
    if champion is None or alias is None or champion.event != Event.PROMOTED:
        return []
    told = alias.tags.get("decision", "")
    if told.partition(":")[0] not in ("not promoted", "awaits approval"):
        return []
    registry.set_version_tag(int(alias.version), "decision", f"promoted: entry {champion.number} of the ledger")
    return [f"version {alias.version} still said '{told.partition(':')[0]}'; it says promoted now"]


def _is_older(alias: ModelVersion, ledger: Ledger) -> bool:
    """Could the version have become champion before there was a ledger to record it in?

    Not one that the ledger knows since it was registered: whoever made that champion had a ledger to say so.
    """
    if any(entry.version == int(alias.version) for entry in ledger.entries(events=(Event.REGISTERED,))):
        return False
    first = next(ledger.entries(), None)
    return first is None or alias.creation_timestamp < first.moment.timestamp() * 1000


def _adopt(ledger: Ledger, facts: VersionFacts) -> str:
    reason = "was champion before the ledger began"
    adopted = NewEntry(
        event=Event.ALIAS_REPAIRED,
        actor=operator(),
        reason=reason,
        version=facts.version,
        model_digest=facts.model_digest,
        dataset_fingerprint=facts.dataset_fingerprint,
        run_id=facts.run_id,
    )
    try:
        ledger.append(adopted, unless=unless_champion_changed(None))
    except LedgerConditionError as error:
        raise UnderWayError(str(error)) from None
    return f"version {facts.version} {reason}; the ledger has it now"


def _put_back(ledger: Ledger, champion: Entry | None) -> list[str]:
    """Under an intent, as another command may have moved alias and ledger since they were compared."""
    recorded = champion.version if champion else None
    restored = recorded if recorded in [facts.version for facts in registry.all_versions()] else None
    act = _repair(champion, restored)
    with _intent(ledger, act) as intent:
        found = _number(registry.version_by_alias(registry.CHAMPION))
        if found == recorded:
            _close(ledger, act.model_copy(update={"event": Event.ABANDONED, "reason": "was in order"}), intent)
            return []
        if restored is not None:
            registry.set_alias(registry.CHAMPION, restored)
        elif found is not None:
            registry.remove_alias(registry.CHAMPION)
        _close(ledger, act.model_copy(update={"details": act.details | {"found": found}}), intent)
    pointed = f"pointed to version {found}" if found else "was gone"
    moved = f"the alias champion {pointed} without an entry in the ledger"
    if restored is not None:
        return [f"{moved}; put back to version {restored}"]
    if recorded is None:
        return [f"{moved}; removed"]
    return [f"{moved}, and its version {recorded} is no longer registered; there is no champion now"]


def _repair(champion: Entry | None, restored: int | None) -> NewEntry:
    """With what the ledger knows of the champion, as it goes on to be the one."""
    recorded = champion.version if champion else None
    act = NewEntry(
        event=Event.ALIAS_REPAIRED,
        actor=operator(),
        reason="the alias had been moved without an entry in the ledger",
        version=restored,
        previous_version=recorded,
    )
    if champion is None or restored is None:
        return act
    source = champion.details.get("restores", champion.number)
    told = champion.model_dump(include={"model_digest", "dataset_fingerprint", "policy_digest", "git_commit", "run_id"})
    reason = f"{act.reason}; entry {source} says who made this version champion"
    return act.model_copy(update=told | {"reason": reason, "details": {"restores": source}})


@contextmanager
def _intent(ledger: Ledger, act: NewEntry) -> Iterator[Entry]:
    """An intent that is open inside, and afterwards unless it was closed."""
    token = uuid4().hex
    process = {"pid": os.getpid(), "started": _started(os.getpid()), "space": _process_space(), "token": token}
    details = act.details | {"for": act.event.value, "process": process}
    _at_work.add(token)
    try:
        intent = act.model_copy(update={"event": Event.INTENT, "details": details})
        yield ledger.append(intent, unless=unless_champion_changed(act.previous_version))
    except LedgerConditionError as error:
        raise UnderWayError(str(error).removeprefix("ledger: intent is not recorded: ")) from None
    finally:
        _at_work.discard(token)


def _close(ledger: Ledger, act: NewEntry, intent: Entry) -> Entry:
    closing = act.model_copy(update={"details": act.details | {"intent": intent.number}})
    try:
        return ledger.append(closing, unless=_unless_settled(intent))
    except LedgerConditionError:  # this process stood still for so long that it was taken for dead
        reconcile(ledger)
        raise UnderWayError(f"another command took this one for dead and settled its entry {intent.number}") from None


def _close_dead(ledger: Ledger, intent: Entry) -> str:
    meant = Event(intent.details["for"])
    arrived = _number(registry.version_by_alias(registry.CHAMPION)) == intent.version
    told = intent.model_dump(include={"actor", "host", "reason", "version", "previous_version", "model_digest",
                                      "dataset_fingerprint", "policy_digest", "git_commit", "run_id"})  # fmt: skip
    details = {name: value for name, value in intent.details.items() if name not in ("for", "process")}
    closing = NewEntry(
        event=meant if arrived else Event.ABANDONED,
        details=details | {"intent": intent.number, "reconciled": True},
        **told,
    )
    try:
        ledger.append(closing, unless=_unless_settled(intent))
    except LedgerConditionError:
        return f"entry {intent.number} was settled by another command"
    ending = "completed" if arrived else "abandoned: the alias had not moved"
    return f"an interrupted {_named(intent)} was {ending}"


def _unless_settled(intent: Entry) -> Refusal:
    def refusal(chain: Chain) -> str | None:
        still = chain.open_intent()
        return None if still is not None and still.number == intent.number else "another command was first"

    return refusal


def _named(intent: Entry) -> str:
    act = ACTS.get(Event(intent.details["for"]), "command")
    return f"{act}{f' of version {intent.version}' if intent.version else ''} by {intent.actor}"


def _number(version: ModelVersion | None) -> int | None:
    return int(version.version) if version else None


def _is_alive(intent: Entry) -> bool:
    process = intent.details["process"]
    if intent.host != socket.gethostname() or process["space"] != _process_space():
        return (datetime.now(UTC) - intent.moment).total_seconds() < OTHER_HOST_SECONDS
    if process["pid"] == os.getpid() and process["started"] == _started(os.getpid()):
        return process["token"] in _at_work
    started = _started(process["pid"])
    return started is not None and started == process["started"]


def _process_space() -> str:
    """Two containers may share a host name and still not see each other's processes."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in its kernel's ticks; None where there is none. A number is given again, this is not."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else "running"
    return None if state in "ZX" else rest[18]  # dead, and not yet buried by its parent


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
