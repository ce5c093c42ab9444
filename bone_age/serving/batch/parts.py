"""Finished work of a batch that still runs: parts of `PART_ROWS` rows in a hidden folder beside the result.

A part appears whole, under the number of its place, so work that was killed, or done twice on two nodes, leaves each
row once. `state.json` says which model and input the parts belong to; of another model or input nothing is kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bone_age.errors import InputError
from bone_age.one_process import alone
from bone_age.progress import warn

PART_ROWS = 64
"""Some ten seconds of work on two cores: what a kill costs at most."""


@dataclass(frozen=True)
class State:
    """What parts have to have in common to make one result."""

    model: str
    model_digest: str
    input_fingerprint: str
    rows: int
    version: str
    part_rows: int = PART_ROWS


@dataclass(frozen=True)
class Parts:
    """The parts of one result."""

    out: Path
    rows: int

    @property
    def folder(self) -> Path:
        """Hidden, beside the result."""
        return self.out.parent / f".{self.out.name}.batch"

    def path_of(self, part: int) -> Path:
        return self.folder / f"part-{part:09d}.parquet"

    def is_done(self, part: int) -> bool:
        return self.path_of(part).exists()

    @property
    def numbers(self) -> range:
        return range(-(-self.rows // PART_ROWS))

    def size_of(self, part: int) -> int:
        return min(PART_ROWS, self.rows - part * PART_ROWS)

    @property
    def rows_done(self) -> int:
        return sum(self.size_of(part) for part in self.numbers if self.is_done(part))

    def write(self, part: int, table: pa.Table) -> None:
        """Keep a part; on the disk before it has its name."""
        draft = self.folder / "draft"
        with writing(self.out):
            with draft.open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path_of(part))

    def tables(self) -> Iterator[pa.Table]:
        """All parts in the order of the input."""
        for part in self.numbers:
            yield pq.read_table(self.path_of(part))


@contextmanager
def parts_of(out: Path, state: State) -> Iterator[Parts]:
    """The parts that belong to a result, those of an earlier, killed run included; they go when all is well.

    Raises:
        BoneAgeError: Another process makes the same result.
        InputError: The folder of `out` cannot be written.
    """
    parts = Parts(out, state.rows)
    with writing(out):
        parts.folder.mkdir(parents=True, exist_ok=True)
    with alone(parts.folder / "lock", "batch"):
        with writing(out):
            _start_or_go_on(parts.folder, state)
        yield parts
        shutil.rmtree(parts.folder)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """What fails inside is that the result cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None


def _start_or_go_on(folder: Path, state: State) -> None:
    record = folder / "state.json"
    wanted = json.dumps(asdict(state), indent=2)
    found = record.read_text() if record.exists() else None
    if found == wanted:
        return
    if found is not None:
        warn([f"{_what_changed(found, state)} changed since this was interrupted; starting anew"])
    for left_over in folder.iterdir():
        if left_over.name != "lock":
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    draft = folder / "draft"
    draft.write_text(wanted)
    draft.replace(record)


def _what_changed(found: str, state: State) -> str:
    try:
        before = json.loads(found)
    except ValueError:
        return "the record of it"
    keys = {key for key, value in asdict(state).items() if before.get(key) != value}
    if keys & {"model", "model_digest"}:
        return "the model"
    return "the input" if keys & {"input_fingerprint", "rows"} else "bone-age"
