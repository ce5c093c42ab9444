"""Programs and packages that only some commands need: there or not, and what for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec

from bone_age.housekeeping.check import Check, State

PACKAGES = {
    "tensorflow": ("training", "`make install`"),
    "zenml": ("training pipelines", "`make install`"),
    "fastapi": ("`bone-age serve`", "`make install`"),
    "ray": ("`bone-age batch --engine ray`", "install the extra `ray`"),
}
PROGRAMS = {
    "dcmtk": (("storescu",), "sending and receiving DICOM in tests", "install Debian's package dcmtk"),
    "Chromium": (("chromium", "google-chrome"), "tests of the page", "install Debian's package chromium"),
    "containers": (("podman", "docker"), "building images, stack local_docker", "install Debian's package podman"),
}


def optional_checks() -> Iterator[Check]:
    """One a part; absent ones are no fault."""
    for package, (purpose, remedy) in PACKAGES.items():
        if find_spec(package) is None:
            yield Check(package, State.ABSENT, f"not installed; for {purpose}", remedy)
        else:
            yield Check(package, State.OK, f"installed, for {purpose}")
    for name, (programs, purpose, remedy) in PROGRAMS.items():
        found = next((path for program in programs if (path := shutil.which(program))), None)
        if found is None:
            yield Check(name, State.ABSENT, f"not installed; for {purpose}", remedy)
        else:
            yield Check(name, State.OK, f"{found}, for {purpose}")
    yield _gpu()


def _gpu() -> Check:
    nothing = Check("GPU", State.ABSENT, "none seen; training and prediction use the CPU")
    if shutil.which("nvidia-smi") is None:
        return nothing
    try:
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return Check(
            "GPU", State.WARNING, "nvidia-smi is there and does not answer", "look at the driver: `nvidia-smi`"
        )
    cards = [line.partition(" (UUID")[0] for line in asked.stdout.splitlines() if line.startswith("GPU ")]
    return Check("GPU", State.OK, "; ".join(cards)) if cards else nothing
