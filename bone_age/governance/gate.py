"""A gate's figure, bound and verdict, and the decision that a set of them leads to."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["promoted", "not promoted", "already champion", "awaits approval"]

GATE_NAMES = ("data_validation", "no_leakage", "test_mae", "test_mae_upper", "beats_baseline", "test_r2",
              "large_errors", "worst_subgroup_mae", "worst_subgroup_bias", "interval_coverage",
              "worst_subgroup_coverage", "same_test_rows", "not_inferior_to_champion", "no_synthetic_successor",
              "latency", "onnx_agrees", "preprocessing_agrees")  # and `robust_<change>` for every change  # fmt: skip


class Gate(BaseModel):
    """One criterion.

    Attributes:
        figure, bound: None where there is none; then the gate fails.
        rule: How the figure has to lie to the bound.
        meaning: What both are, in words.
        evidence: The file below `evidence/` in the version's run that holds the figure.
        problem: Why the figure cannot be taken, in words; with one the gate fails whatever the figure.
        overridden_by, override_reason: Who let it pass all the same, and why.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    figure: float | None
    bound: float | None
    rule: Literal["at most", "at least"] = "at most"
    meaning: str
    evidence: str = "evidence.json"
    problem: str = ""
    overridden_by: str = ""
    override_reason: str = ""

    @property
    def passed(self) -> bool:
        if self.problem or self.figure is None or self.bound is None:
            return False
        if not (math.isfinite(self.figure) and math.isfinite(self.bound)):
            return False
        return self.figure <= self.bound if self.rule == "at most" else self.figure >= self.bound

    @property
    def holds(self) -> bool:
        """Passed, or overridden by a person."""
        return self.passed or bool(self.overridden_by)

    @property
    def verdict(self) -> Literal["passed", "overridden", "FAILED"]:
        return "passed" if self.passed else "overridden" if self.overridden_by else "FAILED"

    @property
    def explained(self) -> str:
        """What figure and bound are, and what became of them."""
        notes = [self.meaning, self.problem]
        if self.overridden_by:
            notes.append(f"overridden by {self.overridden_by}: {self.override_reason}")
        return "; ".join(filter(None, notes))

    def to_json(self) -> dict[str, Any]:
        """With the verdict, and as strict JSON: a figure that is not finite is null."""
        plain = self.model_dump(mode="json") | {"verdict": self.verdict}
        return plain | {name: _finite(plain[name]) for name in ("figure", "bound")}

    def __str__(self) -> str:
        return f"{self.name}: {shown(self.figure)}, must be {self.rule} {shown(self.bound)} ({self.explained})"


def shown(figure: float | None) -> str:
    """A figure for people: `missing`, `0`, `8.13`, `0.0004`."""
    if figure is None or not math.isfinite(figure):
        return "missing" if figure is None else str(figure)
    if figure == int(figure):
        return f"{figure:.0f}"
    return f"{figure:.2f}" if abs(figure) >= 0.1 else f"{figure:.2g}"


def _finite(figure: float | None) -> float | None:
    return figure if figure is not None and math.isfinite(figure) else None


class Decision(BaseModel):
    """Outcome of a run or of `bone-age promote`, and why; the gates name files below `evidence_uri` (of MLflow).

    `already champion`: the run made nothing new, its best model serves since before. `awaits approval`: all gates hold,
    and the policy or the kind of change leaves the promotion to a person.

    Attributes:
        standing_overrides: Gates that the champion of after the decision did not pass, each with who let it, and why.
    """

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    version: int | None
    architecture: str | None
    test_mae: float | None
    gates: tuple[Gate, ...]
    reason: str
    policy_digest: str
    previous_champion: int | None
    evidence_uri: str = ""
    standing_overrides: tuple[str, ...] = ()

    @property
    def promoted(self) -> bool:
        return self.outcome == "promoted"

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.holds)

    def to_json(self) -> dict[str, Any]:
        """With the gates' verdicts, as strict JSON."""
        plain = self.model_dump(mode="json", exclude={"gates", "test_mae"})
        return plain | {"test_mae": _finite(self.test_mae), "gates": [gate.to_json() for gate in self.gates]}
