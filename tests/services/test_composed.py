"""Training, promotion, serving, monitoring by Prometheus, faults and a restored backup against the composed services.

The tests tell one story and run in their order: `make test-services`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.e2e.conftest import LIGHT, write_config
from tests.e2e.test_governance import APPROVED, MANUAL, WIDE
from tests.services.composed import DOCKER, Composed

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("BONE_AGE_SERVICES" not in os.environ, reason="needs servers: make test-services"),
]

# What stands in for `docker compose` in the scripts for backups: a command in a service's container, with its settings.
COMPOSE = """\
#!{python}
import json, os, subprocess, sys
words = sys.argv[1:]
while words[0] not in ("exec", "run", "ps", "stop", "up"):
    words.pop(0)
verb, words = words[0], [word for word in words[1:] if word not in ("-T", "--rm", "--no-deps", "--quiet")]
if verb == "ps":
    print(words[0])
elif verb in ("exec", "run"):
    os.execvpe(words[1], words[1:], json.load(open("{folder}/environments.json"))[words[0]])
"""
WITH_LOG_IN = "http://mlflow:5000/api/2.0/mlflow/registered-models/get?name=bone-age"


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    with tempfile.TemporaryDirectory(prefix="bone-age-composed-") as folder:  # databases run as users of their own
        Path(folder).chmod(0o755)
        made = Composed(Path(folder))
        try:
            made.start("postgres", "zenml-database", "mlflow", "zenml", "serve", "prometheus")
            yield made
        finally:
            made.stop(*list(made.running))


@pytest.fixture(scope="module")
def config(composed: Composed) -> Path:
    return write_config(composed.folder, **LIGHT)


@pytest.fixture(scope="module")
def policy(composed: Composed) -> Path:
    path = composed.folder / "policy.yaml"
    path.write_text(yaml.safe_dump(MANUAL | {"synthetic_bounds": WIDE}))
    return path


def ask(composed: Composed) -> dict[str, Any]:
    """What the server answers about a drawn hand."""
    [image, *_] = sorted(composed.volume("scheduler").glob("data/**/*.png"))
    token = {"Authorization": f"Bearer {composed.secrets['BONE_AGE_API_TOKEN']}"}
    files = {"image": ("hand.png", image.read_bytes(), "image/png")}
    answer = httpx.post("http://serve:8000/v1/predict", data={"sex": "F"}, files=files, headers=token, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def rows_of(composed: Composed, query: str) -> list[tuple[Any, ...]]:
    url = "postgresql://bone_age@postgres:5432/bone_age"
    with psycopg.connect(url, password=composed.secrets["BONE_AGE_DB_PASSWORD"]) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def admin(composed: Composed) -> tuple[str, str]:
    return composed.secrets["MLFLOW_ADMIN_USERNAME"], composed.secrets["MLFLOW_ADMIN_PASSWORD"]


def test_the_schedule_trains_because_there_is_no_champion(composed: Composed, config: Path, policy: Path) -> None:
    asked = ("bone-age", "schedule", "--once", "--config", config, "--policy", policy)
    done = composed.run("scheduler", *asked)
    assert done.returncode == 0, done.stderr
    assert "there is no champion" in done.stdout
    assert "models:/bone-age/1 (xception_multi)" in done.stdout
    assert list(composed.volume("mlflow").glob("artifacts/**/model.onnx")), "artifacts went through the server"
    assert not (composed.volume("scheduler") / "mlflow.db").exists()
    assert not (composed.volume("scheduler") / "ledger.db").exists()
    assert rows_of(composed, "SELECT count(*) FROM bone_age_ledger")[0][0] >= 4


def test_mlflow_answers_only_who_logs_in(composed: Composed) -> None:
    assert httpx.get(WITH_LOG_IN).status_code == 401
    assert httpx.get(WITH_LOG_IN, auth=("keeper", "guessed")).status_code == 401
    assert httpx.get(WITH_LOG_IN, auth=admin(composed)).status_code == 200


def test_zenml_s_server_holds_the_run_and_its_steps(composed: Composed) -> None:
    code = """
