"""`make backup` and `make restore` on a real PostgreSQL: everything is destroyed, and comes back.

The scripts speak to services through `docker compose`; what stands in for it here runs the same commands on this
machine, against the test's own server and folders. ZenML's database has no server here: what is said to it is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import psycopg
import pytest

from bone_age.governance.ledger import Ledger
from tests.ledgers import FileAnchor, faults, home_at, promoted
from tests.postgresql import Server

SCRIPTS = Path(__file__).parents[2] / "docker"
COMPOSE = """\
#!/bin/sh
echo "$@" >>"$WORLD/asked"
while [ $# -gt 0 ]; do case $1 in exec|run|ps|stop|up) break ;; *) shift ;; esac; done
verb=$1; shift
case $verb in
    ps) echo container ;;
    exec|run)
        while [ "${1#-}" != "$1" ]; do shift; done
        service=$1; shift
        export BONE_AGE_HOME="$WORLD/$service"
        case "$service $*" in
            zenml-database*mysqldump*) cat "$WORLD/zenml" ;;
            zenml-database*DROP*) : >"$WORLD/zenml" ;;
            zenml-database*) cat >"$WORLD/zenml" ;;
            *) exec "$@" ;;
        esac ;;
esac
"""


@dataclass(frozen=True)
class Services:
    """What the compose file's services keep: databases on a real server, folders for volumes."""

    folder: Path
    environment: dict[str, str]

    def run(self, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["sh", SCRIPTS / script, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)

    def database(self, name: str) -> str:
        user, password, host, port = (self.environment[f"PG{part}"] for part in ("USER", "PASSWORD", "HOST", "PORT"))
        return f"postgresql://{user}:{password}@{host}:{port}/{name}"

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.database("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def services(postgresql_server: Server, tmp_path: Path) -> Services:
    compose = tmp_path / "compose"
    compose.write_text(COMPOSE)
    compose.chmod(0o755)
    url = urlsplit(postgresql_server.url)
    environment = os.environ | {
        "COMPOSE": str(compose), "WORLD": str(tmp_path), "POSTGRES_USER": str(url.username),
        "PGUSER": str(url.username), "PGPASSWORD": str(url.password), "PGHOST": "127.0.0.1", "PGPORT": str(url.port),
        "PATH": f"{postgresql_server.programs}:{os.environ['PATH']}",
    }  # fmt: skip
    found = Services(tmp_path, environment)
    _make_databases(found)
    return found


def _make_databases(services: Services) -> None:
    for name in ("bone_age", "mlflow", "mlflow_auth"):
        services.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}")


def _fill(services: Services) -> FileAnchor:
    """A ledger, a champion with an artifact, an account, a home, ZenML's tables."""
    anchor = FileAnchor(services.folder / "anchor")
    ledger = Ledger.open(home_at(services.folder / "home", database_url=services.database("bone_age")), anchor)
    for version in (1, 2):
        ledger.append(promoted(version, reason="größer"))
    client = mlflow.MlflowClient(services.database("mlflow").replace("://", "+psycopg://", 1))
    client.create_registered_model("bone-age")
    client.create_model_version("bone-age", "mlflow-artifacts:/1/model")
    client.set_registered_model_alias("bone-age", "champion", "1")
    with psycopg.connect(services.database("mlflow_auth")) as connection:
        connection.execute("CREATE TABLE users (name text); INSERT INTO users VALUES ('keeper')")
    for name, text in (("mlflow/artifacts/1/model.onnx", "weights"), ("scheduler/zenml/config.yaml", "stack"),
                       ("scheduler/features/large", "can be made anew"), ("zenml", "CREATE TABLE run")):  # fmt: skip
        (services.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (services.folder / name).write_text(text)
    return anchor


@pytest.mark.fault
def test_what_was_destroyed_comes_back(services: Services) -> None:
    anchor = _fill(services)
    backup = services.folder / "backup"
    done = services.run("backup.sh", backup)
    assert done.returncode == 0, done.stderr
    assert all(file.stat().st_mode & 0o077 == 0 for file in backup.iterdir())

    _make_databases(services)
    for name in ("mlflow", "scheduler"):
        shutil.rmtree(services.folder / name)
        (services.folder / name).mkdir()
    (services.folder / "mlflow" / "artifacts").mkdir()
    (services.folder / "mlflow" / "artifacts" / "later").write_text("of a run that the databases will not know")
    (services.folder / "zenml").write_text("lost")

    done = services.run("restore.sh", backup)
    assert done.returncode == 0, done.stderr
    ledger = Ledger.open(home_at(services.folder / "home", database_url=services.database("bone_age")), anchor)
    assert [entry.version for entry in ledger.entries()] == [1, 2]
    assert not faults(ledger)
    client = mlflow.MlflowClient(services.database("mlflow").replace("://", "+psycopg://", 1))
    assert client.get_model_version_by_alias("bone-age", "champion").version in (1, "1")
    with psycopg.connect(services.database("mlflow_auth")) as connection:
        assert connection.execute("SELECT name FROM users").fetchall() == [("keeper",)]
    assert (services.folder / "mlflow" / "artifacts" / "1" / "model.onnx").read_text() == "weights"
    assert not (services.folder / "mlflow" / "artifacts" / "later").exists()
    assert (services.folder / "scheduler" / "zenml" / "config.yaml").read_text() == "stack"
    assert not (services.folder / "scheduler" / "features").exists()
    assert (services.folder / "zenml").read_text() == "CREATE TABLE run"


@pytest.mark.fault
def test_a_backup_that_was_changed_restores_nothing(services: Services) -> None:
    backup = services.folder / "backup"
    backup.mkdir()
    (backup / "mlflow.tar").write_text("cut short")
    (backup / "SHA256SUMS").write_text(f"{'0' * 64}  mlflow.tar\n")
    done = services.run("restore.sh", backup)
    assert done.returncode == 2
    assert "is no whole backup; nothing was changed" in done.stderr
    assert not (services.folder / "asked").exists()


@pytest.mark.fault
def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(services: Services) -> None:
    services.sql("DROP DATABASE mlflow")
    done = services.run("backup.sh", services.folder / "backup")
    assert done.returncode != 0
    assert not (services.folder / "backup").exists()


def test_a_backup_never_overwrites(services: Services) -> None:
    (services.folder / "backup").mkdir()
    done = services.run("backup.sh", services.folder / "backup")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
