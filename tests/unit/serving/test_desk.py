"""The desk: who waits, who is sent away, and what is told to whom."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from bone_age.errors import InputError
from bone_age.imaging import ImageError
from bone_age.serving.desk import BusyError, Desk, NotReadyError, Reply, TooSlowError
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL
from tests.served import png


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_folder(REFERENCE_MODEL)


@dataclass
class Gate:
    """A model that is current for who asks, and comes into the workers' hands when the gate is opened."""

    predictor: Predictor | None
    opened: threading.Event = field(default_factory=threading.Event)
    at_work: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self) -> Predictor | None:
        if threading.current_thread().name.startswith("desk"):
            self.at_work.release()
            assert self.opened.wait(30)
        return self.predictor


@dataclass
class Seen:
    replies: list[Reply] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def answered(self, reply: Reply, seconds: float) -> None:
        assert seconds > 0
        self.replies.append(reply)

    def refused(self, error: Exception) -> None:
        self.errors.append(error)


def ask(desk: Desk, image: bytes | None = None, sex: str | None = "F") -> asyncio.Task[Reply]:
    return asyncio.create_task(desk.answer(png() if image is None else image, sex, None, "x"))


def test_a_question_is_answered_as_the_predictor_answers_and_witnessed(predictor: Predictor) -> None:
    async def run() -> None:
        seen = Seen()
        desk = Desk(lambda: predictor, witnesses=(seen,))
        reply = await desk.answer(png(), "F", None, "mine", "id-1")
        assert reply.answered.prediction == predictor.predict(png(), "F", "mine")
        assert (reply.request_id, reply.sex) == ("id-1", "F")
        assert seen.replies == [reply]
        assert desk.depth == 0

    asyncio.run(run())


def test_who_comes_when_the_queue_is_full_is_sent_away_and_the_others_are_answered(predictor: Predictor) -> None:
    async def run() -> None:
        gate, seen = Gate(predictor), Seen()
        desk = Desk(gate, workers=1, queue_size=2, witnesses=(seen,))
        taken = [ask(desk) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as busy:
            await ask(desk)
        assert busy.value.retry_after_s >= 1
        assert desk.depth == 3
        gate.opened.set()
        assert len(await asyncio.gather(*taken)) == 3
        assert (len(seen.replies), seen.errors) == (3, [busy.value])
        await ask(desk)  # there is room again

    asyncio.run(run())


def test_the_time_limit_ends_the_waiting_and_work_not_begun_is_dropped(predictor: Predictor) -> None:
    async def run() -> None:
        gate = Gate(predictor)
        desk = Desk(gate, workers=1, queue_size=2, time_limit_s=0.2)
        begun, waiting = ask(desk), ask(desk)
        for late in (begun, waiting):
            with pytest.raises(TooSlowError):
                await late
        assert desk.depth == 1  # the one that was begun still holds its worker
        gate.opened.set()
        await desk.close()
        assert desk.depth == 0

    asyncio.run(run())


def test_nothing_is_asked_of_a_desk_without_a_model_or_one_that_closed(predictor: Predictor) -> None:
    async def run() -> None:
        with pytest.raises(NotReadyError):
            await ask(Desk(lambda: None))
        desk = Desk(lambda: predictor)
        assert desk.is_ready
        desk.retire()
        assert not desk.is_ready
        await ask(desk)  # who comes all the same is answered
        await desk.close()
        with pytest.raises(NotReadyError):
            await ask(desk)

    asyncio.run(run())


def test_closing_waits_for_what_was_taken(predictor: Predictor) -> None:
    async def run() -> None:
        gate = Gate(predictor)
        desk = Desk(gate, workers=1)
        taken = [ask(desk) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(desk.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
        gate.opened.set()
        await closing
        assert len(await asyncio.gather(*taken)) == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    ("image", "sex", "error"),
    [(png(), "X", InputError), (png(), None, InputError), (b"no picture", "F", ImageError), (b"", "M", ImageError)],
)
def test_a_question_that_cannot_be_answered_is_refused_and_witnessed(
    predictor: Predictor, image: bytes, sex: str | None, error: type[Exception]
) -> None:
    async def run() -> None:
        seen = Seen()
        desk = Desk(lambda: predictor, witnesses=(seen,))
        with pytest.raises(error):
            await ask(desk, image, sex)
        assert [type(one) for one in seen.errors] == [type(seen.errors[0])]
        assert desk.depth == 0

    asyncio.run(run())
