"""The MLflow face of a model version ("models from code"): path, bytes or array, plus sex, to months and interval.

MLflow runs this file when it loads a version; the class only hands on to `Predictor`, so that MLflow and the command
line cannot answer differently.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from bone_age.errors import InputError
from bone_age.serving.predictor import Predictor


class BoneAgeModel(PythonModel):
    """Rows with `image` (path, bytes, base64 text or array [H, W]) and `sex` (M or F) to a table of months."""

    _skip_type_hint_validation = True  # else MLflow asks for type hints; see `predict` for why there are none

    def load_context(self, context: Any) -> None:
        self.predictor = Predictor.from_folder(Path(context.artifacts["bundle"]))

    # Without a type hint on the input: MLflow would take one for a schema and refuse arrays and bytes.
    def predict(self, context: Any, model_input, params: Any = None) -> pd.DataFrame:  # type: ignore[no-untyped-def]
        """`model_input`: a data frame, a list of dictionaries, or one dictionary, with `image` and `sex`.

        Returns:
            Columns `bone_age_months`, `lower_months`, `upper_months`, one row an image.
        """
        rows = self._rows(model_input)
        answers = [self.predictor.predict(_image(row["image"]), row["sex"]) for row in rows]
        columns = ("bone_age_months", "lower_months", "upper_months")
        return pd.DataFrame([{name: getattr(answer, name) for name in columns} for answer in answers])

    @staticmethod
    def _rows(model_input: Any) -> list[dict[str, Any]]:
        if isinstance(model_input, pd.DataFrame):
            rows = [{str(k): v for k, v in row.items()} for row in model_input.to_dict("records")]
        else:
            rows = [model_input] if isinstance(model_input, dict) else list(model_input)
        for number, row in enumerate(rows, start=1):
            absent = {"image", "sex"} - set(row)
            if absent:
                raise InputError(f"row {number}: {' and '.join(sorted(absent))} missing")
        return rows


def _image(value: Any) -> Path | bytes | Any:
    if isinstance(value, str):
        if len(value) < 4096 and Path(value).is_file():
            return Path(value)
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"image '{value[:80]}' is neither a file nor base64") from None
    return value if isinstance(value, bytes | Path) else np.asarray(value)


mlflow.models.set_model(BoneAgeModel())
