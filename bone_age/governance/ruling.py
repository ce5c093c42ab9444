"""What was found of one version, in the words of the ledger, of the report and of the version's page in MLflow."""

from __future__ import annotations

from dataclasses import dataclass

from bone_age import registry
from bone_age.evaluation.markdown import markdown_table
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event, NewEntry
from bone_age.governance.evidence import Evidence, Incumbent
from bone_age.governance.gate import Decision, Gate, Outcome, shown
from bone_age.governance.policy import Policy
from bone_age.governance.promotions import standing_overrides
from bone_age.governance.stored import evidence_path, store_policy
from bone_age.provenance import provenance

LEDGER_REASON_CHARACTERS = 2000
GATES_HEADING = "## Gates"


@dataclass(frozen=True, eq=False)
class Ruling:
    """Evidence, the gates it met, and against which champion."""

    evidence: Evidence
    evidence_sha256: str
    policy: Policy
    incumbent: Incumbent | None
    gates: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.holds)

    @property
    def reason(self) -> str:
        """Every failed gate with figure and bound, or that all hold."""
        if self.failed:
            return "; ".join(f"failed {gate}" for gate in self.failed)
        overridden = [f"overridden {gate}" for gate in self.gates if gate.verdict == "overridden"]
        return "; ".join([f"all {len(self.gates)} gates hold", *overridden])

    def entry(self, event: Event, actor: str, reason: str) -> NewEntry:
        """The ledger's entry, with every gate in its details; so the gates at the end of a long reason may be cut."""
        facts = self.evidence.facts
        return NewEntry(
            event=event,
            actor=actor,
            reason=_shortened(reason),
            version=facts.version,
            previous_version=self.incumbent.version if self.incumbent else None,
            model_digest=facts.model_digest,
            dataset_fingerprint=facts.dataset_fingerprint,
            policy_digest=self.policy.digest,
            git_commit=provenance().git_commit,
            run_id=facts.mlflow_run_id,
            details={"evidence_sha256": self.evidence_sha256, "gates": [gate.to_json() for gate in self.gates]},
        )

    def keep_policy(self) -> None:
        """Before anything is recorded: an entry must not name a policy that is nowhere, whatever dies in between."""
        store_policy(self.evidence.facts.mlflow_run_id, self.policy)

    def announced(self, ledger: Chain, outcome: Outcome, reason: str | None = None) -> Decision:
        """The decision, also as tag and description of the version in MLflow.

        Args:
            ledger: After what was decided was recorded.
        """
        facts = self.evidence.facts
        decision = Decision(
            outcome=outcome,
            version=facts.version,
            architecture=facts.architecture,
            test_mae=self.evidence.test.metrics.mae.value,
            gates=self.gates,
            reason=reason or self.reason,
            policy_digest=self.policy.digest,
            previous_champion=self.incumbent.version if self.incumbent else None,
            evidence_uri=f"runs:/{facts.mlflow_run_id}/{evidence_path(self.evidence_sha256)}",
            standing_overrides=standing_overrides(ledger),
        )
        registry.set_version_tag(facts.version, "decision", f"{outcome}: {decision.reason}"[:5000])
        said = registry.version_facts(facts.version).description.split(GATES_HEADING)[0].rstrip()
        found = f"{outcome}; evidence is below {decision.evidence_uri}\n\n{gates_table(self.gates)}"
        registry.describe_version(facts.version, f"{said}\n\n{GATES_HEADING}\n\n{found}")
        return decision


def gates_table(gates: tuple[Gate, ...]) -> str:
    """The gates as Markdown."""
    rows = [(g.name, shown(g.figure), f"{g.rule} {shown(g.bound)}", g.verdict, g.explained, g.evidence) for g in gates]
    return markdown_table(("gate", "figure", "bound", "verdict", "meaning", "evidence"), rows)


def _shortened(reason: str) -> str:
    """A person's words fit, `require_words` sees to it; of what the gates add the end is cut, visibly."""
    return reason if len(reason) <= LEDGER_REASON_CHARACTERS else f"{reason[: LEDGER_REASON_CHARACTERS - 1]}…"
