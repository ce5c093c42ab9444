"""The batch pipeline: what `bone-age batch` does, as a ZenML run whose lineage stands in MLflow."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.batch_inference import answer_radiographs, record_batch


@pipeline(name="bone-age-batch-inference", enable_cache=False, execution_mode=ExecutionMode.FAIL_FAST)
def batch_inference_pipeline(data: str, out: str, model: str | None, engine: str, sex: str | None) -> None:
    """Answer every radiograph of a data set with one model, and record which model, which images and which answers.

    Args:
        data, out, model, engine, sex: As for `bone_age.serving.batch.run_batch`.
    """
    report = answer_radiographs(data, out, model, engine, sex)
    record_batch(report)
