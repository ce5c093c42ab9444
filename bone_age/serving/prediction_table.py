"""The prediction log's tables: answers, what was found amiss, and the bone ages that readers gave afterwards.

No column holds an image, a file's name, a name, a DICOM element or the child's age. What a request is called
(`request_id`) is the server's own, and the way back to a patient is in the hospital's systems alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    func,
    insert,
    inspect,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from bone_age.database import Database
from bone_age.errors import BoneAgeError, InputError, UnknownRequestError
from bone_age.serving.feature_summary import FeatureSummary
from bone_age.serving.statistics import ImageStatistics

SCHEMA_VERSION = 1
PATIENCE_S = 5
_CREATING, _READING = 7_305_114_003, 7_305_114_004
_PAGE = 1000

_METADATA = MetaData()
SCHEMA = Table("bone_age_prediction_schema", _METADATA, Column("version", Integer, primary_key=True))
ANSWERS = Table(
    "bone_age_predictions",
    _METADATA,
    Column("entry_id", Text, primary_key=True),  # made when it is recorded, so that a repeated insert adds nothing
    Column("time", DateTime(timezone=True), nullable=False, index=True),
    Column("request_id", Text, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("sex", Text, nullable=False),
    Column("bone_age_months", Float, nullable=False),
    Column("lower_months", Float, nullable=False),
    Column("upper_months", Float, nullable=False),
    Column("latency_s", Float, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("mean", Float, nullable=False),
    Column("sd", Float, nullable=False),
    Column("black_share", Float, nullable=False),
    Column("white_share", Float, nullable=False),
    Column("feature_norm", Float, nullable=False),
    Column("feature_projections", JSON, nullable=False),
    Column("likeness_distance", Float),
)
FINDINGS = Table(  # of answers, and of questions that got none; came after the others, and a log without it gets it
    "bone_age_findings",
    _METADATA,
    Column("entry_id", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False, index=True),
    Column("model_digest", Text, nullable=False),
)
READINGS = Table(
    "bone_age_readings",
    _METADATA,
    Column("number", Integer, primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("request_id", Text, nullable=False, index=True),
    Column("reader", Text),
    Column("bone_age_months", Float, nullable=False),
)


@dataclass(frozen=True)
class Reading:
    """A bone age that a reader gave, months; `reader` is a code or None."""

    time: datetime
    reader: str | None
    bone_age_months: float


@dataclass(frozen=True)
class LoggedAnswer:
    """One answer as it is kept; times are UTC, readings in the order they came, the rest as in `Answered`."""

    entry_id: str
    time: datetime
    request_id: str
    model: str
    model_digest: str
    sex: str
    bone_age_months: float
    lower_months: float
    upper_months: float
    latency_s: float
    statistics: ImageStatistics
    features: FeatureSummary
    likeness_distance: float | None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class LoggedFinding:
    """What was flagged or put right for an answer (`entry_id` is the answer's), or why a question got none."""

    entry_id: str
    code: str
    time: datetime
    model_digest: str


class PredictionTable:
    """The tables, made where they are absent at the first use and not before.

    Raises:
        InputError: The URL is none, or names another kind of database. Methods raise `DatabaseUnavailableError` and
        `BoneAgeError` as `Database` does.
    """

    def __init__(self, database_url: str) -> None:
        self._database = Database(database_url, "prediction log", PATIENCE_S)
        self._insert_once: Any = sqlite.insert if self._database.is_sqlite else postgresql.insert
        self._is_ready = False

    def add(self, entries: Sequence[LoggedAnswer | LoggedFinding]) -> None:
        """Write entries, all or none; those that are there already are left as they are."""
        self._prepare()
        answers = [_columns(entry) for entry in entries if isinstance(entry, LoggedAnswer)]
        findings = [vars(entry) for entry in entries if isinstance(entry, LoggedFinding)]
        with self._database.writing() as connection:
            for table, rows in ((ANSWERS, answers), (FINDINGS, findings)):
                adding = self._insert_once(table).on_conflict_do_nothing(index_elements=table.primary_key.columns)
                if rows:
                    connection.execute(adding, rows)

    def add_reading(self, request_id: str, reading: Reading) -> None:
        """Attach a reading; one that repeats the same reader's last one adds nothing.

        Raises:
            UnknownRequestError: No answer has this request id.
            InputError: Several have it.
        """
        self._prepare()
        with self._database.writing(_READING) as connection:
            _require_one_answer(connection, request_id)
            of_reader = [READINGS.c.request_id == request_id, READINGS.c.reader.is_not_distinct_from(reading.reader)]
            last = select(READINGS.c.bone_age_months).where(*of_reader).order_by(READINGS.c.number.desc()).limit(1)
            if connection.scalar(last) != reading.bone_age_months:
                values = {"time": reading.time, "reader": reading.reader, "bone_age_months": reading.bone_age_months}
                connection.execute(insert(READINGS).values(request_id=request_id, **values))

    def entries(self, since: datetime | None, until: datetime | None) -> Iterator[LoggedAnswer]:
        """Answers from `since` to before `until` (None: without a bound), oldest first; `_PAGE` at a time in memory.

        Each page is a question of its own, so that who reads slowly keeps no writer waiting.
        """
        self._prepare()
        bounds = [] if since is None else [ANSWERS.c.time >= since.astimezone(UTC)]
        bounds += [] if until is None else [ANSWERS.c.time < until.astimezone(UTC)]
        question = select(ANSWERS).where(*bounds).order_by(ANSWERS.c.time, ANSWERS.c.entry_id).limit(_PAGE)
        page = question
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(page).all()
                readings = _readings_of(connection, rows)
            yield from (_answer(row, readings.get(row.request_id, [])) for row in rows)
            if len(rows) < _PAGE:
                return
            time, entry_id = rows[-1].time, rows[-1].entry_id
            same_time = and_(ANSWERS.c.time == time, ANSWERS.c.entry_id > entry_id)
            page = question.where(or_(ANSWERS.c.time > time, same_time))

    def findings(self, model_digest: str, since: datetime, until: datetime) -> dict[str, int]:
        """How often each code was found with this model, from `since` to before `until`."""
        self._prepare()
        place = [FINDINGS.c.model_digest == model_digest, FINDINGS.c.time >= since.astimezone(UTC)]
        place.append(FINDINGS.c.time < until.astimezone(UTC))
        with self._database.reading() as connection:
            counted = select(FINDINGS.c.code, func.count().label("times")).where(*place).group_by(FINDINGS.c.code)
            return {row.code: row.times for row in connection.execute(counted)}

    def _prepare(self) -> None:
        if not self._is_ready:
            with self._database.reading() as connection:
                found = inspect(connection)
                exists = found.has_table(SCHEMA.name)
                version = connection.scalar(select(func.max(SCHEMA.c.version))) if exists else None
                is_whole = found.has_table(FINDINGS.name)
            if version is None or (version == SCHEMA_VERSION and not is_whole):
                version = self._create()
            if version != SCHEMA_VERSION:
                raise BoneAgeError(f"prediction log: its tables are of version {version}, this is {SCHEMA_VERSION}")
            self._is_ready = True

    def _create(self) -> int:
        with self._database.writing(_CREATING) as connection:
            _METADATA.create_all(connection)
            version = connection.scalar(select(func.max(SCHEMA.c.version)))
            if version is None:
                connection.execute(insert(SCHEMA).values(version=SCHEMA_VERSION))
            return version or SCHEMA_VERSION


def _require_one_answer(connection: Connection, request_id: str) -> None:
    found = connection.scalar(select(func.count()).where(ANSWERS.c.request_id == request_id)) or 0
    if found == 0:
        raise UnknownRequestError(f"request '{request_id}': no answer is on record under this id")
    if found > 1:
        raise InputError(f"request '{request_id}': {found} answers have this id; which of them was read is not known")


def _columns(answer: LoggedAnswer) -> dict[str, Any]:
    own = {column.name: getattr(answer, column.name) for column in ANSWERS.c if hasattr(answer, column.name)}
    features = {"feature_norm": answer.features.norm, "feature_projections": list(answer.features.projections)}
    return own | vars(answer.statistics) | features


def _readings_of(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, list[Reading]]:
    wanted = READINGS.c.request_id.in_({row.request_id for row in rows})
    found: dict[str, list[Reading]] = {}
    for row in connection.execute(select(READINGS).where(wanted).order_by(READINGS.c.number)):
        found.setdefault(row.request_id, []).append(Reading(_utc(row.time), row.reader, row.bone_age_months))
    return found


def _answer(row: Row[Any], readings: list[Reading]) -> LoggedAnswer:
    held = row._asdict()
    features = FeatureSummary(held.pop("feature_norm"), tuple(held.pop("feature_projections")))
    statistics = ImageStatistics(**{name: held.pop(name) for name in ImageStatistics.__dataclass_fields__})
    return LoggedAnswer(
        **held | {"time": _utc(row.time)}, statistics=statistics, features=features, readings=tuple(readings)
    )


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
