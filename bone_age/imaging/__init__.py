"""Decoding and preprocessing of radiographs: the one path used by training and by serving."""

from bone_age.imaging.decode import ImageError, decode_image, read_image
from bone_age.imaging.preprocessing import ClaheSettings, PreprocessingSettings, preprocess

__all__ = [
    "ClaheSettings",
    "ImageError",
    "PreprocessingSettings",
    "decode_image",
    "preprocess",
    "read_image",
]
