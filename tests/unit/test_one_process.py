"""Signals end work in order: between a database's statements, and however they were met."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bone_age import one_process
from bone_age.one_process import ended_by_signals

STATEMENT = """
def execute(seconds):
    end = time.monotonic() + seconds
    os.kill(os.getpid(), signal.SIGTERM)
    while time.monotonic() < end:
        time.sleep(0.01)
    done.append("statement")
"""


def statement(module: str, seconds: float) -> tuple[Callable[[], object], list[str]]:
    """What a module does, in whose middle a signal comes, and where it says that it got to its end."""
    done: list[str] = []
    names: dict[str, Any] = {"__name__": module, "os": os, "signal": signal, "time": time, "done": done}
    exec(STATEMENT, names)
    return partial(names["execute"], seconds), done


@ended_by_signals()
def work(first: Callable[[], object]) -> None:
    """Do something, then work for so long that only an interrupt can end it in time."""
    first()
    time.sleep(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_work(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        work(lambda: os.kill(os.getpid(), number))


def test_a_statement_is_let_to_its_end() -> None:
    execute, done = statement("sqlalchemy.engine.base", 0.3)
    with pytest.raises(KeyboardInterrupt):
        work(execute)
    assert done == ["statement"]


def test_what_is_no_statement_ends_at_once() -> None:
    execute, done = statement("bone_age.modelling.training", 10)
    with pytest.raises(KeyboardInterrupt):
        work(execute)
    assert not done


def test_a_database_that_does_not_answer_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_process, "_PATIENCE", 3)
    execute, done = statement("sqlalchemy.engine.base", 20)
    with pytest.raises(KeyboardInterrupt):
        work(execute)
    assert not done


class Thing:
    """Something that a weak reference can point to."""


def test_a_signal_met_while_python_calls_back_for_what_goes_is_not_lost() -> None:
    def gone(_: weakref.ref[Thing]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # here it is raised, where Python prints and forgets it

    def let_go() -> None:
        thing = Thing()
        references.append(weakref.ref(thing, gone))

    references: list[weakref.ref[Thing]] = []
    with pytest.raises(KeyboardInterrupt):
        work(let_go)
    assert references[0]() is None


def test_other_things_that_cannot_be_raised_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))

    def gone(_: weakref.ref[Thing]) -> None:
        raise ZeroDivisionError

    with ended_by_signals():
        thing = Thing()
        reference = weakref.ref(thing, gone)
        del thing
    assert reference() is None
    assert told == [ZeroDivisionError]


def test_handlers_are_put_back_and_nothing_comes_after_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.unraisablehook
    execute, _ = statement("sqlalchemy.engine.base", 0)
    with ended_by_signals():
        execute()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    time.sleep(0.2)  # a signal sent again now would end this process
