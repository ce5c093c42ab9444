"""What the ledger says of a promotion: the entry, and the gates that a person let pass in it."""

from __future__ import annotations

from bone_age.governance.chain import Chain
from bone_age.governance.entries import Entry, Event
from bone_age.governance.gate import Gate


def promotion_of(ledger: Chain, version: int) -> Entry | None:
    """The last entry that made a version champion on evidence."""
    entries = [entry for entry in ledger.entries(events=(Event.PROMOTED,)) if entry.version == version]
    return entries[-1] if entries else None


def overridden_gates(promotion: Entry | None) -> dict[str, Gate]:
    """The gates that a person let pass in that promotion, by name."""
    gates = promotion.details.get("gates", []) if promotion else []
    overridden = [{name: gate[name] for name in Gate.model_fields} for gate in gates if gate["overridden_by"]]
    return {gate["name"]: Gate.model_validate(gate) for gate in overridden}


def standing_overrides(ledger: Chain) -> tuple[str, ...]:
    """Gates that today's champion did not pass, with who let it, and why: said wherever its figures are shown."""
    champion = ledger.champion_on()
    if champion is None or champion.version is None:
        return ()
    gates = overridden_gates(promotion_of(ledger, champion.version)).values()
    return tuple(f"champion version {champion.version}: {gate}" for gate in gates)
