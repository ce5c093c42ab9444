"""What `bone-age doctor` asks ZenML: does its store answer, and which stack would a training run on?"""

from __future__ import annotations

from collections.abc import Iterator

from zenml.client import Client

import steps  # noqa: F401  (points ZenML to the home)
from bone_age.housekeeping.check import Check, State
from bone_age.mlflow_connection import first_line


def zenml_checks() -> Iterator[Check]:
    """Store and active stack."""
    try:
        client = Client()
        stack = client.active_stack_model
    except Exception as error:  # no store, one of a newer version, a server that does not answer
        yield Check(
            "ZenML", State.ERROR, first_line(error), "`zenml status`; a store of an older version: back it up first"
        )
        return
    parts = [f"{kind.value} {models[0].name} ({models[0].flavor_name})" for kind, models in stack.components.items()]
    try:
        schedules = client.active_stack.orchestrator.config.is_schedulable
    except Exception as error:  # its integration is not installed
        yield Check(
            "ZenML", State.ERROR, f"stack {stack.name}: {first_line(error)}", f"`zenml stack describe {stack.name}`"
        )
        return
    kept = "its orchestrator keeps schedules" if schedules else "schedules are kept by `bone-age schedule` itself"
    yield Check("ZenML", State.OK, f"stack {stack.name}: {', '.join(sorted(parts))}; {kept}")
