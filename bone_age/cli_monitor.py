"""`bone-age monitor`: drift, refusals and errors against readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bone_age.errors import BoneAgeError
from bone_age.plain_text import on_one_line
from bone_age.quiet_import import silence_libraries

DRIFT_FOUND = 3


def add_to(app: typer.Typer) -> None:
    """Make the command part of the command line."""
    app.command(epilog="Example: `bone-age monitor --out monitoring`")(monitor)


def monitor(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write monitoring.html, .json and .prom there, too.")
    ] = None,
    days: Annotated[float, typer.Option(metavar="N", help="How old an answer may be.")] = 30,
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help="As for `predict` [default: the champion]")
    ] = None,
    pipeline: Annotated[bool, typer.Option("--pipeline", help="As a ZenML run.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Compare the newest answers of `serve` with the radiographs that the model was measured on.

    Exit code 3 on drift; 0 also where there are too few answers for a verdict. Page and figures go into MLflow, a
    verdict on the champion into the ledger, where `schedule` finds it.
    """
    from bone_age.one_process import ended_by_signals

    silence_libraries()
    try:
        with ended_by_signals():
            document = _run(pipeline, model, days, out)
    except KeyboardInterrupt:
        raise BoneAgeError("interrupted") from None
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        entry = document["ledger_entry"]
        kept = f" (entry {entry} of the ledger)" if entry is not None else ""
        print(on_one_line(f"{document['verdict']}: {document['said']}{kept}"))
    if document["verdict"] == "drift":
        raise typer.Exit(DRIFT_FOUND)


def _run(pipeline: bool, model: str | None, days: float, out: Path | None) -> dict[str, Any]:
    from bone_age.settings import Home

    if pipeline:
        from pipelines.running import run_monitoring  # ZenML, slow to import

        return run_monitoring(model, days, out, Home())
    from bone_age.monitoring.monitor import monitor as look_once
    from bone_age.monitoring.report import look_json

    monitored = look_once(Home(), model, days, out)
    return look_json(monitored.look) | {"ledger_entry": monitored.entry}
