"""What the prediction log holds of one model's last days."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

from bone_age.evaluation.answer_sample import AnswerSample, figures_of_one, sample_of_rows
from bone_age.monitoring.bounds import NEWEST
from bone_age.monitoring.readers import ReadAnswer
from bone_age.serving.prediction_log import REFUSALS, PredictionLog
from bone_age.serving.prediction_table import LoggedAnswer


@dataclass(frozen=True, eq=False)
class Window:
    """The newest answers of a model, and all of its answers that were read.

    Attributes:
        sample: The `NEWEST` answers at most, with the findings and refusals since the first of them.
        first, last: Times of the sample's answers, UTC; None where there are none.
        read: In the order of the answers' times.
        answers: How many answers of the model are in the window.
        others: How many are other models', by name.
    """

    sample: AnswerSample
    first: datetime | None
    last: datetime | None
    read: tuple[ReadAnswer, ...]
    answers: int
    others: dict[str, int]


def gather(log: PredictionLog, model_digest: str, since: datetime, until: datetime) -> Window:
    """Read the log once, oldest first.

    Raises:
        DatabaseUnavailableError, BoneAgeError: The database does not answer, or holds another release's tables.
    """
    newest: deque[LoggedAnswer] = deque(maxlen=NEWEST)
    read, others, answers = [], Counter[str](), 0
    for answer in log.entries(since, until):
        if answer.model_digest != model_digest:
            others[answer.model] += 1
            continue
        answers += 1
        newest.append(answer)
        if (known := ReadAnswer.of(answer)) is not None:
            read.append(known)
    first, last = (newest[0].time, newest[-1].time) if newest else (None, None)
    findings = log.findings(model_digest, first or since, until)
    refused = sum(findings[code] for code in REFUSALS)
    sample = sample_of_rows([_figures(answer) for answer in newest], len(newest) + refused, findings)
    return Window(sample, first, last, tuple(read), answers, dict(others))


def _figures(answer: LoggedAnswer) -> list[float]:
    months = (answer.bone_age_months, answer.lower_months, answer.upper_months)
    return figures_of_one(answer.statistics, answer.features, answer.likeness_distance, answer.sex, months)
