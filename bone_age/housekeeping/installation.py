"""Python and packages: are they those that the lock names?"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bone_age.housekeeping.check import Check, State
from bone_age.provenance import PROJECT

LINE = re.compile(r"^([A-Za-z0-9][\w.-]*(?:\[[\w,-]+\])?==[^\s;]+(?: ?; [^\\]+)?)", re.MULTILINE)


def installation_checks() -> Iterator[Check]:
    """Python's version, the base's packages, and every installed package against the lock."""
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    state, remedy = (State.OK, "") if supported else (State.ERROR, "install Python 3.11 to 3.13")
    yield Check("Python", state, platform.python_version(), remedy)
    yield _base()
    yield _against_lock()


def _base() -> Check:
    try:
        wanted = [Requirement(line) for line in requires("bone-age") or ()]
    except PackageNotFoundError:
        return Check("packages", State.WARNING, "bone-age itself is not installed", "`make install`")
    base = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    missing = [one.name for one in base if _installed(one.name) is None]
    if missing:
        return Check("packages", State.ERROR, f"{', '.join(missing)} not installed", "`make install`")
    return Check("packages", State.OK, f"all {len(base)} that prediction needs are there")


def _against_lock() -> Check:
    lock = PROJECT / "requirements.lock"
    if not lock.is_file():
        return Check("lock", State.ABSENT, "no lock beside this installation")
    differing, compared = [], 0
    for line in LINE.findall(lock.read_text(encoding="utf-8")):
        locked = Requirement(line)
        installed = _installed(locked.name)
        if installed is None or (locked.marker is not None and not locked.marker.evaluate()):
            continue
        compared += 1
        if not locked.specifier.contains(installed, prereleases=True):
            differing.append(f"{canonicalize_name(locked.name)} {installed} (lock: {locked.specifier})")
    if differing:
        said = f"{len(differing)} of {compared} packages differ: {', '.join(differing[:5])}"
        return Check("lock", State.WARNING, said, "`make install` puts the locked ones in place")
    return Check("lock", State.OK, f"{compared} installed packages are the locked ones")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
