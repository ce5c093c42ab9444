"""Structured logs: one JSON object a line on stderr, with the request's id and nothing of the patient.

Paths, file names and messages of unexpected errors can hold names of people, so none of them is written: a request is
named by its route, an error by its type and the line that raised it.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_LOGGER = logging.getLogger("bone_age.serving")


class JsonLines(logging.Formatter):
    """A record as one JSON object; `facts` are what `note` was given."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", None)
        if facts is None and record.name.startswith("bone_age."):
            facts = {"event": "remark", "said": record.getMessage()}
        elif facts is None:  # of a library: its message may hold anything, its traceback more
            facts = {"event": "library", "logger": record.name, "at": f"{record.module}:{record.lineno}"}
            if record.exc_info and record.exc_info[1]:
                facts |= whereabouts(record.exc_info[1])
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname.lower(), **facts})


def start_journal() -> None:
    """Send this process's logs to stderr as JSON; libraries from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.WARNING
    _LOGGER.setLevel(logging.INFO)


def note(event: str, level: int = logging.INFO, **facts: object) -> None:
    """Write one line; whoever calls it sees to it that the facts name no patient."""
    _LOGGER.log(level, event, extra={"facts": {"event": event, **facts}})


def whereabouts(error: BaseException) -> dict[str, str]:
    """An unexpected error without its message: its type, and the innermost line of this package it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "bone_age" in frame.filename] or list(frames)
    place = f"{ours[-1].filename.rpartition('bone_age/')[2]}:{ours[-1].lineno}" if ours else "unknown"
    return {"error": type(error).__name__, "place": place}
