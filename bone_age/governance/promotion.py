"""May a model become champion? Gates with figure and bound, and a decision that says why.

A missing or non-finite figure fails its gate: what was not measured was not shown. Only Xception versions are
candidates. The candidate is chosen on the validation split and judged on the test split.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bone_age.errors import InputError
from bone_age.settings import Strict, digest_of


class Policy(Strict):
    """What a candidate has to show; read from `configs/policy.yaml`."""

    max_share_of_baseline_mae: float = Field(1.0, gt=0, le=1, description="test MAE over the baseline's test MAE")
    champion_margin_months: float = Field(0.0, ge=0, description="how much lower than the champion's the MAE has to be")

    @property
    def digest(self) -> str:
        return digest_of(self)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a policy; anything unknown or out of range is an `InputError`."""
        try:
            return cls(**(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
        except FileNotFoundError:
            raise InputError(f"{path}: no such policy") from None
        except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (is {e['input']!r})" for e in error.errors())
            raise InputError(f"{path}: {found}") from None


class Gate(BaseModel):
    """One criterion: passes when `figure` is finite and below `bound`; `meaning` says what both are."""

    model_config = ConfigDict(frozen=True)

    name: str
    figure: float | None
    bound: float | None
    meaning: str

    @property
    def passed(self) -> bool:
        known = [value for value in (self.figure, self.bound) if value is not None and math.isfinite(value)]
        return len(known) == 2 and known[0] < known[1]

    def __str__(self) -> str:
        figure = "missing" if self.figure is None else f"{self.figure:.2f}"
        bound = "missing" if self.bound is None else f"{self.bound:.2f}"
        return f"{self.name}: {figure}, must be below {bound} ({self.meaning})"


class Candidate(BaseModel):
    """A registered version that wants to be champion; figures are months of MAE, None where never measured."""

    model_config = ConfigDict(frozen=True)

    version: int
    architecture: str
    validation_mae: float | None
    test_mae: float | None
    synthetic: bool = False


class Champion(BaseModel):
    """The version that serves now, re-evaluated on today's test rows; None where that could not be done."""

    model_config = ConfigDict(frozen=True)

    version: int
    test_mae: float | None
    synthetic: bool = False
    why_not_measured: str = ""


class Decision(BaseModel):
    """Outcome of one run and why. `already champion`: the run made nothing new, its best model serves since before."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["promoted", "not promoted", "already champion"]
    version: int | None
    architecture: str | None
    test_mae: float | None
    gates: tuple[Gate, ...]
    reason: str
    policy_digest: str
    previous_champion: int | None

    @property
    def promoted(self) -> bool:
        return self.outcome == "promoted"


def choose(candidates: list[Candidate]) -> Candidate | None:
    """The Xception with the lowest validation MAE; one without a finite figure cannot be chosen."""
    eligible = [
        c
        for c in candidates
        if c.architecture.startswith("xception") and c.validation_mae is not None and math.isfinite(c.validation_mae)
    ]
    return min(eligible, key=lambda c: (c.validation_mae, c.version), default=None)


def decide(
    candidates: list[Candidate], baseline_test_mae: float | None, champion: Champion | None, policy: Policy
) -> Decision:
    """Apply the gates to the best candidate."""
    chosen = choose(candidates)
    previous = champion.version if champion else None
    if chosen is None:
        return Decision(
            outcome="not promoted",
            version=None,
            architecture=None,
            test_mae=None,
            gates=(),
            reason="no Xception version with a validation MAE",
            policy_digest=policy.digest,
            previous_champion=previous,
        )
    serves_already = champion is not None and champion.version == chosen.version
    gates = _gates(chosen, baseline_test_mae, None if serves_already else champion, policy)
    failed = [gate for gate in gates if not gate.passed]
    return Decision(
        outcome="already champion" if serves_already else "not promoted" if failed else "promoted",
        version=chosen.version,
        architecture=chosen.architecture,
        test_mae=chosen.test_mae,
        gates=gates,
        reason="; ".join(f"failed {gate}" for gate in failed) or "; ".join(f"passed {gate}" for gate in gates),
        policy_digest=policy.digest,
        previous_champion=previous,
    )


def _gates(
    chosen: Candidate, baseline_test_mae: float | None, champion: Champion | None, policy: Policy
) -> tuple[Gate, ...]:
    bound = None if baseline_test_mae is None else baseline_test_mae * policy.max_share_of_baseline_mae
    gates = [
        Gate(
            name="beats_baseline",
            figure=chosen.test_mae,
            bound=bound,
            meaning="test MAE in months against the mean for that sex",
        )
    ]
    if champion is not None:
        lower = None if champion.test_mae is None else champion.test_mae - policy.champion_margin_months
        meaning = f"test MAE in months against champion version {champion.version} on the same test rows"
        if champion.why_not_measured:
            meaning += f", which could not be measured: {champion.why_not_measured}"
        gates.append(Gate(name="beats_champion", figure=chosen.test_mae, bound=lower, meaning=meaning))
        if not champion.synthetic:
            meaning = (
                f"1 if trained on synthetic images; champion version {champion.version} was trained on radiographs"
            )
            gates.append(
                Gate(name="no_synthetic_successor", figure=float(chosen.synthetic), bound=1.0, meaning=meaning)
            )
    return tuple(gates)
