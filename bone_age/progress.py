"""Progress on stderr for work that takes long; where nobody watches, one line when it is done."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def bar(transient: bool = False) -> Progress:
    """A progress bar as the whole package shows it; stays as one line when done, unless `transient`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=transient,
    )
