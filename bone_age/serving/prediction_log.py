"""Each answer into the database, and no answer later or lost for it.

A request leaves its entry in a bounded queue in memory; one thread writes what has gathered, in batches, and tries
again with growing pauses while the database is slow or gone. What does not fit into the queue is dropped and counted:
an answer is worth more than its record, and a process that is killed loses what waited, a fraction of a second's worth
while the database is well.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, Thread
from uuid import uuid4

from bone_age.errors import DatabaseUnavailableError, EntryRefusedError, InputError, UnknownRequestError
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.imaging import ImageError
from bone_age.imaging.grey import ImageTooLargeError, UnknownFormatError
from bone_age.plain_text import on_one_line
from bone_age.serving.feature_summary import FeatureSummary
from bone_age.serving.prediction_table import PATIENCE_S, LoggedAnswer, LoggedFinding, PredictionTable, Reading
from bone_age.serving.predictor import Answered
from bone_age.settings import Home

CAPACITY = 10_000  # some 20 MB
BATCH = 500
GATHERING_S = 0.2
PAUSES_S = (0.1, 5.0)  # after the first failure, and the longest
OLDEST_MONTHS = 240
FLAGS = ("inverted", "rotated", "unlike_training")  # warnings that are about the picture
REFUSALS = ("refused_unlike_training", "refused_unusable_image")

_READER_CODE = re.compile(r"[A-Za-z0-9_-]{1,16}")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogCounts:
    """Entries since the log was opened; `last_error` is None while the database is well."""

    written: int
    waiting: int
    dropped: int
    last_error: str | None


class PredictionLog:
    """The log of a home or a shared database; open it with `PredictionLog.open`, use it from any thread."""

    def __init__(self, table: PredictionTable, capacity: int = CAPACITY) -> None:
        self._table, self._capacity = table, capacity
        self._queue: deque[LoggedAnswer | LoggedFinding] = deque()
        self._changed = Condition()
        self._written = self._dropped = 0
        self._last_error: str | None = None
        self._is_closing = self._is_abandoned = False
        self._hurry = 0
        self._writer = Thread(target=self._write, name="prediction-log", daemon=True)
        self._is_started = False

    @classmethod
    def open(cls, url_or_home: str | Home, capacity: int = CAPACITY) -> PredictionLog:
        """Open a log; its database may be away and is only asked for by the first entry.

        Args:
            url_or_home: `sqlite:///FILE`, `postgresql://...`, or a home (or what its `BONE_AGE_DATABASE_URL` names).
            capacity: How many entries may wait.
        Raises:
            InputError: The URL is not usable.
        """
        url = url_or_home.prediction_log_url if isinstance(url_or_home, Home) else url_or_home
        return cls(PredictionTable(url), capacity)

    def record(self, request_id: str, sex: str, answered: Answered, latency_s: float) -> None:
        """Leave an answer to be written; never waits for the database and never raises."""
        try:
            entry = _entry(request_id, sex, answered, latency_s)
        except Exception as error:  # whatever it is, the answer goes out
            with self._changed:
                self._dropped += 1
                self._last_error = on_one_line(str(error))
            return
        codes = [warning.code for warning in answered.prediction.warnings if warning.code in FLAGS]
        found = (LoggedFinding(entry.entry_id, code, entry.time, entry.model_digest) for code in codes)
        self._leave(entry, *found)

    def record_refusal(self, error: Exception, model_digest: str) -> None:
        """Leave it to be written that a picture was refused, if that is what the error says; as `record` otherwise."""
        if isinstance(error, ImageError) and not isinstance(error, UnknownFormatError | ImageTooLargeError):
            code = REFUSALS[0] if isinstance(error, UnlikeTrainingError) else REFUSALS[1]
            self._leave(LoggedFinding(uuid4().hex, code, datetime.now(UTC), model_digest))

    def _leave(self, *entries: LoggedAnswer | LoggedFinding) -> None:
        with self._changed:
            if self._is_closing or len(self._queue) + len(entries) > self._capacity:
                self._dropped += len(entries)
                return
            was_empty = not self._queue
            self._queue.extend(entries)
            if not self._is_started:
                self._is_started = True
                self._writer.start()
            if was_empty:
                self._changed.notify_all()

    def feedback(self, request_id: str, bone_age_months: float, reader: str | None = None) -> None:
        """Attach a reader's bone age to an answer; waits for the database, and for an answer still on its way to it.

        Several readings of one answer are kept. One that repeats the same reader's last one adds nothing.

        Args:
            bone_age_months: What the reader found, 0 to `OLDEST_MONTHS`.
            reader: A short code, not a name.
        Raises:
            UnknownRequestError: No answer has this request id, or its entry was dropped.
            InputError: The months or the code are not usable, or several answers have this id.
            DatabaseUnavailableError: The database does not answer.
        """
        if not 0 <= bone_age_months <= OLDEST_MONTHS:
            raise InputError(f"bone_age_months is {bone_age_months:g}, expected 0 to {OLDEST_MONTHS}")
        if reader is not None and not _READER_CODE.fullmatch(reader):
            raise InputError("reader is no short code: up to 16 letters, digits, '-' or '_', and no name")
        reading = Reading(datetime.now(UTC), reader, float(bone_age_months))
        if not _is_request_id(request_id):
            raise UnknownRequestError("request id: no answer is on record under this id")
        self._await_written(request_id)
        self._table.add_reading(request_id, reading)

    def entries(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[LoggedAnswer]:
        """What is written, oldest first, from `since` to before `until`, with readings; streamed.

        Raises:
            DatabaseUnavailableError, BoneAgeError: The database does not answer, or holds another release's tables.
        """
        return self._table.entries(since, until)

    def findings(self, model_digest: str, since: datetime, until: datetime) -> dict[str, int]:
        """How often each of `FLAGS` and `REFUSALS` was written for a model; errors as for `entries`."""
        found = self._table.findings(model_digest, since, until)
        return {code: found.get(code, 0) for code in (*FLAGS, *REFUSALS)}

    def counts(self) -> LogCounts:
        with self._changed:
            return LogCounts(self._written, len(self._queue), self._dropped, self._last_error)

    def close(self, timeout_s: float) -> LogCounts:
        """Write what waits, for at most `timeout_s`; what is not written by then counts as dropped."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._is_started:
            self._writer.join(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._dropped += len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        return self.counts()

    def _await_written(self, request_id: str) -> None:
        """Wait until this request's entry is written, if it is in the queue.

        Raises:
            DatabaseUnavailableError: It still waits after `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            self._hurry += 1
            self._changed.notify_all()
            try:
                while any(isinstance(one, LoggedAnswer) and one.request_id == request_id for one in self._queue):
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise DatabaseUnavailableError(self._last_error or "prediction log: the database is slow")
            finally:
                self._hurry -= 1

    def _write(self) -> None:
        pause_s = PAUSES_S[0]
        while batch := self._gathered():
            try:
                refused = self._add(batch)
            except Exception as error:  # the writer has to outlive whatever a database does
                self._failed(error)
                self._rest(pause_s)
                pause_s = min(2 * pause_s, PAUSES_S[1])
            else:
                self._succeeded(len(batch), refused)
                pause_s = PAUSES_S[0]

    def _gathered(self) -> list[LoggedAnswer | LoggedFinding]:
        """The next batch, which stays in the queue until it is written; empty when the log is closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing)
            self._changed.wait_for(lambda: self._is_closing or self._hurry or len(self._queue) >= BATCH, GATHERING_S)
            return [self._queue[place] for place in range(min(BATCH, len(self._queue)))]

    def _add(self, batch: list[LoggedAnswer | LoggedFinding]) -> list[str]:
        """Write a batch; returns why entries, which the database would never take, were left out."""
        refusals = (EntryRefusedError, ValueError)  # ValueError: text that has no encoding
        try:
            self._table.add(batch)
            return []
        except refusals:
            refused = []
        for entry in batch:
            try:
                self._table.add([entry])
            except refusals as error:
                refused.append(on_one_line(str(error)))
        return refused

    def _succeeded(self, count: int, refused: list[str]) -> None:
        with self._changed:
            if self._last_error is not None and not refused:
                _LOG.info("prediction log: written again")
            self._last_error = refused[-1] if refused else None
            self._written += count - len(refused)
            if self._is_abandoned:
                self._dropped -= count - len(refused)
                return
            self._dropped += len(refused)
            for _ in range(count):
                self._queue.popleft()
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        with self._changed:
            line = on_one_line(str(error) or type(error).__name__)
            if self._last_error is None:
                _LOG.warning("%s; answers go on, their entries wait", line)
            self._last_error = line

    def _rest(self, pause_s: float) -> None:
        with self._changed:
            if self._is_closing:
                self._changed.wait_for(lambda: self._is_abandoned, PAUSES_S[0])
            else:
                self._changed.wait_for(lambda: self._is_closing or self._hurry, pause_s)


def _is_request_id(text: str) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 128 and text.isascii() and text.isprintable()


def _entry(request_id: str, sex: str, answered: Answered, latency_s: float) -> LoggedAnswer:
    if not _is_request_id(request_id):
        raise InputError("prediction log: a request id is up to 128 printable ASCII characters")
    prediction = answered.prediction
    return LoggedAnswer(
        entry_id=uuid4().hex,
        time=datetime.now(UTC),
        request_id=request_id,
        model=prediction.model,
        model_digest=prediction.model_digest,
        sex=sex,
        bone_age_months=prediction.bone_age_months,
        lower_months=prediction.lower_months,
        upper_months=prediction.upper_months,
        latency_s=float(latency_s),
        statistics=answered.statistics,
        features=FeatureSummary.of(answered.pooled_features),
        likeness_distance=answered.likeness_distance,
    )
