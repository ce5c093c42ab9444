"""The pipeline that an orchestrator's own schedule starts: looks whether there is reason to train, and trains if so.

The training is not part of it: what it is to be trained on is known only when the time has come, and a pipeline's
parameters are settled when it is scheduled.
"""

from __future__ import annotations

from zenml import pipeline
from zenml.client import Client
from zenml.config.schedule import Schedule
from zenml.utils import source_utils

from bone_age.errors import InputError
from bone_age.provenance import PROJECT
from bone_age.scheduling.cron import Cron
from bone_age.scheduling.job import Job
from steps.retrain import retrain_if_due


@pipeline(name="bone-age-retraining", enable_cache=False)
def retraining_pipeline(job: Job) -> None:
    """One scheduled run."""
    retrain_if_due(job)


def schedule_on_orchestrator(job: Job, cron: Cron) -> str | None:
    """Hand the schedule to the active stack's orchestrator. Returns its name there; None where that keeps none.

    Raises:
        InputError: The expression has seconds, or a schedule of that name is there.
    """
    source_utils.set_custom_source_root(str(PROJECT))
    client = Client()
    if not client.active_stack.orchestrator.config.is_schedulable:
        return None
    name = f"bone-age-{job.config.name}"
    expression = cron.crontab
    if client.list_schedules(name=name).items:
        raise InputError(f"schedule {name} is there already; `zenml pipeline schedule delete {name}` removes it")
    schedule = Schedule(name=name, cron_expression=expression, catchup=False)
    retraining_pipeline.with_options(schedule=schedule)(job)
    return name
