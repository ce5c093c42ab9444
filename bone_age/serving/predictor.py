"""From a radiograph and a sex to months with an interval: the path every answer takes, at the desk and in the pipeline.

Runs ONNX Runtime on what the one preprocessing gives, with the settings that came with the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import sex_input
from bone_age.errors import InputError
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.growth import GrowthAssessment
from bone_age.imaging import PreprocessingSettings, decode_image, read_image
from bone_age.imaging.preprocessing import preprocess_with_findings
from bone_age.serving.bundle import Bundle, load_bundle
from bone_age.serving.onnx_network import OnnxNetwork


@dataclass(frozen=True)
class Warning:
    """Something the reader of an answer has to know."""

    code: str
    message: str


@dataclass(frozen=True)
class Prediction:
    """One answer; `growth` is filled by the caller who knows the chronological age."""

    image: str
    bone_age_months: float
    lower_months: float
    upper_months: float
    model: str
    warnings: tuple[Warning, ...] = ()
    growth: GrowthAssessment | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"warnings": [asdict(warning) for warning in self.warnings]}


class Predictor:
    """A loaded model.

    Args:
        bundle: The verified model folder.
        name: How answers call the model, for example `models:/bone-age/7`.
        standing_warnings: Said with every answer.
    """

    def __init__(self, bundle: Bundle, name: str, standing_warnings: tuple[Warning, ...] = ()) -> None:
        self.bundle, self.name, self.standing_warnings = bundle, name, standing_warnings
        self.network = OnnxNetwork(bundle.onnx)

    @classmethod
    def from_folder(cls, folder: Path, name: str | None = None) -> Predictor:
        return cls(load_bundle(folder), name or str(folder))

    @property
    def preprocessing(self) -> PreprocessingSettings:
        return self.bundle.preprocessing

    @property
    def calibration(self) -> IntervalCalibration:
        return self.bundle.calibration

    def predict(self, image: Path | bytes | npt.NDArray[Any], sex: str, label: str = "array") -> Prediction:
        """Estimate one radiograph's bone age.

        Args:
            image: A file's path or bytes (PNG, JPEG, DICOM), or its grey levels, uint8 or uint16 [H, W].
            sex: M or F; never guessed.
            label: What the answer calls the image where it has no path.
        Raises:
            InputError: The sex is neither M nor F.
            ImageError: The image cannot be used.
        """
        if sex not in ("M", "F"):
            raise InputError(f"sex is '{sex}', expected M or F")
        pixels = _pixels(image)
        prepared = preprocess_with_findings(pixels, self.preprocessing)
        output = self.network.run(prepared.image[None], sex_input([sex]), self.bundle.facts.flip_averaging)
        months = float(self.bundle.facts.correction.of(output.bone_age_months)[0])
        lower, upper = self.calibration.interval(np.array([months]))
        return Prediction(
            image=str(image) if isinstance(image, Path) else label,
            bone_age_months=round(months, 3),
            lower_months=round(float(lower[0]), 3),
            upper_months=round(float(upper[0]), 3),
            model=self.name,
            warnings=self.standing_warnings + _findings(prepared.was_inverted, prepared.quarter_turns),
        )

    def predict_prepared(self, images: npt.NDArray[np.uint8], sex: list[str]) -> npt.NDArray[np.float32]:
        """Months [N] for images that are already preprocessed, uint8 [N, S, S]."""
        facts = self.bundle.facts
        return facts.correction.of(self.network.predict_months(images, sex_input(sex), facts.flip_averaging))


def _pixels(image: Path | bytes | npt.NDArray[Any]) -> npt.NDArray[Any]:
    if isinstance(image, Path):
        return read_image(image)
    if isinstance(image, bytes):
        return decode_image(image)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"image array is {image.dtype} {list(image.shape)}, expected uint8 or uint16 [H, W]")
    return image


def _findings(was_inverted: bool, quarter_turns: int) -> tuple[Warning, ...]:
    found = []
    if was_inverted:
        found.append(Warning("inverted", "The radiograph looked inverted (dark bones) and was turned back."))
    if quarter_turns:
        found.append(
            Warning("rotated", f"The radiograph lay on its side and was turned by {quarter_turns * 90} degrees.")
        )
    return tuple(found)
