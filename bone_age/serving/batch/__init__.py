"""Bone ages of any number of radiographs: read as a stream, answered on all cores or nodes, resumed where killed."""

from bone_age.serving.batch.running import BatchReport, run_batch

__all__ = ["BatchReport", "run_batch"]
