"""The verdict on a data set, as it is kept and handed on; what it rests on is in `expectations.py`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd

from bone_age.data.leakage import NearDuplicate
from bone_age.errors import InputError

_NAMED_ERRORS = 5


@dataclass(frozen=True)
class DataValidation:
    """The verdict on a data set.

    Attributes:
        passed: No errors.
        errors, warnings: One line each, naming rows, column and values.
        result: Great Expectations' result, JSON values only; at most 20 offending rows a rule.
        html: Great Expectations' page of it, self-contained.
        n: Radiographs judged.
        fingerprint: Of the data set.
        near_duplicates: Pairs that look alike, within and across splits.
    """

    passed: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    result: dict[str, Any]
    html: str
    n: int
    fingerprint: str
    near_duplicates: tuple[NearDuplicate, ...]

    def raise_on_errors(self) -> None:
        """Stop whoever builds on this data set.

        Raises:
            InputError: There are errors; the message holds the first five, one after the other on one line.
        """
        if self.passed:
            return
        more = f"; and {len(self.errors) - _NAMED_ERRORS} more" if len(self.errors) > _NAMED_ERRORS else ""
        raise InputError(f"data validation failed: {'; '.join(self.errors[:_NAMED_ERRORS])}{more}")

    def save(self, folder: Path) -> None:
        facts = {
            "passed": self.passed,
            "errors": self.errors,
            "warnings": self.warnings,
            "n": self.n,
            "fingerprint": self.fingerprint,
            "n_near_duplicates": len(self.near_duplicates),
        }
        (folder / "validation.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        (folder / "great_expectations.json").write_text(json.dumps(self.result, indent=2), encoding="utf-8")
        (folder / "data_docs.html").write_text(self.html, encoding="utf-8")
        if self.near_duplicates:
            pairs = pd.DataFrame([asdict(pair) for pair in self.near_duplicates])
            pairs.to_csv(folder / "near_duplicates.csv", index=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        facts = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
        return cls(
            passed=facts["passed"],
            errors=tuple(facts["errors"]),
            warnings=tuple(facts["warnings"]),
            result=json.loads((folder / "great_expectations.json").read_text(encoding="utf-8")),
            html=(folder / "data_docs.html").read_text(encoding="utf-8"),
            n=facts["n"],
            fingerprint=facts["fingerprint"],
            near_duplicates=_load_pairs(folder / "near_duplicates.csv") if facts["n_near_duplicates"] else (),
        )


def _load_pairs(path: Path) -> tuple[NearDuplicate, ...]:
    numbers = {"bone_age_months": float, "other_bone_age_months": float, "differing_bits": int}
    dtype = {field.name: numbers.get(field.name, str) for field in fields(NearDuplicate)}
    table = pd.read_csv(
        path, dtype=dtype, keep_default_na=False, na_values={"bone_age_months": "", "other_bone_age_months": ""}
    )
    return tuple(NearDuplicate(**{str(key): value for key, value in row.items()}) for row in table.to_dict("records"))
