"""`bone-age promote`, `rollback`, `history` and `audit`: who may say what serves, and how to show it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bone_age.errors import InputError
from bone_age.plain_text import on_one_line

if TYPE_CHECKING:
    from bone_age.governance.policy import Policy

REFUSED = 3

Approver = Annotated[str, typer.Option(metavar="NAME", help="Who answers for it.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stays in the ledger.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="[default: configs/policy.yaml]")]

audit = typer.Typer(no_args_is_help=True, help="Check the audit trail, or hand it out.")


def add_to(app: typer.Typer) -> None:
    """Make these commands part of the command line."""
    app.command(epilog="Example: `bone-age promote --version 7 --approver 'A. Roe' --reason 'reviewed the report'`")(
        promote
    )
    app.command(epilog="Example: `bone-age rollback --approver 'A. Roe' --reason 'drift in clinic B'`")(rollback)
    app.command(epilog="Example: `bone-age history --on 2026-03-01`")(history)
    app.add_typer(audit, name="audit")


def promote(
    version: Annotated[int, typer.Option(min=1, metavar="N", help="Version of `bone-age`.")],
    approver: Approver,
    reason: Reason,
    override: Annotated[
        list[str] | None,
        typer.Option(metavar="GATE=REASON", help="Let a failed gate pass, where the policy allows it; one gate each."),
    ] = None,
    policy: PolicyFile = None,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="As a ZenML run, so that it stands in ZenML's dashboard.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a version again on its stored evidence and, if every gate holds, make it champion. Refused: exit code 3."""
    from bone_age.governance.approval import promote_version

    asked = (version, approver, reason, _overrides(override or []), _policy(policy))
    _reconcile()
    if pipeline:
        from bone_age.settings import Home
        from pipelines.running import run_promotion  # ZenML, slow to import

        decision = run_promotion(*asked, Home())
    else:
        decision, said = promote_version(*asked)
        _say(said)
    if as_json:
        print(json.dumps(decision.to_json(), indent=2, allow_nan=False))
    else:
        for gate in decision.gates:
            _print(f"{gate.verdict:>10}  {gate}")
        for override_ in decision.standing_overrides:
            _print(f"overridden: {override_}")
        print(f"models:/bone-age/{version}: {decision.outcome}")
    if not decision.promoted and decision.outcome != "already champion":
        raise typer.Exit(REFUSED)


def rollback(
    approver: Approver,
    reason: Reason,
    to: Annotated[int | None, typer.Option(min=1, metavar="N", help="[default: the last champion]")] = None,
    policy: PolicyFile = None,
) -> None:
    """Make the last real champion, or version N that was one, champion again."""
    from bone_age.governance.approval import roll_back

    rules = _policy(policy)
    _reconcile()
    before, now, said = roll_back(approver, reason, to, rules)
    _say(said)
    print(f"models:/bone-age/{now}: champion now, in place of {f'version {before}' if before else 'none'}")


def history(
    on: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Who was champion at the end of that day (UTC), or at that time."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Who was champion when, by whose word, and why."""
    from bone_age.governance.anchoring import open_ledger
    from bone_age.governance.history import overrides_of, reign_json, reigns_on, unsettled

    ledger = open_ledger()
    reigns = reigns_on(ledger, on)
    _say([open_one] if (open_one := unsettled(ledger)) else [])
    if as_json:
        print(json.dumps([reign_json(ledger, reign) for reign in reigns], indent=2))
        return
    if not reigns:
        _print("there was no champion" + (f" on {on}" if on else " yet"))
    for reign in reigns:
        until = f"{reign.until:%Y-%m-%d %H:%M}" if reign.until else "today"
        _print(
            f"{reign.since:%Y-%m-%d %H:%M} to {until}  version {reign.version}  {reign.event.value}  "
            f"{reign.approver}: {reign.reason}  (run {reign.run_id or 'unknown'})"
        )
        for gate in overrides_of(ledger, reign):
            _print(f"  overridden {gate}")


@audit.command()
def verify() -> None:
    """Check ledger, anchor, alias, every version's files, the champion's evidence; a line and exit code 1 if amiss."""
    from bone_age.governance.anchoring import open_ledger
    from bone_age.governance.audit import notes
    from bone_age.governance.audit import verify as findings

    is_amiss = False
    ledger = open_ledger()
    _say(notes(ledger))
    for line in findings(ledger):
        _print(line)
        is_amiss = True
    if is_amiss:
        raise typer.Exit(1)
    print("ledger, registry and files agree")


@audit.command(epilog="Example: `bone-age audit bundle --version 7 --out bone-age-7.zip`")
def bundle(
    version: Annotated[int, typer.Option(min=1, metavar="N", help="Version of `bone-age`.")],
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="Replaced if it is there.")],
) -> None:
    """Everything an auditor asks for about a version in one file, with a verifier that needs only Python."""
    from bone_age.governance.audit_bundle.bundle import write

    made = write(version, out)
    print(f"{out}  {len(made.content) / 1e6:.1f} MB  sha256 {made.sha256}")


def _print(line: str) -> None:
    """One line, whatever people or tags put into it."""
    print(on_one_line(line))


def _overrides(given: list[str]) -> dict[str, str]:
    overrides = {}
    for one in given:
        gate, equals, reason = one.partition("=")
        if not equals:
            raise InputError(f"--override is '{one}', expected GATE=REASON")
        if gate.strip() in overrides:
            raise InputError(f"--override {gate.strip()}: given twice")
        overrides[gate.strip()] = reason
    return overrides


def _policy(path: Path | None) -> Policy:
    from bone_age.governance.policy import Policy
    from bone_age.provenance import SHIPPED

    return Policy.read(path or SHIPPED / "configs" / "policy.yaml")


def _reconcile() -> None:
    """Said before the command may be refused."""
    from bone_age.governance.anchoring import open_ledger
    from bone_age.governance.succession import reconcile

    _say(reconcile(open_ledger()))


def _say(said: list[str]) -> None:
    for line in said:
        print(on_one_line(f"note: {line}"), file=sys.stderr)
