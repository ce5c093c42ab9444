"""Read a folder of radiographs and labels, in any known layout, into one manifest.

Values are read but not judged: a wrong sex or age, a double id or an absent image stays in the table, so that
validation names all of them at once. What cannot become a table (no known layout, a missing column, a path that leaves
the folder) is refused here.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from bone_age.data.layouts import (
    CHALLENGE_LAYOUTS,
    MANIFEST,
    TEST_UNLABELLED,
    TRAINING,
    LabelFile,
    LabelledRow,
    Layout,
    labelled_rows,
    read_label_file,
)
from bone_age.data.manifest import Dataset
from bone_age.data.threads import map_in_threads
from bone_age.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
_TRAINING_CSV = f"{TRAINING.image_folder}.csv"
_KNOWN_LAYOUTS = "; ".join([f"manifest.csv with {MANIFEST.header}", *(layout.header for layout in CHALLENGE_LAYOUTS)])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A label file whose layout is known."""

    file: LabelFile
    layout: Layout


@dataclass(frozen=True)
class _Radiograph:
    """A labelled row with the image it belongs to; `path` is relative to the data folder, and may not exist."""

    row: LabelledRow
    image_id: str
    path: str
    split: str


def read_dataset(folder: Path, name: str | None = None, limit: int | None = None, synthetic: bool = False) -> Dataset:
    """Read a data set in any of the known layouts, and hash its images.

    A folder may hold several parts of the RSNA challenge: each is then its own split. One part alone, or a
    `manifest.csv` without a split column, leaves the split empty. A part without labels counts only when it is alone.

    Args:
        folder: Holds `manifest.csv`, or CSV files and image folders as the challenge published them.
        name: Shown in reports; the folder's name by default.
        limit: Take only this many rows, those whose id hashes lowest, so that a larger limit keeps them all.
        synthetic: Whether the images were rendered by this project.
    Returns:
        `MANIFEST_COLUMNS`, `source_row` (`manifest.csv:17`, the header being line 1), `raw_bone_age` (its text) and,
        where the data gives it, `chronological_age_months`. Rows keep the order of the file.
    Raises:
        InputError: The folder is absent or in no known layout, or a label file's structure is wrong.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such data folder" if not folder.exists() else f"{folder}: is not a folder")
    root = folder.resolve()
    try:
        parts = find_parts(root)
        radiographs = [r for part in parts for r in _radiographs(root, part, several=len(parts) > 1)]
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None
    if limit is not None:
        radiographs = _limited(radiographs, limit)
    digests = map_in_threads(partial(image_digest, root), [r.path for r in radiographs], "hashing images")
    return Dataset(name or Path(os.path.abspath(folder)).name, root, _table(radiographs, digests), synthetic)


def _table(radiographs: Sequence[_Radiograph], digests: Sequence[str]) -> pd.DataFrame:
    rows = [r.row for r in radiographs]
    table = pd.DataFrame(
        {
            "image_id": [r.image_id for r in radiographs],
            "path": [r.path for r in radiographs],
            "sha256": list(digests),
            "sex": [row.sex for row in rows],
            "bone_age_months": pd.Series([row.bone_age_months for row in rows], dtype="float64"),
            "patient_id": [r.row.patient_id or r.image_id for r in radiographs],
            "split": [r.split for r in radiographs],
            "source_row": [row.source_row for row in rows],
            "raw_bone_age": [row.raw_bone_age for row in rows],
        }
    )
    chronological = pd.Series([row.chronological_age_months for row in rows], dtype="float64")
    return table if chronological.isna().all() else table.assign(chronological_age_months=chronological)


def _limited(radiographs: list[_Radiograph], limit: int) -> list[_Radiograph]:
    def rank(index: int) -> bytes:
        return hashlib.sha256(radiographs[index].image_id.encode()).digest()

    return [radiographs[index] for index in sorted(sorted(range(len(radiographs)), key=rank)[:limit])]


# Which label files make the data set ---------------------------------------------------------------------------------


def find_parts(root: Path, manifest: Layout = MANIFEST, challenge: Sequence[Layout] = CHALLENGE_LAYOUTS) -> list[Part]:
    """The label files that make a folder a data set, each with its layout.

    Raises:
        InputError: There is none, or two for one part.
    """
    paths = sorted(p for p in root.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
    if path := next((path for path in paths if path.name.lower() == manifest.title), None):
        return [Part(read_label_file(inside(root, path)), manifest)]
    if not paths:
        raise InputError(f"{root}: no label file; known are {_KNOWN_LAYOUTS}; found: {_listing(root)}")
    files = [read_label_file(inside(root, path)) for path in paths]
    candidates = [Part(file, layout) for file in files if (layout := _layout_of(file, challenge, len(files) == 1))]
    parts = []
    for split in ("train", "validation", "test"):
        if same := [part for part in candidates if part.layout.split == split]:
            parts.append(_the_one(root, same))
    if not parts:
        found = "; ".join(f"{file.path.name} with {','.join(file.header)}" for file in files)
        raise InputError(f"{root}: no label file in a known layout; known are {_KNOWN_LAYOUTS}; found: {found}")
    if len(parts) > 1 and parts[-1].layout is TEST_UNLABELLED:
        log.warning("%s: left out, it has no labels", parts[-1].file.path.name)
        parts.pop()
    return parts


def _layout_of(file: LabelFile, layouts: Sequence[Layout], alone: bool) -> Layout | None:
    """The layout a label file is in, or was meant to be in; None where the file is something else."""
    fitting = next((layout for layout in layouts if file.fits(layout)), None)
    if fitting:
        return fitting
    stem = _normal(file.path.stem)
    stem = stem if stem.startswith("boneage-") else f"boneage-{stem}"
    named = next((layout for layout in layouts if stem.startswith(layout.image_folder)), None)
    if named or not alone:
        return named
    nearest = min(layouts[:3], key=lambda layout: len(file.missing_columns(layout)))
    return nearest if len(file.missing_columns(nearest)) < len(nearest.columns) else None


def _the_one(root: Path, parts: list[Part]) -> Part:
    """One label file a part: the training part's own name first, then labels before none."""
    named = [part for part in parts if part.file.path.name.lower() == _TRAINING_CSV]
    labelled = [part for part in parts if part.file.has_labels(part.layout)]
    chosen = named or labelled or parts
    if len(chosen) > 1:
        names = " and ".join(part.file.path.name for part in chosen)
        raise InputError(f"{root}: {names} are both {chosen[0].layout.title}; keep one, or write a manifest.csv")
    return chosen[0]


