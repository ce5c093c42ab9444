"""The one preprocessing of a radiograph, used by training and by serving: orient, undo inversion, fit, CLAHE.

What to turn or invert is judged on a thumbnail, and the picture is reduced to its final size before anything else
touches it: turning and inverting commute with that, and a full-size radiograph then costs little more than one
reduction (10 ms where its PNG takes 25 ms to decode, two cores). The rules are plain image statistics; the error rates
stated below were measured on the RSNA 2017 paediatric bone age training radiographs (11,611 copies of 299x299, and 24
originals). A square picture is never turned, so a data set stretched to squares passes as it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bone_age.imaging.exposure import Exposure
from bone_age.imaging.grey import GreyImage, ImageError
from bone_age.imaging.hand_box import THUMBNAIL_PX, HandBox, find_hand_box

PREPROCESSING_VERSION = 1  # raise it with every change of the code that changes a result
MIN_SIDE_PX = 16
LANDSCAPE_RATIO = 1.15

_LYING = -0.2  # of -1 (all steep gradients vertical) to 1; upright hands have 0.7, 1 % of them below 0.4
_PERCENTILES = (0.5, 99.5)  # of 16-bit images; outside are markers, dead pixels and the unexposed border


class ClaheSettings(BaseModel):
    """Contrast-limited adaptive histogram equalisation over `tiles` x `tiles` tiles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip_limit: float = Field(default=2.0, gt=0, le=40)
    tiles: int = Field(default=8, ge=1, le=32)


class PreprocessingSettings(BaseModel):
    """What is done to every image, recorded with every model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size_px: int = Field(default=299, ge=32, le=2048)
    fit: Literal["stretch", "letterbox"] = "letterbox"
    orient: bool = True
    undo_inversion: bool = True
    crop_to_hand: bool = False
    clahe: ClaheSettings | None = ClaheSettings()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the settings and of `PREPROCESSING_VERSION`: equal digests, equal preprocessing."""
        document = self.model_dump(mode="json") | {"preprocessing_version": PREPROCESSING_VERSION}
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Preprocessed:
    """A model's input and what had to be done to the radiograph.

    Attributes:
        image: uint8 `[S, S]`.
        was_inverted: The bones were dark; undone.
        quarter_turns: Turns by 90 degrees counter-clockwise that were made: 0, 1 or 3.
        exposure: How the picture, bones bright and before CLAHE, uses its grey levels.
        crop: What was cropped to, in shares of the turned picture; None where the whole of it was kept.
    """

    image: npt.NDArray[np.uint8]
    was_inverted: bool
    quarter_turns: int
    exposure: Exposure
    crop: HandBox | None = None


def preprocess(image: GreyImage, settings: PreprocessingSettings) -> npt.NDArray[np.uint8]:
    """Make a model's input of a radiograph; uint8 or uint16 `[H, W]` to uint8 `[S, S]`.

    Raises:
        ImageError: As `preprocess_with_findings`.
    """
    return preprocess_with_findings(image, settings).image


def preprocess_with_findings(image: GreyImage, settings: PreprocessingSettings) -> Preprocessed:
    """Make a model's input of a radiograph, and say what was done to it.

    Deterministic, safe in threads, and `image` is left as it is.

    Args:
        image: Grey levels `[H, W]`. uint8 is taken as it is; uint16 is scaled from its 0.5 to 99.5 percentiles.
    Raises:
        ImageError: Not a two-dimensional uint8 or uint16 image, or a side below `MIN_SIDE_PX`.
    """
    _require_grey(image)
    inverted = (settings.undo_inversion or settings.orient or settings.crop_to_hand) and is_inverted(image)
    turns = _quarter_turns(image, inverted) if settings.orient else 0
    crop = _hand_box(image, inverted, turns) if settings.crop_to_hand else None
    if crop is not None:
        image = _cropped(image, crop, turns)
    small = _to_8_bits(_reduce(image, settings))
    undo = inverted and settings.undo_inversion
    upright = np.rot90(255 - small if undo else small, turns)
    exposure = Exposure.of(upright if undo == inverted else 255 - upright)
    square = _pad(upright, settings.image_size_px)
    if settings.clahe is not None:
        tiles = (settings.clahe.tiles, settings.clahe.tiles)
        clahe = cv2.createCLAHE(settings.clahe.clip_limit, tiles)  # not thread-safe, so made anew
        square = np.asarray(clahe.apply(square), np.uint8)
    return Preprocessed(square, undo, turns, exposure, crop)


def is_inverted(image: GreyImage) -> bool:
    """Whether bones are dark on a bright background.

    Where there is structure (bone, edges of soft tissue) a radiograph is brighter than where there is none. That is
    judged in nine overlapping windows over the middle two thirds, each on its own, so that collimation borders and
    shutters, dark or bright, do not weigh; the judgements of an image and of its inversion are opposite.

    Of the 11,611 radiographs 4 were called inverted (looked at, they are not: collimation borders fill their middle)
    and of their inversions 4 were not; of the 24 originals and their inversions, none was wrong.

    Raises:
        ImageError: As `preprocess_with_findings`.
    """
    _require_grey(image)
    thumbnail = _thumbnail(image, THUMBNAIL_PX)
    gradient = np.hypot(*_gradients(thumbnail))
    return float(_structure_contrasts(_windows(thumbnail), _windows(gradient)).sum()) < 0


