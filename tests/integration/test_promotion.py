"""Who becomes champion, by whose word, and what is left behind for who asks later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from bone_age import registry
from bone_age.cli import main
from bone_age.errors import InputError, ModelError
from bone_age.governance import approval
from bone_age.governance.approval import roll_back
from bone_age.governance.automatic import face_the_gates
from bone_age.governance.candidates import Candidate
from bone_age.governance.entries import Event
from bone_age.governance.history import reigns_on
from bone_age.governance.policy import Policy
from bone_age.governance.recording import record_registered
from bone_age.mlflow_connection import connect
from bone_age.settings import Home
from tests.postgresql import new_database
from tests.promoters import REPOSITORY
from tests.worlds import CONFIG, POLICY, WEAK_GROUP, World, manifest_table

BY = ["--approver", "A. Roe", "--reason", "reviewed the report"]


def written(policy: Policy, folder: Path) -> str:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy.model_dump(mode="json")))
    return str(path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_person_promotes_what_passes_every_gate(world: World) -> None:
    digest = world.collect(1)
    decision = world.promote(1)
    assert decision.promoted
    assert {gate.verdict for gate in decision.gates} == {"passed"}
    assert world.alias == world.recorded == 1
    assert registry.version_by_alias("challenger").version == registry.version_by_alias("champion").version  # type: ignore[union-attr]
    assert world.events() == ["evidence", "intent", "promoted"]
    entry = world.ledger.champion_on()
    assert entry is not None
    assert (entry.actor, entry.reason, entry.run_id) == ("A. Roe", "reviewed", registry.version_facts(1).run_id)
    assert entry.details["evidence_sha256"] == digest
    assert [gate["verdict"] for gate in entry.details["gates"]] == ["passed"] * len(decision.gates)
    assert world.findings() == []


def test_the_page_of_the_version_in_mlflow_shows_decision_and_gates(world: World) -> None:
    world.collect(1, 14.0)
    world.promote(1)
    world.collect(1)
    world.promote(1)
    found = connect().get_model_version("bone-age", "1")
    assert found.tags["decision"].startswith("promoted: all ")
    assert found.description.startswith(
        "xception_multi: MAE 6.4 months on hands\n\n## Gates\n\npromoted; evidence is below runs:/"
    )
    assert found.description.count("## Gates") == 1
    assert "| test_mae | " in found.description
    assert "at most 9 " in found.description


def test_what_fails_a_gate_is_refused_with_every_failed_gate_and_recorded(world: World) -> None:
    world.collect(1, 14.0, data_errors=2)
    decision = world.promote(1)
    assert decision.outcome == "not promoted"
    failed = {gate.name for gate in decision.failed}
    assert {"test_mae", "test_mae_upper", "data_validation"} <= failed
    assert world.alias is world.recorded is None
    assert registry.version_by_alias("challenger") is None
    assert world.events() == ["evidence", "rejected"]
    rejected = next(world.ledger.entries(events=[Event.REJECTED]))
    assert all(name in rejected.reason for name in failed)
    assert world.findings() == []


def test_a_refusal_on_the_command_line_is_exit_code_3_with_figure_and_bound(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.collect(1, 14.0)
    assert run("promote", "--version", "1", *BY, "--policy", written(POLICY, tmp_path)) == 3
    lines = capsys.readouterr().out.splitlines()
    refused = [line for line in lines if line.startswith("    FAILED")]
    assert any("test_mae: 11." in line and "must be at most 9 " in line for line in refused)
    assert lines[-1] == "models:/bone-age/1: not promoted"
    assert run("promote", "--version", "1", *BY, "--policy", written(POLICY, tmp_path), "--json") == 3
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {gate["verdict"] for gate in document["gates"]} == {"passed", "FAILED"}


def test_the_command_line_promotes_refuses_and_tells_the_history(world: World, tmp_path: Path) -> None:
    world.collect(1)
    world.collect(2, 14.0)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BONE_AGE_", "MLFLOW_"))}
    environment = inherited | {"BONE_AGE_HOME": str(world.home.root)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "bone_age.cli", *arguments]
        return subprocess.run(program, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=300)

    policy = ["--policy", written(POLICY, tmp_path)]
    promoted = command("promote", "--version", "1", *BY, *policy)
    assert (promoted.returncode, promoted.stderr) == (0, "")
    refused = command("promote", "--version", "2", *BY, *policy)
    assert (refused.returncode, refused.stderr) == (3, "")
    told = command("history", "--json")
    assert [(reign["version"], reign["approver"]) for reign in json.loads(told.stdout)] == [(1, "A. Roe")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--approver", " ", "--reason", "x"], "--approver is empty"),
        (["--approver", "A. Roe", "--reason", "\t"], "--reason is empty"),
        ([*BY, "--override", "worst_subgroup_mae"], "expected GATE=REASON"),
        ([*BY, "--override", "worst_subgroup_mae= "], "a reason is needed"),
        ([*BY, "--override", "latency=a", "--override", "latency=b"], "given twice"),
        ([*BY, "--override", "test_mae=because"], "does not let this gate be overridden"),
        ([*BY, "--override", "charm=because"], "there is no such gate"),
        ([*BY, "--override", "no_leakage=because"], "nothing to override"),
    ],
)
def test_an_approval_that_is_no_approval_is_exit_code_2(
    arguments: list[str], told: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "latency" not in " ".join(arguments) and "empty" not in told and "expected" not in told:
        world.collect(1, 11.5, weak_group_times=2.0)
    assert run("promote", "--version", "1", *arguments, "--policy", written(POLICY, tmp_path)) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1
    assert world.alias is world.recorded is None


def test_a_gate_is_overridden_one_by_one_and_said_ever_after(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = ["--policy", written(POLICY, tmp_path)]
    world.collect(1, 5.0, weak_group_times=4.0)
    assert run("promote", "--version", "1", *BY, *policy) == 3
    refused = capsys.readouterr().out
    assert [line.split()[1] for line in refused.splitlines() if line.startswith("    FAILED")] == [
        "worst_subgroup_mae:"
    ]
    override = ["--override", "worst_subgroup_mae=boys of that age are read twice"]
    assert run("promote", "--version", "1", *BY, *policy, *override) == 0
    said = "overridden by A. Roe: boys of that age are read twice"
    assert said in capsys.readouterr().out
    assert world.events() == ["evidence", "rejected", "intent", "overridden", "promoted"]
    assert said in str(connect().get_model_version("bone-age", "1").description)
    assert WEAK_GROUP in str(connect().get_model_version("bone-age", "1").description)

    refused_later = world.automatic(2, 14.0)
    assert [said in line for line in refused_later.standing_overrides] == [True]
    again = world.automatic(1, 5.0, weak_group_times=4.0)
    assert again.outcome == "already champion"
    assert [gate.verdict for gate in again.gates if gate.name == "worst_subgroup_mae"] == ["overridden"]
    assert said in str(connect().get_model_version("bone-age", "1").description)

    assert run("history") == 0
    assert said in capsys.readouterr().out
    assert run("history", "--json") == 0
    overrides = json.loads(capsys.readouterr().out)[0]["overrides"]
    assert overrides == [{"gate": "worst_subgroup_mae", "by": "A. Roe", "reason": "boys of that age are read twice"}]

    world.collect(2, 4.0, champion_error_months=5.0)
    assert world.promote(2).standing_overrides == ()
    roll_back("A. Roe", "drift", None, POLICY)
    assert [said in line for line in world.automatic(2, 14.0).standing_overrides] == [True]
    assert world.findings() == []


def test_one_overridden_gate_does_not_let_another_pass(world: World) -> None:
    world.collect(1, 5.0, weak_group_times=4.0, leaks=1)
    decision = world.promote(1, worst_subgroup_mae="read twice")
    assert [gate.name for gate in decision.failed] == ["no_leakage"]
    assert world.alias is None


def test_who_trained_may_not_approve_where_two_are_asked_for(world: World) -> None:
    careful = world.under(two_person=True)
    careful.collect(1)
    for name in ("trainer", " Trainer "):
        with pytest.raises(InputError, match="was trained by"):
            careful.promote(1, approver=name)
    assert careful.promote(1, approver="A. Roe").promoted


def test_stale_evidence_promotes_nothing(world: World) -> None:
    world.collect(1)
    decision = world.under(robustness_rows=77).promote(1)
    assert {gate.verdict for gate in decision.gates} == {"FAILED"}
    assert all("stale: measured with policy" in gate.problem for gate in decision.gates)
    world.collect(2, model_digest="22" * 32)
    assert all("stale: measured with model" in gate.problem for gate in world.promote(2).failed)
    world.collect(3, dataset_fingerprint="33" * 32)
    assert all("stale: measured with data set" in gate.problem for gate in world.promote(3).failed)
    assert world.alias is None


def test_there_is_nothing_to_promote_without_evidence_or_of_another_kind(world: World) -> None:
    with pytest.raises(ModelError, match="no evidence was collected"):
        world.promote(1)
    world.collect(4)
    with pytest.raises(InputError, match="only Xception versions are promoted"):
        world.promote(4)
    with pytest.raises(ModelError, match="models:/bone-age/99"):
        world.promote(99)
    world.crown(1)
    with pytest.raises(InputError, match="is the champion already"):
        world.promote(1)


@pytest.mark.fault
def test_a_model_or_evidence_that_was_changed_is_not_promoted(world: World) -> None:
    folder = world.evidence_folder(1, world.collect(1))
    flip_a_byte(folder / "test" / "predictions.csv")
    with pytest.raises(ModelError, match=r"evidence: test/predictions\.csv: checksum does not match"):
        world.promote(1)
    world.collect(2)
    flip_a_byte(world.bundle(2) / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx: checksum does not match"):
        world.promote(2)
    assert world.alias is world.recorded is None


def test_evidence_that_somebody_made_up_with_matching_checksums_is_not_taken(world: World, tmp_path: Path) -> None:
    from tests.worlds import evidence

    facts = registry.version_facts(1)
    made_up = evidence(1.0, model_digest=facts.model_digest, mlflow_run_id=facts.run_id)
    digest = made_up.save(tmp_path / "made-up")
    connect().log_artifacts(facts.run_id, str(tmp_path / "made-up"), f"evidence/{digest[:16]}")
    registry.set_version_tag(1, "evidence_sha256", digest)
    with pytest.raises(ModelError, match="is not in the ledger"):
        world.promote(1)


def test_a_successor_has_to_be_no_worse_on_the_same_radiographs(world: World) -> None:
    world.crown(1)
    world.collect(2, 8.3, champion_error_months=7.0)
    worse = {gate.name: gate for gate in world.promote(2).failed}
    assert list(worse) == ["not_inferior_to_champion"]
    assert "inferior" in worse["not_inferior_to_champion"].meaning
    world.collect(2, 6.0, champion_error_months=7.0)
    decision = world.promote(2)
    assert decision.promoted
    assert decision.previous_champion == 1
    assert any("superior" in gate.meaning for gate in decision.gates)


def test_evidence_against_a_champion_of_before_is_measured_anew_or_from_its_own_day(world: World) -> None:
    world.collect(2, 7.0)
    world.collect(3, 6.0)
    world.crown(1)
    assert [gate.name for gate in world.promote(2).failed] == ["latency"]
    facts = registry.version_facts(3)
    world.collect(3, 6.0, champion=None, manifest=manifest_table(fewer=110))
    failed = {gate.name: gate.problem for gate in world.promote(3).failed}
    assert {"same_test_rows", "not_inferior_to_champion"} <= set(failed)
    assert "run the training pipeline again" in failed["same_test_rows"]
    assert facts.version == 3


def test_the_pipeline_promotes_alone_in_auto_mode(world: World) -> None:
    decision = world.automatic(1)
    assert decision.promoted
    assert world.alias == world.recorded == 1
    entry = world.ledger.champion_on()
    assert entry is not None
    assert entry.actor == f"policy {POLICY.digest[:12]}"
    assert "pipeline run night, started by" in entry.reason
    assert world.automatic(1).outcome == "already champion"
    assert world.events().count("promoted") == 1
    refused = world.automatic(2, 14.0)
    assert refused.outcome == "not promoted"
    assert world.alias == 1
    assert world.findings() == []


def test_in_manual_mode_the_pipeline_names_a_challenger_and_a_person_promotes_it(world: World) -> None:
    manual = world.under(promotion="manual")
    decision = manual.automatic(1)
    assert decision.outcome == "awaits approval"
    assert "the policy says `promotion: manual`" in decision.reason
    assert manual.alias is None
    assert int(registry.version_by_alias("challenger").version) == 1  # type: ignore[union-attr]
    assert manual.events() == ["evidence", "gates"]
    assert manual.promote(1).promoted
    assert manual.findings() == []


def test_where_two_persons_are_asked_for_the_pipeline_does_not_promote_alone(world: World) -> None:
    assert world.under(two_person=True).automatic(1).outcome == "awaits approval"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config_yaml": CONFIG.replace("epochs: 2", "epochs: 9")}, "training.epochs is 9, was 2"),
        ({"config_yaml": CONFIG + "preprocessing:\n  fit: stretch\n"}, "preprocessing.fit is 'stretch', was None"),
        ({"manifest": manifest_table(fewer=5)}, "of the champion's radiographs are gone"),
        ({"architecture": "xception_single"}, "architecture is xception_single, was xception_multi"),
    ],
)
def test_a_change_that_was_not_foreseen_asks_for_a_person(changes: dict[str, Any], named: str, world: World) -> None:
    world.crown(1)
    decision = world.automatic(2, 7.0, champion_error_months=8.0, **changes)
    assert decision.outcome == "awaits approval"
    assert named in decision.reason
    assert world.alias == 1


def test_a_new_seed_and_more_data_were_foreseen(world: World) -> None:
    world.crown(1)
    grown = manifest_table()
    more = grown.head(3).assign(image_id=["x", "y", "z"], sha256=["x", "y", "z"], split="train")
    grown = grown._append(more, ignore_index=True)  # type: ignore[operator]
    config = CONFIG.replace("seed: 3", "seed: 4")
    decision = world.automatic(2, 7.0, champion_error_months=8.0, config_yaml=config, manifest=grown)
    assert decision.promoted, decision.reason


def test_the_pipeline_judges_nothing_without_an_xception(world: World) -> None:
    resnet = Candidate(version=4, architecture="resnet50_multi", validation_mae=1.0, evidence_sha256="44" * 32)
    decision, _ = face_the_gates([resnet], POLICY, "night")
    assert (decision.outcome, decision.version) == ("not promoted", None)


def test_a_rollback_goes_to_the_last_champion_and_is_recorded(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.crown(1, 2, 3)
    assert run("rollback", *BY, "--policy", written(POLICY, tmp_path)) == 0
    assert capsys.readouterr().out == "models:/bone-age/2: champion now, in place of version 3\n"
    assert world.alias == world.recorded == 2
    entry = world.ledger.champion_on()
    assert entry is not None
    assert (entry.event, entry.actor, entry.reason) == (Event.ROLLED_BACK, "A. Roe", "reviewed the report")
    assert (entry.previous_version, entry.run_id) == (3, registry.version_facts(2).run_id)
    assert roll_back("A. Roe", "again", None, POLICY)[:2] == (2, 1)
    with pytest.raises(InputError, match="no earlier champion"):
        roll_back("A. Roe", "and again", None, POLICY)
    assert world.findings() == []


def test_a_version_that_came_back_after_a_rollback_is_a_champion_to_go_back_to(world: World) -> None:
    world.crown(1, 2)
    roll_back("A. Roe", "drift", None, POLICY)
    world.crown(2, 3)
    assert roll_back("A. Roe", "drift", None, POLICY)[:2] == (3, 2)


def test_a_rollback_passes_over_a_version_whose_files_are_damaged(world: World) -> None:
    world.crown(1, 2, 3)
    flip_a_byte(world.bundle(2) / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx: checksum"):
        roll_back("A. Roe", "drift", 2, POLICY)
    assert world.alias == world.recorded == 3
    assert roll_back("A. Roe", "drift", None, POLICY)[:2] == (3, 1)


def test_a_rollback_refuses_what_never_was_champion_unless_the_policy_allows(world: World) -> None:
    with pytest.raises(InputError, match="no champion to roll back from"):
        roll_back("A. Roe", "drift", None, POLICY)
    world.crown(1, 2)
    with pytest.raises(InputError, match="never was champion"):
        roll_back("A. Roe", "drift", 3, POLICY)
    with pytest.raises(InputError, match="is the champion already"):
        roll_back("A. Roe", "drift", 2, POLICY)
    assert world.findings() == []


@pytest.mark.parametrize("words", [("", "reviewed"), ("A. Roe", " "), ("\u200b", "reviewed"), ("A. Roe", "a\nb")])
def test_who_comes_past_the_command_line_needs_a_name_and_a_reason_too(words: tuple[str, str], world: World) -> None:
    world.crown(1, 2)
    for attempt in (lambda: world.promote(3, *words), lambda: roll_back(*words, None, POLICY)):
        with pytest.raises(InputError, match=r"^--(approver|reason)"):
            attempt()
    assert world.alias == 2


def test_to_a_version_that_never_was_champion_only_by_the_policy_that_judged_it(world: World) -> None:
    world.crown(1, 2)
    generous = world.under(rollback_to_any_version=True, two_person=True)
    with pytest.raises(ModelError, match="no evidence was collected"):
        roll_back("A. Roe", "drift", 3, generous.policy)
    world.collect(3)
    with pytest.raises(InputError, match="was judged under policy"):
        roll_back("A. Roe", "drift", 3, generous.policy)
    generous.collect(3)
    with pytest.raises(InputError, match="trained by Trainer; the policy asks for another approver"):
        roll_back("Trainer", "drift", 3, generous.policy)
    assert roll_back("A. Roe", "drift", 3, generous.policy)[:2] == (2, 3)
    assert roll_back("A. Roe", "drift", 1, POLICY)[:2] == (3, 1)
    assert world.findings() == []


def test_after_the_champion_was_deleted_a_rollback_still_finds_the_one_before(world: World) -> None:
    world.crown(1, 2)
    connect().delete_model_version("bone-age", "2")
    before, now, said = roll_back("A. Roe", "deleted by mistake", None, POLICY)
    assert (before, now) == (None, 1)
    assert "no longer registered" in said[0]
    assert world.alias == world.recorded == 1


def test_history_tells_the_champion_of_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bone_age.governance.history as history_module
    import bone_age.governance.ledger as ledger_module

    class Clock(datetime):
        now_is = datetime(2030, 2, 27, 9, tzinfo=UTC)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.now_is

    monkeypatch.setattr(ledger_module, "datetime", Clock)
    monkeypatch.setattr(history_module, "datetime", Clock)
    world.crown(1)
    Clock.now_is = datetime(2030, 3, 1, 23, 59, tzinfo=UTC)
    world.crown(2)
    Clock.now_is = datetime(2031, 1, 1, tzinfo=UTC)
    found = {day: [reign.version for reign in reigns_on(world.ledger, day)] for day in
             ("2030-02-26", "2030-02-27", "2030-02-28", "2030-03-01", "2031-01-01")}  # fmt: skip
    assert found == {
        "2030-02-26": [], "2030-02-27": [1], "2030-02-28": [1], "2030-03-01": [2], "2031-01-01": [2],
    }  # fmt: skip
    assert run("history", "--on", "2030-02-28") == 0
    line = capsys.readouterr().out
    run_id = registry.version_facts(1).run_id
    assert line == f"2030-02-27 09:00 to 2030-03-01 23:59  version 1  promoted  A. Roe: promoted as 1  (run {run_id})\n"
    assert run("history", "--on", "2030-02-01") == 0
    assert capsys.readouterr().out == "there was no champion on 2030-02-01\n"
    assert run("history", "--on", "soon") == 2
    assert "expected a date like 2026-03-01" in capsys.readouterr().err


def test_what_people_and_tags_say_is_printed_on_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, forged = written(POLICY, tmp_path), "mine\n2026-01-01 00:00 to today  version 9\x1b[31m"
    world.collect(1)
    assert run("promote", "--version", "1", *BY[:3], forged, "--policy", policy) == 2
    assert r"--reason: holds the control character \n" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as older:
        older.setattr(approval, "require_words", lambda approver, reason: None)
        world.promote(1, reason=forged)  # as an older release, or another program, let it
    registry.set_version_tag(1, "git_commit", "c0ffee\nledger, registry and files agree\x1b[2J")
    assert run("history") == 0
    line = capsys.readouterr().out
    assert r"mine\n2026-01-01 00:00 to today  version 9\x1b[31m" in line
    assert run("audit", "verify") == 1
    findings = capsys.readouterr().out
    assert r"c0ffee\nledger, registry" in findings
    for printed in (line, findings):
        assert len(printed.splitlines()) == 1
        assert "\x1b" not in printed


def test_all_of_it_with_the_ledger_in_postgresql(
    world: World, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect().delete_registered_model_tag("bone-age", "ledger_head")  # that of the ledger in SQLite
    monkeypatch.setenv("BONE_AGE_DATABASE_URL", new_database(postgresql_url))
    assert Home().database_url
    for version in (1, 2, 3, 4):
        record_registered(registry.version_facts(version))
    world.crown(1, 2)
    world.collect(3, 14.0)
    assert world.promote(3).outcome == "not promoted"
    assert roll_back("A. Roe", "drift", None, POLICY)[:2] == (2, 1)
    assert [reign.version for reign in reigns_on(world.ledger, None)] == [1, 2, 1]
    assert world.findings() == []
