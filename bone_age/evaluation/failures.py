"""The radiographs a model is furthest off on, with what a reader needs to find out why; no pictures.

Radiographs may not be handed on, so a failure is an image id that whoever has the data set can look up, and a few
figures of the image beside those of the whole set: a dark, faint or inverted radiograph explains an error that is
otherwise the model's or the label's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bone_age.data.manifest import Dataset
from bone_age.data.threads import map_in_threads
from bone_age.errors import InputError
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, predictions_csv
from bone_age.evaluation.markdown import markdown_table
from bone_age.evaluation.whole_file import write_whole
from bone_age.imaging import GreyImage, ImageError, PreprocessingSettings, preprocess, read_image
from bone_age.imaging.preprocessing import preprocess_with_findings
from bone_age.settings import Strict

# Grey levels are judged on a reduced 8-bit copy, so that those of 8 and 16 bits, large and small, can be compared.
_AS_IT_IS = PreprocessingSettings(image_size_px=128, fit="stretch", orient=False, undo_inversion=False, clahe=None)


class Failure(Strict):
    """One radiograph that the model is far off on.

    Attributes:
        error_months: Predicted less labelled.
        label_outside_interval: The prediction interval did not warn of it.
        was_inverted: The preprocessing found dark bones and turned the radiograph back.
        quarter_turns: How often it turned it by 90 degrees.
        mean_grey, contrast: Mean and SD of the grey levels before preprocessing, 0 to 255.
    """

    image_id: str
    sex: str
    bone_age_months: float
    predicted_months: float
    error_months: float
    lower_months: float
    upper_months: float
    label_outside_interval: bool
    was_inverted: bool
    quarter_turns: int
    mean_grey: float
    contrast: float


class Failures(Strict):
    """The worst errors of one model on one scored set, the largest first.

    Attributes:
        n, n_outside_interval, n_inverted: Of all scored radiographs.
        median_mean_grey, median_contrast: Of all of them, to compare a failure with.
    """

    model: str
    scored_set: ScoredSet
    n: int
    n_outside_interval: int
    n_inverted: int
    median_mean_grey: float
    median_contrast: float
    worst: tuple[Failure, ...]

    def to_markdown(self) -> str:
        header = (
            "image",
            "sex",
            "label",
            "predicted",
            "error",
            "interval",
            "label inside",
            "inverted",
            "grey",
            "contrast",
        )
        rows = [
            (
                one.image_id,
                one.sex,
                f"{one.bone_age_months:.0f}",
                f"{one.predicted_months:.1f}",
                f"{one.error_months:+.1f}",
                f"{one.lower_months:.0f} to {one.upper_months:.0f}",
                "no" if one.label_outside_interval else "yes",
                "yes" if one.was_inverted else "no",
                f"{one.mean_grey:.0f}",
                f"{one.contrast:.0f}",
            )
            for one in self.worst
        ]
        middle = ("median of all", *[""] * 7, f"{self.median_mean_grey:.0f}", f"{self.median_contrast:.0f}")
        return markdown_table(header, [*rows, middle])

    def save(self, folder: Path) -> None:
        """Write `failures.csv`, `failures.md` and, last, `failures.json`.

        Raises:
            InputError: The folder cannot be written.
        """
        table = pd.DataFrame([one.model_dump() for one in self.worst], columns=list(Failure.model_fields))
        write_whole(folder / "failures.csv", predictions_csv(table))
        write_whole(folder / "failures.md", self.to_markdown().encode())
        write_whole(folder / "failures.json", self.model_dump_json(indent=2).encode())


@dataclass(frozen=True)
class _Facts:
    was_inverted: bool
    quarter_turns: int
    mean_grey: float
    contrast: float


def find_failures(
    evaluation: Evaluation, dataset: Dataset, preprocessing: PreprocessingSettings, count: int
) -> Failures:
    """The `count` largest absolute errors of an evaluation on (part of) `dataset`; equal ones by image id.

    Reads every scored radiograph once more, without the network.

    Args:
        preprocessing: The model's own.
    Raises:
        InputError: A scored image is not in the data set, or cannot be read any more.
    """
    table = evaluation.predictions
    paths = dict(zip(dataset.table["image_id"], dataset.table["path"], strict=True))
    if missing := [name for name in table["image_id"] if name not in paths]:
        raise InputError(f"{dataset.name}: has no image '{missing[0]}', which {evaluation.model} was evaluated on")

    def facts_of(image_id: str) -> _Facts:
        try:
            return _facts(read_image(dataset.path_of(paths[image_id])), preprocessing)
        except ImageError as error:
            raise InputError(str(error)) from None

    facts = map_in_threads(facts_of, table["image_id"].tolist(), "looking at the radiographs")
    examined = pd.concat([table.reset_index(drop=True), pd.DataFrame(facts)], axis=1)
    label = examined["bone_age_months"]
    examined = examined.assign(
        error_months=(examined["predicted_months"] - label).round(4),
        label_outside_interval=(label < examined["lower_months"]) | (label > examined["upper_months"]),
    )
    by_size = examined.assign(size=examined["error_months"].abs()).sort_values(
        ["size", "image_id"], ascending=[False, True]
    )
    worst = by_size.head(count)[list(Failure.model_fields)].to_dict("records")
    return Failures(
        model=evaluation.model,
        scored_set=evaluation.scored_set,
        n=len(examined),
        n_outside_interval=int(examined["label_outside_interval"].sum()),
        n_inverted=int(examined["was_inverted"].sum()),
        median_mean_grey=float(examined["mean_grey"].median()),
        median_contrast=float(examined["contrast"].median()),
        worst=tuple(Failure.model_validate(row) for row in worst),
    )


def _facts(image: GreyImage, preprocessing: PreprocessingSettings) -> _Facts:
    found = preprocess_with_findings(image, preprocessing)
    grey = preprocess(image, _AS_IT_IS).astype(np.float64)
    mean, spread = round(float(grey.mean()), 2), round(float(grey.std()), 2)
    return _Facts(found.was_inverted, found.quarter_turns, mean, spread)
