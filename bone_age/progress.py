"""Progress on stderr for work that takes long; where nobody watches, one line when it is done."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def warn(messages: Iterable[str]) -> None:
    """Remarks that do not stop the work, a line each on stderr."""
    for message in messages:
        print(f"warning: {message}", file=sys.stderr)


def bar(transient: bool = False) -> Progress:
    """A progress bar as the whole package shows it; stays as one line when done, unless `transient`."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=transient,
        disable=transient and not console.is_terminal,
    )
