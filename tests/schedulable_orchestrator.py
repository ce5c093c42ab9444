"""An orchestrator that takes schedules, as those of clusters do; it runs the pipeline at once, and here."""

from __future__ import annotations

from zenml.orchestrators.local.local_orchestrator import LocalOrchestratorConfig, LocalOrchestratorFlavor


class SchedulableConfig(LocalOrchestratorConfig):
    @property
    def is_schedulable(self) -> bool:
        return True


class SchedulableFlavor(LocalOrchestratorFlavor):
    @property
    def name(self) -> str:
        return "schedulable"

    @property
    def config_class(self) -> type[LocalOrchestratorConfig]:
        return SchedulableConfig
