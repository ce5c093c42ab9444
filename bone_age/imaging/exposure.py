"""Whether a picture's grey levels can hold a hand at all, whatever a model thinks of it.

The bounds lie far outside what the 11,611 RSNA 2017 training radiographs have (copies of 299x299): their contrast is 22
levels or more, at most 21 % of the pixels are white and at most 88 % are black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bone_age.imaging.grey import ImageError

MIN_CONTRAST_LEVELS = 8
MAX_WHITE_SHARE, MAX_BLACK_SHARE = 0.45, 0.97
_NEAR = 5  # levels from either end: JPEG blurs what was clipped


@dataclass(frozen=True)
class Exposure:
    """How a picture uses its 256 levels.

    Attributes:
        contrast_levels: From the 0.5 to the 99.5 percentile.
        white_share, black_share: Shares of the pixels within 5 levels of either end.
    """

    contrast_levels: int
    white_share: float
    black_share: float

    @classmethod
    def of(cls, image: npt.NDArray[np.uint8]) -> Exposure:
        """Measure a picture, `[H, W]`, bones bright."""
        up_to = np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
        low, high = np.searchsorted(up_to, (0.005, 0.995))
        return cls(int(high - low), float(1 - up_to[255 - _NEAR]), float(up_to[_NEAR - 1]))

    def require_usable(self) -> None:
        """Refuse what is blank or clipped.

        Raises:
            ImageError: The contrast or a share is beyond its bound; the message has the figure.
        """
        if self.contrast_levels < MIN_CONTRAST_LEVELS:
            raise ImageError(f"image is blank: its grey levels span {self.contrast_levels} of 256")
        if self.white_share > MAX_WHITE_SHARE:
            raise ImageError(f"image is saturated: {self.white_share:.0%} of it is white")
        if self.black_share > MAX_BLACK_SHARE:
            raise ImageError(f"image is nearly all black: {self.black_share:.0%} of it")
