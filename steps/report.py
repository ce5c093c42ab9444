from zenml import step

from bone_age import tracking
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.robustness import Robustness
from bone_age.governance.gate import Decision
from steps.context import current_run


@step(enable_cache=False)
def publish_report(comparison: Comparison, decision: Decision, robustness: list[Robustness]) -> None:
    """Write the report, decision and robustness included, to the parent run in MLflow."""
    run = current_run()
    with tracking.parent_run(run):
        tracking.log_report(comparison.decided(decision, run.name, robustness))
