"""`bone-age schedule`, `doctor` and `prune`: retraining when there is reason to, and a home in order."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bone_age.errors import BoneAgeError, InputError
from bone_age.plain_text import on_one_line
from bone_age.quiet_import import silence_libraries

if TYPE_CHECKING:
    from bone_age.housekeeping.check import Check
    from bone_age.scheduling.cron import Cron
    from bone_age.scheduling.job import Job
    from bone_age.scheduling.retraining import Result
    from bone_age.settings import Home


class Printed(StrEnum):
    """Other schedulers, for which their own words can be printed."""

    SYSTEMD = "systemd"
    CRONTAB = "crontab"


def add_to(app: typer.Typer) -> None:
    """Make these commands part of the command line."""
    app.command(epilog="Example: `bone-age schedule --cron '0 3 * * *' --config configs/rsna_cpu.yaml --data ~/rsna`")(
        schedule
    )
    app.command(epilog="Example: `bone-age doctor`")(doctor)
    app.command(epilog="Example: `bone-age prune --keep-days 90`, and again with `--apply`")(prune)


def schedule(
    config: Annotated[Path, typer.Option(help="What to train on, and how.")],
    cron: Annotated[
        str, typer.Option(metavar="EXPR", help="minute hour day month weekday, local time; six fields: seconds first.")
    ] = "",
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Data set folder, or `synthetic`; instead of the configuration's.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="What a model has to show [default: configs/policy.yaml]")] = None,
    max_age_days: Annotated[
        float | None, typer.Option(metavar="N", help="A champion older than this is a reason to train.")
    ] = None,
    always: Annotated[bool, typer.Option("--always", help="Train every time.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Look now, once, and end: for a scheduler that you have already.")
    ] = False,
    printed: Annotated[
        Printed | None, typer.Option("--print", help="Print a systemd timer or a crontab line, and do nothing.")
    ] = None,
) -> None:
    """Retrain when there is reason to: new data, drift, a champion too old, or none; looked at when `--cron` says.

    Kept by the ZenML stack's orchestrator where that keeps schedules, else by this process for as long as it runs.
    """
    from bone_age.settings import Home

    if not cron and not once:
        raise InputError("--cron says when; `--once` looks now")
    if printed is not None:
        _print_schedule(printed, cron, config, data, policy, max_age_days, always)
        return
    job, times = _job(cron, config, data, policy, max_age_days, always)
    home = Home().prepare()
    if once:
        _run_once(job, home)
        return
    assert times is not None
    silence_libraries()
    if _zenml_is_begun():
        from pipelines.retraining import schedule_on_orchestrator  # ZenML, slow to import

        name = schedule_on_orchestrator(job, times)
        if name is not None:
            print(f"schedule {name}: {times.crontab}, kept by the orchestrator of the active ZenML stack")
            return
    _keep(job, times, home)


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Check the set-up, and say what to do about what is amiss. Exit code 1 where something is; warnings are 0."""
    from bone_age.housekeeping.check import State
    from bone_age.housekeeping.checks import examine
    from bone_age.settings import Home

    silence_libraries()
    found = examine(Home(), _zenml_checks)
    if as_json:
        print(json.dumps([check.to_json() for check in found], indent=2))
    else:
        for check in found:
            print(on_one_line(f"{check.state.value:>8}  {check.name}: {check.said}"))
            if check.remedy:
                print(on_one_line(f"{'':>8}  -> {check.remedy}"))
    if any(check.state is State.ERROR for check in found):
        raise typer.Exit(1)


