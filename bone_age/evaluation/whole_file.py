"""Results appear whole or not at all: a report cut off by a full disk must not pass for a report."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bone_age.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write through a temporary neighbour and a rename; missing folders are made.

    Raises:
        InputError: The file cannot be written (read-only folder, full disk); a former version of it is untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
