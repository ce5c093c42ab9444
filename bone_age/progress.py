"""Progress on stderr for work that takes long; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def bar() -> Progress:
    """A progress bar as the whole package shows it; disappears when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )


def track(items: Iterable[T], description: str, total: int | None = None, unit: int = 1) -> Iterator[T]:
    """Yield the items while a bar advances by `unit` for each."""
    if total is None and isinstance(items, Sized):
        total = len(items) * unit
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        for item in items:
            yield item
            progress.advance(task, unit)
