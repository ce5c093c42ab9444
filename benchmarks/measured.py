"""A figure and what is asked of it: how the benchmarks tell theirs to people, and to the table of `make bench`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """One figure, mostly a ratio to an alternative of the same run.

    Attributes:
        what: Names both sides of a ratio, or the unit of what is none.
        at_least, at_most: What is asked of it; neither for a figure that is only told.
    """

    what: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        above = self.at_least is None or self.figure >= self.at_least
        return above and (self.at_most is None or self.figure <= self.at_most)

    @property
    def asked(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="takes the figures, for the table of `make bench`")


def tell(rows: Sequence[Measured], file: Path | None) -> None:
    """Print the figures, and keep them in `file`."""
    print("\n| figure | | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.figure:.3g}{'' if row.holds else ', **missed**'} | {row.asked} |")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def read(file: Path) -> list[Measured]:
    return [Measured(**row) for row in json.loads(file.read_text())]
