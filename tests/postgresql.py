"""A real PostgreSQL server for as long as the tests run: Debian's package, a folder of its own, a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

SERVERS = Path("/usr/lib/postgresql")
USER, PASSWORD = "keeper", "not-a-secret"


def new_database(server_url: str) -> str:
    """URL of an empty database of its own."""
    name = f"ledger_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server_url.removesuffix("postgres") + name


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A server that can be stopped and started again, in a folder and on a port of its own."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="bone-age-postgresql-"))
        self.data, self.port = self.folder / "data", _free_port()
        self.url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # the server refuses to run as root
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres")
        initdb = (programs / "initdb", "--no-sync", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}")
        self._run(*initdb, "--username", USER, "--encoding", "UTF8", "--locale", "C.UTF-8", "--pgdata", self.data)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self.folder / "log"
        self._run(self.programs / "pg_ctl", "-w", "-D", self.data, "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """As a power cut would, without a word to its clients."""
        if (self.data / "postmaster.pid").exists():
            self._run(self.programs / "pg_ctl", "-w", "-m", "immediate", "-D", self.data, "stop")

    def _run(self, *command: str | Path) -> None:
        as_server = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*as_server, *command], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stderr}")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A running server; skips where the package is absent. A test that stops it starts it again."""
    found = sorted(SERVERS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    server = Server(found[-1].parent)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: Server) -> str:
    """URL of the running server's own database."""
    return postgresql_server.url
