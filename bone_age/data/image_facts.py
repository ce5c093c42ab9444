"""What validation has to know about each image: does it decode, how large, is there anything on it, what it looks like.

One image a thread is in memory, and a few numbers of it stay. The perceptual hash (`imagehash.phash`, 256 bits) finds
re-encoded, rescaled or retouched copies; it does not find mirrored, rotated or inverted ones.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from functools import partial

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from bone_age.data.manifest import Dataset
from bone_age.data.threads import map_in_threads
from bone_age.imaging import GreyImage, ImageError, read_image

_HASH_SIDE = 16  # 16 x 16 bits
_LONGEST_HASHED_SIDE_PX = 512


@dataclass(frozen=True)
class ImageFacts:
    """One image.

    Attributes:
        width_px, height_px: NaN where it does not decode.
        grey_sd: Standard deviation of its grey levels on a scale of 0 to 255.
        perceptual_hash: 64 hexadecimal digits, empty where it does not decode.
        decodes: Whether it does.
        decode_error: Why not; empty where it does.
    """

    width_px: float = float("nan")
    height_px: float = float("nan")
    grey_sd: float = float("nan")
    perceptual_hash: str = ""
    decodes: bool = False
    decode_error: str = ""


def image_facts(dataset: Dataset) -> pd.DataFrame:
    """Decode every image of a data set.

    Returns:
        One row for each row of the manifest, in its order; columns as `ImageFacts`.
    """
    facts = map_in_threads(partial(_facts_of, dataset), dataset.table["path"].tolist(), "examining images")
    return pd.DataFrame([astuple(one) for one in facts], columns=[field.name for field in fields(ImageFacts)])


def _facts_of(dataset: Dataset, relative: str) -> ImageFacts:
    try:
        image = read_image(dataset.path_of(relative))
    except ImageError as error:
        return ImageFacts(decode_error=str(error))
    grey = _eight_bit(_shrunk(image))
    return ImageFacts(
        width_px=float(image.shape[1]),
        height_px=float(image.shape[0]),
        grey_sd=float(grey.std()),
        perceptual_hash=str(imagehash.phash(Image.fromarray(grey), hash_size=_HASH_SIDE)),
        decodes=True,
    )


def _shrunk(image: GreyImage) -> GreyImage:
    share = _LONGEST_HASHED_SIDE_PX / max(image.shape)
    if share >= 1:
        return image
    height, width = (max(1, round(side * share)) for side in image.shape)
    shrunk: GreyImage = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return shrunk


def _eight_bit(image: GreyImage) -> npt.NDArray[np.uint8]:
    """0 to 255; 16-bit files often use 10 or 12 bits, so the scale is the smallest bit depth that holds the maximum."""
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    bits = max(10, int(image.max()).bit_length())
    scaled: npt.NDArray[np.uint8] = (image.astype(np.float32) * (255 / (2**bits - 1))).round().astype(np.uint8)
    return scaled
