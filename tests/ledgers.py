"""What tests of the ledger share: anchors, a home, and processes that write at once (`python -m tests.ledgers`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bone_age.errors import LedgerConditionError
from bone_age.governance.entries import Event, NewEntry
from bone_age.governance.ledger import Ledger, unless_champion_changed
from bone_age.settings import Home

REPOSITORY = Path(__file__).parents[1]


class MemoryAnchor:
    def __init__(self) -> None:
        self.held: tuple[int, str] | None = None

    def read(self) -> tuple[int, str] | None:
        return self.held

    def write(self, number: int, digest: str) -> None:
        self.held = (number, digest)


class FileAnchor:
    """Keeps every position it ever held, one a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def positions(self) -> list[tuple[int, str]]:
        lines = self.path.read_text().split() if self.path.exists() else []
        return [(int(number), digest) for number, digest in (line.split(":") for line in lines)]

    def read(self) -> tuple[int, str] | None:
        return self.positions()[-1] if self.positions() else None

    def write(self, number: int, digest: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{number}:{digest}\n")


def home_at(folder: Path, **settings: Any) -> Home:
    nothing = {"database_url": "", "ledger_key": None, "ledger_public_key": None}
    return Home(home=folder, **nothing | settings)


def new(event: Event = Event.GATES, **fields: Any) -> NewEntry:
    return NewEntry(event=event, actor="Dr. Wu", **fields)


def promoted(version: int, **fields: Any) -> NewEntry:
    return new(Event.PROMOTED, version=version, **fields)


def faults(ledger: Ledger, public_key: Path | None = None) -> list[str]:
    return [str(finding) for finding in ledger.verify(public_key) if not finding.is_note]


def process(work: str, home: Home, anchor: Path, times: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledgers", work, str(home.root), home.database_url, str(anchor), str(times)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def check_two_that_append_at_once(home: Home, anchor: FileAnchor, each_appends: int = 50) -> None:
    """Neither finds a ledger, both make one; all their entries are in one chain, and the anchor went only forward."""
    both = [process("append", home, anchor.path, each_appends) for _ in range(2)]
    for each in both:
        assert _said(each) == "ready"
    for each in both:
        _say(each, "go")
    for each in both:
        each.communicate(timeout=120)
        assert each.returncode == 0
    ledger = Ledger.open(home, anchor)
    entries = list(ledger.entries())
    assert [entry.number for entry in entries] == list(range(1, 2 * each_appends + 1))
    assert len({entry.reason for entry in entries}) == 2
    assert ledger.verify() == []
    positions = [number for number, _ in anchor.positions()]
    assert positions == sorted(set(positions))
    assert positions[-1] == 2 * each_appends


def check_one_that_is_killed_while_it_appends(home: Home, anchor: FileAnchor) -> None:
    """What it had written is a whole chain, and the next one goes on from there."""
    for _ in range(3):
        victim = process("forever", home, anchor.path)
        assert _said(victim) == "ready"
        _say(victim, "go")
        for _ in range(10):
            assert _said(victim) == "appended"
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=60)
        ledger = Ledger.open(home, anchor)
        assert faults(ledger) == []
        ledger.append(new())
        assert ledger.verify() == []
    head = ledger.head()
    assert head is not None
    assert head.number >= 33


def check_exactly_one_wins(home: Home, anchor: FileAnchor, rounds: int = 20) -> None:
    """Two want to promote at the same moment; the one that comes second finds the other's intent open."""
    ledger = Ledger.open(home, anchor)
    ledger.append(promoted(7))
    both = [process("intend", home, anchor.path) for _ in range(2)]
    for each in both:
        assert _said(each) == "ready"
    for _ in range(rounds):
        for each in both:
            _say(each, "go")
        assert sorted(_said(each) for each in both) == ["lost", "won"]
        intent = ledger.open_intent()
        assert intent is not None
        ledger.append(new(Event.ABANDONED, details={"intent": intent.number}))
    for each in both:
        each.communicate(timeout=60)
    assert len(list(ledger.entries(events=[Event.INTENT]))) == rounds
    assert ledger.verify() == []


def _say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _intend(ledger: Ledger) -> str:
    try:
        ledger.append(new(Event.INTENT, version=8), unless_champion_changed(7))
    except LedgerConditionError:
        return "lost"
    return "won"


def _work(work: str, folder: str, database_url: str, anchor: str, times: str) -> None:
    def ledger() -> Ledger:
        return Ledger.open(home_at(Path(folder), database_url=database_url), FileAnchor(Path(anchor)))

    def say(word: str) -> None:
        print(word, flush=True)

    def append() -> None:
        sys.stdin.readline()
        mine = ledger()
        for _ in range(int(times)):
            mine.append(new(reason=str(os.getpid())))

    def forever() -> None:
        sys.stdin.readline()
        mine = ledger()
        while True:
            mine.append(new())
            say("appended")

    def intend() -> None:
        mine = ledger()
        while sys.stdin.readline():
            say(_intend(mine))

    works: dict[str, Callable[[], None]] = {"append": append, "forever": forever, "intend": intend}
    say("ready")
    works[work]()


if __name__ == "__main__":
    _work(*sys.argv[1:])
