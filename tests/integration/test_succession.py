"""Two promotions at once, and promotions that are killed: alias and ledger agree afterwards, and somebody is told."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from bone_age import registry
from bone_age.governance import succession
from bone_age.governance.approval import roll_back
from bone_age.governance.entries import Event, NewEntry
from bone_age.governance.recording import record_registered
from bone_age.governance.succession import UnderWayError, install, reconcile
from bone_age.mlflow_connection import connect
from tests.postgresql import new_database
from tests.promoters import AFTER_ALIAS, AFTER_ENTRY, AFTER_INTENT, BEFORE_ANCHOR, KILLS, Promoter
from tests.worlds import POLICY, World

ROUNDS = 20


@pytest.fixture(scope="module")
def promoters() -> Iterator[tuple[Promoter, Promoter, Promoter]]:
    """Two that promote at once, and one whose work is done in a fork that is killed."""
    three = (Promoter(), Promoter(), Promoter())
    yield three
    for one in three:
        one.end()


@pytest.fixture
def victim(promoters: tuple[Promoter, Promoter, Promoter]) -> Promoter:
    return promoters[2]


def act(version: int, previous: int | None) -> NewEntry:
    return NewEntry(event=Event.PROMOTED, actor="A. Roe", reason="better", version=version, previous_version=previous)


def check_in_order(world: World, champion: int | None) -> None:
    assert world.alias == world.recorded == champion
    assert world.ledger.open_intent() is None
    assert reconcile(world.ledger) == []
    assert world.findings() == []


@pytest.mark.fault
@pytest.mark.parametrize("at", KILLS)
def test_a_promotion_that_is_killed_is_finished_or_abandoned_by_the_next_command(
    at: str, world: World, victim: Promoter
) -> None:
    world.crown(1)
    world.collect(2, 7.0)
    victim.killed("promote", at, version=2)
    has_arrived = at in (AFTER_ALIAS, AFTER_ENTRY)
    if at != AFTER_ENTRY:
        assert any("is open; the next command settles it" in finding for finding in world.findings())
    named = "an interrupted promotion of version 2 by approver of 2 was"
    said = {
        BEFORE_ANCHOR: [f"{named} abandoned: the alias had not moved"],
        AFTER_INTENT: [f"{named} abandoned: the alias had not moved"],
        AFTER_ALIAS: [f"{named} completed"],
        AFTER_ENTRY: [],
    }
    assert reconcile(world.ledger) == said[at]
    check_in_order(world, 2 if has_arrived else 1)
    if at == AFTER_ALIAS:
        entry = world.ledger.champion_on()
        assert entry is not None
        assert (entry.event, entry.actor, entry.reason) == (Event.PROMOTED, "approver of 2", "reviewed")
        assert entry.details["reconciled"] is True
        assert entry.details["gates"]
    if not has_arrived:
        assert world.promote(2).promoted


@pytest.mark.fault
@pytest.mark.parametrize("at", [AFTER_INTENT, AFTER_ALIAS])
def test_the_very_first_promotion_that_is_killed_is_settled_too(at: str, world: World, victim: Promoter) -> None:
    world.collect(1)
    victim.killed("promote", at, version=1)
    assert len(reconcile(world.ledger)) == 1
    check_in_order(world, 1 if at == AFTER_ALIAS else None)


@pytest.mark.fault
@pytest.mark.parametrize("at", [AFTER_INTENT, AFTER_ALIAS])
def test_a_rollback_that_is_killed_is_settled_by_the_next_one(at: str, world: World, victim: Promoter) -> None:
    world.crown(1, 2, 3)
    victim.killed("roll_back", at)
    before, now, said = roll_back("B. Doe", "drift", None, POLICY)
    if at == AFTER_ALIAS:
        assert said == ["an interrupted rollback of version 2 by A. Roe was completed"]
        assert (before, now) == (2, 1)
    else:
        assert said == ["an interrupted rollback of version 2 by A. Roe was abandoned: the alias had not moved"]
        assert (before, now) == (3, 2)
    check_in_order(world, now)


@pytest.mark.fault
@pytest.mark.parametrize("at", [AFTER_INTENT, AFTER_ALIAS])
def test_a_repair_of_the_alias_that_is_killed_is_repaired(at: str, world: World, victim: Promoter) -> None:
    world.crown(1, 2)
    registry.set_alias("champion", 1)
    victim.killed("reconcile", at)
    said = reconcile(world.ledger)
    assert "an interrupted repair of the alias of version 2" in said[0]
    assert len(said) == (2 if at == AFTER_INTENT else 1)
    check_in_order(world, 2)


@pytest.mark.fault
def test_of_two_that_promote_at_once_exactly_one_wins(
    world: World, promoters: tuple[Promoter, Promoter, Promoter]
) -> None:
    check_exactly_one_wins(world, promoters, ROUNDS)


@pytest.mark.fault
def test_of_two_that_promote_at_once_exactly_one_wins_in_postgresql(
    world: World,
    promoters: tuple[Promoter, Promoter, Promoter],
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_postgresql(world, postgresql_url, monkeypatch)
    check_exactly_one_wins(world, promoters, 5)


@pytest.mark.fault
@pytest.mark.parametrize("at", [AFTER_INTENT, AFTER_ALIAS])
def test_a_killed_promotion_is_settled_in_postgresql(
    at: str, world: World, victim: Promoter, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_postgresql(world, postgresql_url, monkeypatch)
    world.collect(1)
    victim.killed("promote", at, version=1)
    assert len(reconcile(world.ledger)) == 1
    check_in_order(world, 1 if at == AFTER_ALIAS else None)


def use_postgresql(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect().delete_registered_model_tag("bone-age", "ledger_head")  # that of the ledger in SQLite
    monkeypatch.setenv("BONE_AGE_DATABASE_URL", new_database(url))
    for version in (1, 2, 3, 4):
        record_registered(registry.version_facts(version))


def check_exactly_one_wins(world: World, promoters: tuple[Promoter, Promoter, Promoter], rounds: int) -> None:
    """Versions 2 and 3 both want to follow version 1; each round starts from version 1 again."""
    world.crown(1)
    for version in (2, 3):
        world.collect(version, 7.0)
    for _ in range(rounds):
        for promoter, version in zip(promoters, (2, 3), strict=False):
            promoter.start("promote", version=version)
        results = {version: promoter.result() for promoter, version in zip(promoters, (2, 3), strict=False)}
        winners = [version for version, result in results.items() if result.get("outcome") == "promoted"]
        assert len(winners) == 1, results
        loser = results[5 - winners[0]]
        if "error" in loser:
            assert loser["error"] == "UnderWayError"
            assert (
                "another command is at work" in loser["told"]
                or "is at work" in loser["told"]
                or (f"the champion is version {winners[0]}, no longer version 1" in loser["told"])
            )
        else:  # it came so late that it was judged against the winner, and it is no better
            assert loser["outcome"] == "not promoted"
        assert world.alias == world.recorded == winners[0]
        assert world.ledger.open_intent() is None
        roll_back("A. Roe", "next round", 1, POLICY)
    check_in_order(world, 1)


def test_a_promotion_that_was_judged_against_another_champion_does_nothing(world: World) -> None:
    world.crown(1)
    with pytest.raises(UnderWayError, match="the champion is version 1, no longer version None"):
        install(world.ledger, act(2, None), [act(2, None).model_copy(update={"event": Event.OVERRIDDEN})])
    assert "overridden" not in world.events()
    check_in_order(world, 1)


def test_a_command_that_still_runs_is_not_disturbed(world: World) -> None:
    """Another promotion is tried in the middle of one, from the same process and after the alias moved."""
    world.crown(1)
    set_alias, told = registry.set_alias, []

    def meanwhile(alias: str, version: int) -> None:
        set_alias(alias, version)
        for attempt in (lambda: reconcile(world.ledger), lambda: install(world.ledger, act(3, 1))):
            with pytest.raises(UnderWayError) as refused:
                attempt()
            told.append(str(refused.value))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "set_alias", meanwhile)
        install(world.ledger, act(2, 1))
    assert "at work since" in told[0]
    assert "is at work" in told[1]
    assert world.alias == world.recorded == 2


@pytest.mark.fault
def test_an_error_in_the_middle_does_not_block_the_process_that_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.crown(1)

    def down(alias: str, version: int) -> None:
        raise ConnectionError("MLflow does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", down)
        with pytest.raises(ConnectionError):
            install(world.ledger, act(2, 1))
    assert reconcile(world.ledger) == ["an interrupted promotion of version 2 by A. Roe was abandoned: "
                                       "the alias had not moved"]  # fmt: skip
    check_in_order(world, 1)


@pytest.mark.fault
def test_one_that_stood_still_and_was_taken_for_dead_undoes_its_alias(world: World) -> None:
    world.crown(1)
    set_alias = registry.set_alias
    with pytest.MonkeyPatch.context() as patch:

        def late(alias: str, version: int) -> None:
            patch.setattr(succession, "_is_alive", lambda intent: False)
            assert "abandoned" in reconcile(world.ledger)[0]
            patch.undo()
            set_alias(alias, version)

        patch.setattr(registry, "set_alias", late)
        with pytest.raises(UnderWayError, match="took this one for dead"):
            install(world.ledger, act(2, 1))
    check_in_order(world, 1)


def test_an_intent_of_another_machine_is_left_alone_for_ten_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.crown(1)
    process = {"pid": 1, "started": "1", "space": "elsewhere", "token": "x"}
    elsewhere = act(2, 1).model_copy(
        update={"event": Event.INTENT, "host": "elsewhere", "details": {"for": "promoted", "process": process}}
    )
    world.ledger.append(elsewhere)
    with pytest.raises(UnderWayError, match=r"promotion of version 2 by A\. Roe"):
        reconcile(world.ledger)
    monkeypatch.setattr(succession, "OTHER_HOST_SECONDS", 0)
    assert "abandoned" in reconcile(world.ledger)[0]
    check_in_order(world, 1)


def test_a_process_that_died_and_was_not_buried_is_dead() -> None:
    child = subprocess.Popen(["true"])
    for _ in range(1000):
        if succession._started(child.pid) is None:
            break
        time.sleep(0.02)
    assert succession._started(child.pid) is None
    child.wait()


@pytest.mark.fault
def test_an_alias_that_was_moved_is_put_back_and_the_reign_goes_on(world: World) -> None:
    world.crown(1, 2)
    for moved in (1, 3):
        connect().set_registered_model_alias("bone-age", "champion", str(moved))
        assert reconcile(world.ledger) == [
            f"the alias champion pointed to version {moved} without an entry in the ledger; put back to version 2"
        ]
        check_in_order(world, 2)
    promoted = next(entry for entry in world.ledger.entries(events=[Event.PROMOTED]) if entry.version == 2)
    repaired = world.ledger.champion_on()
    assert repaired is not None
    assert (repaired.event, repaired.run_id, repaired.details["found"]) == (Event.ALIAS_REPAIRED, promoted.run_id, 3)
    assert f"entry {promoted.number} says who made this version champion" in repaired.reason
    connect().delete_registered_model_alias("bone-age", "champion")
    assert "was gone" in reconcile(world.ledger)[0]
    check_in_order(world, 2)


def test_an_alias_that_was_set_before_anything_was_promoted_is_removed(world: World) -> None:
    connect().set_registered_model_alias("bone-age", "champion", "2")
    assert reconcile(world.ledger) == [
        "the alias champion pointed to version 2 without an entry in the ledger; removed"
    ]
    check_in_order(world, None)
    world.crown(1)
    check_in_order(world, 1)


def test_a_champion_from_before_the_ledger_began_is_taken_over(world: World) -> None:
    (world.home.root / "ledger.db").unlink()
    connect().delete_registered_model_tag("bone-age", "ledger_head")
    connect().set_registered_model_alias("bone-age", "champion", "1")
    assert reconcile(world.ledger) == ["version 1 was champion before the ledger began; the ledger has it now"]
    assert world.alias == world.recorded == 1
    for version in (1, 2, 3, 4):
        record_registered(registry.version_facts(version))
    world.collect(2, 7.0)
    assert world.promote(2).promoted
    assert world.findings() == []
    assert roll_back("A. Roe", "drift", None, POLICY)[:2] == (2, 1)
    (finding,) = world.findings()
    assert "made it champion without any evidence" in finding


def test_an_alias_on_a_version_that_the_ledger_knows_is_not_taken_over(world: World) -> None:
    connect().set_registered_model_alias("bone-age", "champion", "1")
    assert reconcile(world.ledger) == [
        "the alias champion pointed to version 1 without an entry in the ledger; removed",
    ]
    assert world.alias is world.recorded is None


@pytest.mark.fault
def test_a_promotion_that_died_after_its_last_entry_is_told_on_the_page(world: World) -> None:
    world.crown(1)
    world.collect(2, 7.0)
    registry.set_version_tag(2, "decision", "not promoted: failed test_mae")
    install(world.ledger, act(2, 1))
    assert any("tag decision says 'not promoted'" in finding for finding in world.findings())
    assert reconcile(world.ledger) == ["version 2 still said 'not promoted'; it says promoted now"]
    assert reconcile(world.ledger) == []


def test_a_champion_that_was_deleted_leaves_none_and_blocks_nothing(world: World) -> None:
    world.crown(1)
    connect().delete_model_version("bone-age", "1")
    assert "version 1 is no longer registered; there is no champion now" in reconcile(world.ledger)[0]
    assert world.alias is world.recorded is None
    assert reconcile(world.ledger) == []
    world.crown(2)
    assert world.alias == world.recorded == 2
