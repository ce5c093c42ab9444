"""From a radiograph and a sex to months with an interval: the path every answer takes, at the desk and in the pipeline.

Runs ONNX Runtime on what the one preprocessing gives, with the settings that came with the model.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import sex_input
from bone_age.errors import InputError, ModelError
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.likeness import FLAG_ABOVE, LOOK_TURNED_ABOVE, REFUSE_ABOVE, UnlikeTrainingError
from bone_age.growth import AgeConsistency, GrowthAssessment
from bone_age.imaging import ImageError, Preprocessed, PreprocessingSettings, decode_image, read_image
from bone_age.imaging.preprocessing import preprocess_with_findings
from bone_age.serving.bundle import Bundle, load_bundle
from bone_age.serving.int8 import require_exact_sums
from bone_age.serving.onnx_network import NetworkOutput, OnnxNetwork
from bone_age.serving.statistics import ImageStatistics

MIN_SIDE_PX = 64
CLEARLY_NEARER = 0.9  # a picture is turned where that takes away a tenth of its distance


@dataclass(frozen=True)
class Warning:
    """Something the reader of an answer has to know."""

    code: str
    message: str


@dataclass(frozen=True)
class Prediction:
    """One answer; `growth` and `age_consistency` are filled by the caller who knows the chronological age.

    `model_digest` (SHA-256 over the model's files) and `dataset_fingerprint` lead from an answer back to the bytes it
    came from; `flip_averaging` says whether the months are the mean over the image and its mirror image.
    """

    image: str
    bone_age_months: float
    lower_months: float
    upper_months: float
    model: str
    warnings: tuple[Warning, ...] = ()
    growth: GrowthAssessment | None = None
    age_consistency: AgeConsistency | None = None
    _: KW_ONLY
    interval_coverage: float
    model_digest: str
    dataset_fingerprint: str
    flip_averaging: bool

    @property
    def bone_age(self) -> str:
        """Years and months in words, as a clinician reads a bone age."""
        return years_and_months(self.bone_age_months)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"bone_age": self.bone_age, "warnings": [asdict(warning) for warning in self.warnings]}


@dataclass(frozen=True)
class Answered:
    """An answer with what it was made from, for who wants to see more of it than figures.

    Attributes:
        prepared: What the model saw, uint8 [S, S].
        attention: Class-activation map [h, w], months: what each place adds to the bone age.
        pooled_features: Float32 [C], for refusal and drift.
        statistics: The radiograph's size and grey levels.
        likeness_distance: From the training radiographs, 1 is their edge; None where the model knows no likeness.
    """

    prediction: Prediction
    prepared: npt.NDArray[np.uint8]
    attention: npt.NDArray[np.float32]
    pooled_features: npt.NDArray[np.float32]
    statistics: ImageStatistics
    likeness_distance: float | None


def years_and_months(months: float) -> str:
    """For example `9 years 4 months`; rounded to whole months."""
    years, rest = divmod(round(months), 12)
    return f"{years} {'year' if years == 1 else 'years'} {rest} {'month' if rest == 1 else 'months'}"


class Predictor:
    """A loaded model.

    Args:
        bundle: The verified model folder.
        name: How answers call the model, for example `models:/bone-age/7`.
        standing_warnings: Said with every answer.
    """

    def __init__(self, bundle: Bundle, name: str, standing_warnings: tuple[Warning, ...] = ()) -> None:
        self.bundle, self.name, self.standing_warnings = bundle, name, standing_warnings
        self.digest = bundle.digest
        if bundle.facts.int8 is not None:
            require_exact_sums()
        self.network = OnnxNetwork(bundle.onnx)
        size_px = bundle.preprocessing.image_size_px
        if size_px != self.network.image_size_px:
            raise ModelError(
                f"{bundle.onnx}: takes images of {self.network.image_size_px} px, its preprocessing makes {size_px}"
            )

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
        """Estimate one radiograph's bone age; arguments and errors as for `answer`."""
        return self.answer(image, sex, label).prediction

    def answer(self, image: Path | bytes | npt.NDArray[Any], sex: str, label: str = "array") -> Answered:
        """Estimate one radiograph's bone age, and keep what the model saw and where it looked.

        Args:
            image: A file's path or bytes (PNG, JPEG, DICOM), or its grey levels, uint8 or uint16 [H, W].
            sex: M or F; never guessed.
            label: What the answer calls the image where it has no path.
        Raises:
            InputError: The sex is neither M nor F.
            ImageError: The image cannot be used: unreadable, too small, blank, saturated.
            UnlikeTrainingError: An ImageError too: it does not look like a hand radiograph.
        """
        if sex not in ("M", "F"):
            raise InputError(f"sex is '{sex}', expected M or F")
        pixels = _pixels(image)
        try:
            prepared = _require_usable(pixels, preprocess_with_findings(pixels, self.preprocessing))
            seen = self._see(prepared.image, sex)
        except ImageError as error:
            error.args = (f"{image}: {error}",) if isinstance(image, Path) else error.args
            raise
        output, turns = seen.output, (prepared.quarter_turns + seen.quarter_turns) % 4
        months = float(self.bundle.facts.correction.of(output.bone_age_months)[0])
        lower, upper = self.calibration.interval(np.array([months]))
        prediction = Prediction(
            image=str(image) if isinstance(image, Path) else label,
            bone_age_months=round(months, 3),
            lower_months=round(float(lower[0]), 3),
            upper_months=round(float(upper[0]), 3),
            interval_coverage=self.calibration.coverage,
            model=self.name,
            model_digest=self.digest,
            dataset_fingerprint=self.bundle.facts.dataset_fingerprint,
            flip_averaging=self.bundle.facts.flip_averaging,
            warnings=self.standing_warnings + _findings(prepared.was_inverted, turns, seen.distance),
        )
        statistics = ImageStatistics.of(seen.image, *pixels.shape)
        made_from = (seen.image, output.attention[0], output.pooled_features[0], statistics, seen.distance)
        return Answered(prediction, *made_from)

    def _see(self, image: npt.NDArray[np.uint8], sex: str) -> _Seen:
        """Run the network on a preprocessed image [S, S], turned where only that makes it look like a radiograph.

        Raises:
            UnlikeTrainingError: However it is turned, it looks like none. Models of drawn hands, to which every
                radiograph is strange, turn and refuse nothing.
        """
        likeness, flip = self.bundle.likeness, self.bundle.facts.flip_averaging
        output = self.network.run(image[None], sex_input([sex]), flip)
        if likeness is None:
            return _Seen(image, output, None, 0)
        distance = float(likeness.distances(output.pooled_features)[0])
        if distance <= LOOK_TURNED_ABOVE or self.bundle.facts.synthetic:
            return _Seen(image, output, distance, 0)
        turned = np.stack([np.rot90(image, turns) for turns in (1, 2, 3)])
        distances = likeness.distances(self.network.features(turned))
        nearest = int(np.argmin(distances))
        if distances[nearest] <= min(FLAG_ABOVE, CLEARLY_NEARER * distance):
            output = self.network.run(turned[nearest, None], sex_input([sex]), flip)
            return _Seen(turned[nearest], output, float(distances[nearest]), nearest + 1)
        if distance > REFUSE_ABOVE:
            said = f"its distance from those the model was trained on is {distance:.1f}, theirs are up to 1"
            raise UnlikeTrainingError(f"image does not look like a hand radiograph: {said}", distance)
        return _Seen(image, output, distance, 0)

    def predict_prepared(self, images: npt.NDArray[np.uint8], sex: list[str]) -> npt.NDArray[np.float32]:
        """Months [N] for images that are already preprocessed, uint8 [N, S, S]."""
        facts = self.bundle.facts
        return facts.correction.of(self.network.predict_months(images, sex_input(sex), facts.flip_averaging))


@dataclass(frozen=True)
class _Seen:
    """What the network was shown last, what it gave, and how the picture was turned for that."""

    image: npt.NDArray[np.uint8]
    output: NetworkOutput
    distance: float | None
    quarter_turns: int


def _require_usable(pixels: npt.NDArray[Any], prepared: Preprocessed) -> Preprocessed:
    """Refuse what no model can answer; training's own checks (`data/expectations.py`) have the same smallest side."""
    height_px, width_px = pixels.shape
    if min(pixels.shape) < MIN_SIDE_PX:
        raise ImageError(f"image of {width_px}x{height_px} pixels is too small: at least {MIN_SIDE_PX} a side")
    prepared.exposure.require_usable()
    return prepared


def _pixels(image: Path | bytes | npt.NDArray[Any]) -> npt.NDArray[Any]:
    if isinstance(image, Path):
        return read_image(image)
    if isinstance(image, bytes):
        return decode_image(image)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"image array is {image.dtype} {list(image.shape)}, expected uint8 or uint16 [H, W]")
    return image


def _findings(was_inverted: bool, quarter_turns: int, distance: float | None) -> tuple[Warning, ...]:
    found = []
    if was_inverted:
        found.append(Warning("inverted", "The radiograph looked inverted (dark bones) and was turned back."))
    if quarter_turns:
        found.append(
            Warning("rotated", f"The radiograph lay turned and was turned upright, by {quarter_turns * 90} degrees.")
        )
    if distance is not None and distance > FLAG_ABOVE:
        found.append(
            Warning(
                "unlike_training",
                "This does not look like the radiographs the model was trained on: another part of the body, an "
                "unusual exposure, or no radiograph. The interval does not hold for it.",
            )
        )
    return tuple(found)
