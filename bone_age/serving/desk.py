"""The desk that every question comes to, from the REST API and from the page: a bounded queue before a few threads.

Who comes when the queue is full is sent away at once and told when to come back, so that nobody waits for an answer
that would come too late. Requests are not batched: on a CPU a batch takes as long as its images one by one
(`benchmarks/serving_load.py --batching`), and would only make the first of them wait.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from bone_age.errors import BoneAgeError
from bone_age.serving.answering import answer_in_full, require_question
from bone_age.serving.dicom_question import complete_question
from bone_age.serving.predictor import Answered, Predictor

CALLED = ("sex", "chronological_age_months")


class BusyError(BoneAgeError):
    """Too many questions are waiting; try again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many questions are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class NotReadyError(BoneAgeError):
    """No model is loaded yet, or the server is shutting down."""


class TooSlowError(BoneAgeError):
    """The time limit passed before there was an answer."""


@dataclass(frozen=True)
class Reply:
    """An answer, the id it is called by in the logs, and the question as it was understood."""

    answered: Answered
    request_id: str
    sex: str
    chronological_age_months: float | None


class Witness(Protocol):
    """Told of every answer and every refusal; must return at once and raise nothing."""

    def answered(self, reply: Reply, seconds: float) -> None: ...

    def refused(self, error: Exception) -> None: ...


class Desk:
    """Answers questions with the model that is current when their turn comes.

    Args:
        current: Gives the model, or None while none is loaded.
        workers: How many questions are worked on at a time.
        queue_size: How many more may wait.
        time_limit_s: From asking to answer; work that has begun is not broken off, but its asker waits no longer.
    """

    def __init__(
        self,
        current: Callable[[], Predictor | None],
        workers: int = 2,
        queue_size: int = 64,
        time_limit_s: float = 30.0,
        witnesses: tuple[Witness, ...] = (),
    ) -> None:
        self._current, self._witnesses = current, witnesses
        self._workers, self._capacity, self._time_limit_s = workers, workers + queue_size, time_limit_s
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="desk")
        self._lock = threading.Lock()
        self._pending, self._usual_s = 0, 0.2
        self._retired = self._closing = False

    @property
    def predictor(self) -> Predictor:
        """The model that answers now.

        Raises:
            NotReadyError: None is loaded yet.
        """
        found = self._current()
        if found is None:
            raise NotReadyError("no model is loaded yet; try again in a moment")
        return found

    @property
    def is_ready(self) -> bool:
        return not (self._retired or self._closing) and self._current() is not None

    @property
    def depth(self) -> int:
        """Questions that wait or are being worked on."""
        return self._pending

    async def answer(
        self,
        image: bytes,
        sex: str | None,
        chronological_age_months: float | None,
        label: str,
        request_id: str | None = None,
    ) -> Reply:
        """Answer one question.

        Args:
            image: A PNG, JPEG or DICOM file.
            sex: M or F; None where the file itself may say so.
            label: What the answer calls the image.
            request_id: Names the answer in the logs; made up where it is None.
        Raises:
            BusyError: The queue is full.
            NotReadyError: No model is loaded yet, or the server is shutting down.
            TooSlowError: The time limit passed.
            InputError: Sex or age cannot be used.
            ImageError: The image cannot be used.
        """
        started, called = time.perf_counter(), request_id or uuid.uuid4().hex
        try:
            self._enter()
            work = self._threads.submit(self._reply, image, sex, chronological_age_months, label, called)
            work.add_done_callback(self._leave)
            reply = await self._in_time(work)
        except Exception as error:
            for witness in self._witnesses:
                witness.refused(error)
            raise
        seconds = time.perf_counter() - started
        for witness in self._witnesses:
            witness.answered(reply, seconds)
        return reply

    def retire(self) -> None:
        """Say that it is not ready any more; who comes all the same is answered until `close`."""
        self._retired = True

    async def close(self) -> None:
        """Take no more questions and wait until those already taken are answered."""
        self._closing = True
        await asyncio.to_thread(self._threads.shutdown)

    def _enter(self) -> None:
        if self._closing:
            raise NotReadyError("the server is shutting down")
        _ = self.predictor
        with self._lock:
            if self._pending >= self._capacity:
                raise BusyError(max(1, math.ceil(self._pending * self._usual_s / self._workers)))
            self._pending += 1

    def _leave(self, work: Future[Reply]) -> None:
        with self._lock:
            self._pending -= 1

    async def _in_time(self, work: Future[Reply]) -> Reply:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), self._time_limit_s)
        except TimeoutError:
            raise TooSlowError(f"no answer within {self._time_limit_s:g} s") from None

    def _reply(self, image: bytes, sex: str | None, age_months: float | None, label: str, request_id: str) -> Reply:
        started = time.perf_counter()
        question = complete_question(image, sex, age_months)
        sex, age_months = question.sex, question.chronological_age_months
        require_question(sex, age_months, CALLED)
        answered = question.told_with(answer_in_full(self.predictor, image, sex, age_months, label))
        self._usual_s += 0.1 * (time.perf_counter() - started - self._usual_s)
        return Reply(answered, request_id, sex, age_months)
