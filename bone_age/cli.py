"""`bone-age`: the command line. Everything heavy is imported inside the command that needs it.

Exit codes: 0 done, 2 bad input, 3 refused by a gate or drift found, 1 anything else. Errors are one line on stderr;
`--debug` shows where they come from.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bone_age.cli_batch import add_to as add_batch
from bone_age.cli_calibrate import add_to as add_calibrate
from bone_age.cli_export import add_to as add_export
from bone_age.cli_governance import add_to as add_governance
from bone_age.cli_monitor import add_to as add_monitor
from bone_age.cli_operations import add_to as add_operations
from bone_age.cli_serve import add_to as add_serve
from bone_age.plain_text import on_one_line
from bone_age.quiet_import import silence_libraries

if TYPE_CHECKING:
    from bone_age.serving.predictor import Prediction, Predictor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Estimate bone age from hand radiographs; train, govern and serve the models that do. Not a medical device.",
)

Reference = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="REF",
        help="models:/bone-age@champion, models:/bone-age/7 or a folder [default: the champion]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library logs.")] = False) -> None:
    if debug:
        os.environ["BONE_AGE_DEBUG"] = "1"


@app.command(epilog="Example: `bone-age train --config configs/rsna_cpu.yaml --data ~/rsna`")
def train(
    config: Annotated[
        Path | None, typer.Option(help="What to train on, and how [default: configs/quickstart.yaml]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Data set folder, or `synthetic`; instead of the configuration's.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="What a model has to show [default: configs/policy.yaml]")] = None,
) -> None:
    """Run the training pipeline: four models trained, compared and registered, the best Xception promoted on evidence.

    Run again, it goes on where it was interrupted, and takes from the cache what did not change.
    """
    from bone_age.data.loading import dataset_key
    from bone_age.governance.policy import Policy
    from bone_age.provenance import SHIPPED
    from bone_age.settings import Home, load_config

    settings = load_config(config or SHIPPED / "configs" / "quickstart.yaml")
    if data is not None:
        settings = settings.with_source(data)
    settings.require_weights()
    rules = Policy.read(policy or SHIPPED / "configs" / "policy.yaml")
    home = Home().prepare()
    silence_libraries()
    key = dataset_key(settings.data)
    from pipelines.running import run_training  # ZenML, slow to import, and only after everything was checked

    outcome = run_training(settings, rules, home, key)
    from bone_age.summary import show_outcome

    show_outcome(outcome.comparison, outcome.decision, outcome.report, home)


@app.command(epilog="Example: `bone-age tune --config configs/quickstart.yaml --trials 12`")
def tune(
    config: Annotated[Path, typer.Option(help="Its `search` says what to vary, and between what.")],
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Data set folder, or `synthetic`; instead of the configuration's.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="How many in all, those of earlier starts included [default: search.trials]"),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which to tune [default: xception_multi, else the first]")
    ] = None,
) -> None:
    """Search for better values of the recipe, judged on the validation split; writes a configuration for `train`.

    Run again, it goes on with the same study: finished trials are kept, a killed one goes on from its last epoch.
    """
    from bone_age.settings import Home, load_config
    from bone_age.tuning.space import choose_architecture, require_values

    settings = load_config(config)
    if data is not None:
        settings = settings.with_source(data)
    require_values(settings, choose_architecture(settings, architecture))
    home = Home().prepare()
    silence_libraries()
    from bone_age.tuning.result import show_trials
    from bone_age.tuning.tuner import tune as search

    outcome = search(settings, home, architecture, trials)
    show_trials(outcome.trials, outcome.images, outcome.folder)


@app.command(epilog="Example: `bone-age evaluate --model models:/bone-age/2 --data ~/rsna --out evaluation/`")
def evaluate(
    data: Annotated[str, typer.Option(metavar="DIR", help="Labelled data set folder, or `synthetic`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Takes metrics.json, predictions.csv and plots/.")],
    model: Reference = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows, always the same ones.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on every radiograph of a labelled data set."""
    from bone_age.data.loading import load_dataset
    from bone_age.data.manifest import require_labels
    from bone_age.serving.scoring import score_dataset
    from bone_age.settings import DataSettings, EvaluationSettings

    dataset = load_dataset(DataSettings(source=data, limit=limit))
    require_labels(dataset)
    predictor = _predictor(model)
    evaluation = score_dataset(predictor, dataset, dataset.table, "all", EvaluationSettings(), seed=0)
    evaluation.save(out)
    if as_json:
        print(json.dumps(evaluation.to_json(), indent=2))
        return
    from bone_age.summary import show_evaluation

    for warning in predictor.standing_warnings:
        print(f"warning: {warning.message}", file=sys.stderr)
    show_evaluation(evaluation, out)


