"""`bone-age export`: a version as a folder that runs without MLflow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bone_age.errors import InputError

if TYPE_CHECKING:
    from bone_age.serving.bundle import Bundle

MAE_MAY_MOVE_MONTHS = 0.05


def add_to(app: typer.Typer) -> None:
    """Make the command part of the command line."""
    app.command(epilog="Example: `bone-age export --model models:/bone-age/3 --out model/`")(export)


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is not there yet, or is empty.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help="As for `predict` [default: the champion]")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Weights stored as float16 and no Keras model: below 45 MB.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Eight-bit convolutions, half the time an answer; measured anew on --data.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --int8: the data set that trained the model.")
    ] = None,
) -> None:
    """Write a model version as a folder that every command takes with `--model DIR` and that needs no MLflow."""
    if half and int8:
        raise InputError("--half and --int8 are two forms: choose one")
    if int8 != (data is not None):
        raise InputError("--int8 needs --data, the data set that trained the model; nothing else takes it")
    from bone_age.exporting.folder import export_bundle
    from bone_age.serving.references import load_predictor

    bundle = load_predictor(model).bundle
    if data is None:
        _say_written(export_bundle(bundle, out, half), out)
    else:
        _export_int8(bundle, data, out)


def _export_int8(bundle: Bundle, data: str, out: Path) -> None:
    from bone_age.exporting.int8 import export_int8
    from bone_age.one_process import ended_by_signals

    with ended_by_signals():
        exported = export_int8(bundle, data, out)
    _say_written(exported.bundle, out)
    test, facts = exported.evaluated.test, exported.facts
    print(
        f"  MAE {test.metrics.mae.value:.2f} months, {facts.parent_test_mae:.2f} before ({test.caption}); "
        f"answers move by {facts.mean_absolute_difference_months:.2f} months on average, "
        f"{facts.largest_difference_months:.1f} at most ({facts.compared_rows} validation radiographs)"
    )
    if abs(exported.mae_moved_months) >= MAE_MAY_MOVE_MONTHS:
        print(f"warning: the MAE moved by {exported.mae_moved_months:+.2f} months", file=sys.stderr)


def _say_written(bundle: Bundle, out: Path) -> None:
    size_mb = sum(file.stat().st_size for file in bundle.folder.iterdir()) / 1e6
    print(f"{out}: {bundle.facts.architecture}, {size_mb:.0f} MB, model.onnx {bundle.onnx_sha256[:12]}")
