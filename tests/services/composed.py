"""What docker/compose.yaml describes, as processes of this machine: the same settings, names and ports.

Images that cannot be pulled are replaced by the same service from Debian or PyPI, those of this project by its code.
`docker/test_services.sh` gives it a network of its own, in which the services' names lead to the loopback interface.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.postgresql import SERVERS

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
PORTS = {"postgres": 5432, "mlflow": 5000, "zenml-database": 3306, "zenml": 8080, "serve": 8000, "prometheus": 9090}
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass
class Composed:
    """The services, each with a folder in place of its volume, and what they were told.

    Attributes:
        folder: Holds `volumes/SERVICE` and `logs/SERVICE`.
        secrets: What docker/.env would say.
    """

    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first_part = (DOCKER / ".env.example").read_text().split("# The rest has defaults")[0]
        for name in re.findall(r"(?m)^([A-Z_]+)=$", first_part):
            self.secrets[name] = "keeper" if name.endswith("USERNAME") else secrets.token_hex(24)
        self.services: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
        (self.folder / "logs").mkdir()

    def volume(self, service: str) -> Path:
        folder = self.folder / "volumes" / service
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def environment(self, service: str) -> dict[str, str]:
        """A process's surroundings in that service's container."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("BONE_AGE_", "MLFLOW_", "ZENML_", "PG", "MYSQL_"))
        }
        said = self.services[service].get("environment", {})
        home = self.volume(service)
        own = {"BONE_AGE_HOME": str(home), "BONE_AGE_RESULTS": str(home / "results"), "COLUMNS": "200"}
        return inherited | own | {name: self._filled(str(value)) for name, value in said.items()}

    def _filled(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name, kind, other = found.groups()
            if name in self.secrets:
                return self.secrets[name]
            assert kind == "-", f"{name} has neither a secret nor a default"
            return str(other)

        return _VARIABLE.sub(value, text).replace("$$", "$")

    # the services -----------------------------------------------------------------------------------------------------

    def start(self, *services: str) -> None:
        for service in services:
            getattr(self, "_start_" + service.replace("-", "_"))()

    def stop(self, *services: str, kill: bool = False) -> None:
        """The last one first, so that none waits for what asks of it."""
        for service in reversed(services):
            process = self.running.pop(service, None)
            if process is not None:
                ask = signal.SIGINT if service == "postgres" else signal.SIGTERM  # SIGTERM lets its clients finish
                os.killpg(process.pid, signal.SIGKILL if kill else ask)
                process.wait(timeout=60)

    def _start_postgres(self) -> None:
        [programs] = sorted(SERVERS.glob("*/bin"))[-1:]
        data, environment = self.volume("postgres") / "data", self.environment("postgres")
        user = {"user": "postgres", "group": "postgres"}
        is_new = not data.exists()
        if is_new:
            shutil.chown(data.parent, **user)
            password = data.parent / "password"
            password.write_text(environment["POSTGRES_PASSWORD"])
            shutil.chown(password, **user)
            initdb = [programs / "initdb", "--no-sync", "--auth=scram-sha-256", f"--pwfile={password}"]
            initdb += ["--username", environment["POSTGRES_USER"], "--encoding=UTF8", "--pgdata", data]
            self._run("postgres", *initdb, **user)
        (data / "postmaster.pid").unlink(missing_ok=True)
        server = [programs / "postgres", "-D", data, "-p", str(PORTS["postgres"]), "-k", data.parent]
        self._serve("postgres", *server, "-c", "listen_addresses=127.0.0.1", **user)
        connect = {"PGHOST": "127.0.0.1", "PGPASSWORD": environment["POSTGRES_PASSWORD"]}
        ready = [programs / "pg_isready", "--host", "127.0.0.1"]
        self._wait("postgres", lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
        if is_new:
            self._run("postgres", "sh", DOCKER / "postgres" / "databases.sh", env=environment | connect)

    def _start_zenml_database(self) -> None:
        """MariaDB in place of MySQL."""
        data, environment = self.volume("zenml-database") / "data", self.environment("zenml-database")
        socket_file = data.parent / "socket"
        is_new = not data.exists()
        if is_new:
            shutil.chown(data.parent, "mysql", "mysql")
            install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=mysql", "--skip-test-db"]
            self._run("zenml-database", *install, "--auth-root-authentication-method=normal")
        server = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket_file}", "--user=mysql"]
        port = PORTS["zenml-database"]
        server += ["--bind-address=127.0.0.1", "--log-bin-trust-function-creators=1"]
        self._serve("zenml-database", *server, f"--port={port}")
        self._wait("zenml-database", lambda: _listens(port))
        if is_new:
            statements = "; ".join(
                [
                    "CREATE DATABASE {MYSQL_DATABASE}",
                    "CREATE USER '{MYSQL_USER}'@'%' IDENTIFIED BY '{MYSQL_PASSWORD}'",
                    "GRANT ALL ON {MYSQL_DATABASE}.* TO '{MYSQL_USER}'@'%'",
                    "ALTER USER 'root'@'localhost' IDENTIFIED BY '{MYSQL_ROOT_PASSWORD}'",
                ]
            ).format(**environment)
            self._run("zenml-database", "mariadb", "--no-defaults", f"--socket={socket_file}", "-e", statements)

    def _start_mlflow(self) -> None:
        """The command and the variables of the image `tracking`, from the same lock."""
        dockerfile = re.sub(r"\\\n\s*", " ", (DOCKER / "Dockerfile").read_text())
        stage = dockerfile.split("FROM runtime AS tracking\n")[1].split("\nFROM ")[0]
        [command] = re.findall(r"(?m)^CMD (.*)$", stage)
        [variables] = re.findall(r"(?m)^ENV (.*)$", stage)
        of_image = {
            name: value.replace("/app/", f"{DOCKER}/mlflow/") for name, value in re.findall(r"(\w+)=(\S+)", variables)
        }
        path = {"PATH": f"{tools('tracking')}{os.pathsep}{os.environ['PATH']}"}
        environment = self.environment("mlflow") | of_image | path
        told = [part.replace("/data", str(self.volume("mlflow"))) for part in json.loads(command)]
        self._serve("mlflow", tools("tracking") / told[0], *told[1:], env=environment)
        self._wait("mlflow", lambda: httpx.get("http://mlflow:5000/health").is_success)

    def _start_zenml(self) -> None:
        environment = self.environment("zenml") | {"ZENML_CONFIG_PATH": str(self.volume("zenml"))}
        environment |= {"ZENML_SERVER_DEPLOYMENT_TYPE": "docker", "ZENML_LOGGING_VERBOSITY": "WARN"}
        server = [tools("zenml") / "uvicorn", "zenml.zen_server.zen_server_api:app", "--host", "127.0.0.1"]
        self._serve("zenml", *server, "--port", str(PORTS["zenml"]), "--no-server-header", env=environment)
        self._wait("zenml", lambda: httpx.get("http://zenml:8080/health").is_success)

    def _start_serve(self) -> None:
        command = [sys.executable, "-m", "bone_age.cli", "serve", "--host", "127.0.0.1", "--port", str(PORTS["serve"])]
        self._serve("serve", *command, env=self.environment("serve"))
        self._wait("serve", lambda: httpx.get("http://serve:8000/readyz").is_success)

    def _start_prometheus(self) -> None:
        folder = self.volume("prometheus")
        (folder / "api_token").write_text(self.secrets["BONE_AGE_API_TOKEN"])
        text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
        text = text.replace("/run/secrets", str(folder)).replace("/etc/prometheus", str(DOCKER / "prometheus"))
        (folder / "prometheus.yml").write_text(text.replace("scrape_interval: 15s", "scrape_interval: 1s"))
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        self._serve("prometheus", "prometheus", *options, f"--web.listen-address=127.0.0.1:{PORTS['prometheus']}")
        self._wait("prometheus", lambda: httpx.get("http://prometheus:9090/-/ready").is_success)

    # processes --------------------------------------------------------------------------------------------------------

    def run(self, service: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """A command as in that service's container, to its end."""
        process = self.open(service, *command)
        out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def open(self, service: str, *command: str | Path) -> subprocess.Popen[str]:
        """The same, not waited for."""
        told = [str(part) for part in command]
        if told[0] == "bone-age":
            told = [sys.executable, "-m", "bone_age.cli", *told[1:]]
        pipe = subprocess.PIPE
        return subprocess.Popen(told, stdout=pipe, stderr=pipe, text=True, env=self.environment(service), cwd="/")

    def log(self, service: str) -> str:
        return (self.folder / "logs" / service).read_text(errors="replace")

    def _serve(self, service: str, *command: str | Path, **options: Any) -> None:
        with (self.folder / "logs" / service).open("ab") as log:
            self.running[service] = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, start_new_session=True, cwd="/", **options
            )

    def _run(self, service: str, *command: str | Path, **options: Any) -> None:
        with (self.folder / "logs" / service).open("ab") as log:
            told = [str(part) for part in command]
            done = subprocess.run(told, stdout=log, stderr=log, cwd="/", check=False, **options)
        assert done.returncode == 0, self.log(service)[-3000:]

    def _wait(self, service: str, is_ready: Callable[[], bool], seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running[service].poll() is None:
            try:
                if is_ready():
                    return
            except (httpx.HTTPError, OSError):
                pass
            time.sleep(0.5)
        raise AssertionError(f"{service} does not answer:\n{self.log(service)[-3000:]}")


def tools(name: str) -> Path:
    """The programs of an environment that docker/test_services.sh has made."""
    return PROJECT / "build" / "services" / name / "bin"


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
