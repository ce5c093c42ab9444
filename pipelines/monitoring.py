"""The monitoring pipeline: what `bone-age monitor` does, as a ZenML run, for orchestrators that keep schedules."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.monitor import watch_for_drift


@pipeline(name="bone-age-monitoring", enable_cache=False, execution_mode=ExecutionMode.FAIL_FAST)
def monitoring_pipeline(model: str | None, days: float, out: str | None) -> None:
    """Look once whether the questions of today are those the model was measured on; drift ends the run as any verdict.

    Args:
        model, days, out: As for `bone_age.monitoring.monitor.monitor`.
    """
    watch_for_drift(model, days, out)
