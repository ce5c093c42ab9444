"""The images of a search: training and validation rows, prepared once for all studies of a home that want the same.

Test rows are dropped before anything is decoded, so that no choice can have been made on them; their bytes are hashed
for the data set's fingerprint and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import replace

from bone_age.data.manifest import Dataset
from bone_age.data.prepared import FACTS, PreparedImages, prepare_images
from bone_age.imaging import PreprocessingSettings
from bone_age.provenance import code_digest
from bone_age.scratch import scratch_folder
from bone_age.settings import Home, digest_of


def without_test(dataset: Dataset) -> Dataset:
    """The rows that train and those that validate; only their labels have to be sound."""
    return dataset.with_table(dataset.table[dataset.table["split"] != "test"])


def searched_images(
    dataset: Dataset, preprocessing: PreprocessingSettings, max_quarantined_share: float, home: Home
) -> PreparedImages:
    """Prepare the images of a split data set, or find them prepared under the home.

    Raises:
        InputError: More than `max_quarantined_share` of the images cannot be decoded.
    """
    kept = without_test(dataset)
    parts = {
        "rows": kept.table.to_csv(index=False),
        "preprocessing": preprocessing.digest,
        "max_quarantined_share": max_quarantined_share,
        "code": code_digest("imaging", "data/prepared"),
    }
    folder = home.tuning / "images" / digest_of(parts)[:24]
    if not (folder / FACTS).is_file():
        draft = scratch_folder()
        prepare_images(kept, preprocessing, max_quarantined_share, draft)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(draft, folder)
        except OSError:
            if not (folder / FACTS).is_file():  # else another study was first
                raise
    return replace(PreparedImages.load(folder), dataset_name=dataset.name, dataset_fingerprint=dataset.fingerprint)
