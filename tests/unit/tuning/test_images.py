"""The images of a search: never one of the test split, and prepared once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bone_age.data import prepared
from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits
from bone_age.settings import Home, TrainingConfig
from bone_age.tuning.images import searched_images


@pytest.fixture
def dataset(tiny_config: TrainingConfig, home: Home) -> Dataset:
    return assign_splits(load_dataset(tiny_config.data), tiny_config.split)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the image files that were opened for their pixels."""
    names: list[str] = []
    really = prepared.read_image

    def read_image(path: Path) -> object:
        names.append(path.name)
        return really(path)

    monkeypatch.setattr(prepared, "read_image", read_image)
    return names


def test_no_test_image_is_decoded_and_no_test_row_is_there(
    dataset: Dataset, tiny_config: TrainingConfig, home: Home, decoded: list[str]
) -> None:
    test_files = [dataset.path_of(path) for path in dataset.split("test")["path"]]
    for file in test_files:
        file.write_bytes(b"no image any more")
    images = searched_images(dataset, tiny_config.preprocessing, 0.0, home)
    assert set(images.table["split"]) == {"train", "validation"}
    assert len(images.split("test")) == len(images.quarantined) == 0
    assert len(images.images) == len(dataset) - len(test_files)
    assert len(decoded) == len(images.images)
    assert not {file.name for file in test_files} & set(decoded)
    assert images.dataset_fingerprint == dataset.fingerprint


def test_the_same_images_are_prepared_once_and_others_anew(
    dataset: Dataset, tiny_config: TrainingConfig, home: Home, decoded: list[str]
) -> None:
    first = searched_images(dataset, tiny_config.preprocessing, 0.0, home)
    once = len(decoded)
    again = searched_images(dataset, tiny_config.preprocessing, 0.0, home)
    assert len(decoded) == once
    assert again.digest == first.digest
    smaller = tiny_config.preprocessing.model_copy(update={"image_size_px": 64})
    assert searched_images(dataset, smaller, 0.0, home).images.shape[1:] == (64, 64)
    assert len(decoded) == 2 * once