def _windows(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Nine overlapping windows over the middle two thirds of a thumbnail, `[9, pixels]`."""
    side = THUMBNAIL_PX // 3
    starts = [round(THUMBNAIL_PX * sixths / 6) for sixths in (1, 2, 3)]
    return np.stack([values[top : top + side, left : left + side].ravel() for top in starts for left in starts])


def _structure_contrasts(grey: npt.NDArray[np.float32], gradient: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Median level of the quarter with the steepest gradient, less that of the flattest, in SDs; a figure a window.

    The gradient's bits, which for floats from 0 on sort as it does, with the pixel's place below them are one number
    that no other pixel has: the quarters are the same on every machine, and found without sorting all.
    """
    pixels = grey.shape[1]
    quarter = pixels // 4
    keys = gradient.view(np.uint32).astype(np.uint64) << np.uint64(32) | np.arange(pixels, dtype=np.uint64)
    keys.partition((quarter - 1, pixels - quarter), axis=1)
    places = (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)
    flattest, steepest = (
        np.median(np.take_along_axis(grey, of_quarter, axis=1), axis=1)
        for of_quarter in (places[:, :quarter], places[:, pixels - quarter :])
    )
    return np.asarray((steepest - flattest) / (grey.std(axis=1) + 1), np.float64)


def _quarter_turns(image: GreyImage, inverted: bool) -> int:
    """Turns counter-clockwise that bring the forearm of a hand that lies on its side to the bottom.

    Only a landscape picture is turned, and only when the hand really lies: fingers, metacarpals and forearm bones are
    parallel, so most steep gradients point across the hand's axis. The forearm is at the brighter end.

    Of 3,000 radiographs, at 3:4 and laid on either side, 99.3 % came back upright, 0.3 % were left lying and 0.4 %
    ended upside down; shown upright at 4:3, 0.2 % were turned. The 19 originals in portrait, plain or inverted, came
    back from either side; the two upright hands in landscape stayed.
    """
    height_px, width_px = image.shape
    if width_px <= LANDSCAPE_RATIO * height_px:
        return 0
    height = max(THUMBNAIL_PX * height_px // width_px, 4)
    thumbnail = _thumbnail(image, height)
    if not _lies(thumbnail):
        return 0
    brightest = np.percentile(-thumbnail if inverted else thumbnail, 90, axis=0)
    left, right = (
        brightest[THUMBNAIL_PX // 6 : THUMBNAIL_PX // 2],
        brightest[THUMBNAIL_PX // 2 : -THUMBNAIL_PX // 6],
    )
    return 1 if left.mean() > right.mean() else 3


def _hand_box(image: GreyImage, inverted: bool, turns: int) -> HandBox | None:
    thumbnail = _thumbnail(image, THUMBNAIL_PX)
    return find_hand_box(np.rot90(-thumbnail if inverted else thumbnail, turns))


def _cropped(image: GreyImage, crop: HandBox, turns: int) -> GreyImage:
    """What lies within `crop` of the picture turned by `turns`, turned back: the reduction comes before the turn."""
    turned = np.rot90(image, turns)
    height_px, width_px = turned.shape
    rows = slice(round(crop.top * height_px), round(crop.bottom * height_px))
    columns = slice(round(crop.left * width_px), round(crop.right * width_px))
    cropped: GreyImage = np.ascontiguousarray(np.rot90(turned[rows, columns], -turns))  # type: ignore[assignment]
    return cropped


def _lies(thumbnail: npt.NDArray[np.float32]) -> bool:
    height, width = thumbnail.shape
    middle = np.s_[height // 6 : height - height // 6, width // 6 : width - width // 6]
    smooth = np.asarray(cv2.GaussianBlur(thumbnail, (0, 0), 1), np.float32)
    across, down = (gradient[middle] for gradient in _gradients(smooth))
    steepness = across**2 + down**2
    steep = steepness >= np.percentile(steepness, 60)
    return float(np.mean(((across**2 - down**2) / (steepness + 1e-6))[steep])) < _LYING


def _gradients(grey: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _require_grey(image: GreyImage) -> None:
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"expected a grey image of 8 or 16 bits, found {image.dtype} with shape {image.shape}")
    if min(image.shape) < MIN_SIDE_PX:
        raise ImageError(
            f"image of {image.shape[1]}x{image.shape[0]} pixels is too small: at least {MIN_SIDE_PX} a side"
        )


def _thumbnail(image: GreyImage, height: int) -> npt.NDArray[np.float32]:
    """float32 `[height, THUMBNAIL_PX]`, from every n-th pixel: averaging them all would take as long as the rest."""
    step = max(min(image.shape) // (2 * THUMBNAIL_PX), 1)
    sampled: GreyImage = np.ascontiguousarray(image[::step, ::step])  # type: ignore[assignment]
    return _scaled(sampled, THUMBNAIL_PX, height).astype(np.float32)


def _reduce(image: GreyImage, settings: PreprocessingSettings) -> GreyImage:
    """Scale to the size that the picture will have within the square."""
    size = settings.image_size_px
    if settings.fit == "stretch":
        return _scaled(image, size, size)
    scale = size / max(image.shape)
    height, width = (max(round(side * scale), 1) for side in image.shape)
    return _scaled(image, width, height)


def _scaled(image: GreyImage, width: int, height: int) -> GreyImage:
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled: GreyImage = cv2.resize(image, (width, height), interpolation=method)  # type: ignore[assignment]
    return scaled


def _to_8_bits(image: GreyImage) -> npt.NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    low, high = np.percentile(image, _PERCENTILES)
    scaled = np.clip((image - low) / max(high - low, 1), 0, 1)
    return np.asarray(np.rint(scaled * 255), np.uint8)


def _pad(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Centre on a black square; black, because that is what surrounds a collimated hand."""
    square = np.zeros((size, size), np.uint8)
    top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square
