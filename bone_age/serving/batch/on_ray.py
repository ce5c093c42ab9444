"""The same work on several nodes, with Ray Data; joins the cluster that `RAY_ADDRESS` names, else starts one here.

Every node has this version of the package and sees the data and the result's folder under the same paths; the model is
laid into the latter, so that all nodes answer with the same files. Rows go out in windows, so that neither this process
nor the object store ever holds a whole manifest. A row carries its number: what a lost node was doing is done again
elsewhere, and a part is complete when each of its rows is there, once.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
os.environ.setdefault("RAY_worker_niceness", "0")  # else workers starve beside whatever else runs

import pyarrow as pa

from bone_age.errors import BoneAgeError, InputError
from bone_age.progress import bar
from bone_age.serving.batch.answers import answer_row, on_one_thread, to_table
from bone_age.serving.batch.parts import PART_ROWS, Parts, writing
from bone_age.serving.batch.questions import Question
from bone_age.serving.predictor import Predictor, Warning

try:
    import ray
    import ray.data
except ImportError:
    raise InputError("--engine ray needs Ray: install the extra `ray` (pip install 'bone-age[ray]')") from None

WINDOW_PARTS = 256
OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster started here; rows and answers are small, images never enter it."""


def answer_on_ray(
    predictor: Predictor, root: Path, questions: Iterable[Question], parts: Parts
) -> Iterator[tuple[int, pa.Table]]:
    """Parts with their numbers, as nodes finish them.

    Raises:
        BoneAgeError: Nodes do not see the data or the model, or too many were lost.
    """
    model = parts.folder / "model"
    with writing(parts.out):
        shutil.copytree(predictor.bundle.folder, model, dirs_exist_ok=True)
    told = {
        "root": str(root),
        "model": str(model.resolve()),
        "name": predictor.name,
        "warnings": tuple((warning.code, warning.message) for warning in predictor.standing_warnings),
    }
    with _cluster(), bar() as progress:
        task = progress.add_task(
            f"predicting with {predictor.name} on Ray", total=parts.rows, completed=parts.rows_done, note=""
        )
        of_parts = (list(group) for _, group in groupby(questions, lambda question: question.number // PART_ROWS))
        while window := list(islice(of_parts, WINDOW_PARTS)):
            for part, table in _answer_window(window, told, parts):
                progress.advance(task, len(table))
                yield part, table


def _answer_window(window: list[list[Question]], told: dict[str, Any], parts: Parts) -> Iterator[tuple[int, pa.Table]]:
    rows = ray.data.from_arrow([_asked(group) for group in window])
    answered = rows.map_batches(_answer_table, batch_size=None, batch_format="pyarrow", fn_kwargs=told, num_cpus=1)
    waiting: dict[int, dict[int, dict[str, Any]]] = {}
    try:
        for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in table.to_pylist():
                part = row["number"] // PART_ROWS
                waiting.setdefault(part, {})[row["number"]] = row
                if len(waiting[part]) == parts.size_of(part):
                    found = waiting.pop(part)
                    yield part, to_table(found[number] for number in sorted(found))
    except ray.exceptions.RayError as error:
        raise BoneAgeError(f"Ray: {_reason(error)}; what is done is kept, run it again to go on") from None
    if waiting:
        raise BoneAgeError(f"Ray lost rows of part {min(waiting)}; what is done is kept, run it again to go on")


def _asked(questions: list[Question]) -> pa.Table:
    """Paths as bytes: Arrow's text has to be UTF-8, a file's name need not be."""
    return pa.table(
        {
            "number": [question.number for question in questions],
            "source_row": [question.source_row for question in questions],
            "path": [os.fsencode(question.path) for question in questions],
            "sex": [question.sex for question in questions],
            "chronological_age_months": pa.array(
                [question.chronological_age_months for question in questions], pa.float64()
            ),
            "problem": [question.problem for question in questions],
        }
    )


def _answer_table(table: pa.Table, root: str, model: str, name: str, warnings: tuple[tuple[str, str], ...]) -> pa.Table:
    """What a node does with one part."""
    if not Path(root).is_dir():
        raise InputError(f"{root} is not there on node {ray.util.get_node_ip_address()}")
    predictor = _predictor(model, name, warnings)
    questions = (Question(**row | {"path": os.fsdecode(row["path"])}) for row in table.to_pylist())
    return to_table(answer_row(predictor, Path(root), question) for question in questions)


@cache
def _predictor(model: str, name: str, warnings: tuple[tuple[str, str], ...]) -> Predictor:
    """Verified and loaded once a worker process."""
    loaded = Predictor.from_folder(Path(model), name)
    return on_one_thread(Predictor(loaded.bundle, name, tuple(Warning(*warning) for warning in warnings)))


@contextmanager
def _cluster() -> Iterator[None]:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", **own, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BoneAgeError(f"Ray at {address or 'this machine'}: {_reason(error)}") from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return next((line.strip() for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
