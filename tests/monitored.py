"""Answers as a prediction log holds them, drawn from a distribution that can be shifted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np

from bone_age.evaluation.answer_sample import AnswerSample, figures_of_one, sample_of_rows
from bone_age.serving.feature_summary import PROJECTIONS, FeatureSummary
from bone_age.serving.prediction_table import LoggedAnswer, LoggedFinding, PredictionTable, Reading
from bone_age.serving.statistics import ImageStatistics

NO_FINDINGS = dict.fromkeys(
    ("inverted", "rotated", "unlike_training", "refused_unlike_training", "refused_unusable_image"), 0
)


def drawn(
    n: int,
    seed: int,
    *,
    digest: str = "ab" * 32,
    model: str = "models:/bone-age/5",
    brighter: float = 0.0,
    boys: float = 0.54,
    older_months: float = 0.0,
    read_share: float = 0.0,
    reader_offset_months: float = 0.0,
    newest: datetime | None = None,
) -> list[LoggedAnswer]:
    """One an hour up to `newest` (now), oldest first; readers err by 8 months."""
    chance = np.random.default_rng(seed)
    newest = newest or datetime.now(UTC) - timedelta(seconds=1)
    answers = []
    for hours in range(n - 1, -1, -1):
        months = float(np.clip(chance.normal(127 + older_months, 40), 6, 220))
        grey = np.clip(chance.normal([80 + brighter, 50, 0.2, 0.01], [12, 6, 0.05, 0.004]), 0, 255)
        time = newest - timedelta(hours=hours)
        readings: tuple[Reading, ...] = ()
        read_months = float(np.clip(months - reader_offset_months + chance.normal(0, 8), 0, 240))
        if chance.random() < read_share:
            readings = (Reading(time + timedelta(days=1), "r7", read_months),)
        answers.append(
            LoggedAnswer(
                entry_id=uuid4().hex,
                time=time,
                request_id=uuid4().hex,
                model=model,
                model_digest=digest,
                sex="M" if chance.random() < boys else "F",
                bone_age_months=months,
                lower_months=max(months - 13.2, 0),
                upper_months=months + 13.2,
                latency_s=0.2,
                statistics=ImageStatistics(2000, 1500, *(float(value) for value in grey)),
                features=FeatureSummary(
                    float(chance.normal(20, 2)), tuple(float(value) for value in chance.normal(0, 1, PROJECTIONS))
                ),
                likeness_distance=float(chance.gamma(20, 0.02)),
                readings=readings,
            )
        )
    return answers


def sample(answers: Sequence[LoggedAnswer], **findings: int) -> AnswerSample:
    """What drift is measured on; `findings` that refuse are asked beside the answers."""
    rows = [
        figures_of_one(
            one.statistics,
            one.features,
            one.likeness_distance,
            one.sex,
            (one.bone_age_months, one.lower_months, one.upper_months),
        )
        for one in answers
    ]
    refused = sum(count for code, count in findings.items() if code.startswith("refused"))
    return sample_of_rows(rows, len(rows) + refused, NO_FINDINGS | findings)


def write(url: str, answers: Sequence[LoggedAnswer]) -> None:
    """Into a log, with their readings."""
    table = PredictionTable(url)
    table.add(answers)
    for answer in answers:
        for reading in answer.readings:
            table.add_reading(answer.request_id, reading)


def write_findings(url: str, code: str, count: int, digest: str, time: datetime | None = None) -> None:
    """Into a log, one a minute up to `time` (now)."""
    newest = time or datetime.now(UTC) - timedelta(seconds=1)
    moments = [newest - timedelta(minutes=minutes) for minutes in range(count)]
    PredictionTable(url).add([LoggedFinding(uuid4().hex, code, moment, digest) for moment in moments])
