"""Batches for training: read by memory map, shuffled and augmented from (seed, epoch, batch) alone.

Because nothing else feeds the randomness, a run that was killed and resumed sees the same images in the same order as
one that was not. Keras is given training as one endless sequence and told how many steps make an epoch: with a finite
`PyDataset` and two workers (Keras 3.15) a resumed epoch was not the uninterrupted one (docs/experiments.md). Images of
a batch are read and augmented in threads; OpenCV releases the interpreter lock.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt

from bone_age.modelling.augmentation import augment
from bone_age.settings import AugmentationSettings

THREADS = min(8, os.cpu_count() or 1)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Images or cached features with their labels, one batch at a time.

    Args:
        sources: Arrays of equal shape [N, …]; with several (an image's features and its mirror's) a training batch
            picks one of them at random for each row, and evaluation uses the first.
        rows: Which rows of the arrays, [n].
        sex: 1 for male, 0 for female, float32 [n, 1]; None for models that take the image alone.
        bone_age_months: Labels, float32 [n].
        shuffle_seed: For training: epoch after epoch, without end. None is for evaluation: one pass in order, every
            row, nothing changed.
        start: Epoch and step within it that a resumed training goes on from.
        size_px: Images are made this small, after augmentation; None leaves them as they are.
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
        start: tuple[int, int] = (0, 0),
        size_px: int | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.sources, self.rows, self.sex, self.bone_age_months = sources, rows, sex, bone_age_months
        self.batch_size, self.shuffle_seed, self.augmentation = batch_size, shuffle_seed, augmentation
        self.start, self.size_px = start, size_px
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="batches")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches for training (a short one would be compiled anew and weigh its rows more), else all."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole if self.shuffle_seed is not None and whole else whole + bool(rest)

    @property
    def num_batches(self) -> int | None:
        """What Keras asks for: None says endless."""
        return self.steps_per_epoch if self.shuffle_seed is None else None

    def __getitem__(self, index: int) -> tuple[dict[str, Any] | tuple[Any, ...] | Any, npt.NDArray[np.float32]]:
        first_epoch, first_step = self.start
        epoch, batch = divmod(first_epoch * self.steps_per_epoch + first_step + index, self.steps_per_epoch)
        order = np.arange(len(self.rows))
        if self.shuffle_seed is not None:
            np.random.default_rng([self.shuffle_seed, epoch]).shuffle(order)
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = self._read(self.rows[chosen], epoch, batch)
        labels = self.bone_age_months[chosen][:, None]
        return (images if self.sex is None else (images, self.sex[chosen])), labels

    def _read(self, rows: npt.NDArray[np.int64], epoch: int, batch: int) -> npt.NDArray[Any]:
        if self.shuffle_seed is None:
            return np.stack([self._resized(self.sources[0][row]) for row in rows])
        rng = np.random.default_rng([self.shuffle_seed, epoch, batch])
        picks = rng.integers(len(self.sources), size=len(rows))
        return np.stack(list(self.threads.map(self._read_one, picks, rows, rng.spawn(len(rows)))))

    def _read_one(self, pick: int, row: int, rng: np.random.Generator) -> npt.NDArray[Any]:
        image = self.sources[pick][row]
        return self._resized(image if self.augmentation is None else augment(image, self.augmentation, rng))

    def _resized(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.size_px is None or self.size_px == image.shape[0]:
            return image
        return np.asarray(cv2.resize(image, (self.size_px, self.size_px), interpolation=cv2.INTER_AREA))
