from pathlib import Path
from typing import Annotated, Any

from zenml import step

from bone_age import tracking
from bone_age.monitoring.monitor import monitor
from bone_age.monitoring.recording import log_look
from bone_age.monitoring.report import look_json
from bone_age.monitoring.watching import Look
from bone_age.settings import Home
from steps.context import current_run


@step(enable_cache=False)
def watch_for_drift(model: str | None, days: float, out: str | None) -> Annotated[dict[str, Any], "monitoring"]:
    """Compare the newest answers with the model's reference; verdict into the ledger, page and figures into MLflow."""

    def log(look: Look, entry: int | None) -> None:
        with tracking.parent_run(current_run()):
            log_look(look, entry)

    monitored = monitor(Home(), model, days, Path(out) if out else None, log)
    return look_json(monitored.look) | {"ledger_entry": monitored.entry}
