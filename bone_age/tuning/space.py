"""From the search space of a configuration to one trial's recipe, and to the name that keeps studies apart."""

from __future__ import annotations

import json
from typing import Any, get_args

import optuna

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.settings import (
    Architecture,
    PlannedTraining,
    SearchDimension,
    SearchSettings,
    TrainingConfig,
    TrainingSettings,
    digest_of,
)

Recipe = dict[str, Any]


def searched(config: TrainingConfig) -> SearchSettings:
    """The configuration's search.

    Raises:
        InputError: It has none.
    """
    if config.search is None:
        raise InputError(f"configuration {config.name} has no `search:`, which names what to vary and between what")
    return config.search


def choose_architecture(config: TrainingConfig, wanted: str | None) -> Architecture:
    """The architecture to tune: the one asked for, else `xception_multi`, else the configuration's first.

    Raises:
        InputError: The configuration does not train the one asked for.
    """
    names = list(config.architectures)
    if wanted is None:
        return "xception_multi" if "xception_multi" in names else names[0]
    for name in names:
        if name == wanted:
            return name
    raise InputError(f"--architecture is '{wanted}', configuration {config.name} has {', '.join(names)}")


def require_values(config: TrainingConfig, architecture: Architecture) -> None:
    """Refuse values that the architecture's recipe cannot take, and weights that are not there, before any work.

    Raises:
        InputError: Names the value.
    """
    config.require_weights()
    for name, dimension in searched(config).space.items():
        for value in dimension.extremes:
            config.with_recipe(architecture, {name: value}).require_weights()


def study_name(config: TrainingConfig, architecture: Architecture, dataset: Dataset) -> str:
    """Names a study by all that its trials have in common: data, split, space, and the recipe that is varied.

    The number of trials and the pruning are left out, so that a study can be made longer.
    """
    base = next(plan for plan in config.plans if plan.name == architecture)
    common = {
        "space": {name: dimension.model_dump(mode="json") for name, dimension in searched(config).space.items()},
        "base": base.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
    }
    return f"{config.name}-{architecture}-{dataset.fingerprint[:8]}-{digest_of(common)[:8]}"


def suggest(trial: optuna.Trial, space: dict[str, SearchDimension]) -> Recipe:
    """One value for each key of the space, chosen by the study's sampler."""
    return {name: _suggest(trial, name, dimension) for name, dimension in space.items()}


def _suggest(trial: optuna.Trial, name: str, dimension: SearchDimension) -> Any:
    if dimension.choices is not None:
        by_label = {_label(value): value for value in dimension.choices}
        return by_label[trial.suggest_categorical(name, list(by_label))]
    low, high = dimension.bounds
    annotation = TrainingSettings.model_fields[name].annotation
    if float not in {annotation, *get_args(annotation)}:
        return trial.suggest_int(name, int(low), int(high), log=dimension.log)
    return trial.suggest_float(name, low, high, log=dimension.log)


def _label(value: Any) -> str | int | float | bool | None:
    """What Optuna stores for a choice: it takes no lists and no sections."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def plan_trial(config: TrainingConfig, architecture: Architecture, recipe: Recipe, name: str) -> PlannedTraining:
    """The training of one trial.

    Raises:
        InputError: The values do not go together.
    """
    plans = config.with_recipe(architecture, recipe).plans
    plan = next(plan for plan in plans if plan.name == architecture)
    return plan.model_copy(update={"name": name})
