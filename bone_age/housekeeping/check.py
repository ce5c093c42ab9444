"""One thing that was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """`absent` is an optional part that is not there: nothing is amiss."""

    OK = "ok"
    ABSENT = "absent"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """A finding; `remedy` is a command or a sentence, empty where there is nothing to do."""

    name: str
    state: State
    said: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "state": self.state.value, "said": self.said, "remedy": self.remedy}
