"""The result of a batch: one Parquet or CSV file of answers, and beside it a CSV of what could not be answered.

Both appear whole. Text in CSV that a spreadsheet would take for a formula (a file may be named `=cmd|...`) is written
with an apostrophe before it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bone_age.errors import BoneAgeError, InputError
from bone_age.serving.batch.answers import ANSWER
from bone_age.serving.batch.parts import Parts, writing

SUFFIXES = (".parquet", ".csv")
FAILED = pa.schema([(name, pa.string()) for name in ("source_row", "image", "sex", "error")])
_ROW_GROUP = 8192
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Written:
    """What went into the files; `fingerprint` is SHA-256 (hex) over every row's image digest and sex, in order."""

    answered: int
    failed: int
    fingerprint: str


def failed_beside(out: Path) -> Path:
    """`answers.parquet` has `answers.failed.csv` beside it."""
    return out.with_name(f"{out.stem}.failed.csv")


def require_writable(out: Path) -> None:
    """Refuse a result that could not be written, before any work.

    Raises:
        InputError: The name has another suffix, is a folder, or lies where nothing can be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    for file in (out, failed_beside(out)):
        if file.is_dir():
            raise InputError(f"{file}: is a folder")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError(f"{out}: cannot be written: {out.parent} is read-only")


def require_apart(out: Path, asked: Iterable[Path]) -> None:
    """Refuse a result that would take the place of the file that says what is asked.

    Raises:
        InputError: `out`, or the file of failures beside it, is one of `asked`.
    """
    for file in asked:
        for written in (out, failed_beside(out)):
            if written.exists() and written.samefile(file):
                raise InputError(f"{out}: {written.name} would replace the rows that are asked; give another name")


def write_result(parts: Parts, out: Path) -> Written:
    """Make the result of all parts, which are there; an earlier result of that name is replaced.

    Raises:
        BoneAgeError: A row is absent or there twice.
    """
    whole, failures = parts.folder / f"result{out.suffix}", parts.folder / "result.failed.csv"
    answered = failed = 0
    digest = hashlib.sha256()
    with writing(out):
        with _writer(whole, ANSWER) as write_answers, _writer(failures, FAILED) as write_failures:
            for table in _in_order(parts):
                for sha256, sex in zip(table["image_sha256"].to_pylist(), table["sex"].to_pylist(), strict=True):
                    digest.update(f"{sha256 or ''},{sex}\n".encode())
                is_good = pc.equal(table["error"], "")
                answers, refused = table.filter(is_good), table.filter(pc.invert(is_good))
                write_answers(answers.select(ANSWER.names))
                write_failures(refused.select(FAILED.names))
                answered, failed = answered + len(answers), failed + len(refused)
        beside = failed_beside(out)
        failures.replace(beside) if failed else beside.unlink(missing_ok=True)
        whole.replace(out)
    return Written(answered, failed, digest.hexdigest())


def _in_order(parts: Parts) -> Iterator[pa.Table]:
    row = 0
    for table in parts.tables():
        if table["number"].to_pylist() != list(range(row, row + len(table))):
            raise BoneAgeError(f"{parts.folder}: a part near row {row} is not what it should be; delete the folder")
        row += len(table)
        yield table
    if row != parts.rows:
        raise BoneAgeError(f"{parts.folder}: {row} of {parts.rows} rows are there; delete the folder")


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends a table to a new file."""
    if path.suffix.lower() == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(schema.names)
            yield lambda table: writer.writerows(map(_cell, row.values()) for row in table.to_pylist())
        return
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(path, schema) as parquet:

        def append(table: pa.Table) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= _ROW_GROUP:
                parquet.write_table(pa.concat_tables(waiting))
                waiting.clear()

        yield append
        if waiting:
            parquet.write_table(pa.concat_tables(waiting))


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
