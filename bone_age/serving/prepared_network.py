"""An exported network with its preprocessing, before it is a registered version: what a pipeline step measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import sex_input
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.imaging import PreprocessingSettings
from bone_age.serving.onnx_network import OnnxNetwork


@dataclass(frozen=True)
class PreparedNetwork:
    """Answers preprocessed images under a name; `flip_averaging` as in `OnnxNetwork.run`, then `correction`."""

    name: str
    preprocessing: PreprocessingSettings
    network: OnnxNetwork
    flip_averaging: bool
    correction: LinearCorrection

    def predict_prepared(self, images: npt.NDArray[np.uint8], sex: list[str]) -> npt.NDArray[np.float32]:
        """Months [N] for images that are already preprocessed, uint8 [N, S, S]."""
        return self.correction.of(self.network.predict_months(images, sex_input(sex), self.flip_averaging))
