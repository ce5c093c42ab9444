"""Named changes to a radiograph, as clinics, scanners and archives make them.

They are made on the decoded grey image, before the one preprocessing, which may undo some of them: what is measured is
the whole path of an answer. Sizes are shares of the shorter side and tones are shares of the grey range, so a change is
the same for a copy of 299 px and for an original of 2,000 px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.imaging import GreyImage
from bone_age.imaging.preprocessing import MIN_SIDE_PX

Floats = npt.NDArray[np.floating[Any]]
Apply = Callable[[GreyImage, np.random.Generator], GreyImage]

GRAIN_PER_SIDE = 300  # grains of noise across the shorter side, whatever the resolution


@dataclass(frozen=True)
class ImageChange:
    """One change.

    Attributes:
        name: Its name in tables and files.
        description: What is done, in words for a report.
        apply: Grey levels `[H, W]` (uint8 or uint16) and a source of chance to grey levels; leaves its input as it is.
    """

    name: str
    description: str
    apply: Apply

    def of(self, image: GreyImage, image_id: str, seed: int) -> GreyImage:
        """The changed image; the same for the same image, id and seed, whatever else was changed before."""
        digest = hashlib.sha256(f"{seed}\0{image_id}\0{self.name}".encode()).digest()
        return self.apply(image, np.random.default_rng(int.from_bytes(digest[:8])))


def _tones(curve: Callable[[Floats], Floats]) -> Apply:
    """A change of grey levels, black 0 and white 1."""
    return lambda image, rng: _from_unit(curve(_to_unit(image)), image)


def _rotated(degrees: float) -> Apply:
    """Turned counter-clockwise about the middle; the corners take the median level of the picture's edge."""

    def apply(image: GreyImage, rng: np.random.Generator) -> GreyImage:
        height, width = image.shape
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        return _grey(cv2.warpAffine(image, turn, (width, height), borderValue=float(np.median(edge))))

    return apply


def _blurred(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    return _grey(cv2.GaussianBlur(image, (0, 0), 0.005 * min(image.shape)))


def _jpeg(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    levels = np.rint(_to_unit(image) * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return _grey(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _half_resolution(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    height, width = (max(round(side / 2), MIN_SIDE_PX) for side in image.shape)
    return _grey(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _low_exposure(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    """A third of the light, and the grain that few quanta leave: it grows with the root of the level."""
    height, width = image.shape
    scale = min(1.0, GRAIN_PER_SIDE / min(image.shape))
    grain = rng.standard_normal((round(height * scale), round(width * scale)), dtype=np.float32)
    noise = np.asarray(cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    level = _to_unit(image) / 3
    return _from_unit(level + (0.005 + 0.03 * np.sqrt(level)) * noise, image)


def _black_border(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    down, across = (round(0.08 * side) for side in image.shape)
    bordered = np.zeros_like(image)
    inside = np.s_[down : image.shape[0] - down, across : image.shape[1] - across]
    bordered[inside] = image[inside]
    return bordered


def _marker(image: GreyImage, rng: np.random.Generator) -> GreyImage:
    """A white letter, R or L, in one of the four corners; a tenth of the shorter side high."""
    height, width = image.shape
    side = max(min(image.shape) // 10, 5)
    letter, at_right, at_bottom = "RL"[int(rng.integers(2))], bool(rng.integers(2)), bool(rng.integers(2))
    left = width - 2 * side if at_right else side
    baseline = height - side if at_bottom else 2 * side
    ink = np.zeros(image.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(ink, letter, (left, baseline), font, side / 21, 255, max(side // 6, 1))  # its letters are 21 px high
    marked = image.copy()
    marked[ink > 0] = _white(image)
    return marked


def _to_unit(image: GreyImage) -> Floats:
    return image.astype(np.float32) / _white(image)


def _from_unit(levels: Floats, like: GreyImage) -> GreyImage:
    return _grey(np.rint(np.clip(levels, 0, 1) * _white(like)).astype(like.dtype))


def _white(image: GreyImage) -> int:
    """The brightest level; 16-bit files often use 10 or 12 bits, so the smallest depth that holds the maximum."""
    if image.dtype == np.uint8:
        return 255
    return int(2 ** max(8, int(image.max()).bit_length()) - 1)


def _grey(pixels: Any) -> GreyImage:
    image: GreyImage = np.ascontiguousarray(pixels)
    return image


def _around_middle(levels: Floats, factor: float) -> Floats:
    middle = float(levels.mean())
    return np.asarray(middle + factor * (levels - middle))


MIRRORED = ImageChange("mirrored", "mirrored left to right", lambda image, rng: _grey(image[:, ::-1]))

CHANGES: tuple[ImageChange, ...] = (
    ImageChange("rotated_15_left", "turned by 15° counter-clockwise", _rotated(15)),
    ImageChange("rotated_15_right", "turned by 15° clockwise", _rotated(-15)),
    ImageChange("rotated_90", "turned by 90° counter-clockwise", lambda image, rng: _grey(np.rot90(image))),
    ImageChange("rotated_180", "upside down", lambda image, rng: _grey(image[::-1, ::-1])),
    MIRRORED,
    ImageChange("brighter", "15 % of the grey range added", _tones(lambda levels: levels + 0.15)),
    ImageChange("darker", "15 % of the grey range taken off", _tones(lambda levels: levels - 0.15)),
    ImageChange("more_contrast", "contrast times 1.4 about the mean level", _tones(lambda g: _around_middle(g, 1.4))),
    ImageChange("less_contrast", "contrast times 0.6 about the mean level", _tones(lambda g: _around_middle(g, 0.6))),
    ImageChange("gamma_0.7", "gamma 0.7, dark parts lifted", _tones(lambda levels: levels**0.7)),
    ImageChange("gamma_1.4", "gamma 1.4, dark parts deepened", _tones(lambda levels: levels**1.4)),
    ImageChange("blurred", "Gaussian blur, SD 0.5 % of the shorter side", _blurred),
    ImageChange("jpeg_30", "saved as JPEG of quality 30", _jpeg),
    ImageChange("half_resolution", "half the pixels a side", _half_resolution),
    ImageChange("inverted", "black and white exchanged", _tones(lambda levels: 1 - levels)),
    ImageChange("low_exposure", "a third of the light, with grain", _low_exposure),
    ImageChange("black_border", "black border of 8 % a side (collimation)", _black_border),
    ImageChange("marker", "a white letter R or L in a corner", _marker),
)
