"""Answers in service against the held-out radiographs of the model: distributions, the share of boys, refusals.

Distributions are compared by the Kolmogorov-Smirnov distance, the largest difference between two cumulative shares: it
needs no bins, sees shifts of place, spread and shape, and means the same for grey levels, features and months.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, ks_2samp, kstwobign, norm

from bone_age.evaluation.answer_sample import BOY, FIGURES, AnswerSample
from bone_age.monitoring.bounds import (
    FALSE_ALARMS,
    FINDINGS,
    LEAST_DISTANCE,
    MIN_ANSWERS,
    MIN_REFERENCE,
    USUAL_FINDING,
    Compared,
    alpha,
)


def compare(reference: AnswerSample, service: AnswerSample, false_alarms: float = FALSE_ALARMS) -> list[Compared]:
    """Every figure that both samples have, and every finding that was looked for in service.

    Fewer than `MIN_ANSWERS` answers give no comparison of figures, fewer questions none of findings; where all is
    refused there are findings alone.
    """
    found = []
    if len(service) >= MIN_ANSWERS and len(reference) >= MIN_REFERENCE:
        names = [name for name in FIGURES if name in reference.figures and name in service.figures]
        for name in names:
            pair = (reference.figures[name], service.figures[name])
            found.append(_shares(name, *pair, false_alarms) if name == BOY else _distance(name, *pair, false_alarms))
    if service.asked >= MIN_ANSWERS:
        found += [_finding(code, reference, service, false_alarms) for code in FINDINGS if code in service.findings]
    return found


def _distance(
    name: str, before: npt.NDArray[np.float32], now: npt.NDArray[np.float32], false_alarms: float
) -> Compared:
    n, m = len(now), len(before)
    distance = float(ks_2samp(before, now, method="asymp").statistic)
    by_chance = float(kstwobign.isf(alpha(false_alarms)) * np.sqrt((n + m) / (n * m)))
    medians = float(np.median(now)), float(np.median(before))
    return Compared(name, "distance", distance, max(by_chance, LEAST_DISTANCE), *medians, n)


def _shares(name: str, before: npt.NDArray[np.float32], now: npt.NDArray[np.float32], false_alarms: float) -> Compared:
    n, m = len(now), len(before)
    pooled = float(np.concatenate([before, now]).mean())
    by_chance = float(norm.isf(alpha(false_alarms) / 2) * np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)))
    shares = float(now.mean()), float(before.mean())
    return Compared(name, "difference", abs(shares[0] - shares[1]), max(by_chance, LEAST_DISTANCE), *shares, n)


def _finding(code: str, reference: AnswerSample, service: AnswerSample, false_alarms: float) -> Compared:
    """What the training's own radiographs had is usual, and a rare finding is."""
    known = code in reference.findings and reference.asked
    before = reference.findings[code] / reference.asked if known else None
    share = service.findings[code] / service.asked
    bound = most_by_chance(max(before or 0.0, USUAL_FINDING), service.asked, alpha(false_alarms))
    return Compared(code, "share", share, bound, share, before, service.asked)


def most_by_chance(share: float, n: int, probability: float) -> float:
    """The share of n that is exceeded with at most this probability, where each has it with probability `share`."""
    return float(binom.isf(probability, n, share)) / n
