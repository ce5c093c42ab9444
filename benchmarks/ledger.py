"""How long a long ledger takes to verify, to tell its history and to find an open intent.

    .venv/bin/python benchmarks/ledger.py [--entries 100000] [--database-url postgresql://…] [--unsigned]

Writes entries as the ledger would (one in five makes a champion) into an empty database, by default in a temporary
folder, and prints seconds and microseconds per entry.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from bone_age.governance.entries import Entry, Event, NewEntry
from bone_age.governance.ledger import Ledger
from bone_age.governance.ledger_signature import sign
from bone_age.governance.ledger_storage import LEDGER, Storage

CYCLE = (Event.TRAINED, Event.REGISTERED, Event.GATES, Event.INTENT, Event.PROMOTED)
START = datetime(2020, 1, 1, tzinfo=UTC)
BATCH = 10_000


def entry(previous: Entry | None, number: int, key: Ed25519PrivateKey | None) -> Entry:
    event = CYCLE[(number - 1) % len(CYCLE)]
    details: dict[str, Any] = {"gates": [{"name": "beats_champion", "figure": 8.1 + number / 1e6, "bound": 9.0}]}
    told = NewEntry(
        event=event,
        actor="Dr. Wu",
        reason="lower error on the same test rows",
        version=(number - 1) // len(CYCLE) + 1,
        model_digest="a" * 64,
        dataset_fingerprint="b" * 64,
        policy_digest="c" * 64,
        git_commit="d" * 40,
        run_id="e" * 32,
        details=details | ({"intent": number - 1} if event == Event.PROMOTED else {}),
    )
    made = Entry.sealed(told, previous, START + timedelta(minutes=number))
    return made if key is None else made.model_copy(update={"signature": sign(key, made.digest)})


def fill(storage: Storage, entries: int, key: Ed25519PrivateKey | None) -> None:
    previous = None
    for first in range(1, entries + 1, BATCH):
        rows = []
        for number in range(first, min(first + BATCH, entries + 1)):
            previous = entry(previous, number, key)
            rows.append(previous.model_dump(mode="json"))
        with storage.writing() as connection:
            connection.execute(insert(LEDGER), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--database-url")
    parser.add_argument("--unsigned", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(options.database_url or f"sqlite:///{Path(folder) / 'ledger.db'}")
        key = None if options.unsigned else Ed25519PrivateKey.generate()
        ledger = Ledger(storage, signs_with=key, verifies_with=key.public_key() if key else None)
        if ledger.head() is not None:
            parser.error("the database holds a ledger already; give an empty one")
        fill(storage, options.entries, key)
        questions: dict[str, Callable[[], object]] = {
            "verify": ledger.verify,
            "reigns": ledger.reigns,
            "champion on a day": lambda: ledger.champion_on(START + timedelta(minutes=options.entries // 2)),
            "open intent": ledger.open_intent,
            "all entries": lambda: sum(1 for _ in ledger.entries()),
        }
        for name, ask in questions.items():
            start = time.perf_counter()
            ask()
            taken = time.perf_counter() - start
            print(f"{name}: {taken:.3f} s, {taken / options.entries * 1e6:.1f} us an entry of {options.entries}")


if __name__ == "__main__":
    main()
