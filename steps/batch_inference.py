from pathlib import Path
from typing import Annotated

from zenml import step

from bone_age import tracking
from bone_age.serving.batch import BatchReport, run_batch
from steps.context import current_run


@step(enable_cache=False)
def answer_radiographs(
    data: str, out: str, model: str | None, engine: str, sex: str | None
) -> Annotated[BatchReport, "batch_report"]:
    """Answer every radiograph of a data set; goes on where an earlier run was killed."""
    return run_batch(Path(data), Path(out), model, engine, sex)


@step(enable_cache=False)
def record_batch(report: BatchReport) -> None:
    """Write model, data, counts, times and answers of a batch to its run in MLflow."""
    with tracking.parent_run(current_run()):
        tracking.log_batch(report)
