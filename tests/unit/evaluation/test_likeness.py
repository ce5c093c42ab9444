"""The distance from the training radiographs: what it measures, and that a damaged file is no measure."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.errors import InputError, ModelError
from bone_age.evaluation.likeness import FLAG_ABOVE, MIN_ROWS, Likeness

CHANNELS = 96


def hands(n: int, seed: int) -> npt.NDArray[np.float32]:
    """Features that vary along few directions, as a network's of one kind of picture do."""
    axes = np.abs(np.random.default_rng(0).standard_normal((7, CHANNELS)))
    rng = np.random.default_rng(seed)
    weights = np.hstack([np.full((n, 1), 4.0), 0.3 * rng.standard_normal((n, 6))])
    return np.asarray(np.maximum(weights @ axes + 0.1 * rng.standard_normal((n, CHANNELS)), 0), np.float32)


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    return Likeness.fit(hands(1000, 1))


def test_one_in_a_hundred_of_new_radiographs_lies_beyond_the_edge(likeness: Likeness) -> None:
    beyond = np.mean(likeness.distances(hands(4000, 2)) > FLAG_ABOVE)
    assert 0.002 < beyond < 0.02


def test_what_points_elsewhere_is_far_and_what_only_looks_stronger_is_not(likeness: Likeness) -> None:
    rng = np.random.default_rng(3)
    others = np.abs(rng.standard_normal((200, CHANNELS))).astype(np.float32)
    assert likeness.distances(others).min() > 2 * FLAG_ABOVE
    some = hands(50, 4)
    np.testing.assert_allclose(likeness.distances(7 * some), likeness.distances(some), rtol=1e-5)


def test_both_what_lies_along_the_directions_and_what_lies_outside_of_them_counts(likeness: Likeness) -> None:
    middle = likeness.mean.astype(np.float64)
    middle /= np.linalg.norm(middle)
    outside = np.random.default_rng(5).standard_normal(CHANNELS)
    outside -= likeness.directions.T @ (likeness.directions @ outside)
    for way in (likeness.directions[-1], outside / np.linalg.norm(outside)):
        distances = likeness.distances(np.stack([middle + step * way for step in (0.2, 0.4, 0.8)]))
        assert (np.diff(distances) > 0).all()
        assert distances[-1] > 2 * FLAG_ABOVE


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_measure_depends_neither_on_the_batch_nor_on_the_names_of_channels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, features, new = rng.permutation(CHANNELS), hands(60, seed % 997), hands(9, seed % 991)
    found = Likeness.fit(features)
    together = found.distances(new)
    np.testing.assert_allclose([found.distances(one[None])[0] for one in new], together, rtol=1e-9)
    renamed = Likeness.fit(features[:, order]).distances(new[:, order])
    np.testing.assert_allclose(renamed, together, rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_as_far_as_can_be(value: float, likeness: Likeness) -> None:
    features = hands(2, 6)
    features[1, 3] = value
    near, far = likeness.distances(features)
    assert near < FLAG_ABOVE
    assert far == np.inf
    with pytest.raises(InputError, match="not finite"):
        Likeness.fit(np.vstack([hands(MIN_ROWS, 7), features]))


@pytest.mark.parametrize("n", [40, 55])
def test_fewer_radiographs_than_features_give_the_axes_of_their_covariance(n: int) -> None:
    """They come from the smaller matrix of the two; both have them."""
    features = np.random.default_rng(n).standard_normal((n, 64))
    found = Likeness.fit(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    variances, axes = np.linalg.eigh(np.cov(unit.T))
    count = len(found.variances)
    np.testing.assert_allclose(found.variances, variances[-count:], rtol=1e-4)
    np.testing.assert_allclose(np.abs((found.directions * axes.T[-count:]).sum(axis=1)), 1, rtol=1e-4)


def test_too_few_radiographs_are_refused_by_number() -> None:
    with pytest.raises(InputError, match=f"19 training radiographs, needs {MIN_ROWS}"):
        Likeness.fit(hands(MIN_ROWS - 1, 8))


@pytest.mark.parametrize("features", [np.zeros((40, 8)), np.ones((40, 1)), np.tile(np.arange(5.0), (40, 1))])
def test_features_that_never_vary_still_give_a_usable_measure(features: npt.NDArray[Any], tmp_path: Path) -> None:
    Likeness.fit(features).save(tmp_path / "likeness.npz")
    found = Likeness.load(tmp_path / "likeness.npz")
    assert found.distances(features)[0] <= FLAG_ABOVE + 1e-3
    if features.shape[1] > 1:
        assert found.distances(features[:1] + np.eye(features.shape[1])[:1])[0] > FLAG_ABOVE


# The file -------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_measures_the_same_and_the_bytes_are_the_same(likeness: Likeness, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        likeness.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    new = hands(20, 9)
    assert (Likeness.load(tmp_path / "a.npz").distances(new) == likeness.distances(new)).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mean": np.full(CHANNELS, np.nan, np.float32)}, "mean is not of finite float32"),
        ({"unit": np.array([np.inf], np.float32)}, "unit is not of finite float32"),
        ({"rest": np.array([0.0], np.float32)}, "not above 0"),
        ({"unit": np.array([-1.0], np.float32)}, "not above 0"),
        ({"mean": np.zeros(CHANNELS - 1, np.float32)}, "shapes do not fit"),
        ({"mean": np.float32(0)}, "shapes do not fit"),
        ({"variances": np.zeros((2, 2), np.float32)}, "shapes do not fit"),
        ({"directions": np.zeros((3, CHANNELS), np.float64)}, "directions is not of finite float32"),
        ({"mean": np.array([pickle.dumps, None], object)}, "cannot be read"),
    ],
)
def test_a_file_with_other_values_is_no_measure(
    changed: dict[str, Any], said: str, likeness: Likeness, tmp_path: Path
) -> None:
    path = tmp_path / "likeness.npz"
    np.savez(path, **(vars(likeness) | changed))
    with pytest.raises(ModelError, match=rf"likeness\.npz: .*{said}"):
        Likeness.load(path)


def test_a_file_that_is_cut_short_or_none_is_no_measure(likeness: Likeness, tmp_path: Path) -> None:
    path = tmp_path / "likeness.npz"
    likeness.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], whole[:-5], b"not a file of arrays"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"likeness\.npz: cannot be read"):
            Likeness.load(path)
    np.savez(path, mean=likeness.mean)
    with pytest.raises(ModelError, match="cannot be read"):
        Likeness.load(path)
