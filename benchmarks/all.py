"""`make bench`: every benchmark that a claim rests on, one after the other; their figures into `docs/benchmarks.md`.

    .venv/bin/python -m benchmarks.all [--radiographs DIR] [--only NAME ...]

Figures lie in `build/benchmarks/`, a file a benchmark, beside what each printed; with `--only` the others are kept. The
table says where radiographs were absent, a benchmark failed, or a figure misses what is asked. Takes two hours on two
cores, which should have nothing else to do; one of them wants Xception's ImageNet weights in `build/`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measured import Measured, read

ROOT = Path(__file__).parents[1]
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "build" / "benchmarks"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"
FULL_SIZE, COPIES = "{radiographs}/full-size", "{radiographs}/boneage-training-dataset"


@dataclass(frozen=True)
class Benchmark:
    """A module below `benchmarks/`, and how it is called."""

    title: str
    name: str
    module: str
    arguments: tuple[str, ...] = ()

    @property
    def needs_radiographs(self) -> bool:
        return any("{radiographs}" in argument for argument in self.arguments)


ALL = (
    Benchmark("Preprocessing, radiographs of full size", "full_size", "preprocessing", ("--folder", FULL_SIZE)),
    Benchmark("Preprocessing, copies of 299 px", "copies", "preprocessing", ("--folder", COPIES)),
    Benchmark("A training step", "training_step", "training_step", ("--size", "160", "--images", "320")),
    Benchmark("An epoch on kept features", "training_epoch", "training_epoch"),
    Benchmark("Until 12 months", "time_to_accuracy", "time_to_accuracy", ("--data", "{radiographs}")),
    Benchmark("One answer", "serving_latency", "serving_latency", ("--image", FULL_SIZE + "/{one}")),
    Benchmark("Many answers", "batch", "batch_memory", ("--compare",)),
    Benchmark(
        "Serving under load",
        "serving_load",
        "serving_load",
        ("--images", FULL_SIZE, "--clients", "16", "--bad", "0"),
    ),
    Benchmark("The pipeline beside its steps", "pipeline_overhead", "pipeline_overhead"),
    Benchmark("How soon a command begins", "start_of_commands", "start_of_commands"),
    Benchmark("Evaluation", "evaluation_time", "evaluation_time"),
    Benchmark("Growth with the data", "growth", "growth"),
)


def run(benchmark: Benchmark, radiographs: Path | None) -> str | None:
    """None, or why there are no figures."""
    if benchmark.needs_radiographs and radiographs is None:
        return "not run: no radiographs (`--radiographs DIR` or BONE_AGE_RSNA_DIR)"
    arguments = [filled(argument, radiographs) for argument in benchmark.arguments]
    figures, said = FIGURES / f"{benchmark.name}.json", FIGURES / f"{benchmark.name}.txt"
    figures.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *arguments, "--json", str(figures)]
    with said.open("w") as file:
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    return None if figures.exists() else f"failed with exit code {code}; {said.relative_to(ROOT)} says why"


def filled(argument: str, radiographs: Path | None) -> str:
    if radiographs is None or "{" not in argument:
        return argument
    one = min((radiographs / "full-size").iterdir()).name if "{one}" in argument else ""
    return argument.format(radiographs=radiographs, one=one)


def section(benchmark: Benchmark, failure: str | None) -> list[str]:
    figures = FIGURES / f"{benchmark.name}.json"
    command = " ".join(("python -m", f"benchmarks.{benchmark.module}", *benchmark.arguments))
    for placeholder, shown_as in (("{radiographs}", "DIR"), ("{one}", "FILE")):
        command = command.replace(placeholder, shown_as)
    lines = [f"### {benchmark.title}", "", f"`{command}`"]
    if failure or not figures.exists():
        return [*lines, "", failure or "not run", ""]
    lines[-1] += f", {datetime.fromtimestamp(figures.stat().st_mtime, UTC):%Y-%m-%d}"
    rows = [f"| {row.what} | {shown(row)} | {row.asked} |" for row in read(figures)]
    return [*lines, "", "| figure | | asked |", "|---|---|---|", *rows, ""]


def shown(row: Measured) -> str:
    text = f"{row.figure:,.0f}" if abs(row.figure) >= 100 else f"{row.figure:.2f}"
    return text if row.holds else f"**{text}**, missed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiographs", type=Path, default=os.environ.get("BONE_AGE_RSNA_DIR"))
    parser.add_argument("--only", nargs="+", choices=[benchmark.name for benchmark in ALL])
    options = parser.parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    for benchmark in ALL:
        if options.only and benchmark.name not in options.only:
            continue
        started = time.monotonic()
        print(f"{benchmark.title} ...", end=" ", flush=True)
        failure = run(benchmark, Path(options.radiographs) if options.radiographs else None)
        print(failure or f"{time.monotonic() - started:.0f} s", flush=True)
        if failure:
            failures[benchmark.name] = failure
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [BEGIN, "", f"{machine}.", ""]
    for benchmark in ALL:
        lines += section(benchmark, failures.get(benchmark.name))
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN)] + "\n".join([*lines, END]) + page[page.index(END) + len(END) :])
    print(PAGE.relative_to(ROOT))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
