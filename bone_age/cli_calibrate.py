"""`bone-age calibrate`: a model put right for one site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bone_age.plain_text import on_one_line
from bone_age.quiet_import import silence_libraries

if TYPE_CHECKING:
    from bone_age.site_calibration.calibrate import Calibrated


def add_to(app: typer.Typer) -> None:
    """Make the command part of the command line."""
    app.command(epilog="Example: `bone-age calibrate --data ~/clinic-b`")(calibrate)


def calibrate(
    data: Annotated[
        str, typer.Option(metavar="DIR", help="Data set of the site's own radiographs with readers' bone ages, 50 up.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help="As for `predict` [default: the champion]")
    ] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="[default: configs/policy.yaml]")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Correct a model's answers and intervals for one site, and register the result as a version with its evidence.

    Six in ten patients fit the correction, the others test it. The version faces the same gates as any other:
    `bone-age promote` makes it champion, nothing else does.
    """
    from bone_age.governance.policy import Policy
    from bone_age.provenance import SHIPPED
    from bone_age.settings import DataSettings, Home

    rules = Policy.read(policy or SHIPPED / "configs" / "policy.yaml")
    silence_libraries()
    from bone_age.data.loading import load_dataset
    from bone_age.serving.references import load_predictor
    from bone_age.site_calibration.calibrate import calibrate as calibrated_for

    dataset = load_dataset(DataSettings(source=data))
    made = calibrated_for(dataset, load_predictor(model), rules, Home())
    if as_json:
        print(json.dumps(_document(made), indent=2, allow_nan=False))
        return
    for line in _lines(made):
        print(on_one_line(line))


def _document(made: Calibrated) -> dict[str, Any]:
    return {
        "version": made.version,
        "parent": made.parent,
        "is_new": made.is_new,
        "kind": made.fit.kind,
        "correction": made.fit.correction.model_dump(),
        "fitted_mae_months": made.fit.mae_months,
        "before": made.before.to_json(),
        "after": made.after.to_json(),
        "mae_difference_months": [made.difference.value, made.difference.lo, made.difference.hi],
        "gates": [gate.to_json() for gate in made.gates],
    }


def _lines(made: Calibrated) -> list[str]:
    fit, before, after = made.fit, made.before.metrics, made.after.metrics
    line = fit.correction
    does = {
        "none": "answers stay as they are, no correction lowers the error",
        "shift": f"{line.intercept_months:+.1f} months",
        "line": f"times {line.slope:.3f} {line.intercept_months:+.1f} months",
    }[fit.kind]
    choices = ", ".join(f"{kind} {months:.2f}" for kind, months in fit.mae_months.items())
    n = fit.intervals.n_calibration
    failing = [gate.name for gate in made.gates if not gate.holds]
    return [
        f"fitted on {n} radiographs: {does} (leave-one-out MAE, months: {choices})",
        f"tested on {made.after.n} others, before and after:",
        f"  MAE       {before.mae.value:6.2f}  {after.mae.value:6.2f} months; difference {made.difference.value:+.2f} "
        f"[{made.difference.lo:+.2f}, {made.difference.hi:+.2f}]",
        f"  bias      {before.bias.value:+6.2f}  {after.bias.value:+6.2f} months",
        f"  coverage  {before.coverage.value:6.3f}  {after.coverage.value:6.3f} of intervals made for "
        f"{after.nominal_coverage:g}",
        f"gates: {'all hold' if not failing else 'would fail ' + ', '.join(failing)}",
        f"models:/bone-age/{made.version}: {'registered' if made.is_new else 'was registered before, measured again'}; "
        f"`bone-age promote --version {made.version}` shows every gate, and makes it champion if they hold",
    ]
