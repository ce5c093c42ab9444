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


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of a running server's own database; skips where the package is absent."""
    found = sorted(SERVERS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    programs = found[-1].parent
    is_root = os.geteuid() == 0
    as_server = ["runuser", "-u", "postgres", "--"] if is_root else []  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="bone-age-postgresql-"))
    data, port = folder / "data", _free_port()
    (folder / "password").write_text(PASSWORD)
    if is_root:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [*as_server, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stderr}")

    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    initdb = (programs / "initdb", "--no-sync", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
    try:
        run(*initdb, "--username", USER, "--encoding", "UTF8", "--locale", "C.UTF-8", "--pgdata", data)
        run(programs / "pg_ctl", "-w", "-D", data, "-l", folder / "log", "-o", options, "start")
        yield f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            run(programs / "pg_ctl", "-w", "-m", "immediate", "-D", data, "stop")
        shutil.rmtree(folder, ignore_errors=True)