@app.command(epilog="Example: `bone-age predict hand.png --sex F --chronological-age 126`")
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG or DICOM.", show_default=False)],
    sex: Annotated[str, typer.Option(metavar="M|F", help="The child's sex; never guessed.")],
    chronological_age: Annotated[
        float | None,
        typer.Option(
            metavar="MONTHS", help="Age since birth; adds growth and age consistency [default: a DICOM file's]"
        ),
    ] = None,
    model: Reference = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the bone age of one or more radiographs of children of one sex.

    An image that cannot be used is named on stderr; the others are answered all the same, and the exit code is 2.
    """
    from bone_age.errors import InputError
    from bone_age.imaging.decode import read_file
    from bone_age.serving.answering import answer_in_full, require_question
    from bone_age.serving.dicom_question import complete_question

    require_question(sex, chronological_age, ("--sex", "--chronological-age"))
    predictor = _predictor(model)
    answers, refused = [], 0
    from bone_age.progress import bar

    with bar(transient=True) as progress:
        task = progress.add_task("predicting", total=len(images), note="", visible=len(images) > 1)
        for image in images:
            try:
                question = complete_question(read_file(image), sex, chronological_age)
                found = answer_in_full(predictor, image, sex, question.chronological_age_months)
                answers.append(question.told_with(found).prediction)
                if not as_json:
                    progress.console.file.flush()
                    _say(answers[-1], predictor.bundle.calibration.coverage)
            except ValueError as error:  # ImageError
                refused += 1
                print(f"error: {on_one_line(str(error))}", file=sys.stderr)
            progress.advance(task)
    if as_json:
        print(json.dumps([answer.to_json() for answer in answers], indent=2))
    if refused:
        raise typer.Exit(InputError.exit_code)


def _say(answer: Prediction, coverage: float) -> None:
    print(
        f"{on_one_line(answer.image)}: bone age {answer.bone_age_months:.1f} months ({answer.bone_age}), "
        f"{coverage * 100:.0f} % interval {answer.lower_months:.1f} to {answer.upper_months:.1f}  ({answer.model})"
    )
    if answer.growth is not None:
        growth = answer.growth
        print(
            f"  growth: {growth.verdict}; z = {growth.z:+.1f} ({growth.z_lower:+.1f} to {growth.z_upper:+.1f}) "
            f"at {growth.chronological_age_months:g} months, {growth.reference}"
        )
    if answer.age_consistency is not None:
        age = answer.age_consistency
        print(
            f"  age: {age.verdict.replace('_', ' ')}; {age.expected_bone_age_months:.1f} months expected, "
            f"z = {age.z:+.1f} of {age.spread_months:.1f} (children {age.biological_sd_months:.1f}, "
            f"model {age.model_error_sd_months:.1f})"
        )
    for warning in answer.warnings:
        print(f"  warning: {warning.message}")


add_export(app)


@app.command(name="import-reference", epilog="Example: `bone-age import-reference`")
def import_reference() -> None:
    """Register the project's reference model as a version of `bone-age`; it becomes champion only by `promote`."""
    from bone_age import registry
    from bone_age.governance.recording import import_reference as import_and_record
    from bone_age.serving.references import reference_model

    version, is_new = import_and_record(reference_model())
    state = "registered; it is not champion" if is_new else "was registered already"
    print(f"models:/{registry.REGISTERED_MODEL}/{version}: the reference model {state}")


@app.command(epilog='Example: `eval "$(bone-age env)"`')
def env() -> None:
    """Print the environment as `export` lines, for MLflow's and ZenML's own commands to find this home."""
    import shlex

    from bone_age.settings import Home

    for name, value in Home().exports().items():
        print(f"export {name}={shlex.quote(value)}")


add_serve(app)
add_batch(app)
add_governance(app)
add_operations(app)
add_monitor(app)
add_calibrate(app)


def _predictor(reference: str | None) -> Predictor:
    from bone_age.serving.references import load_predictor

    return load_predictor(reference)


def _debugging() -> bool:
    return bool(os.environ.get("BONE_AGE_DEBUG"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; every error is one line."""
    command: Any = typer.main.get_command(app)
    try:
        sys.exit(command.main(args=list(arguments) if arguments is not None else None, standalone_mode=False))
    except (typer.Abort, KeyboardInterrupt) as error:
        _fail(error, "interrupted", 1)
    except Exception as error:
        usage: Callable[[], str] | None = getattr(error, "format_message", None)  # typer's errors of usage
        known = getattr(error, "exit_code", None)
        message = usage() if usage else str(error) if known else f"{type(error).__name__}: {error}"
        _fail(error, message, known or 1)


def _fail(error: BaseException, message: str, exit_code: int) -> None:
    if _debugging():
        import traceback

        traceback.print_exception(error)
    print(f"error: {on_one_line(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
