"""What the training pipeline takes beside the work of its steps, and what a run takes that finds everything cached.

    .venv/bin/python -m benchmarks.pipeline_overhead [--config docker/quickstart_small.yaml]

A run in an empty home and a second one in the same home, each in a process of its own. The work of the steps is what
passes within their functions, MLflow included; all else is overhead: the process's start, ZenML, artifacts written and
read. Of the first run, TensorFlow's import counts as work.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measured import Measured, add_json, tell

RUN = """
import json, sys, time
from zenml.steps.base_step import BaseStep
within, plain = [0.0], BaseStep.call_entrypoint
def timed(step, *arguments, **named):
    began = time.perf_counter()
    try:
        return plain(step, *arguments, **named)
    finally:
        within[0] += time.perf_counter() - began
BaseStep.call_entrypoint = timed
from bone_age.cli import main
sys.argv = ["bone-age", "train", "--config", sys.argv[1]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("within steps", within[0])
"""


def run(config: Path, home: Path) -> tuple[float, float]:
    """Seconds of the whole process, and within the functions of its steps."""
    environment = os.environ | {"BONE_AGE_HOME": str(home), "BONE_AGE_RESULTS": str(home / "results")}
    started = time.perf_counter()
    command = [sys.executable, "-c", RUN, str(config)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("docker/quickstart_small.yaml"))
    add_json(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "cached"):
            whole, within = run(options.config, Path(folder) / "home")
            print(f"{name} run: {whole:.1f} s, {within:.1f} s of it within steps", flush=True)
            if name == "first":
                rows = [
                    Measured("first run: seconds beside the work of its steps", whole - within, at_most=15),
                    Measured("first run: share of the whole", (whole - within) / whole),
                ]
    tell([*rows, Measured("cached run: seconds in all", whole, at_most=25)], options.json)


if __name__ == "__main__":
    main()
