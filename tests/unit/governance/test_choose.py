"""The candidate is the Xception that is best on validation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.governance.automatic import choose
from bone_age.governance.candidates import Candidate

ARCHITECTURES = ("xception_single", "xception_multi", "resnet50_single", "resnet50_multi")


def candidate(version: int, architecture: str, validation_mae: float | None) -> Candidate:
    return Candidate(version=version, architecture=architecture, validation_mae=validation_mae)


def test_the_best_xception_on_validation_is_chosen() -> None:
    chosen = choose([candidate(1, "xception_single", 9.0), candidate(2, "xception_multi", 8.0)])
    assert chosen is not None
    assert chosen.version == 2


def test_a_better_resnet_is_not_chosen() -> None:
    chosen = choose([candidate(1, "resnet50_multi", 5.0), candidate(2, "xception_multi", 8.0)])
    assert chosen is not None
    assert chosen.version == 2
    assert choose([candidate(1, "resnet50_multi", 5.0)]) is None


@pytest.mark.parametrize("broken", [None, math.nan, math.inf, -math.inf])
def test_one_without_a_finite_figure_is_not_chosen(broken: float | None) -> None:
    chosen = choose([candidate(1, "xception_single", broken), candidate(2, "xception_multi", 80.0)])
    assert chosen is not None
    assert chosen.version == 2
    assert choose([candidate(1, "xception_single", broken)]) is None


figures = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(st.lists(st.tuples(st.sampled_from(ARCHITECTURES), figures)))
def test_whatever_the_candidates_only_the_best_measured_xception_is_chosen(
    told: list[tuple[str, float | None]],
) -> None:
    candidates = [candidate(number, *one) for number, one in enumerate(told, start=1)]
    chosen = choose(candidates)
    usable = [mae for name, mae in told if name.startswith("xception") and mae is not None and math.isfinite(mae)]
    if chosen is None:
        assert not usable
    else:
        assert chosen.architecture.startswith("xception")
        assert chosen.validation_mae == min(usable)
    assert choose(candidates[::-1]) == chosen