def prune(
    keep_days: Annotated[int, typer.Option(min=0, metavar="N", help="Nothing younger goes.")] = 90,
    keep_last: Annotated[int, typer.Option(min=0, metavar="N", help="Nor the newest so many runs of each kind.")] = 5,
    apply: Annotated[bool, typer.Option("--apply", help="Remove it; without this it is only shown.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Show, and with `--apply` remove, old runs, versions, artifacts and caches that nothing refers to any more.

    What the ledger, an alias or an audit bundle refers to stays, whatever its age.
    """
    from bone_age.housekeeping.retention import Retention, plan, remove
    from bone_age.settings import Home

    silence_libraries()
    home, store = Home().prepare(), None
    if _zenml_is_begun():
        from pipelines.leftovers import ZenmlStore  # ZenML, slow to import

        store = ZenmlStore()
    found = plan(home, Retention(keep_days=keep_days, keep_last=keep_last), store)
    entry = remove(home, found, store) if apply and found.items else None
    if as_json:
        print(json.dumps(found.to_json() | {"removed": apply, "ledger_entry": entry}, indent=2))
        return
    for item in found.items:
        print(on_one_line(f"{item.megabytes:>9.1f} MB  {item.kind}  {item.name}  ({item.said})"))
    total = sum(item.size for item in found.items) / 1e6
    done = (
        f"removed, entry {entry} of the ledger" if entry else "`--apply` removes them" if found.items else "all is kept"
    )
    print(f"{len(found.items)} things, {total:.1f} MB; {found.kept} runs and versions kept: {done}")


def _zenml_is_begun() -> bool:
    """Without a store there are the default, local stack and no artifacts; asking ZenML would make one."""
    from bone_age.settings import Home

    place = os.environ.get("ZENML_CONFIG_PATH") or Home().zenml_config
    return Path(place).is_dir() or "ZENML_STORE_URL" in os.environ


def _zenml_checks() -> Iterator[Check]:
    from importlib.util import find_spec

    from bone_age.housekeeping.check import Check, State

    if find_spec("zenml") is None:
        return
    if not _zenml_is_begun():
        yield Check("ZenML", State.ABSENT, "no store yet", "`bone-age train` makes it")
        return
    from pipelines.zenml_checks import zenml_checks  # ZenML, slow to import

    yield from zenml_checks()


def _job(
    cron: str, config: Path, data: str | None, policy: Path | None, max_age_days: float | None, always: bool
) -> tuple[Job, Cron | None]:
    """Everything is read and refused here, not in the night when it is first due."""
    from bone_age.governance.policy import Policy
    from bone_age.provenance import SHIPPED
    from bone_age.scheduling.cron import Cron
    from bone_age.scheduling.job import Job
    from bone_age.scheduling.reasons import Limits
    from bone_age.settings import load_config

    if max_age_days is not None and max_age_days <= 0:
        raise InputError(f"--max-age-days is {max_age_days:g}, expected more than 0")
    times = Cron.parse(cron) if cron else None
    settings = load_config(config)
    if data is not None:
        settings = settings.with_source(data)
    settings.require_weights()
    rules = Policy.read(policy or SHIPPED / "configs" / "policy.yaml")
    return Job(config=settings, policy=rules, limits=Limits(max_age_days=max_age_days, always=always), cron=cron), times


def _run_once(job: Job, home: Home) -> None:
    from bone_age.one_process import ended_by_signals
    from bone_age.scheduling.retraining import attempt

    try:
        with ended_by_signals():
            result = attempt(job, home)
    except KeyboardInterrupt:
        raise BoneAgeError("interrupted; the next run goes on from there") from None
    _tell(result)
    if result.failed:
        raise typer.Exit(1)


def _keep(job: Job, times: Cron, home: Home) -> None:
    from bone_age.governance.anchoring import open_ledger
    from bone_age.one_process import ended_by_signals
    from bone_age.scheduling.keeper import keep
    from bone_age.scheduling.records import last_decided
    from bone_age.scheduling.retraining import attempt

    def run() -> datetime | None:
        result = attempt(job, home)
        _tell(result)
        return result.again_at

    begins = f"{job.config.name}: looks at '{times.expression}' whether there is reason to train; Ctrl-C ends it"
    try:
        with ended_by_signals():
            print(begins, flush=True)
            keep(times, run, last_decided(open_ledger(), job))
    except KeyboardInterrupt:  # how a schedule is ended; a training that ran has been ended and recorded
        print(f"{job.config.name}: ended", flush=True)


def _tell(result: Result) -> None:
    said = on_one_line(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {result.said}")
    print(said, flush=True, file=sys.stderr if result.failed else sys.stdout)


def _print_schedule(
    to: Printed,
    cron: str,
    config: Path,
    data: str | None,
    policy: Path | None,
    max_age_days: float | None,
    always: bool,
) -> None:
    from bone_age.scheduling.units import crontab, systemd
    from bone_age.settings import Home

    _, times = _job(cron, config, data, policy, max_age_days, always)
    if times is None:
        raise InputError("--print needs --cron")
    command = [sys.executable, "-m", "bone_age.cli", "schedule", "--once", "--config", str(config.resolve())]
    command += ["--data", data if data == "synthetic" else str(Path(data).resolve())] if data else []
    command += ["--policy", str(policy.resolve())] if policy else []
    command += ["--max-age-days", f"{max_age_days:g}"] if max_age_days else []
    command += ["--always"] if always else []
    home = Home()
    environment = {"BONE_AGE_HOME": str(home.root), "BONE_AGE_RESULTS": str(home.results.resolve())}
    secrets = home.root / "schedule.env"
    write = systemd if to is Printed.SYSTEMD else crontab
    print(write(times, command, environment, str(Path.cwd()), str(secrets)))
    names = ("BONE_AGE_DATABASE_URL", "MLFLOW_TRACKING_URI", "BONE_AGE_ALERT_URLS", "BONE_AGE_LEDGER_KEY")
    if set_here := [name for name in names if os.environ.get(name)]:
        print(f"note: {', '.join(set_here)} may hold secrets: write them into {secrets}, mode 600", file=sys.stderr)
