"""Which radiographs are asked about: the rows of a data set or manifest, or the images of a bare folder.

Rows are read as they are needed and read again when they are needed again; a manifest of a million rows is never in
memory. Only a bare folder's names are, a folder at a time, since they are asked in the order of their names. What makes
one row unusable is kept with it as `problem`; what makes the whole file unusable is refused before any work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bone_age.data.layouts import CHALLENGE_LAYOUTS, MANIFEST, Layout, Record, number_of, read_label_file, sex_of
from bone_age.data.sources import IMAGE_SUFFIXES, ImageIndex, Part, find_parts, inside, manifest_path
from bone_age.errors import InputError

_MANIFEST = MANIFEST.without_labels()
_CHALLENGE = tuple(layout.without_labels() for layout in CHALLENGE_LAYOUTS if "bone_age_months" in layout.columns)


@dataclass(frozen=True)
class Question:
    """One radiograph.

    Attributes:
        number: Place in the input, from 0.
        source_row: File and line, `manifest.csv:17`; empty for a bare folder.
        path: Relative to the data folder.
        sex: M or F, or what the file says instead.
        problem: Why it cannot be answered, as far as that is known before its image is read.
    """

    number: int
    source_row: str
    path: str
    sex: str
    chronological_age_months: float | None = None
    problem: str = ""

    @property
    def image(self) -> str:
        """The path as text: bytes that are no UTF-8 are written out."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Questions:
    """All radiographs of `root`; iterating reads them anew."""

    root: Path
    parts: tuple[Part, ...]
    sex: str

    def __iter__(self) -> Iterator[Question]:
        rows = self._in_folder() if self.sex else self._in_files()
        for number, (where, path, sex, age, problem) in enumerate(rows):
            yield Question(number, where, path, sex, age, problem)

    def _in_files(self) -> Iterator[_Row]:
        for part in self.parts:
            index = None if part.layout.title == _MANIFEST.title else ImageIndex(self.root, part)
            for record in part.file.records():
                yield _row(self.root, record, part.layout, index)

    def _in_folder(self) -> Iterator[_Row]:
        for folder, subfolders, names in os.walk(self.root, onerror=_refuse):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
            for name in sorted([*links, *filter(_is_image, names)]):
                path = os.path.relpath(os.path.join(folder, name), self.root)
                problem = "is a link to a folder, which is not followed" if name in links else _outside(self.root, path)
                yield "", path, self.sex, None, problem


_Row = tuple[str, str, str, float | None, str]


@dataclass(frozen=True)
class Survey:
    """What a first look at all rows tells.

    Attributes:
        fingerprint: SHA-256 (hex) over the rows, and over the size and time of change of their images.
    """

    rows: int
    fingerprint: str


def find_questions(data: Path, sex: str | None) -> Questions:
    """Find out how a data set says which radiographs there are and of which sex the children are.

    Args:
        data: A folder in one of the known layouts (bone ages may be absent), a CSV file in one, or a bare folder.
        sex: M or F, of every child of a bare folder.
    Raises:
        InputError: Nothing says the sex, or two things do; a label file cannot be read.
    """
    if sex not in (None, "M", "F"):
        raise InputError(f"--sex is '{sex}', expected M or F")
    if not data.exists():
        raise InputError(f"{data}: no such folder or file")
    root = data.resolve() if data.is_dir() else data.resolve().parent
    try:
        parts = find_parts(root, _MANIFEST, _CHALLENGE) if data.is_dir() else [_file_alone(root, data)]
    except InputError as error:
        if sex is None or not data.is_dir():
            raise InputError(f"{error} (a bare folder of images of one sex needs --sex)") from None
        return Questions(root, (), sex)
    except OSError as error:
        raise InputError(f"{data}: cannot be read: {error.strerror}") from None
    if sex is not None:
        raise InputError(f"{data}: {parts[0].file.path.name} says of which sex each child is; leave --sex out")
    for part in parts:
        part.file.require(part.layout)
    return Questions(root, tuple(parts), "")


def survey(questions: Questions) -> Survey:
    """Look at every row once, so that a broken manifest is refused now and not after hours.

    Raises:
        InputError: A label file is broken, or there is no radiograph.
    """
    digest, rows = hashlib.sha256(), 0
    for question in questions:
        rows += 1
        try:
            status = os.stat(questions.root / question.path)
            state = (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            state = (0, 0)
        digest.update(repr((question, state)).encode())
    if not rows:
        raise InputError(f"{questions.root}: holds no radiograph")
    return Survey(rows, digest.hexdigest())


def _file_alone(root: Path, data: Path) -> Part:
    file = read_label_file(data.resolve())
    return Part(file, next((layout for layout in (_MANIFEST, *_CHALLENGE) if file.fits(layout)), _MANIFEST))


def _row(root: Path, record: Record, layout: Layout, index: ImageIndex | None) -> _Row:
    image, sex = record.field(layout, "image"), sex_of(record.field(layout, "sex"))
    age = record.field(layout, "chronological_age_months")
    months = number_of(age) if age else None
    path, problem = image, ""
    try:
        if not image:
            raise InputError(f"{layout.columns['image']} is empty")
        path = index.path_of(image, record.where) if index else manifest_path(root, image, record.where)
        if months is not None and not months >= 0:
            raise InputError(f"chronological_age_months is {age!r}, expected months or nothing")
    except (InputError, ValueError) as error:
        problem = str(error).removeprefix(f"{record.where}: ")
    return record.where, path, sex, None if problem else months, problem


def _is_image(name: str) -> bool:
    """Known suffixes; none at all, or a number, is how archives name DICOM files."""
    suffix = os.path.splitext(name)[1]
    return not name.startswith(".") and (suffix.lower() in IMAGE_SUFFIXES or not suffix.strip(".0123456789"))


def _outside(root: Path, path: str) -> str:
    try:
        inside(root, root / path)
    except InputError as error:
        return str(error).removeprefix(f"{root}: ")
    return ""


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}")
