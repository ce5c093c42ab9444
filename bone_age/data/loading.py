"""A data set by its name in a configuration: `synthetic`, or a folder in one of the known layouts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bone_age.data.manifest import Dataset
from bone_age.data.sources import read_dataset
from bone_age.data.synthetic import synthetic_key, write_synthetic
from bone_age.settings import DataSettings, Home, SyntheticData

SYNTHETIC = "synthetic"


def load_dataset(settings: DataSettings) -> Dataset:
    """Read a data set and hash its images; the synthetic one is drawn first where it is not there yet.

    Raises:
        InputError: The folder is no data set; the message says why.
    """
    if settings.source != SYNTHETIC:
        return read_dataset(Path(settings.source), limit=settings.limit)
    return read_dataset(synthetic_folder(settings.synthetic), name=SYNTHETIC, limit=settings.limit, synthetic=True)


def synthetic_folder(settings: SyntheticData | None = None) -> Path:
    """The folder of the embedded data set, drawn where it is not there yet."""
    return write_synthetic(Home().prepare().datasets, settings or SyntheticData())


def dataset_key(settings: DataSettings) -> str:
    """SHA-256 (hex) that changes whenever a byte of the images or the table would; for cache keys.

    More than the fingerprint: it covers ids, patients, splits and the folder as well.
    """
    if settings.source == SYNTHETIC:
        return hashlib.sha256(f"{synthetic_key(settings.synthetic)}:{settings.limit}".encode()).hexdigest()
    dataset = read_dataset(Path(settings.source), limit=settings.limit)
    return hashlib.sha256(f"{dataset.root.resolve()}\n{dataset.table.to_csv(index=False)}".encode()).hexdigest()
