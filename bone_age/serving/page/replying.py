"""From the filled-in form to what is shown: one radiograph in full, several as a table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bone_age.errors import BoneAgeError, InputError
from bone_age.serving.desk import BusyError, Desk, NotReadyError, Reply, TooSlowError
from bone_age.serving.page.asking import Question, read_form
from bone_age.serving.page.showing import sex_of, show_answer, show_problem, show_report, show_table, show_working
from bone_age.serving.page.table import Row
from bone_age.serving.report_page import report_pdf

_LOG = logging.getLogger(__name__)
_LABEL = "upload"  # file names can name patients; what is logged of an answer holds none
_PATIENCE_SECONDS = 20
_SEX_UNKNOWN = "Choose the child's sex; the DICOM file does not say it, and it is never guessed."
_GONE = "The file is no longer on the server, where uploads stay for ten minutes; choose it again."


class Shown(NamedTuple):
    """HTML of the answer and of the report below it; None leaves what is there."""

    answer: str | None
    report: str | None


async def reply_to(
    desk: Desk,
    files: list[str] | None,
    sex: str | None,
    birth: str | None,
    taken: str | None,
    years: str | None,
    months: str | None,
) -> AsyncIterator[Shown]:
    """What to show, each in place of the one before; whatever goes wrong ends as a sentence."""
    try:
        question = await asyncio.to_thread(read_form, files, sex, birth, taken, years, months)
        reply = _reply_to_one if len(question.files) == 1 else _reply_to_many
        async for shown in reply(desk, question):
            yield shown
    except (BoneAgeError, ValueError) as error:  # ValueError: ImageError
        yield Shown(show_problem(_sentence(error)), "")
    except Exception:
        _LOG.exception("the page could not answer")
        yield Shown(show_problem("Something went wrong on the server. Try again; if it stays, tell who runs it."), "")


async def _reply_to_one(desk: Desk, question: Question) -> AsyncIterator[Shown]:
    yield Shown(show_working("Reading the radiograph"), "")
    (file,) = question.files
    reply = await _ask(desk, question, file)
    yield Shown(await asyncio.to_thread(show_answer, desk.predictor, reply, file.name), show_report(None))
    try:
        pdf = await asyncio.to_thread(report_pdf, reply.answered, sex_of(reply), datetime.now(UTC), file.name)
        yield Shown(None, show_report(pdf))
    except Exception:  # the answer stays, whatever becomes of the report
        _LOG.exception("the report could not be made")
        yield Shown(None, show_problem("The report could not be made; the answer above holds."))


async def _ask(desk: Desk, question: Question, file: Path) -> Reply:
    try:
        image = await asyncio.to_thread(file.read_bytes)
    except OSError:
        raise InputError(_GONE) from None
    patience = _PATIENCE_SECONDS
    while True:
        try:
            return await desk.answer(image, question.sex, question.chronological_age_months, _LABEL)
        except InputError as error:
            raise InputError(_SEX_UNKNOWN) if question.sex is None else error from None
        except BusyError:
            if (patience := patience - 1) < 0:
                raise
            await asyncio.sleep(1)


async def _reply_to_many(desk: Desk, question: Question) -> AsyncIterator[Shown]:
    rows: list[Row] = []
    total = len(question.files)
    for file in question.files:
        yield Shown(show_working(f"Reading radiograph {len(rows) + 1} of {total}", len(rows) / total), "")
        try:
            rows.append(Row(file.name, await _ask(desk, question, file)))
        except (BoneAgeError, ValueError) as error:
            rows.append(Row(file.name, None, _sentence(error)))
    yield Shown(show_table(desk.predictor, rows), "")


def _sentence(error: Exception) -> str:
    """An error as a person reads it."""
    if isinstance(error, BusyError):
        return "The server is busy at the moment. Try again in a minute."
    if isinstance(error, TooSlowError):
        return "The answer took too long. Try again; a smaller file is read faster."
    if isinstance(error, NotReadyError):
        return "The model is still being loaded. Try again in a few seconds."
    text = str(error).strip()
    if text.startswith(("is ", "does ")):  # as the decoder and the predictor say it
        text = f"The file {text}"
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
