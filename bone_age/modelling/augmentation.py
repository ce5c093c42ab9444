"""Random changes to training radiographs, in OpenCV rather than in the graph.

One affine warp does rotation, shift, zoom and mirror at once, in about 0.2 ms at 299 px with the GIL released, so a
thread hides it behind the training step on any Keras backend. There is no vertical flip: hands do not hang.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.settings import AugmentationSettings

Images = npt.NDArray[np.uint8]


def augment(image: Images, settings: AugmentationSettings, rng: np.random.Generator) -> Images:
    """Return a changed copy of one preprocessed radiograph, uint8 [S, S]."""
    size = image.shape[0]
    angle = rng.uniform(-settings.rotation_degrees, settings.rotation_degrees)
    zoom = 1.0 + rng.uniform(-settings.zoom_share, settings.zoom_share)
    shift_px = rng.uniform(-settings.shift_share, settings.shift_share, size=2) * size
    mirrored = settings.flip and rng.random() < 0.5
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, zoom)
    matrix[:, 2] += shift_px
    if mirrored:
        matrix[:, 2] += matrix[:, 0] * (size - 1)
        matrix[:, 0] *= -1
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    gain = 1.0 + rng.uniform(-settings.contrast, settings.contrast)
    offset = 255.0 * rng.uniform(-settings.brightness, settings.brightness)
    mean = float(warped.mean())
    table = np.clip((np.arange(256) - mean) * gain + mean + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(warped, table).astype(np.uint8, copy=False)
