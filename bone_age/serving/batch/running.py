"""A batch from start to end: look at the input, load the model, answer what is not answered yet, write the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from bone_age import __version__
from bone_age.data.threads import stream_in_threads
from bone_age.errors import InputError
from bone_age.serving.batch.answers import answer_row, on_one_thread, to_table
from bone_age.serving.batch.parts import PART_ROWS, Parts, State, parts_of
from bone_age.serving.batch.questions import Question, Questions, find_questions, survey
from bone_age.serving.batch.result import failed_beside, require_apart, require_writable, write_result
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class BatchReport:
    """What was done.

    Attributes:
        failed_rows: Rows without an answer; `failed` is the file that names them, None where there are none.
        resumed_rows: Rows that an earlier, killed run had done; `seconds` is the time for the others.
        dataset_fingerprint: Of what the model was trained on.
        input_fingerprint: SHA-256 (hex) over every row's image digest and sex, in the order of the input.
        warnings: Said of every answer.
    """

    data: str
    out: str
    failed: str | None
    rows: int
    answered: int
    failed_rows: int
    resumed_rows: int
    seconds: float
    engine: str
    model: str
    model_digest: str
    dataset_fingerprint: str
    input_fingerprint: str
    warnings: tuple[str, ...]

    @property
    def images_per_second(self) -> float:
        return (self.rows - self.resumed_rows) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"images_per_second": round(self.images_per_second, 3)}


def run_batch(
    data: Path, out: Path, reference: str | None = None, engine: str = "local", sex: str | None = None
) -> BatchReport:
    """Answer every radiograph of a data set; goes on where the same command was killed.

    Args:
        data: A data set, with or without bone ages; a CSV file; or a bare folder of images, which needs `sex`.
        out: `.parquet` or `.csv`, one row an answer in the order of the input. What could not be answered is named in
            `<stem>.failed.csv` beside it.
        reference: As for `load_predictor`.
    Raises:
        InputError: The input, the engine or the place of the result is not usable.
        ModelError: There is no such model.
        BoneAgeError: Another process makes the same result; nodes were lost for good.
    """
    if engine not in ENGINES:
        raise InputError(f"--engine is '{engine}', expected local or ray")
    require_writable(out)
    questions = find_questions(data, sex)
    require_apart(out, (part.file.path for part in questions.parts))
    seen = survey(questions)
    predictor = on_one_thread(load_predictor(reference))
    state = State(predictor.name, predictor.digest, seen.fingerprint, seen.rows, __version__)
    start = time.monotonic()
    with parts_of(out, state) as parts:
        done_before = parts.rows_done
        if done_before:
            print(f"note: going on after {done_before} of {parts.rows} rows", file=sys.stderr)
        for part, table in _answer(engine, predictor, questions, parts):
            parts.write(part, table)
        seconds = time.monotonic() - start
        written = write_result(parts, out)
    return BatchReport(
        data=str(data),
        out=str(out),
        failed=str(failed_beside(out)) if written.failed else None,
        rows=parts.rows,
        answered=written.answered,
        failed_rows=written.failed,
        resumed_rows=done_before,
        seconds=round(seconds, 3),
        engine=engine,
        model=predictor.name,
        model_digest=predictor.digest,
        dataset_fingerprint=predictor.bundle.facts.dataset_fingerprint,
        input_fingerprint=written.fingerprint,
        warnings=tuple(warning.message for warning in predictor.standing_warnings),
    )


def _answer(engine: str, predictor: Predictor, questions: Questions, parts: Parts) -> Iterator[tuple[int, pa.Table]]:
    """Parts that are not there yet, with their numbers, in any order."""
    done = {part for part in parts.numbers if parts.is_done(part)}
    open_questions = (question for question in questions if question.number // PART_ROWS not in done)
    if engine == "local":
        return _answer_here(predictor, questions.root, open_questions, parts)
    from bone_age.serving.batch.on_ray import answer_on_ray

    return answer_on_ray(predictor, questions.root, open_questions, parts)


def _answer_here(
    predictor: Predictor, root: Path, questions: Iterable[Question], parts: Parts
) -> Iterator[tuple[int, pa.Table]]:
    answer = partial(answer_row, predictor, root)
    rows = stream_in_threads(answer, questions, f"predicting with {predictor.name}", parts.rows, parts.rows_done)
    for part, of_part in groupby(rows, lambda row: int(row["number"]) // PART_ROWS):
        yield part, to_table(of_part)
