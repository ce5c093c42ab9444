"""A ZIP file whose bytes depend on names and contents alone.

Members are sorted, dated 1980-01-01, owned by nobody and stored as they are: compressors of two machines give different
bytes for the same text, and the bundle of a version on 12,000 radiographs stays at some 6 MB without one.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping

SUMS = "SHA256SUMS"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE, _UNIX = 0o100644 << 16, 3


def with_sums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same with `SHA256SUMS` over all of them, as `sha256sum -c` reads it."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return {**files, SUMS: "".join(lines).encode()}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The archive of files by their paths."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system, member.external_attr = _UNIX, _REGULAR_FILE
            archive.writestr(member, files[name])
    return buffer.getvalue()
