"""Is there reason to train again? Pure rules over what is known, so that each can be read and tested alone.

A reason is used up by the training that it led to, also where the gates then refused the result: the same data would
be refused again every night. A training that failed uses up nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from bone_age.scheduling.drift import DriftVerdict
from bone_age.settings import Strict


class Limits(Strict):
    """When a champion is too old; `always` trains whatever there is reason for."""

    max_age_days: float | None = Field(None, gt=0)
    always: bool = False


@dataclass(frozen=True)
class Champion:
    """The version that serves, when it was registered, and on which data it was trained."""

    version: int
    made: datetime
    fingerprint: str


@dataclass(frozen=True)
class Finished:
    """A scheduled training that came to its end, whatever the gates said.

    `recipe` is all beside the data that could make another end of it: digests of configuration and policy.
    """

    moment: datetime
    fingerprint: str
    recipe: str


@dataclass(frozen=True)
class Grounds:
    """All that a decision rests on; `finished` in order of time."""

    now: datetime
    fingerprint: str
    recipe: str
    champion: Champion | None
    drift: DriftVerdict | None
    finished: tuple[Finished, ...] = ()

    @property
    def was_tried(self) -> bool:
        """Was this recipe trained on these data already?"""
        return any((one.fingerprint, one.recipe) == (self.fingerprint, self.recipe) for one in self.finished)


def reasons_to_train(grounds: Grounds, limits: Limits) -> dict[str, str]:
    """Reasons by name, in words; none where nothing speaks for it."""
    found = {}
    champion, last = grounds.champion, grounds.finished[-1].moment if grounds.finished else None
    if champion is None and not grounds.was_tried:
        found["no_champion"] = "there is no champion"
    if champion is not None and champion.fingerprint != grounds.fingerprint and not grounds.was_tried:
        found["new_data"] = (
            f"data {grounds.fingerprint[:12]} are not those of champion version {champion.version}, "
            f"{champion.fingerprint[:12]}"
        )
    drift = grounds.drift
    if drift is not None and drift.drifted and (last is None or drift.moment > last):
        found["drift"] = f"drift, recorded {drift.moment:%Y-%m-%d %H:%M} UTC: {drift.said}"
    if champion is not None and limits.max_age_days is not None:
        newest = max(champion.made, last or champion.made)
        if grounds.now - newest > timedelta(days=limits.max_age_days):
            age = (grounds.now - champion.made) / timedelta(days=1)
            found["age"] = (
                f"champion version {champion.version} is {age:.3g} days old, the limit is {limits.max_age_days:g}"
            )
    if limits.always:
        found["always"] = "asked for every time"
    return found
