from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.limits import Limits, measure_limits
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.settings import EvaluationSettings

QUICK = EvaluationSettings(bootstrap_replicates=100)


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.astype(float).mean((1, 2))


@pytest.fixture(scope="module")
def measured(hands: Dataset, fake_predictor: Callable[..., Any]) -> tuple[Limits, Evaluation]:
    predictor = fake_predictor(brightness, undo_inversion=True)
    told = ("Seen <before>.",)
    return measure_limits(predictor, hands, hands.table, "test", QUICK, 3, changed_rows=5, worst=4, warnings=told)


def test_the_four_parts_are_of_one_model_and_one_set_of_rows(measured: tuple[Limits, Evaluation]) -> None:
    limits, evaluation = measured
    assert limits.n == evaluation.n == limits.calibration.n == limits.failures.n == limits.label_noise.n == 8
    assert limits.robustness.n == 5
    assert {part.model for part in (limits.calibration, limits.robustness, limits.failures, limits.label_noise)} == {
        "fake"
    }
    assert limits.metrics["mae"] == evaluation.metrics.mae.value
    assert max(evaluation.predictions["predicted_months"] - evaluation.predictions["bone_age_months"], key=abs) == (
        pytest.approx(limits.failures.worst[0].error_months)
    )


def test_what_is_written_can_be_read_back_and_holds_no_picture_of_a_radiograph(
    measured: tuple[Limits, Evaluation], hands: Dataset, tmp_path: Path
) -> None:
    limits, _ = measured
    limits.save(tmp_path)
    assert Limits.model_validate_json((tmp_path / "limits.json").read_text()) == limits
    pictures = {path.name for path in tmp_path.rglob("*.png")}
    assert pictures == {"bias_by_band.png", "robustness.png"}
    text = (tmp_path / "limits.md").read_text()
    assert {Path(name).name for name in re.findall(r"\]\((plots/[^)]*)\)", text)} == pictures
    assert not any(str(hands.root) in path.read_text() for path in tmp_path.glob("*.*"))


def test_the_document_says_what_it_was_measured_on_and_warns(measured: tuple[Limits, Evaluation]) -> None:
    text = measured[0].to_markdown()
    assert "hands, test split, n = 8" in text
    assert "> Seen <before>." in text
    assert "| saved as JPEG of quality 30 |" in text
    assert "too few rows" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") - line.count("\\|") for line in table}) == 1


def test_a_larger_part_holds_all_of_a_smaller_one_in_any_order_of_rows() -> None:
    rows = pd.DataFrame({"image_id": [str(row) for row in range(50)]})
    few, more = (set(lowest_hashes(rows, count)["image_id"]) for count in (10, 30))
    assert few < more
    assert few == set(lowest_hashes(rows[::-1], 10)["image_id"])
    assert lowest_hashes(rows, 10).index.is_monotonic_increasing
    assert len(lowest_hashes(rows, None)) == len(lowest_hashes(rows, 999)) == 50


def test_one_radiograph_is_refused(hands: Dataset, fake_predictor: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="on 1 radiographs"):
        measure_limits(fake_predictor(brightness), hands, hands.table.head(1), "test", QUICK, 0)
