"""One look: the log's newest answers against the model's reference, a verdict, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bone_age.errors import InputError, ModelError
from bone_age.monitoring.bounds import MIN_ANSWERS, MIN_REFERENCE, Compared
from bone_age.monitoring.drift import compare
from bone_age.monitoring.readers import ReaderErrors, compare_errors, reader_errors
from bone_age.monitoring.window import Window, gather
from bone_age.serving.bundle import Bundle
from bone_age.serving.prediction_log import PredictionLog

DAYS = 30


class Verdict(StrEnum):
    """What a look came to; `NONE` where there were too few answers to say."""

    DRIFT = "drift"
    NO_DRIFT = "no drift"
    NONE = "no verdict"


@dataclass(frozen=True)
class Watched:
    """Which model is looked at."""

    name: str
    digest: str
    bundle: Bundle


@dataclass(frozen=True, eq=False)
class Look:
    """What was compared, and what it came to.

    Attributes:
        compared: Every figure with its bound.
        errors: Against readers; None where hardly any answer was read.
        moment, since: Of the look, and of the oldest answer that it could see; UTC.
    """

    watched: Watched
    window: Window
    compared: tuple[Compared, ...]
    errors: ReaderErrors | None
    moment: datetime
    since: datetime

    @property
    def drifted(self) -> tuple[Compared, ...]:
        """What is beyond its bound, the farthest first."""
        beyond = [one for one in self.compared if one.is_drift]
        return tuple(sorted(beyond, key=lambda one: -one.value / max(one.bound, 1e-9)))

    @property
    def verdict(self) -> Verdict:
        if self.drifted:
            return Verdict.DRIFT
        return Verdict.NO_DRIFT if self.compared else Verdict.NONE

    @property
    def said(self) -> str:
        """In one line."""
        sample = self.window.sample
        seen = f"{len(sample)} answers of {self.watched.name}" + (
            f" and {sample.asked - len(sample)} refusals" if sample.asked > len(sample) else ""
        )
        if self.verdict is Verdict.NONE:
            others = sum(self.window.others.values())
            aside = f" ({others} of other models are left aside)" if others else ""
            return f"{seen} since {self.since:%Y-%m-%d %H:%M} UTC, a verdict needs {MIN_ANSWERS}{aside}"
        if self.verdict is Verdict.NO_DRIFT:
            return f"{len(self.compared)} figures of {seen} within their bounds"
        shown = "; ".join(map(str, self.drifted[:3]))
        more = f"; and {len(self.drifted) - 3} more" if len(self.drifted) > 3 else ""
        return f"{shown}{more}; in {seen}"


def look(log: PredictionLog, watched: Watched, days: float, now: datetime | None = None) -> Look:
    """Compare the newest answers, at most `days` old, with the model's held-out radiographs.

    Raises:
        InputError: `days` is not above 0.
        ModelError: The model carries no sample to compare with, or one that is too small.
        DatabaseUnavailableError, BoneAgeError: The log's database does not answer.
    """
    if not 0 < days <= 36_500:
        raise InputError(f"--days is {days:g}, expected more than 0 and at most 36500")
    reference = watched.bundle.held_out
    if reference is None:
        raise ModelError(
            f"{watched.name}: carries no sample of held-out radiographs to compare with, as it was made before there "
            "was monitoring; train and promote a version, or name another with --model"
        )
    if len(reference) < MIN_REFERENCE:
        raise ModelError(
            f"{watched.name}: its sample holds {len(reference)} held-out radiographs, monitoring needs {MIN_REFERENCE}"
        )
    moment = now or datetime.now(UTC)
    since = moment - timedelta(days=days)
    window = gather(log, watched.digest, since, moment)
    nominal = watched.bundle.calibration.coverage
    errors = compare_errors(window.read, watched.bundle.figures(), nominal)
    compared = (*compare(reference, window.sample), *errors)
    return Look(watched, window, compared, reader_errors(window.read, nominal), moment, since)
