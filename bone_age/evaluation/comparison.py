"""The models of one run side by side, on the same radiographs.

Differences are paired (same radiographs, same resamples), since two overlapping intervals say little about which of two
models is better. The best model is the one with the smallest *validation* MAE: picking by test MAE would make the
winner's test figure too good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import Estimate, paired_mae_difference
from bone_age.evaluation.evaluation import Evaluation, ScoredSet
from bone_age.evaluation.robustness import Robustness
from bone_age.evaluation.whole_file import write_whole
from bone_age.governance.gate import Decision
from bone_age.settings import EvaluationSettings

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")  # names become folders of the report


@dataclass(frozen=True, eq=False)
class ModelSummary:
    """What was trained, how long it took, and how good it is.

    Attributes:
        name: The training's name; that of the architecture, unless it is an ablation.
        test, validation: Evaluations on the two splits.
        history: `plots.HISTORY_COLUMNS`, one row an epoch.
        best_epoch: The epoch whose weights were kept, counted from 0.
        inference_ms_per_image: One image alone, through the network only.
        weights: What the backbone started from: `none`, `imagenet` or a path.
        ablation_of: The model it was trained to be compared with; such a one is never the best and never registered.
    """

    name: str
    architecture: str
    inputs: Literal["image", "image + sex"]
    test: Evaluation
    validation: Evaluation
    history: pd.DataFrame
    best_epoch: int
    seconds_per_epoch: float
    inference_ms_per_image: float
    parameters_total: int
    parameters_trainable: int
    weights: str
    image_size_px: int
    mlflow_run_id: str
    ablation_of: str | None = None

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name):
            raise InputError(f"model name '{self.name}' is not made of letters, digits, '_', '-' and '.'")

    @property
    def is_ablation(self) -> bool:
        return self.ablation_of is not None

    def facts(self) -> dict[str, Any]:
        """What is neither an evaluation nor the history, as plain JSON."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("test", "validation", "history")
        }


