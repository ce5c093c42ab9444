"""How much an answer moves when the same radiograph is turned, darkened, compressed, ...

Every change is measured on the same radiographs as the unchanged prediction, so differences are paired and their bounds
narrow. Labels do not move with a change: whatever the answer does is the model's. Two figures are needed: the error may
stay while single answers move far (they moved to both sides), and answers may move while the error does not grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from bone_age.data.manifest import Dataset
from bone_age.data.threads import stream_in_threads
from bone_age.errors import InputError
from bone_age.evaluation import plots
from bone_age.evaluation.bootstrap import Estimate, paired_mae_difference
from bone_age.evaluation.evaluation import ScoredSet
from bone_age.evaluation.image_changes import CHANGES, ImageChange
from bone_age.evaluation.whole_file import write_whole
from bone_age.imaging import ImageError, PreprocessingSettings, preprocess, read_image
from bone_age.settings import EvaluationSettings, Strict

UNCHANGED = "unchanged"


class PreparedPredictor(Protocol):
    """What is needed of a model; `serving.predictor.Predictor` is one."""

    @property
    def name(self) -> str: ...

    @property
    def preprocessing(self) -> PreprocessingSettings: ...

    def predict_prepared(self, images: npt.NDArray[np.uint8], sex: list[str]) -> npt.NDArray[np.float32]:
        """Months [N] for preprocessed images, uint8 [N, S, S]."""
        ...


class ChangeEffect(Strict):
    """What one change does, months.

    Attributes:
        mae: MAE of the changed radiographs.
        mae_increase: That less the MAE of the unchanged ones, paired; above zero the change does harm.
        mean_shift: Mean of changed less unchanged prediction: whether answers move to one side.
        mean_absolute_shift, p95_absolute_shift: How far they move, on average and for one radiograph in 20 or more.
    """

    name: str
    description: str
    n: int
    mae: float
    mae_increase: Estimate
    mean_shift: float
    mean_absolute_shift: float
    p95_absolute_shift: float


class Robustness(Strict):
    """A model's answers to changed radiographs.

    Attributes:
        mae: MAE of the same radiographs unchanged, months.
        effects: One for each change, in the order they were asked for.
        replicates, seed: Of the bootstrap; the seed also draws what is random in a change.
    """

    model: str
    scored_set: ScoredSet
    n: int
    mae: float
    effects: tuple[ChangeEffect, ...]
    replicates: int
    seed: int

    def flat_metrics(self) -> dict[str, float]:
        """The rise of the MAE by change, months, by its name in MLflow."""
        return {
            f"{self.scored_set.split}_mae_increase__{effect.name}": effect.mae_increase.value for effect in self.effects
        }

    @property
    def caption(self) -> str:
        return f"{self.scored_set}, n = {self.n:,}"

    def table(self) -> pd.DataFrame:
        """One row a change, the bounds of `mae_increase` in columns of their own."""
        rows = []
        for effect in self.effects:
            row = effect.model_dump(exclude={"mae_increase"})
            increase = effect.mae_increase
            rows.append(
                row | {"mae_increase": increase.value, "mae_increase_lo": increase.lo, "mae_increase_hi": increase.hi}
            )
        return pd.DataFrame(rows)

    def figure(self) -> Figure:
        """Every change as a bar."""
        bars = [(e.description, e.mae_increase, e.mean_absolute_shift) for e in self.effects]
        return plots.changes_compared(bars, self.model, self.caption, self.scored_set.synthetic)

    def save(self, folder: Path) -> None:
        """Write `plots/robustness.png`, `robustness.csv` and, last, `robustness.json`.

        Raises:
            InputError: The folder cannot be written.
        """
        write_whole(folder / "plots" / "robustness.png", plots.to_png(self.figure()))
        write_whole(folder / "robustness.csv", self.table().to_csv(index=False, lineterminator="\n").encode())
        write_whole(folder / "robustness.json", self.model_dump_json(indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.model_validate_json((folder / "robustness.json").read_text(encoding="utf-8"))


def measure_robustness(
    predictor: PreparedPredictor,
    dataset: Dataset,
    rows: pd.DataFrame,
    split: str,
    settings: EvaluationSettings,
    seed: int,
    changes: Sequence[ImageChange] = CHANGES,
) -> Robustness:
    """Predict every radiograph of `rows` (of `dataset.table`) unchanged and with each change.

    Args:
        split: What `rows` are: `train`, `validation`, `test` or `all`.
    Raises:
        InputError: No rows, an image that cannot be used, or a prediction that is not finite.
    """
    predictions = predict_changed(predictor, dataset, rows, changes, seed)
    scored_set = ScoredSet(dataset.name, dataset.fingerprint, split, dataset.synthetic)
    patients = rows["patient_id"].tolist()
    return robustness_of(predictions, patients, changes, predictor.name, scored_set, settings, seed)


def measure_on_test(
    predictor: PreparedPredictor,
    splits: Dataset,
    usable: Collection[str],
    count: int,
    settings: EvaluationSettings,
    seed: int,
) -> Robustness:
    """`measure_robustness` on `count` test radiographs, always the same ones.

    Args:
        usable: Image ids; others are left out.
    """
    test = splits.split("test")
    rows = lowest_hashes(test[test["image_id"].isin(set(usable))], count)
    return measure_robustness(predictor, splits, rows, "test", settings, seed)


def lowest_hashes(rows: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """The `count` rows whose image ids hash lowest, in their order; all where it is None."""
    if count is None or count >= len(rows):
        return rows
    digests = [hashlib.sha256(str(image_id).encode()).digest() for image_id in rows["image_id"]]
    return rows.iloc[sorted(sorted(range(len(rows)), key=digests.__getitem__)[:count])]


def predict_changed(
    predictor: PreparedPredictor, dataset: Dataset, rows: pd.DataFrame, changes: Sequence[ImageChange], seed: int
) -> pd.DataFrame:
    """Months for each radiograph and change.

    Returns:
        `image_id`, `sex`, `bone_age_months`, `unchanged`, and a column for each change; rows in their order.
    Raises:
        InputError: No rows, or an image that cannot be used; it is named.
    """
    if rows.empty:
        raise InputError("there is no radiograph to change")
    settings = predictor.preprocessing

    def prepared(row: tuple[str, str]) -> npt.NDArray[np.uint8]:
        image_id, relative = row
        try:
            image = read_image(dataset.path_of(relative))
            changed = [preprocess(change.of(image, image_id, seed), settings) for change in changes]
            return np.stack([preprocess(image, settings), *changed])
        except ImageError as error:
            raise InputError(str(error)) from None

    files = list(zip(rows["image_id"], rows["path"], strict=True))
    stacks = stream_in_threads(prepared, files, f"changing radiographs, predicting with {predictor.name}", len(files))
    months = [
        predictor.predict_prepared(stack, [sex] * len(stack)) for stack, sex in zip(stacks, rows["sex"], strict=True)
    ]
    names = [UNCHANGED, *(change.name for change in changes)]
    columns = pd.DataFrame(np.asarray(months, dtype=np.float64), columns=names)
    return pd.concat([rows[["image_id", "sex", "bone_age_months"]].reset_index(drop=True), columns], axis=1)


def robustness_of(
    predictions: pd.DataFrame,
    patient_ids: Sequence[str],
    changes: Sequence[ImageChange],
    model: str,
    scored_set: ScoredSet,
    settings: EvaluationSettings,
    seed: int,
) -> Robustness:
    """The figures from what `predict_changed` returned; `patient_ids` in the order of its rows.

    Raises:
        InputError: A prediction that is not finite.
    """
    true, unchanged = (predictions[name].to_numpy(dtype=np.float64) for name in ("bone_age_months", UNCHANGED))

    def effect(change: ImageChange) -> ChangeEffect:
        changed = predictions[change.name].to_numpy(dtype=np.float64)
        replicates = settings.bootstrap_replicates
        increase = paired_mae_difference(true, changed, unchanged, patient_ids, replicates, seed)
        shift = changed - unchanged
        return ChangeEffect(
            name=change.name,
            description=change.description,
            n=len(shift),
            mae=float(np.abs(changed - true).mean()),
            mae_increase=increase,
            mean_shift=float(shift.mean()),
            mean_absolute_shift=float(np.abs(shift).mean()),
            p95_absolute_shift=float(np.quantile(np.abs(shift), 0.95)),
        )

    return Robustness(
        model=model,
        scored_set=scored_set,
        n=len(predictions),
        mae=float(np.abs(unchanged - true).mean()),
        effects=tuple(effect(change) for change in changes),
        replicates=settings.bootstrap_replicates,
        seed=seed,
    )
