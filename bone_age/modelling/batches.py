"""Batches for training: read by memory map, shuffled and augmented from (seed, epoch, batch) alone.

Because nothing else feeds the randomness, a run that was killed and resumed sees the same images in the same order as
one that was not. Keras' own `PyDataset` threads overlap this with the training step and work on every backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bone_age.modelling.augmentation import augment
from bone_age.settings import AugmentationSettings


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Images or cached features with their labels, one batch at a time.

    Args:
        sources: Arrays of equal shape [N, …]; with several (an image's features and its mirror's) a training batch
            picks one of them at random for each row, and evaluation uses the first.
        rows: Which rows of the arrays, [n].
        sex: 1 for male, 0 for female, float32 [n, 1]; None for models that take the image alone.
        bone_age_months: Labels, float32 [n].
        shuffle_seed: None keeps the order, drops nothing and changes nothing: for evaluation.
        first_epoch: The epoch a resumed training starts from.
    """

    def __init__(
        self,
        sources: list[npt.NDArray[Any]],
        rows: npt.NDArray[np.int64],
        sex: npt.NDArray[np.float32] | None,
        bone_age_months: npt.NDArray[np.float32],
        batch_size: int,
        shuffle_seed: int | None = None,
        augmentation: AugmentationSettings | None = None,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.sources, self.rows, self.sex, self.bone_age_months = sources, rows, sex, bone_age_months
        self.batch_size, self.shuffle_seed, self.augmentation = batch_size, shuffle_seed, augmentation
        self.epoch = first_epoch
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.arange(len(self.rows))
        if self.shuffle_seed is not None:
            np.random.default_rng([self.shuffle_seed, self.epoch]).shuffle(self.order)

    def __len__(self) -> int:
        whole = len(self.rows) // self.batch_size
        if self.shuffle_seed is not None and whole:
            return whole  # a short last batch would be compiled anew and weigh its rows more
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, Any] | tuple[Any, ...] | Any, npt.NDArray[np.float32]]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self._read(self.rows[chosen], index)
        labels = self.bone_age_months[chosen][:, None]
        return (images if self.sex is None else (images, self.sex[chosen])), labels

    def _read(self, rows: npt.NDArray[np.int64], index: int) -> npt.NDArray[Any]:
        if self.shuffle_seed is None:
            return np.stack([self.sources[0][row] for row in rows])
        rng = np.random.default_rng([self.shuffle_seed, self.epoch, index])
        picks = rng.integers(len(self.sources), size=len(rows))
        images = [self.sources[pick][row] for pick, row in zip(picks, rows, strict=True)]
        if self.augmentation is not None:
            images = [augment(image, self.augmentation, rng) for image in images]
        return np.stack(images)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()
