"""Label files: which layouts are known, and how one is read into labelled rows.

Structure (columns, encoding, number of fields) is judged here; a value that is merely wrong is kept with its raw text,
so that validation can report all wrong values of a data set together. CSV only with commas, read by the standard
library rather than by pandas: pandas guesses types, and its messages name no line of the file. A line at a time, so
that a manifest may be larger than the memory.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bone_age.errors import InputError

_MALE, _FEMALE = {"m", "male", "true"}, {"f", "female", "false"}
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Layout:
    """One way of writing labels: which column means what.

    Attributes:
        title: How messages call it.
        split: The challenge's part it holds, empty for `manifest.csv`, which has a column for that.
        image_folder: Usual folder of its images; others whose name starts so count too. Empty: the CSV holds paths.
        columns: The CSV's header (lower case) for each of our columns; all must be there.
        optional: The same for columns that may be absent.
    """

    title: str
    split: str
    image_folder: str
    columns: dict[str, str]
    optional: dict[str, str]

    @property
    def header(self) -> str:
        return ",".join(self.columns.values())

    def without_labels(self) -> Layout:
        """The same for who wants to know bone ages and need not have them."""
        label = {"bone_age_months": self.columns["bone_age_months"]}
        needed = {name: header for name, header in self.columns.items() if name not in label}
        return replace(self, columns=needed, optional=self.optional | label)


MANIFEST = Layout(
    "manifest.csv",
    "",
    "",
    {"image": "image", "sex": "sex", "bone_age_months": "bone_age_months"},
    {name: name for name in ("chronological_age_months", "patient_id", "split")},
)
TRAINING = Layout(
    "the challenge's training part",
    "train",
    "boneage-training-dataset",
    {"image": "id", "bone_age_months": "boneage", "sex": "male"},
    {},
)
VALIDATION = Layout(
    "the challenge's validation part",
    "validation",
    "boneage-validation-dataset",
    {"image": "image id", "sex": "male", "bone_age_months": "bone age (months)"},
    {},
)
TEST = Layout(
    "the challenge's test part",
    "test",
    "boneage-test-dataset",
    {"image": "case id", "sex": "sex", "bone_age_months": "ground truth bone age (months)"},
    {},
)
TEST_UNLABELLED = Layout(
    "the challenge's test part without labels",
    "test",
    "boneage-test-dataset",
    {"image": "case id", "sex": "sex"},
    {},
)
CHALLENGE_LAYOUTS = (TRAINING, VALIDATION, TEST, TEST_UNLABELLED)


@dataclass(frozen=True)
class Record:
    """One line's fields, by header."""

    where: str
    fields: dict[str, str]

    def field(self, layout: Layout, column: str) -> str:
        """The text of one of our columns; empty where the file does not have it."""
        return self.fields.get((layout.columns | layout.optional).get(column, ""), "")


@dataclass(frozen=True)
class LabelledRow:
    """One radiograph's label.

    Attributes:
        source_row: File and line, `manifest.csv:17`; the header is line 1.
        image: Id or, from `manifest.csv`, path.
        sex: M or F, or the raw text where it is neither.
        bone_age_months: NaN where `raw_bone_age` is no plain decimal number.
        chronological_age_months: NaN where not given.
    """

    source_row: str
    image: str
    sex: str
    bone_age_months: float
    raw_bone_age: str
    chronological_age_months: float
    patient_id: str
    split: str


@dataclass(frozen=True)
class LabelFile:
    """A comma-separated file: UTF-8, or UTF-16 with byte-order mark, with any line ends; its rows are not read yet."""

    path: Path
    header: tuple[str, ...]

    def fits(self, layout: Layout) -> bool:
        return set(layout.columns.values()) <= set(self.header)

    def missing_columns(self, layout: Layout) -> list[str]:
        return [name for name in layout.columns.values() if name not in self.header]

    def has_labels(self, layout: Layout) -> bool:
        return (layout.columns | layout.optional).get("bone_age_months") in self.header

    def require(self, layout: Layout) -> None:
        """Refuse columns that are missing or misspelt.

        Raises:
            InputError: Names them.
        """
        if missing := self.missing_columns(layout):
            found = ", ".join(self.header)
            raise InputError(f"{self.path}: column {', '.join(map(repr, missing))} is missing; found: {found}")
        for column in set(self.header) - {*layout.columns.values(), *layout.optional.values()}:
            if close := difflib.get_close_matches(column, layout.optional, cutoff=0.75):
                raise InputError(f"{self.path}: column {column!r} is not known; did you mean {close[0]!r}?")

    def records(self) -> Iterator[Record]:
        """Its rows, read as they are asked for.

        Raises:
            InputError: The file is no text or no valid CSV there, or a row has too many or too few fields.
        """
        rows = _rows(self.path)
        next(rows)
        for where, fields in rows:
            if len(fields) != len(self.header):
                raise InputError(f"{where}: has {len(fields)} fields, the header has {len(self.header)}")
            yield Record(where, dict(zip(self.header, (field.strip() for field in fields), strict=True)))


