"""Was the ledger changed? Every link is computed anew and held against the anchor and the public key.

A chain alone does not show that its end was cut off, nor that somebody wrote all of it anew: the anchor shows the
first, kept where the ledger's database is not; a private key that lies elsewhere shows the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bone_age.errors import InputError
from bone_age.governance.entries import GENESIS, digest_of_entry
from bone_age.governance.ledger_signature import is_signed

BEFORE_SIGNING = "not signed; the first signature covers it, as every entry holds the digest of the one before"


@dataclass(frozen=True)
class Finding:
    """What is wrong with the ledger; a note is worth knowing and no sign of tampering.

    Where the same holds for the entries that follow, `entry` is the first and `last` the last of them.
    """

    entry: int | None
    text: str
    is_note: bool = False
    last: int | None = None

    def __str__(self) -> str:
        if self.entry is None:
            return self.text
        return f"entry {self.entry}{f' to {self.last}' if self.last else ''}: {self.text}"


def check_chain(
    rows: Iterable[Mapping[str, Any]], anchor: tuple[int, str] | None, is_anchored: bool, key: Ed25519PublicKey | None
) -> Iterator[Finding]:
    """Walk the chain from its first entry.

    Args:
        rows: Entries as stored, in the order of their numbers.
        anchor: Number and digest that the anchor holds, read before the rows.
        is_anchored: There is a place for an anchor, though it may hold none yet.
        key: Entries are signed with its private half; None where none is configured.
    """
    number, digest, time, signed = 0, GENESIS, "", 0
    for row in rows:
        if row["number"] > number + 1:
            last = row["number"] - 1
            yield Finding(number + 1, "missing", last=last if last > number + 1 else None)
        elif row["number"] <= number:
            yield Finding(row["number"], f"out of order: it comes after entry {number}")
        elif row["previous_digest"] != digest:
            yield Finding(row["number"], f"does not follow entry {number}: that one's digest is another")
        number, digest = row["number"], row["digest"]
        if not _has_its_digest(row):
            yield Finding(number, "was edited: its digest is not that of its content")
        if str(row["time"]) < time:
            yield Finding(number, f"its time {row['time']} is before that of the entry before it")
        time = str(row["time"])
        signed += bool(row["signature"])
        if key is not None and not row["signature"]:
            yield Finding(number, "not signed" if signed else BEFORE_SIGNING, is_note=not signed)
        elif key is not None and not is_signed(key, str(digest), str(row["signature"])):
            yield Finding(number, "its signature is not of the configured key")
        if anchor is not None and number == anchor[0] and digest != anchor[1]:
            yield Finding(number, "was replaced: the anchor holds another digest")
    if anchor is not None and number < anchor[0]:
        yield Finding(None, f"the end is cut off: the anchor holds entry {anchor[0]}, the last is {number}")
    if is_anchored and number and (anchor is None or anchor[0] < number):
        held = "no entry" if anchor is None else f"entry {anchor[0]}"
        yield Finding(None, f"the anchor holds {held}, the last is {number}; the next entry moves it", is_note=True)
    if key is not None and number and not signed:
        yield Finding(None, "no entry is signed, though a key is configured")
    if signed and key is None:
        yield Finding(None, f"{signed} entries are signed; no key was given to check them with", is_note=True)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The same with what holds for several entries on end said once."""
    found: list[Finding] = []
    open_runs: dict[str, int] = {}
    for finding in findings:
        at = open_runs.get(finding.text)
        if at is not None and finding.entry == (found[at].last or found[at].entry or 0) + 1:
            found[at] = replace(found[at], last=finding.entry)
            continue
        open_runs[finding.text] = len(found)
        found.append(finding)
    return found


def _has_its_digest(row: Mapping[str, Any]) -> bool:
    try:
        return bool(digest_of_entry(row) == row["digest"])
    except InputError:
        return False
