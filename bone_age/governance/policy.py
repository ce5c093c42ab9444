"""What a model has to show before it becomes champion, and who may say so: `configs/policy.yaml`.

One file holds two sets of bounds: those for models of radiographs, and wider ones for models of synthetic hands, which
show that the gates work and never replace a model of radiographs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from bone_age.errors import InputError
from bone_age.evaluation.image_changes import CHANGES
from bone_age.governance.gate import GATE_NAMES
from bone_age.settings import Strict, digest_of

POLICIES = "policies"


class Bounds(Strict):
    """The worst that is allowed, figure by figure; months unless the name says otherwise."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    test_mae_months: float = Field(9.0, gt=0)
    test_mae_upper_months: float = Field(9.5, gt=0, description="upper 95 % bootstrap bound of the test MAE")
    share_of_baseline_mae: float = Field(0.5, gt=0, description="test MAE over that of the mean for that sex")
    test_r2: float = Field(0.90, lt=1)
    subgroup_rows: int = Field(30, ge=2, description="a sex and age band counts from so many test rows on")
    subgroup_mae_months: float = Field(14.0, gt=0)
    subgroup_bias_months: float = Field(8.0, gt=0)
    large_errors_share: float = Field(0.05, ge=0, le=1, description="upper bound of the share off by over 24 months")
    coverage_tolerance: float = Field(0.03, gt=0, lt=1, description="of the prediction intervals, to either side")
    subgroup_coverage: float = Field(0.80, gt=0, lt=1)
    inferiority_margin_months: float = Field(
        0.25, ge=0, description="upper bound of the paired MAE difference to the champion"
    )
    onnx_difference_months: float = Field(0.05, gt=0)
    latency_share_of_champion: float = Field(1.5, gt=0)
    robustness_months: dict[str, float] = Field(
        default_factory=lambda: {change.name: 2.0 for change in CHANGES},
        description="by change, the largest rise in MAE; see `image_changes`. Left out, every change has a gate",
    )

    @model_validator(mode="after")
    def _changes_exist(self) -> Self:
        known = {change.name for change in CHANGES}
        unknown = sorted(set(self.robustness_months) - known)
        if unknown:
            raise ValueError(
                f"robustness_months: no change is named '{unknown[0]}'; known are {', '.join(sorted(known))}"
            )
        return self


class PredeterminedChange(Strict):
    """What a retraining may change and still be promoted by the pipeline alone.

    Settings named here by prefix (`seed`, `data`, `training.epochs`, ...) may differ from the champion's; any other
    difference, and a growth or a shift of the data beyond these shares, needs a person.
    """

    settings: tuple[str, ...] = ("name", "seed", "data")
    rows_lost_share: float = Field(0.0, ge=0, le=1, description="of the champion's radiographs, that may be gone")
    band_share_shift: float = Field(0.1, ge=0, le=1, description="change of the share of any sex and age band")


class Policy(Strict):
    """The rules of a promotion; the digest of the whole is on every version, decision and ledger entry."""

    promotion: Literal["auto", "manual"] = "auto"
    two_person: StrictBool = Field(False, description="who trained a version may not approve it")
    rollback_to_any_version: StrictBool = Field(False, description="also to one that never was champion")
    overridable: tuple[str, ...] = Field((), description="gates that a person may override, by name")
    robustness_rows: int = Field(200, ge=2, description="test rows that are predicted with every change")
    bounds: Bounds = Bounds()
    synthetic_bounds: Bounds = Bounds()
    predetermined_change: PredeterminedChange = PredeterminedChange()

    @field_validator("overridable")
    @classmethod
    def _gates_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = (*GATE_NAMES, *(f"robust_{change.name}" for change in CHANGES))
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"no gate is named '{unknown[0]}'; known are {', '.join(known)}")
        return names

    @property
    def digest(self) -> str:
        return digest_of(self)

    @property
    def artifact(self) -> str:
        """Its path among the artifacts of a run that was judged by it."""
        return f"{POLICIES}/{self.digest}.json"

    def bounds_for(self, synthetic: bool) -> Bounds:
        return self.synthetic_bounds if synthetic else self.bounds

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a policy.

        Raises:
            InputError: The file is absent, empty, no YAML, or holds anything unknown, twice or out of range; names
                file and key.
        """
        try:
            rules = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - a SafeLoader
            if not rules:
                raise InputError(f"{path}: is empty; a policy says what a model has to show")
            return cls(**rules)
        except FileNotFoundError:
            raise InputError(f"{path}: no such policy") from None
        except (yaml.YAMLError, TypeError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (is {e['input']!r})" for e in error.errors())
            raise InputError(f"{path}: {found}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
