"""`bone-age doctor`: is everything there, does everything answer, and does it agree?

It makes nothing: a home that is not there yet is said to be absent, not created. URLs are shown without passwords.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from unittest.mock import patch

from bone_age.errors import BoneAgeError
from bone_age.housekeeping.check import Check, State
from bone_age.housekeeping.installation import installation_checks
from bone_age.housekeeping.optional_parts import optional_checks
from bone_age.housekeeping.places import home_checks
from bone_age.mlflow_connection import connect, first_line
from bone_age.scheduling.alerts import configured_urls, is_understood, masked
from bone_age.serving.bundle import load_bundle
from bone_age.serving.references import reference_model
from bone_age.settings import Home

IN_A_URL = re.compile(r"(?<=://)[^/\s@]*@|(?<=password=)[^\s&]+")
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def examine(home: Home, orchestrator: Callable[[], Iterator[Check]]) -> list[Check]:
    """Everything, one thing after the other; what one finds keeps none of the others from looking.

    Args:
        orchestrator: Looks at what the library itself does not know.
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("installation", installation_checks),
        ("home", lambda: home_checks(home)),
        ("reference model", _reference_model),
        ("MLflow", lambda: _mlflow(home)),
        ("ledger", lambda: _ledger(home)),
        ("champion", lambda: _champion(home)),
        ("ZenML", orchestrator),
        ("alerts", lambda: _alerts(home)),
        ("optional parts", optional_checks),
    )
    found: list[Check] = []
    with patch.dict(os.environ, PATIENCE):
        for name, part in parts:
            try:
                found += part()
            except Exception as error:  # whatever is broken is what is looked for
                said = str(error) if isinstance(error, BoneAgeError) else f"{type(error).__name__}: {first_line(error)}"
                found.append(Check(name, State.ERROR, without_passwords(said), "run again with --debug"))
    return found


def without_passwords(text: str) -> str:
    """The same with user and password of every URL left out."""
    return IN_A_URL.sub(lambda match: "***@" if match.group().endswith("@") else "***", text)


def _reference_model() -> Iterator[Check]:
    try:
        bundle = reference_model()
    except BoneAgeError as error:
        yield Check(
            "reference model", State.ERROR, str(error), "restore models/reference/ from the project's repository"
        )
    else:
        yield Check("reference model", State.OK, f"{bundle.facts.architecture}, files verify")


def _mlflow(home: Home) -> Iterator[Check]:
    if not _is_begun(home):
        yield Check("MLflow", State.ABSENT, "no records yet", "`bone-age train` makes them")
        return
    where = without_passwords(home.tracking_uri)
    try:
        versions = connect().search_model_versions("name = 'bone-age'")
    except Exception as error:  # server, database, or its schema
        said = f"{where}: {without_passwords(first_line(error))}"
        outdated = "upgrade" in said
        remedy = (
            "back it up, then `mlflow db upgrade URL`" if outdated else "start the server, or see MLFLOW_TRACKING_URI"
        )
        yield Check("MLflow", State.ERROR, said, remedy)
    else:
        yield Check("MLflow", State.OK, f"{where} answers, {len(versions)} versions")


def _ledger(home: Home) -> Iterator[Check]:
    if not home.database_url and not (home.root / "ledger.db").is_file():
        yield Check("ledger", State.ABSENT, "no entries yet", "`bone-age train` makes them")
        return
    from bone_age.governance.anchoring import open_ledger
    from bone_age.governance.audit import verify

    ledger = open_ledger()
    head, findings = ledger.head(), list(verify(ledger))
    where = f"{without_passwords(home.ledger_url)}, {head.number if head else 0} entries"
    if findings:
        said = f"{where}; {len(findings)} findings, the first: {without_passwords(findings[0])}"
        yield Check("ledger", State.ERROR, said, "`bone-age audit verify` lists all; docs/explanation/threat-model.md")
    else:
        yield Check("ledger", State.OK, f"{where}; ledger, registry and files agree")


def _champion(home: Home) -> Iterator[Check]:
    if not _is_begun(home):
        yield Check("champion", State.WARNING, "none; the reference model answers", "`bone-age train`, or `promote`")
        return
    from bone_age import registry

    found = registry.version_by_alias(registry.CHAMPION)
    if found is None:
        yield Check("champion", State.WARNING, "none; the reference model answers", "`bone-age train`, or `promote`")
        return
    name = f"models:/{registry.REGISTERED_MODEL}/{found.version}"
    try:
        bundle = load_bundle(registry.resolve(name)[1])
    except BoneAgeError as error:
        yield Check(
            "champion", State.ERROR, str(error), "`bone-age rollback`, then restore the artifacts from a backup"
        )
    else:
        synthetic = bundle.facts.synthetic
        said = f"{name}, {bundle.facts.architecture}, files verify" + (", trained on drawn hands" if synthetic else "")
        remedy = "train on radiographs before anybody relies on it" if synthetic else ""
        yield Check("champion", State.WARNING if synthetic else State.OK, said, remedy)


def _alerts(home: Home) -> Iterator[Check]:
    urls = configured_urls(home)
    if not urls:
        yield Check(
            "alerts", State.ABSENT, "nobody is told of failures", "BONE_AGE_ALERT_URLS: docs/how-to/schedule.md"
        )
    for url in urls:
        if is_understood(url):
            yield Check("alerts", State.OK, f"{masked(url)} is understood")
        else:
            yield Check(
                "alerts", State.ERROR, f"{masked(url)} is no service that is known", "correct BONE_AGE_ALERT_URLS"
            )


def _is_begun(home: Home) -> bool:
    return "MLFLOW_TRACKING_URI" in os.environ or (home.root / "mlflow.db").is_file()
