"""Reads a hashed lock as `uv pip compile --generate-hashes` writes it: names, versions, hashes, who needs what."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)\s*(;\s*(?P<marker>[^\\]*))?"
)
_HASH = re.compile(r"^\s+--hash=sha256:([0-9a-f]{64})")
_VIA = re.compile(r"^\s+#\s+(?:via\s+)?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<rest>\(.*\))?$")


@dataclass
class Locked:
    """One package of the lock.

    Attributes:
        marker: When it is installed, as PEP 508 writes it; empty for always.
        sha256: Of every file of that version that may be installed.
        needed_by: Names of packages.
    """

    name: str
    version: str
    marker: str
    sha256: list[str]
    needed_by: list[str]


def read_lock(text: str) -> list[Locked]:
    """Every pinned package, in the order of the file."""
    found: list[Locked] = []
    for line in text.splitlines():
        if pin := _PIN.match(line):
            found.append(Locked(pin["name"], pin["version"], (pin["marker"] or "").strip(), [], []))
        elif found and (hashed := _HASH.match(line)):
            found[-1].sha256.append(hashed[1])
        elif found and line.strip() != "# via" and (via := _VIA.match(line)):
            found[-1].needed_by.append(via["name"])
    return found
