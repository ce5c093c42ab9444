"""`bone-age doctor` names what is broken, and says what to do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from bone_age.housekeeping import places
from bone_age.housekeeping.check import Check, State
from bone_age.housekeeping.checks import examine, without_passwords
from bone_age.settings import Home
from tests.worlds import World


def _no_orchestrator() -> Iterator[Check]:
    return iter(())


def found(home: Home | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(home or Home(), _no_orchestrator)}


def test_a_home_with_a_champion_is_in_order(world: World) -> None:
    world.crown(1)
    checks = found()
    assert [check for check in checks.values() if check.state is State.ERROR] == []
    assert checks["champion"].said == "models:/bone-age/1, xception_multi, files verify"
    assert checks["ledger"].said.endswith("ledger, registry and files agree")
    assert checks["lock"].state in (State.OK, State.WARNING)


def test_a_home_that_is_not_there_is_said_and_not_made(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_AGE_HOME", f"{tmp_path}/none")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = found()
    assert {checks[name].state for name in ("home", "MLflow", "ledger")} == {State.ABSENT}
    assert not os.path.exists(f"{tmp_path}/none")


def test_changed_files_of_the_champion_are_errors_with_a_remedy(world: World) -> None:
    world.crown(1)
    onnx = world.bundle(1) / "model.onnx"
    onnx.write_bytes(onnx.read_bytes() + b"x")
    checks = found()
    assert checks["champion"].state is State.ERROR
    assert "model.onnx" in checks["champion"].said
    assert "rollback" in checks["champion"].remedy
    assert checks["ledger"].state is State.ERROR
    assert "`bone-age audit verify`" in checks["ledger"].remedy


def test_a_database_that_does_not_answer_is_named_without_its_password(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BONE_AGE_DATABASE_URL", "postgresql://keeper:secret-word@127.0.0.1:1/ledger?connect_timeout=2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://keeper:secret-word@127.0.0.1:1")
    monkeypatch.setenv("BONE_AGE_ALERT_URLS", "nonsense://secret-word")
    checks = found()
    assert {checks[name].state for name in ("MLflow", "ledger", "alerts")} == {State.ERROR}
    assert "http://***@127.0.0.1:1" in checks["MLflow"].said
    assert "secret-word" not in repr(checks)


def test_a_server_that_is_away_is_not_waited_for_as_in_a_training() -> None:
    seen: list[str] = []

    def orchestrator() -> Iterator[Check]:
        seen.append(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
        return iter(())

    examine(Home(), orchestrator)
    assert seen == ["1"] != [os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pass@host/db fails", "postgresql://***@host/db fails"),
        ("at mysql://:p%40ss@host:1/x, http://host/y", "at mysql://***@host:1/x, http://host/y"),
        ("host=h password=pass user=u", "host=h password=*** user=u"),
        ("sqlite:////home/a/mlflow.db", "sqlite:////home/a/mlflow.db"),
    ],
)
def test_passwords_are_left_out_of_urls(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_what_anybody_can_write_to_is_a_warning(world: World) -> None:
    ledger = world.home.root / "ledger.db"
    ledger.chmod(ledger.stat().st_mode | stat.S_IWOTH)
    check = found()["permissions"]
    assert (check.state, check.remedy) == (State.WARNING, f"`chmod o-w {ledger}`")


def test_a_full_disk_is_an_error_and_a_filling_one_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    free = places.shutil.disk_usage(world.home.root).free / 1e9
    for enough, little, state in ((2 * free, free / 2, State.WARNING), (3 * free, 2 * free, State.ERROR)):
        monkeypatch.setattr(places, "ENOUGH_GB", enough)
        monkeypatch.setattr(places, "LITTLE_GB", little)
        disk = next(check for check in places.home_checks(world.home) if check.name == "disk")
        assert (disk.state, "bone-age prune" in disk.remedy) == (state, True)
