"""Processes that promote at the same time as others, or are killed in between (`python -m tests.promoters`).

A line of JSON in is one piece of work, a line of JSON out what became of it. Interpreters start slowly, so one does
many pieces; one that is to be killed is done in a fork, which dies instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bone_age import registry
from bone_age.errors import BoneAgeError
from bone_age.governance.anchoring import MlflowAnchor, open_ledger
from bone_age.governance.approval import promote_version, roll_back
from bone_age.governance.succession import reconcile
from tests.worlds import POLICY

REPOSITORY = Path(__file__).parents[1]
BEFORE_ANCHOR, AFTER_INTENT, AFTER_ALIAS, AFTER_ENTRY = "before anchor", "after intent", "after alias", "after entry"
KILLS = (BEFORE_ANCHOR, AFTER_INTENT, AFTER_ALIAS, AFTER_ENTRY)


class Promoter:
    """The other end, in the test's process."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "tests.promoters"]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def start(self, do: str, **work: Any) -> None:
        """In the home that the test's environment names."""
        names = ("BONE_AGE_HOME", "BONE_AGE_DATABASE_URL")
        environment = {name: os.environ.get(name, "") for name in names}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "environment": environment} | work) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def killed(self, do: str, at: str, **work: Any) -> None:
        """Do it in a process that is killed there."""
        self.start(do, kill=at, **work)
        assert self.result() == {"signal": signal.SIGKILL.value}

    def end(self) -> None:
        self._process.kill()  # it waits for work, and an interpreter that ends by itself takes its time
        self._process.communicate()


def _die(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _armed(at: str) -> None:
    """Die there: `champion` and what records its move are all that count."""
    set_alias, write = registry.set_alias, MlflowAnchor.write

    def deadly_alias(alias: str, version: int) -> None:
        if alias != registry.CHAMPION:
            return set_alias(alias, version)
        if at == AFTER_INTENT:
            _die()
        set_alias(alias, version)
        if at == AFTER_ALIAS:
            _die()

    def deadly_anchor(self: MlflowAnchor, number: int, digest: str) -> None:
        head = open_ledger().head()
        assert head is not None
        dies_at = {BEFORE_ANCHOR: ("intent",), AFTER_ENTRY: ("promoted", "rolled_back", "alias_repaired")}
        if head.event.value in dies_at.get(at, ()):
            _die()
        write(self, number, digest)

    registry.set_alias = deadly_alias
    MlflowAnchor.write = deadly_anchor  # type: ignore[method-assign]


def _promote(version: int) -> dict[str, Any]:
    decision, said = promote_version(version, f"approver of {version}", "reviewed", {}, POLICY)
    return {"outcome": decision.outcome, "said": said}


def _roll_back() -> dict[str, Any]:
    before, now, said = roll_back("A. Roe", "drift", None, POLICY)
    return {"before": before, "now": now, "said": said}


WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "promote": _promote,
    "roll_back": _roll_back,
    "reconcile": lambda: {"said": reconcile(open_ledger())},
}


def _done(do: str, environment: dict[str, str], kill: str = "", **work: Any) -> dict[str, Any]:
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow leaves there where it was for the work before
    os.environ.update(environment)
    if not kill:
        try:
            return WORKS[do](**work)
        except BoneAgeError as error:
            return {"error": type(error).__name__, "told": str(error)}
    child = os.fork()
    if child == 0:
        _armed(kill)
        WORKS[do](**work)
        os._exit(99)
    status = os.waitpid(child, 0)[1]
    return {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"status": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_done(**json.loads(line))), flush=True)