def _listing(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir())
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "nothing"


def _normal(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").split())


# Which image belongs to a row ----------------------------------------------------------------------------------------


def _radiographs(root: Path, part: Part, several: bool) -> Iterator[_Radiograph]:
    rows = labelled_rows(part.file, part.layout)
    if part.layout is MANIFEST:
        for row in rows:
            path = manifest_path(root, row.image, row.source_row)
            yield _Radiograph(row, str(PurePosixPath(path).with_suffix("")), path, row.split)
        return
    index = ImageIndex(root, part)
    for row in rows:
        yield _Radiograph(
            row, row.image, index.path_of(row.image, row.source_row), part.layout.split if several else ""
        )


def manifest_path(root: Path, image: str, where: str) -> str:
    """The path of a manifest's image, relative to the data folder.

    Raises:
        InputError: It leaves the folder.
    """
    path, windows = PurePosixPath(image), PureWindowsPath(image)
    if path.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise InputError(f"{where}: image {image!r} leaves the data folder; give a path inside it")
    if not path.name:
        raise InputError(f"{where}: image {image!r} is no file")
    inside(root, root / path, where)
    return str(path)


def inside(root: Path, path: Path, where: str = "") -> Path:
    """The path, unless a symbolic link on it leads out of the data folder."""
    target = os.path.realpath(path)
    if os.path.commonpath([root, target]) != str(root):
        shown = str(path.relative_to(root))
        raise InputError(f"{where or root}: {shown!r} is a link that leaves the data folder (to {target})")
    return path


class ImageIndex:
    """Images of one part by id, each folder listed once.

    Looked for in the part's usual folders, then in folders named like the label file, then beside it.
    """

    def __init__(self, root: Path, part: Part) -> None:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
        usual = [path for path in folders if _normal(path.name).startswith(part.layout.image_folder)]
        usual += [inner for outer in usual if (inner := outer / outer.name).is_dir()]  # as one copy's archive unpacks
        stem = _normal(part.file.path.stem)
        alike = [path for path in folders if _normal(path.name).startswith(stem) and path not in usual]
        self._root = root
        self._levels = [_images_in(root, usual), _images_in(root, alike), _images_in(root, [root])]
        self._usual_folder = (usual or alike or [root / part.layout.image_folder])[0].name

    def path_of(self, image: str, where: str) -> str:
        """The image's path relative to the data folder; where there is none, the path where it should be.

        Raises:
            InputError: The id is no plain name, has several images, or its image lies outside the folder.
        """
        if image != PurePosixPath(image).name or "\\" in image or image in (".", ".."):
            raise InputError(f"{where}: id {image!r} leaves the data folder or is no plain name")
        for level in self._levels:
            paths = level.get(image, [])
            if len(paths) > 1:
                shown = " and ".join(str(path.relative_to(self._root)) for path in sorted(paths))
                raise InputError(f"{where}: id {image!r} has several images: {shown}")
            if paths:
                return str(inside(self._root, paths[0], where).relative_to(self._root))
        return f"{self._usual_folder}/{image}.png"


def _images_in(root: Path, folders: Sequence[Path]) -> dict[str, list[Path]]:
    images: dict[str, list[Path]] = {}
    for folder in folders:
        for entry in os.scandir(inside(root, folder)):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in IMAGE_SUFFIXES:
                images.setdefault(stem, []).append(folder / entry.name)
    return images


def image_digest(root: Path, path: str) -> str:
    """SHA-256 (hex) of the image's bytes; empty where it is absent, unreadable or no regular file."""
    image = root / path
    try:
        if not image.is_file():  # a named pipe would wait for ever
            return ""
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
