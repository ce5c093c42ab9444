"""Tampering that is really done, and the line by which `bone-age audit verify` tells of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bone_age import registry
from bone_age.cli import main
from bone_age.mlflow_connection import connect
from tests.worlds import World

PROMOTIONS = ("evidence", "intent", "promoted") * 2  # after the four registrations, so entries 5 to 10


def change_ledger(world: World, *statements: str) -> None:
    """With the guards out of the way for as long as it takes, as somebody who owns the file can."""
    with closing(sqlite3.connect(world.home.root / "ledger.db")) as database, database:
        guards = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert database.execute(statement).rowcount
        for _, sql in guards:
            database.execute(sql)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def edit_an_entry(world: World) -> None:
    change_ledger(world, "UPDATE bone_age_ledger SET actor = 'nobody' WHERE number = 7")


def edit_the_gates_of_an_entry(world: World) -> None:
    change_ledger(world, "UPDATE bone_age_ledger SET details = replace(details, 'passed', 'FAILED') WHERE number = 7")


def make_an_entry_unreadable(world: World) -> None:
    change_ledger(world, "UPDATE bone_age_ledger SET details = 'x' WHERE number = 7")


def remove_an_entry(world: World) -> None:
    change_ledger(world, "DELETE FROM bone_age_ledger WHERE number = 6")


def cut_the_tail(world: World) -> None:
    change_ledger(world, "DELETE FROM bone_age_ledger WHERE number > 8")


def cut_the_tail_and_move_the_alias(world: World) -> None:
    change_ledger(world, "DELETE FROM bone_age_ledger WHERE number > 7")
    connect().set_registered_model_alias("bone-age", "champion", "1")


def cut_the_tail_with_its_anchor(world: World) -> None:
    change_ledger(world, "DELETE FROM bone_age_ledger WHERE number > 8")
    connect().delete_registered_model_tag("bone-age", "ledger_head")


def drop_a_guard(world: World) -> None:
    with closing(sqlite3.connect(world.home.root / "ledger.db")) as database, database:
        database.execute("DROP TRIGGER bone_age_ledger_no_update")


def move_the_alias(world: World) -> None:
    connect().set_registered_model_alias("bone-age", "champion", "3")


def remove_the_alias(world: World) -> None:
    connect().delete_registered_model_alias("bone-age", "champion")


def change_a_model_file(world: World) -> None:
    flip(world.bundle(3) / "model.onnx")


def change_a_model_with_its_checksums(world: World) -> None:
    from bone_age.serving.bundle import write_checksums

    flip(world.bundle(3) / "model.keras")
    write_checksums(world.bundle(3))


def remove_a_model_file(world: World) -> None:
    (world.bundle(1) / "calibration.json").unlink()


def change_the_evidence(world: World) -> None:
    flip(world.evidence_folder(2, registry.version_facts(2).evidence_sha256) / "test" / "predictions.csv")


def remove_the_evidence(world: World) -> None:
    folder = world.evidence_folder(2, registry.version_facts(2).evidence_sha256)
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    folder.rmdir()


def change_the_digest_of_the_evidence(world: World) -> None:
    registry.set_version_tag(2, "evidence_sha256", "66" * 32)


def delete_a_run(world: World) -> None:
    connect().delete_run(registry.version_facts(3).run_id)


def delete_a_version(world: World) -> None:
    connect().delete_model_version("bone-age", "3")


def delete_the_champion(world: World) -> None:
    connect().delete_model_version("bone-age", "2")


def change_a_tag(world: World) -> None:
    registry.set_version_tag(1, "seed", "4")


def change_what_a_model_was_trained_on(world: World) -> None:
    registry.set_version_tag(2, "synthetic", "True")


def remove_a_tag(world: World) -> None:
    connect().delete_model_version_tag("bone-age", "1", "git_commit")


def register_past_the_ledger(world: World) -> None:
    facts = registry.version_facts(1)
    source = connect().get_model_version("bone-age", "1").source
    connect().create_model_version("bone-age", source, facts.run_id, tags=dict(facts.tags))


TAMPERING: dict[Callable[[World], None], list[str]] = {
    edit_an_entry: [r"ledger: entry 7: was edited: its digest is not that of its content"],
    edit_the_gates_of_an_entry: [r"ledger: entry 7: was edited"],
    make_an_entry_unreadable: [r"ledger: entry 7: was edited", r"ledger: entry 7 cannot be read: its details"],
    remove_an_entry: [r"ledger: entry 6: missing"],
    cut_the_tail: [
        r"ledger: the end is cut off: the anchor holds entry 10, the last is 8",
        r"alias champion: points to version 2, the ledger says 1",
    ],
    cut_the_tail_and_move_the_alias: [
        r"ledger: the end is cut off: the anchor holds entry 10, the last is 7",
        r"version 2: tag evidence_sha256 is \w+, the ledger recorded none",
    ],
    cut_the_tail_with_its_anchor: [
        r"ledger: its anchor, the tag ledger_head of the registered model in MLflow, is gone",
        r"alias champion: points to version 2, the ledger says 1",
    ],
    drop_a_guard: [r"ledger: the database's guard bone_age_ledger_no_update is gone"],
    move_the_alias: [r"alias champion: points to version 3, the ledger says 2"],
    remove_the_alias: [r"alias champion: points to version none, the ledger says 2"],
    change_a_model_file: [r"version 3: .*/model\.onnx: checksum does not match"],
    change_a_model_with_its_checksums: [
        r"version 3: its files are not those that the ledger recorded \(entry 3\)",
        r"version 3: tag model_digest is \w+, its files say \w+",
    ],
    remove_a_model_file: [r"version 1: .*/calibration\.json: listed in checksums\.json but absent"],
    change_the_evidence: [r"version 2: evidence: test/predictions\.csv: checksum does not match"],
    remove_the_evidence: [r"version 2: its evidence cannot be read"],
    change_the_digest_of_the_evidence: [r"version 2: tag evidence_sha256 is 6666\w+, the ledger recorded \w+"],
    delete_a_run: [r"version 3: its run \w+ is deleted"],
    delete_a_version: [r"version 3: is in the ledger \(entry 3\) but no longer registered"],
    delete_the_champion: [
        r"alias champion: points to version none, the ledger says 2",
        r"version 2: is in the ledger \(entry 2\) but no longer registered",
    ],
    change_a_tag: [r"version 1: tag seed is 4, the ledger recorded 3"],
    change_what_a_model_was_trained_on: [r"version 2: tag synthetic is True, its files say False"],
    remove_a_tag: [r"version 1: tag git_commit is absent, the ledger recorded c0ffee"],
    register_past_the_ledger: [r"version 5: is registered but not in the ledger"],
}


def verified(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify"])
    return int(ended.value.code or 0), capsys.readouterr().out.splitlines()


@pytest.fixture
def two_champions(world: World) -> World:
    world.crown(1, 2)
    assert tuple(world.events()) == PROMOTIONS
    return world


def test_a_world_where_nothing_was_changed_has_no_findings(
    two_champions: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verified(capsys) == (0, ["ledger, registry and files agree"])


def test_an_empty_world_has_no_findings(world: World) -> None:
    assert world.findings() == []


@pytest.mark.fault
@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_tampering_is_named_in_one_line_each(
    tamper: Callable[[World], None], two_champions: World, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(two_champions)
    exit_code, lines = verified(capsys)
    assert exit_code == 1
    for expected in TAMPERING[tamper]:
        assert any(re.match(expected, line) for line in lines), (expected, lines)
    assert len(lines) <= len(TAMPERING[tamper]) + 1, lines


@pytest.mark.parametrize("written", ["x", "²:a", "", "7", "-1:aa", f"{10**30}:aa"])
def test_what_is_no_anchor_is_one_that_is_gone(written: str, two_champions: World) -> None:
    connect().set_registered_model_tag("bone-age", "ledger_head", written)
    findings = two_champions.findings()
    assert findings
    assert all("anchor" in finding for finding in findings), findings
