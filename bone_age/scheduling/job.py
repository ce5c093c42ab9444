"""What a schedule does each time it is due: everything that is settled before the first one."""

from __future__ import annotations

from bone_age.governance.policy import Policy
from bone_age.scheduling.reasons import Limits
from bone_age.settings import Strict, TrainingConfig, digest_of


class Job(Strict):
    """One scheduled training. `cron` names the schedule in the records; empty for one that was started by hand."""

    config: TrainingConfig
    policy: Policy
    limits: Limits = Limits()
    cron: str = ""

    @property
    def config_digest(self) -> str:
        return digest_of(self.config)

    @property
    def recipe(self) -> str:
        """What besides the data decides how a training ends."""
        return f"{self.config_digest} {self.policy.digest}"
