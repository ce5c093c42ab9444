from __future__ import annotations

import numpy as np
import pytest

from bone_age.modelling.augmentation import augment
from bone_age.modelling.batches import Batches
from bone_age.settings import AugmentationSettings

NOTHING = AugmentationSettings(
    rotation_degrees=0, shift_share=0, zoom_share=0, flip=False, brightness=0, contrast=0
)  # fmt: skip


def batches(seed: int | None = 1, start: tuple[int, int] = (0, 0), n: int = 21, size_px: int | None = None) -> Batches:
    images = np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8)
    sex, months = np.ones((n, 1), np.float32), np.arange(n, dtype=np.float32)
    augmentation = AugmentationSettings() if seed else None
    return Batches([images], np.arange(n), sex, months, 4, seed, augmentation, start, size_px)


def labels_of(data: Batches, epoch: int = 0) -> list[float]:
    steps = range(epoch * data.steps_per_epoch, (epoch + 1) * data.steps_per_epoch)
    return [label for index in steps for label in data[index][1][:, 0]]


@pytest.mark.parametrize("start", [(2, 0), (2, 3)])
def test_a_resumed_training_sees_what_an_uninterrupted_one_sees(start: tuple[int, int]) -> None:
    whole, resumed = batches(), batches(start=start)
    for index in range(resumed.steps_per_epoch):
        of_whole, of_resumed = whole[start[0] * whole.steps_per_epoch + start[1] + index], resumed[index]
        for a, b in zip(of_whole[0], of_resumed[0], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(of_whole[1], of_resumed[1])


def test_images_are_made_smaller_for_training_and_for_evaluation() -> None:
    assert batches(size_px=8)[0][0][0].shape == batches(seed=None, size_px=8)[0][0][0].shape == (4, 8, 8)


def test_an_epoch_shows_no_row_twice_and_two_epochs_differ() -> None:
    data = batches()
    assert len(set(labels_of(data))) == 20 == len(labels_of(data))
    assert labels_of(data) != labels_of(data, epoch=1)


def test_evaluation_keeps_the_order_and_drops_nothing() -> None:
    data = batches(seed=None)
    assert labels_of(data) == list(range(21))
    assert data.num_batches == 6


def test_an_image_stays_with_its_label() -> None:
    images = np.arange(1, 11, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8)
    data = Batches([images], np.arange(10), None, np.arange(1, 11, dtype=np.float32), 5, shuffle_seed=3)
    for index in range(data.steps_per_epoch):
        x, y = data[index]
        np.testing.assert_array_equal(x[:, 0, 0], y[:, 0])


def test_no_augmentation_is_the_identity() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    np.testing.assert_array_equal(augment(image, NOTHING, np.random.default_rng(2)), image)


def test_flips_are_horizontal_only() -> None:
    """The top of the picture is marked on the left; it may come out on the right, never at the bottom."""
    image = np.zeros((40, 40), np.uint8)
    image[2:6, 2:6] = 255
    flips = NOTHING.model_copy(update={"flip": True})
    seen = {
        tuple(np.argwhere(augment(image, flips, np.random.default_rng(s)) > 128).mean(0).round(1)) for s in range(20)
    }
    assert seen == {(3.5, 3.5), (3.5, 35.5)}


@pytest.mark.parametrize("name", ["rotation_degrees", "shift_share", "zoom_share", "brightness", "contrast"])
def test_each_change_changes_the_image_and_repeats_for_a_seed(name: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    settings = NOTHING.model_copy(update={name: 10.0 if name == "rotation_degrees" else 0.2})
    changed = augment(image, settings, np.random.default_rng(5))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)
    np.testing.assert_array_equal(changed, augment(image, settings, np.random.default_rng(5)))
