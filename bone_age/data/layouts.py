"""Label files: which layouts are known, and how one is read into labelled rows.

Structure (columns, encoding, number of fields) is judged here, at once; a value that is merely wrong is kept with its
raw text, so that validation can report all wrong values of a data set together. CSV only with commas, read by the
standard library rather than by pandas: pandas guesses types, and its messages name no line of the file.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from dataclasses import dataclass
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
    """A CSV's header and records, not yet interpreted."""

    path: Path
    header: tuple[str, ...]
    records: tuple[Record, ...]

    def fits(self, layout: Layout) -> bool:
        return set(layout.columns.values()) <= set(self.header)

    def missing_columns(self, layout: Layout) -> list[str]:
        return [name for name in layout.columns.values() if name not in self.header]


def read_label_file(path: Path) -> LabelFile:
    """Read a comma-separated file: UTF-8, or UTF-16 with byte-order mark, with any line ends.

    Raises:
        InputError: The file is empty, is no text, is not separated by commas, or a row has too many or too few fields.
    """
    reader = csv.reader(io.StringIO(_text_of(path), newline=None), strict=True)
    header: tuple[str, ...] = ()
    records: list[Record] = []
    line = 0
    try:
        for fields in reader:
            start, line = line + 1, reader.line_num
            where = f"{path.name}:{start}"
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = _normal_header(where, fields)
            elif len(fields) != len(header):
                raise InputError(f"{where}: has {len(fields)} fields, the header has {len(header)}")
            else:
                values = (field.strip() for field in fields)
                records.append(Record(where, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path.name}:{line + 1}: is no valid CSV: {error}") from None
    if not header:
        raise InputError(f"{path}: is empty")
    return LabelFile(path, header, tuple(records))


def labelled_rows(file: LabelFile, layout: Layout) -> list[LabelledRow]:
    """Interpret a label file.

    Raises:
        InputError: Columns are missing or misspelt, there are no rows, or a row's image, split or chronological age
            cannot be used at all.
    """
    if missing := file.missing_columns(layout):
        found = ", ".join(file.header)
        raise InputError(f"{file.path}: column {', '.join(map(repr, missing))} is missing; found: {found}")
    for column in set(file.header) - {*layout.columns.values(), *layout.optional.values()}:
        if close := difflib.get_close_matches(column, layout.optional, cutoff=0.75):
            raise InputError(f"{file.path}: column {column!r} is not known; did you mean {close[0]!r}?")
    if not file.records:
        raise InputError(f"{file.path}: has a header but no rows")
    rows = [_labelled_row(record, layout) for record in file.records]
    unnamed = next((row for row in rows if not row.split), None)
    if unnamed and any(row.split for row in rows):
        raise InputError(f"{unnamed.source_row}: split is empty while other rows name one; name all or none")
    return rows


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n|\r|\n", content[: error.start]))
        raise InputError(f"{path.name}:{line}: is not {encoding.upper()} text; save the file as UTF-8") from None
    if "\0" in text:
        line = 1 + len(re.findall(r"\r\n|\r|\n", text[: text.index("\0")]))
        raise InputError(f"{path.name}:{line}: holds a NUL character, so it is not text; save the file as UTF-8")
    return text


def _normal_header(where: str, fields: list[str]) -> tuple[str, ...]:
    header = tuple(" ".join(field.lower().split()) for field in fields)
    if len(header) == 1 and (separator := next((c for c in ";\t|" if c in header[0]), None)):
        raise InputError(f"{where}: columns are separated by {separator!r}, expected commas")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"{where}: column {twice[0]!r} appears more than once")
    return header


def _labelled_row(record: Record, layout: Layout) -> LabelledRow:
    def field(column: str) -> str:
        return record.fields.get((layout.columns | layout.optional).get(column, ""), "")

    if not field("image"):
        raise InputError(f"{record.where}: {layout.columns['image']} is empty")
    chronological = field("chronological_age_months")
    if chronological and not _number(chronological) >= 0:
        raise InputError(f"{record.where}: chronological_age_months is {chronological!r}, expected months or nothing")
    return LabelledRow(
        source_row=record.where,
        image=field("image"),
        sex=_sex(field("sex")),
        bone_age_months=_number(field("bone_age_months")),
        raw_bone_age=field("bone_age_months"),
        chronological_age_months=_number(chronological),
        patient_id=field("patient_id"),
        split=_split(record.where, field("split")),
    )


def _sex(text: str) -> str:
    lowered = text.lower()
    return "M" if lowered in _MALE else "F" if lowered in _FEMALE else text


def _number(text: str) -> float:
    """A plain decimal number; NaN for anything else: hexadecimal, exponent, infinity, thousands separator, comma."""
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    return number if math.isfinite(number) else math.nan


def _split(where: str, text: str) -> str:
    name = {"val": "validation", "valid": "validation"}.get(text.lower(), text.lower())
    if name not in ("", "train", "validation", "test"):
        raise InputError(f"{where}: split is {text!r}, expected train, validation or test")
    return name
