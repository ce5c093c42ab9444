"""Progress on stderr for work that takes long; where nobody watches, one line when it is done."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_watched: list[list[Progress]] = []


def warn(messages: Iterable[str]) -> None:
    """Remarks that do not stop the work, a line each on stderr."""
    for message in messages:
        print(f"warning: {message}", file=sys.stderr)


def bar(transient: bool = False) -> Progress:
    """A progress bar as the whole package shows it; stays as one line when done, unless `transient`."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=transient,
        disable=transient and not console.is_terminal,
    )
    for bars in _watched:
        bars.append(progress)
    return progress


@contextmanager
def bars_stopped() -> Iterator[None]:
    """Stop every bar made inside at the end, also those whose owner was ended by an exception."""
    bars: list[Progress] = []
    _watched.append(bars)
    try:
        yield
    finally:
        _watched.remove(bars)
        for progress in bars:
            if progress.live.is_started:
                progress.stop()
