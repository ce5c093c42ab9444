"""Statistics of drift: what is called drift, what is not, and what happens at the edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bone_age.evaluation.answer_sample import LIKENESS, AnswerSample
from bone_age.monitoring.bounds import COMPARISONS, LEAST_DISTANCE, MIN_ANSWERS, Compared
from bone_age.monitoring.drift import compare, most_by_chance
from tests.monitored import drawn, sample

REFERENCE = sample(drawn(1500, 1))


def names_of_drift(service: AnswerSample, reference: AnswerSample = REFERENCE) -> set[str]:
    return {one.name for one in compare(reference, service) if one.is_drift}


def test_two_hundred_samples_of_the_same_are_hardly_ever_called_drifted() -> None:
    pool = sample(drawn(6000, 2))
    chance = np.random.default_rng(5)
    picked = [chance.choice(6000, 300, replace=False) for _ in range(200)]
    services = [replace(pool, figures={k: v[rows] for k, v in pool.figures.items()}, asked=300) for rows in picked]
    assert sum(bool(names_of_drift(one)) for one in services) <= 7  # at 1 %, eight or more come once in 1,000 times


@pytest.mark.parametrize(
    ("shift", "name"),
    [
        ({"brighter": 10.0}, "grey_mean"),
        ({"boys": 0.8}, "boy"),
        ({"older_months": 30.0}, "bone_age_months"),
    ],
)
def test_a_shift_is_seen_in_300_answers_and_by_its_name(shift: dict[str, float], name: str) -> None:
    assert names_of_drift(sample(drawn(300, 7, **shift))) == {name}  # type: ignore[arg-type]


def test_a_difference_too_small_to_act_on_is_none_however_certain() -> None:
    many, reference = sample(drawn(4000, 8, brighter=2.0)), sample(drawn(4000, 9))
    distance = next(one for one in compare(reference, many) if one.name == "grey_mean")
    assert 0.05 < distance.value < LEAST_DISTANCE == distance.bound


@pytest.mark.parametrize("code", ["inverted", "rotated", "refused_unlike_training", "refused_unusable_image"])
def test_findings_are_drift_when_many_and_none_when_few(code: str) -> None:
    answers = drawn(280, 3)
    assert names_of_drift(sample(answers, **{code: 5})) == set()
    assert names_of_drift(sample(answers, **{code: 25})) == {code}


def test_what_the_reference_had_as_often_is_usual() -> None:
    often = sample(drawn(300, 4), unlike_training=30)
    assert names_of_drift(often) == {"unlike_training"}
    assert names_of_drift(often, sample(drawn(1500, 1), unlike_training=150)) == set()


def test_too_few_answers_are_not_compared() -> None:
    assert compare(REFERENCE, sample(drawn(MIN_ANSWERS - 1, 5))) == []
    assert compare(sample(drawn(49, 5)), sample(drawn(300, 5), inverted=0)) != []  # findings need no reference
    assert {one.unit for one in compare(sample(drawn(49, 5)), sample(drawn(300, 5)))} == {"share"}
    assert len(compare(REFERENCE, sample(drawn(MIN_ANSWERS, 5)))) == COMPARISONS - 3  # less the readers'


def test_a_figure_that_one_side_lacks_is_left_out() -> None:
    without = replace(REFERENCE, figures={k: v for k, v in REFERENCE.figures.items() if k != LIKENESS})
    for pair in ((without, sample(drawn(300, 5))), (sample(drawn(300, 5)), without)):
        assert LIKENESS not in {one.name for one in compare(*pair)}


def test_figures_that_are_all_the_same_are_compared() -> None:
    same = replace(REFERENCE, figures=dict(REFERENCE.figures) | {"boy": np.zeros(1500, np.float32)})
    girls = sample(drawn(300, 5, boys=0.0))
    assert "boy" not in names_of_drift(girls, same)
    assert "boy" in names_of_drift(sample(drawn(300, 5)), same)


def test_a_figure_that_is_no_number_is_drift() -> None:
    assert Compared("x", "distance", float("nan"), 0.1, 0.0, 0.0, 300).is_drift


@pytest.mark.parametrize(("share", "n"), [(0.02, 100), (0.02, 5000), (0.3, 300)])
def test_shares_by_chance_are_rarely_beyond_their_bound(share: float, n: int) -> None:
    drawn_shares = np.random.default_rng(3).binomial(n, share, 200_000) / n
    assert (drawn_shares > most_by_chance(share, n, 0.01)).mean() <= 0.011
