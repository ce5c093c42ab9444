"""Decoding and preprocessing of radiographs: the one path used by training and by serving."""

from bone_age.imaging.decode import decode_image, read_image
from bone_age.imaging.grey import GreyImage, ImageError
from bone_age.imaging.hand_box import HandBox
from bone_age.imaging.preprocessing import (
    ClaheSettings,
    Preprocessed,
    PreprocessingSettings,
    is_inverted,
    preprocess,
    preprocess_with_findings,
)

__all__ = [
    "ClaheSettings",
    "GreyImage",
    "HandBox",
    "ImageError",
    "Preprocessed",
    "PreprocessingSettings",
    "decode_image",
    "is_inverted",
    "preprocess",
    "preprocess_with_findings",
    "read_image",
]
