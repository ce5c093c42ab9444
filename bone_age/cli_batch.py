"""`bone-age batch`: bone ages of a folder or a manifest of any size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bone_age.errors import BoneAgeError, InputError
from bone_age.plain_text import on_one_line

if TYPE_CHECKING:
    from bone_age.serving.batch import BatchReport


def add_to(app: typer.Typer) -> None:
    """Make the command part of the command line."""
    app.command(epilog="Example: `bone-age batch --data ~/radiographs --sex F --out answers.parquet`")(batch)


def batch(
    data: Annotated[
        str, typer.Option(metavar="DIR", help="Data set folder, CSV file, bare folder with --sex, or `synthetic`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .parquet or .csv; replaced if it is there.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help="As for `predict` [default: the champion]")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="This machine, or a Ray cluster (RAY_ADDRESS).")
    ] = "local",
    sex: Annotated[
        str | None, typer.Option(metavar="M|F", help="Of every child of a bare folder; never guessed.")
    ] = None,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="As a ZenML run that records lineage in MLflow.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Estimate the bone age of every radiograph of a data set; run again, it goes on where it was killed.

    What cannot be answered is named in `<stem>.failed.csv` beside FILE; exit code 2 when nothing could be answered.
    """
    from bone_age.one_process import ended_by_signals

    try:
        with ended_by_signals():
            report = _run(pipeline, (_folder(data), out, model, engine, sex))
    except KeyboardInterrupt:
        raise BoneAgeError("interrupted; the same command goes on with what is not done yet") from None
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        _say(report)
    if report.failed:
        names = on_one_line(f"{report.failed_rows} of {report.rows} rows have no answer; {report.failed} says why")
        print(f"{'warning' if report.answered else 'error'}: {names}", file=sys.stderr)
    if not report.answered:
        raise typer.Exit(InputError.exit_code)


def _run(pipeline: bool, asked: tuple[Path, Path, str | None, str, str | None]) -> BatchReport:
    if not pipeline:
        from bone_age.serving.batch import run_batch

        return run_batch(*asked)
    from bone_age.quiet_import import silence_libraries
    from bone_age.settings import Home

    silence_libraries()
    from pipelines.running import run_batch_inference  # ZenML, slow to import

    return run_batch_inference(*asked, Home())


def _folder(data: str) -> Path:
    from bone_age.data.loading import SYNTHETIC, synthetic_folder

    return synthetic_folder() if data == SYNTHETIC else Path(data)


def _say(report: BatchReport) -> None:
    for message in report.warnings:
        print(f"warning: {message}", file=sys.stderr)
    speed = f"{report.seconds:.0f} s, {report.images_per_second:.1f} images/s"
    print(
        on_one_line(f"{report.out}: {report.answered} of {report.rows} radiographs answered by {report.model}, {speed}")
    )
