"""Preprocessed images on disk, as training and evaluation read them: one memory-mapped array, one table.

Memory does not grow with the data set: images are decoded, preprocessed and written one by one over all cores, and
later read page by page. An image that cannot be decoded is quarantined by name; too many of them stop the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.array_file import create_array
from bone_age.data.manifest import NUMERIC_COLUMNS, Dataset
from bone_age.data.threads import stream_in_threads
from bone_age.errors import InputError
from bone_age.imaging import ImageError, PreprocessingSettings, preprocess, read_image

IMAGES, TABLE, QUARANTINE, FACTS = "images.npy", "rows.csv", "quarantine.csv", "prepared.json"


@dataclass(frozen=True)
class PreparedImages:
    """A data set after preprocessing, in one folder.

    Attributes:
        folder: Holds `images.npy` (uint8 [N, S, S]), `rows.csv`, `quarantine.csv` and `prepared.json`.
        table: The manifest's columns plus `array_row`, the image's place in the array; quarantined rows are left out.
        quarantined: Manifest columns plus `reason`.
        preprocessing: What was done to every image.
        dataset_name: For reports.
        dataset_fingerprint: Of the data set before quarantine.
        synthetic: Whether the images were rendered by this project.
    """

    folder: Path
    table: pd.DataFrame
    quarantined: pd.DataFrame
    preprocessing: PreprocessingSettings
    dataset_name: str
    dataset_fingerprint: str
    synthetic: bool

    @property
    def images(self) -> npt.NDArray[np.uint8]:
        """uint8 [N, S, S], memory-mapped read-only."""
        array: npt.NDArray[np.uint8] = np.load(self.folder / IMAGES, mmap_mode="r")
        return array

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what training sees: images' digests, labels, splits and preprocessing."""
        rows = self.table[["sha256", "sex", "bone_age_months", "split", "array_row"]].to_csv(index=False)
        return hashlib.sha256((self.preprocessing.digest + rows).encode()).hexdigest()

    def split(self, name: str) -> pd.DataFrame:
        return self.table[self.table["split"] == name]

    def save(self, folder: Path) -> None:
        for name in (IMAGES, TABLE, QUARANTINE, FACTS):
            _link_or_copy(self.folder / name, folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        facts = json.loads((folder / FACTS).read_text())
        text = dict.fromkeys(
            ("image_id", "path", "sha256", "sex", "patient_id", "split", "source_row", "raw_bone_age"), str
        )
        return cls(
            folder=folder,
            table=pd.read_csv(
                folder / TABLE,
                dtype=text | dict.fromkeys(NUMERIC_COLUMNS, float),
                keep_default_na=False,
                na_values=dict.fromkeys(NUMERIC_COLUMNS, ""),
                float_precision="round_trip",
            ),
            quarantined=pd.read_csv(folder / QUARANTINE, dtype=str, keep_default_na=False),
            preprocessing=PreprocessingSettings(**facts["preprocessing"]),
            dataset_name=facts["dataset_name"],
            dataset_fingerprint=facts["dataset_fingerprint"],
            synthetic=facts["synthetic"],
        )


def prepare_images(
    dataset: Dataset, settings: PreprocessingSettings, max_quarantined_share: float, folder: Path
) -> PreparedImages:
    """Preprocess every image of a data set into `folder` (which exists and is empty).

    Raises:
        InputError: More than `max_quarantined_share` of the images cannot be decoded; the first five are named.
    """
    size = settings.image_size_px
    array = create_array(folder / IMAGES, np.uint8, (len(dataset), size, size))
    kept: list[int] = []
    refused: dict[int, str] = {}
    for index, result in enumerate(_preprocess_all(dataset, settings)):
        if isinstance(result, str):
            refused[index] = result
        else:
            array[index] = result
            kept.append(index)
    array.flush()
    _refuse_too_many(dataset, list(refused.values()), max_quarantined_share)
    table = dataset.table.iloc[kept].assign(array_row=kept).reset_index(drop=True)
    quarantined = dataset.table.iloc[list(refused)].assign(reason=list(refused.values()))
    table.to_csv(folder / TABLE, index=False)
    quarantined.to_csv(folder / QUARANTINE, index=False)
    facts = {
        "preprocessing": settings.model_dump(mode="json"),
        "preprocessing_digest": settings.digest,
        "dataset_name": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "synthetic": dataset.synthetic,
        "n": len(table),
        "n_quarantined": len(quarantined),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2))
    return PreparedImages.load(folder)


def _preprocess_all(dataset: Dataset, settings: PreprocessingSettings) -> Iterator[npt.NDArray[np.uint8] | str]:
    """Images in the manifest's order, or the reason why there is none; a bounded number is in flight."""

    def one(relative: str) -> npt.NDArray[np.uint8] | str:
        try:
            return preprocess(read_image(dataset.path_of(relative)), settings)
        except ImageError as error:
            return str(error)

    paths = dataset.table["path"].tolist()
    yield from stream_in_threads(one, paths, f"preprocessing to {settings.image_size_px} px", len(paths))


def _refuse_too_many(dataset: Dataset, refused: list[str], max_share: float) -> None:
    if not refused or len(refused) <= max_share * len(dataset):
        return
    shown = "; ".join(refused[:5])
    more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
    share = f"{len(refused)} of {len(dataset)} images cannot be decoded, more than the {max_share:.1%} allowed"
    raise InputError(f"{share}: {shown}{more}")


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where both lie on one file system (the arrays are large and never rewritten), a copy otherwise."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