def read_label_file(path: Path) -> LabelFile:
    """Read a label file's header.

    Raises:
        InputError: The file is empty, cannot be read, is no text, or is not separated by commas.
    """
    first = next(_rows(path), None)
    if first is None:
        raise InputError(f"{path}: is empty")
    return LabelFile(path, _normal_header(*first))


def labelled_rows(file: LabelFile, layout: Layout) -> list[LabelledRow]:
    """Interpret a label file.

    Raises:
        InputError: Columns are missing or misspelt, there are no rows, or a row's image, split or chronological age
            cannot be used at all.
    """
    file.require(layout)
    rows = [_labelled_row(record, layout) for record in file.records()]
    if not rows:
        raise InputError(f"{file.path}: has a header but no rows")
    unnamed = next((row for row in rows if not row.split), None)
    if unnamed and any(row.split for row in rows):
        raise InputError(f"{unnamed.source_row}: split is empty while other rows name one; name all or none")
    return rows


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each row starts, `manifest.csv:17`, and its fields; empty rows are left out, the header is not."""
    reader = csv.reader(_lines(path), strict=True)
    line = 0
    try:
        for fields in reader:
            start, line = line + 1, reader.line_num
            if any(field.strip() for field in fields):
                yield f"{path.name}:{start}", fields
    except csv.Error as error:
        raise InputError(f"{path.name}:{line + 1}: is no valid CSV: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            start = file.read(3)
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
        with path.open(encoding=encoding) as text:
            for number, line in enumerate(text, start=1):
                if "\0" in line:
                    raise InputError(
                        f"{path.name}:{number}: holds a NUL character, so it is not text; save the file as UTF-8"
                    )
                yield line
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(_undecodable(path, encoding)) from None


def _undecodable(path: Path, encoding: str) -> str:
    """Which line cannot be decoded; read again and whole, as a buffer of it does not tell."""
    content = path.read_bytes()
    try:
        content.decode(encoding)
        line = 1
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n|\r|\n", content[: error.start]))
    return f"{path.name}:{line}: is not {encoding.upper()} text; save the file as UTF-8"


def _normal_header(where: str, fields: list[str]) -> tuple[str, ...]:
    header = tuple(" ".join(field.lower().split()) for field in fields)
    if len(header) == 1 and (separator := next((c for c in ";\t|" if c in header[0]), None)):
        raise InputError(f"{where}: columns are separated by {separator!r}, expected commas")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"{where}: column {twice[0]!r} appears more than once")
    return header


def _labelled_row(record: Record, layout: Layout) -> LabelledRow:
    def field(column: str) -> str:
        return record.field(layout, column)

    if not field("image"):
        raise InputError(f"{record.where}: {layout.columns['image']} is empty")
    chronological = field("chronological_age_months")
    if chronological and not number_of(chronological) >= 0:
        raise InputError(f"{record.where}: chronological_age_months is {chronological!r}, expected months or nothing")
    return LabelledRow(
        source_row=record.where,
        image=field("image"),
        sex=sex_of(field("sex")),
        bone_age_months=number_of(field("bone_age_months")),
        raw_bone_age=field("bone_age_months"),
        chronological_age_months=number_of(chronological),
        patient_id=field("patient_id"),
        split=_split(record.where, field("split")),
    )


def sex_of(text: str) -> str:
    """M or F, or the text as it is where it is neither."""
    lowered = text.lower()
    return "M" if lowered in _MALE else "F" if lowered in _FEMALE else text


def number_of(text: str) -> float:
    """A plain decimal number; NaN for anything else: hexadecimal, exponent, infinity, thousands separator, comma."""
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    return number if math.isfinite(number) else math.nan


def _split(where: str, text: str) -> str:
    name = {"val": "validation", "valid": "validation"}.get(text.lower(), text.lower())
    if name not in ("", "train", "validation", "test"):
        raise InputError(f"{where}: split is {text!r}, expected train, validation or test")
    return name