import json
import steps
from zenml.client import Client
[run] = Client().list_pipeline_runs(pipeline_name="bone-age-training").items or [None]
print(json.dumps([Client().zen_store.url, run.status.value, len(run.steps)]))
"""
    path = f"import sys; sys.path.insert(0, {str(DOCKER.parent)!r})\n"
    done = composed.run("scheduler", sys.executable, "-c", path + code)
    assert done.returncode == 0, done.stderr
    url, status, steps = json.loads(done.stdout.splitlines()[-1])
    assert (url, status) == ("http://zenml:8080", "completed")
    assert steps > 10


def test_what_is_promoted_answers_without_a_restart_and_is_counted(composed: Composed, policy: Path) -> None:
    assert ask(composed)["model"] != "models:/bone-age/1"
    promoted = composed.run("scheduler", "bone-age", "promote", "--version", "1", *APPROVED, "--policy", policy)
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    until = time.monotonic() + 120
    while (answer := ask(composed))["model"] != "models:/bone-age/1":
        assert time.monotonic() < until, answer["model"]
        time.sleep(1)
    time.sleep(3)  # the log is written, and the counters read, a moment later
    logged = rows_of(composed, "SELECT count(*), min(model_digest), max(model_digest) FROM bone_age_predictions")
    assert logged[0][0] >= 2
    query = {"query": "sum(bone_age_predictions_total)"}
    counted = httpx.get("http://prometheus:9090/api/v1/query", params=query).json()["data"]["result"]
    assert float(counted[0]["value"][1]) == logged[0][0]
    alerts = httpx.get("http://prometheus:9090/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {alert["health"] for alert in alerts} == {"ok"}


@pytest.mark.fault
@pytest.mark.parametrize("service", ["mlflow", "postgres", "zenml"])
def test_a_training_outlives_a_server_that_is_away_for_half_a_minute(
    composed: Composed, policy: Path, tmp_path: Path, service: str
) -> None:
    config = write_config(tmp_path, **LIGHT | {"seed": 40 + len(service)})
    process = _training_under_way(composed, config, policy)
    group = composed.running[service].pid
    os.killpg(group, signal.SIGSTOP)
    time.sleep(30)
    os.killpg(group, signal.SIGCONT)
    out, said = process.communicate(timeout=900)
    print(f"{service} away for 30 s: exit code {process.returncode}; {(out or said).strip().splitlines()[-1][:160]}")
    assert process.returncode == 0, said
    _is_whole(composed)


@pytest.mark.fault
@pytest.mark.parametrize("service", ["mlflow", "postgres"])
def test_a_training_whose_server_dies_ends_in_one_line_and_goes_on_later(
    composed: Composed, policy: Path, tmp_path: Path, service: str
) -> None:
    config = write_config(tmp_path, **LIGHT | {"seed": 60 + len(service)})
    process = _training_under_way(composed, config, policy)
    composed.stop(service, kill=True)
    _, said = process.communicate(timeout=900)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    print(f"{service} gone for good: exit code {process.returncode}; {errors}")
    assert process.returncode == 1, said
    assert len(errors) == 1
    assert "Traceback" not in said
    composed.start(service)
    again = composed.run("scheduler", "bone-age", "train", "--config", config, "--policy", policy)
    assert again.returncode == 0, again.stderr
    _is_whole(composed)


@pytest.mark.fault
def test_everything_is_destroyed_and_comes_back(composed: Composed) -> None:
    compose = composed.folder / "compose"
    compose.write_text(COMPOSE.format(python=sys.executable, folder=composed.folder))
    compose.chmod(0o755)
    database = composed.volume("zenml-database")  # whose clients read where its socket is from the user's own file
    (composed.folder / ".my.cnf").write_text(f"[client]\nsocket = {database / 'socket'}\n")
    within = {
        "postgres": {"PGHOST": "127.0.0.1", "PGPASSWORD": composed.secrets["POSTGRES_PASSWORD"]},
        "zenml-database": {"HOME": str(composed.folder)},
        "mlflow": {},
        "scheduler": {},
    }
    environments = {service: composed.environment(service) | more for service, more in within.items()}
    (composed.folder / "environments.json").write_text(json.dumps(environments))
    before = composed.run("scheduler", "bone-age", "history", "--json").stdout
    script = os.environ | {"COMPOSE": str(compose)}
    backup = composed.folder / "backup"
    done = subprocess.run(["sh", DOCKER / "backup.sh", backup], env=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    composed.stop(*list(composed.running))
    shutil.rmtree(composed.folder / "volumes")
    for service in ("mlflow", "scheduler"):  # empty ones, as Compose makes them
        composed.volume(service)
    composed.start("postgres", "zenml-database")
    restore = ["sh", DOCKER / "restore.sh", backup]
    done = subprocess.run(restore, env=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    composed.start("mlflow", "zenml", "serve")
    assert composed.run("scheduler", "bone-age", "history", "--json").stdout == before
    _is_whole(composed)
    assert json.loads(before)[-1]["version"] == 1
    assert ask(composed)["model"] == "models:/bone-age/1"


def _training_under_way(composed: Composed, config: Path, policy: Path) -> subprocess.Popen[str]:
    """A training that has begun to keep its state."""
    kept = len(_checkpoints(composed))
    process = composed.open("scheduler", "bone-age", "train", "--config", config, "--policy", policy)
    until = time.monotonic() + 300
    while len(_checkpoints(composed)) == kept:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)
    return process


def _checkpoints(composed: Composed) -> list[Path]:
    return list(composed.volume("scheduler").glob("checkpoints/*"))


def _is_whole(composed: Composed) -> None:
    verified = composed.run("scheduler", "bone-age", "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
