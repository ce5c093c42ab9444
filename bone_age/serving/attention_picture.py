"""What the model saw, with what each place added to the bone age or took from it laid over in colour.

Orange places make the hand older, blue ones younger, the stronger the more months; both can be told apart by
colour-blind readers, and where a place counts for nothing the radiograph stays grey. It shows where the model's head
took its months from, at the coarse grid of its last layer; it does not explain why.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.errors import InputError

OLDER_RGB, YOUNGER_RGB = np.array([230.0, 110, 0]), np.array([0.0, 114, 178])  # after Okabe and Ito


def overlay(
    prepared: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32], opacity: float
) -> npt.NDArray[np.uint8]:
    """Lay an attention map over the image it belongs to.

    Args:
        prepared: What the model saw, uint8 [S, S].
        attention: Months that each place adds, [h, w]; the largest of either sign gets the full colour.
        opacity: Of the strongest place, 0 to 1; 0 gives what the model saw.
    Returns:
        RGB, uint8 [S, S, 3].
    Raises:
        InputError: The opacity is no number from 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity:g}, expected 0 to 1")
    months = np.nan_to_num(np.asarray(attention, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    strongest = np.abs(months).max()
    share = months / strongest if strongest > 0 else np.zeros_like(months)
    height, width = prepared.shape
    smooth = np.clip(cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR), -1, 1)[..., None]
    grey = np.repeat(prepared[..., None], 3, axis=2).astype(np.float64)
    colour = np.where(smooth > 0, OLDER_RGB, YOUNGER_RGB)
    weight = opacity * np.abs(smooth)
    return np.asarray(np.rint(grey + weight * (colour - grey)), np.uint8)
