"""Bone age from hand radiographs: training, governance and serving."""

__version__ = "0.1.0"
