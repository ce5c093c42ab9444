"""What a radiograph was like, in six figures that no picture can be made of again; for the prediction log and drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLACK, WHITE = 8, 247  # grey levels up to which, and from which, a pixel counts as black or white


@dataclass(frozen=True)
class ImageStatistics:
    """Size of the radiograph as it came, and grey levels of what the model saw, 0 black to 255 white.

    Attributes:
        black_share, white_share: Share of pixels, 0 to 1, of grey level up to `BLACK` and from `WHITE`.
    """

    height_px: int
    width_px: int
    mean: float
    sd: float
    black_share: float
    white_share: float

    @classmethod
    def of(cls, prepared: npt.NDArray[np.uint8], height_px: int, width_px: int) -> ImageStatistics:
        """From a preprocessed image, uint8 [S, S], and the original's size; about 0.1 ms at 299 px."""
        counts = np.bincount(prepared.ravel(), minlength=256)
        shares, levels = counts / prepared.size, np.arange(256)
        mean = float(shares @ levels)
        sd = float(np.sqrt(shares @ (levels - mean) ** 2))
        return cls(height_px, width_px, mean, sd, float(shares[: BLACK + 1].sum()), float(shares[WHITE:].sum()))
