"""Pictures that are no hand: many kinds, the same for the same seed, and a climb that climbs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.not_hands import KINDS, climbed, not_hands


def test_there_are_twelve_kinds_and_no_two_pictures_are_alike() -> None:
    pictures = not_hands(3, seed=1)
    assert len(pictures) == 3 * len(KINDS) == 36
    assert len({picture.image.tobytes() for picture in pictures}) == 36
    for picture in pictures:
        assert picture.image.dtype == np.uint8
        assert min(picture.image.shape) >= 200
        assert picture.image.std() > 1, picture.kind


def test_a_seed_is_a_set_of_pictures_and_more_of_them_begin_the_same() -> None:
    one, again, more = not_hands(1, seed=2), not_hands(1, seed=2), not_hands(2, seed=2)
    other = not_hands(1, seed=3)
    for number, picture in enumerate(one):
        assert (picture.image == again[number].image).all()
        assert (picture.image == more[2 * number].image).all()
        assert picture.image.tobytes() != other[number].image.tobytes()


def test_a_climb_comes_nearer_the_longer_it_is() -> None:
    target = np.linspace(0, 255, 64)[None, :] * np.ones((64, 1))

    def distance_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return np.asarray(np.abs(images - target).mean(axis=(1, 2)))

    start, middle, end = (distance_of(climbed(distance_of, steps, 4, 64)[None])[0] for steps in (0, 20, 200))
    assert end < middle < start
    assert end < 0.7 * start
