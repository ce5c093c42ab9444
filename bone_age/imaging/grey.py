"""What every decoder gives and refuses: a grey picture of bounded size."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

GreyImage: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

MAX_PIXELS = 50_000_000  # twice the largest radiography detectors (about 20 to 25 megapixels)
MAX_SIDE_PX = 20_000  # pictures of the whole spine have 10,000
BLOCK_PIXELS = 2**20  # pixels that are converted at a time, so that wide copies of a whole picture are never made


class ImageError(ValueError):
    """An image cannot be used; the message is one line, without the file's name and without patient data."""


class UnknownFormatError(ImageError):
    """The bytes are no PNG, JPEG or DICOM file."""


class ImageTooLargeError(ImageError):
    """The file or the picture in it exceeds a limit."""


def check_size(height_px: int, width_px: int) -> None:
    """Refuse a picture before its pixels are decoded.

    Raises:
        ImageError: There are no pixels, or (`ImageTooLargeError`) more than `MAX_PIXELS`, or a
            side above `MAX_SIDE_PX`.
    """
    if height_px < 1 or width_px < 1:
        raise ImageError(f"image has no pixels ({width_px}x{height_px})")
    if height_px * width_px > MAX_PIXELS:
        raise ImageTooLargeError(
            f"image of {width_px}x{height_px} pixels exceeds the limit of {MAX_PIXELS // 10**6} megapixels"
        )
    if max(height_px, width_px) > MAX_SIDE_PX:
        raise ImageTooLargeError(f"image of {width_px}x{height_px} pixels exceeds the limit of {MAX_SIDE_PX} a side")
