"""One radiograph's answer as a row, good or bad, and rows as a table.

Answers come from the same function as those of `bone-age predict`, one image at a time: a network that keeps to one
thread, run by as many threads as there are cores, takes 0.89 of the time of batches of 32 over all cores and 0.6 of
that of single images over all cores (reference model, two cores: `benchmarks/batch_memory.py --compare`), and
cannot answer differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import pyarrow as pa

from bone_age.data.sources import image_digest
from bone_age.errors import InputError
from bone_age.serving.answering import answer, require_question
from bone_age.serving.batch.questions import Question
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.predictor import Prediction, Predictor

ANSWER = pa.schema(
    [
        ("image", pa.string()),
        ("sex", pa.string()),
        ("chronological_age_months", pa.float64()),
        ("bone_age_months", pa.float64()),
        ("lower_months", pa.float64()),
        ("upper_months", pa.float64()),
        ("growth_verdict", pa.string()),
        ("growth_z", pa.float64()),
        ("warnings", pa.string()),
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("dataset_fingerprint", pa.string()),
        ("image_sha256", pa.string()),
    ]
)
ROW = pa.schema([("number", pa.int64()), ("source_row", pa.string()), *ANSWER, ("error", pa.string())])
"""Of good and bad rows alike: `number` is the place in the input, `error` is empty where there is an answer."""


def on_one_thread(predictor: Predictor) -> Predictor:
    """The same with a network that leaves the other cores to other images."""
    alike = copy(predictor)
    alike.network = OnnxNetwork(predictor.bundle.onnx, threads=1)
    return alike


def answer_row(predictor: Predictor, root: Path, question: Question) -> dict[str, Any]:
    """Answer one question; a row of `ROW`."""
    row: dict[str, Any] = {
        "number": question.number,
        "source_row": question.source_row,
        "image": question.image,
        "sex": question.sex,
        "chronological_age_months": question.chronological_age_months,
    }
    path = root / question.path
    try:
        if question.problem:
            raise InputError(question.problem)
        require_question(question.sex, question.chronological_age_months, ("sex", "chronological_age_months"))
        row["image_sha256"] = image_digest(root, question.path)
        found = answer(predictor, path, question.sex, question.chronological_age_months)
    except (InputError, ValueError) as error:  # ValueError: ImageError
        return row | {"error": str(error).removeprefix(f"{path}: ")}
    return row | _told(found) | {"error": ""}


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ROW)


def _told(found: Prediction) -> dict[str, Any]:
    names = ("bone_age_months", "lower_months", "upper_months", "model", "model_digest", "dataset_fingerprint")
    growth = {"growth_verdict": found.growth.verdict, "growth_z": found.growth.z} if found.growth else {}
    codes = ";".join(warning.code for warning in found.warnings)
    return {name: getattr(found, name) for name in names} | growth | {"warnings": codes}