@dataclass(frozen=True)
class DatasetFacts:
    """What was learned from.

    Attributes:
        n_by_split: Radiographs in `train`, `validation` and `test`.
        validation_warnings: What the data checks remarked without stopping the run.
    """

    name: str
    fingerprint: str
    synthetic: bool
    n_by_split: Mapping[str, int]
    validation_warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """One thing changed.

    Attributes:
        changed, base: Names of the two models.
        difference: Test MAE of `changed` minus that of `base`, paired, months; above zero the change does harm.
    """

    changed: str
    base: str
    difference: Estimate

    @property
    def finding(self) -> str:
        if not self.difference.excludes_zero:
            return "no difference could be shown"
        return f"{self.changed} is {'worse' if self.difference.value > 0 else 'better'} than {self.base}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything the report is made from.

    Attributes:
        run_name: Shown in the title.
        models: In the order they were planned, ablations last.
        baseline: The mean for that sex, on the same test rows.
        against_baseline: Paired test MAE difference to the baseline by model name, months; below zero is better.
        config_yaml: The run's configuration.
        decision, robustness: Of the run that decided; not saved with the rest.
    """

    run_name: str
    dataset: DatasetFacts
    models: tuple[ModelSummary, ...]
    baseline: Evaluation
    against_baseline: Mapping[str, Estimate]
    ablations: tuple[Ablation, ...]
    config_yaml: str
    decision: Decision | None = None
    robustness: tuple[Robustness, ...] = ()

    @property
    def test_set(self) -> ScoredSet:
        return self.baseline.scored_set

    @property
    def best(self) -> ModelSummary:
        """The model with the smallest validation MAE, ablations left aside."""
        return min((m for m in self.models if not m.is_ablation), key=lambda m: m.validation.metrics.mae.value)

    @property
    def best_xception(self) -> ModelSummary | None:
        """The candidate for promotion: the best of the Xception models, None where none was trained."""
        xceptions = [m for m in self.models if not m.is_ablation and m.architecture.startswith("xception")]
        return min(xceptions, key=lambda m: m.validation.metrics.mae.value, default=None)

    def decided(
        self, decision: Decision, run_name: str | None = None, robustness: Sequence[Robustness] = ()
    ) -> Comparison:
        """The same with a decision, taken by a run that may be a later one than made the models, and its grounds."""
        return replace(self, decision=decision, run_name=run_name or self.run_name, robustness=tuple(robustness))

    def save(self, folder: Path) -> None:
        """Write everything, plots left aside: `comparison.json`, and a folder for each evaluation.

        Raises:
            InputError: The folder cannot be written.
        """
        self.baseline.save_tables(folder / "baseline")
        for model in self.models:
            home = folder / "models" / model.name
            model.test.save_tables(home / "test")
            model.validation.save_tables(home / "validation")
            write_whole(home / "history.csv", model.history.to_csv(index=False).encode())
        document = {
            "run_name": self.run_name,
            "dataset": asdict(self.dataset),
            "models": [model.facts() for model in self.models],
            "against_baseline": {name: asdict(difference) for name, difference in self.against_baseline.items()},
            "ablations": [asdict(ablation) for ablation in self.ablations],
            "config_yaml": self.config_yaml,
            "decision": self.decision.model_dump(mode="json") if self.decision else None,
        }
        write_whole(folder / "comparison.json", json.dumps(document, indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> Comparison:
        """Read what `save` wrote.

        Raises:
            InputError: A file is absent or is not what `save` writes.
        """
        try:
            document = json.loads((folder / "comparison.json").read_bytes())
            dataset = document["dataset"]
            return cls(
                run_name=document["run_name"],
                dataset=DatasetFacts(**dataset | {"validation_warnings": tuple(dataset["validation_warnings"])}),
                models=tuple(_load_model(facts, folder / "models") for facts in document["models"]),
                baseline=Evaluation.load(folder / "baseline"),
                against_baseline={name: Estimate(**found) for name, found in document["against_baseline"].items()},
                ablations=tuple(
                    Ablation(found["changed"], found["base"], Estimate(**found["difference"]))
                    for found in document["ablations"]
                ),
                config_yaml=document["config_yaml"],
                decision=Decision(**document["decision"]) if document["decision"] else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{folder}: no comparison: {cause}") from None


def _load_model(facts: dict[str, Any], models: Path) -> ModelSummary:
    home = models / facts["name"]
    return ModelSummary(
        test=Evaluation.load(home / "test"),
        validation=Evaluation.load(home / "validation"),
        history=pd.read_csv(home / "history.csv", float_precision="round_trip"),
        **facts,
    )


def compare(
    models: Sequence[ModelSummary],
    baseline: Evaluation,
    dataset: DatasetFacts,
    patient_of_image: Mapping[str, str],
    config_yaml: str,
    run_name: str,
    settings: EvaluationSettings,
    seed: int,
) -> Comparison:
    """Put models side by side.

    Args:
        patient_of_image: Patient id by image id, for the test split; an image that is missing is its own patient.
    Raises:
        InputError: No model that is not an ablation, two of the same name, or models tested on different rows.
    """
    names = [model.name for model in models]
    if all(model.is_ablation for model in models):
        raise InputError("there is no model to compare")
    if len(set(names)) != len(names):
        raise InputError(f"two models are named '{next(name for name in names if names.count(name) > 1)}'")

    def difference(a: Evaluation, b: Evaluation) -> Estimate:
        return paired_difference(a, b, patient_of_image, settings.bootstrap_replicates, seed)

    by_name = {model.name: model for model in models}
    ablations = [
        Ablation(model.name, base.name, difference(model.test, base.test))
        for model in models
        if (base := by_name.get(model.ablation_of or "")) is not None
    ]
    return Comparison(
        run_name=run_name,
        dataset=dataset,
        models=tuple(sorted(models, key=lambda model: model.is_ablation)),
        baseline=baseline,
        against_baseline={model.name: difference(model.test, baseline) for model in models},
        ablations=tuple(ablations),
        config_yaml=config_yaml,
    )


def paired_difference(
    a: Evaluation, b: Evaluation, patient_of_image: Mapping[str, str], replicates: int, seed: int
) -> Estimate:
    """MAE of `a` minus MAE of `b`, months, over the rows both were evaluated on; below zero `a` is better.

    Rows are matched by image id, so the order does not matter.

    Raises:
        InputError: The two were not evaluated on the same images with the same labels.
    """
    left = a.predictions.set_index("image_id")
    right = b.predictions.set_index("image_id")
    odd = sorted(set(left.index) ^ set(right.index))
    if odd:
        raise InputError(f"{a.model} and {b.model} were not tested on the same rows: image '{odd[0]}' is in one only")
    right = right.loc[left.index]
    if not left["bone_age_months"].equals(right["bone_age_months"]):
        image = (left["bone_age_months"] != right["bone_age_months"]).idxmax()
        raise InputError(f"{a.model} and {b.model} were tested with different labels for image '{image}'")
    return paired_mae_difference(
        left["bone_age_months"],
        left["predicted_months"],
        right["predicted_months"],
        [patient_of_image.get(image, "") for image in left.index],
        replicates,
        seed,
    )
