"""The baseline that every model has to beat."""

from __future__ import annotations

import pytest

from bone_age.errors import InputError
from bone_age.evaluation.baseline import SexMeanBaseline


def test_it_predicts_the_mean_training_label_of_that_sex() -> None:
    baseline = SexMeanBaseline.fit(["M", "F", "M"], [100, 90, 140])
    assert baseline.predict(["F", "M", "F"]).tolist() == [90, 120, 90]


def test_a_sex_without_training_radiographs_is_refused() -> None:
    with pytest.raises(InputError, match="no radiograph of sex 'F'"):
        SexMeanBaseline.fit(["M", "M"], [100, 90]).predict(["M", "F"])


@pytest.mark.parametrize("labels", [[], [100.0], [100.0, float("nan")]])
def test_labels_it_cannot_learn_from_are_refused(labels: list[float]) -> None:
    with pytest.raises(InputError, match="finite bone age"):
        SexMeanBaseline.fit(["M", "F"] if labels else [], labels)
