"""The part of the ledger that a version's bundle carries, whole enough to be recomputed.

A digest covers an entry's whole content, so nothing less than the entries themselves proves the chain: the extract is
every entry from the first one to the last one about the version. What is written later about others changes nothing in
it; what is written later about the version makes a longer one, with the former as its beginning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from bone_age.errors import BoneAgeError
from bone_age.governance.chain import Chain
from bone_age.governance.entries import NEW_CHAMPION, Entry, Event, canonical_bytes
from bone_age.governance.ledger_verification import check_chain, merged


@dataclass(frozen=True)
class Extract:
    """Entries from the first on, and those among them that are about the version.

    Those are: the ones that name it or its training run, and the ones that put another in its place as champion.
    """

    version: int
    entries: tuple[Entry, ...]
    own: tuple[Entry, ...]

    @classmethod
    def of(cls, ledger: Chain, version: int, run_id: str) -> Self:
        """Read and check it.

        Raises:
            BoneAgeError: An entry was edited, removed or put elsewhere; the first such entry is named.
        """
        rows: list[dict[str, Any]] = []
        until, own = 0, []
        for row in ledger.rows(after=-(2**31)):
            rows.append(row)
            if _is_about(row, version, run_id):
                until = len(rows)
                own.append(until - 1)
        faults = [fault for fault in merged(check_chain(rows[:until], None, False, None)) if not fault.is_note]
        if faults:
            raise BoneAgeError(f"ledger: {faults[0]}; `bone-age audit verify` shows all that is amiss")
        entries = tuple(map(Entry.from_row, rows[:until]))
        return cls(version, entries, tuple(entries[at] for at in own))

    def recorded(self, name: str) -> str:
        """What the last entry that says it says of the version: a field's name, or one of its details."""
        of_it = [entry for entry in self.own if entry.version == self.version]
        told = [str(getattr(entry, name, "") or entry.details.get(name, "")) for entry in of_it]
        return next((value for value in reversed(told) if value), "")

    def files(self) -> dict[str, bytes]:
        """`entries.jsonl`, one entry a line, and `extract.json`, which says where it ends and what is the version's."""
        lines = [canonical_bytes(entry.model_dump(mode="json")) + b"\n" for entry in self.entries]
        last = self.entries[-1] if self.entries else None
        facts = {
            "first": 1 if last else 0,
            "last": last.number if last else 0,
            "last_digest": last.digest if last else "",
            "about_the_version": [entry.number for entry in self.own],
        }
        return {"ledger/entries.jsonl": b"".join(lines), "ledger/extract.json": json.dumps(facts, indent=2).encode()}


def _is_about(row: dict[str, Any], version: int, run_id: str) -> bool:
    if row["event"] == Event.BUNDLED:  # that a bundle was made is no part of it
        return False
    if row["version"] == version or (run_id and row["run_id"] == run_id):
        return True
    return row["event"] in NEW_CHAMPION and row["previous_version"] == version
