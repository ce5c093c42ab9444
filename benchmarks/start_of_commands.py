"""How long a command takes to begin, against a process that imports TensorFlow and one that imports nothing.

    .venv/bin/python -m benchmarks.start_of_commands [--rounds 5]

`--help` of each command is measured, and `history` in an empty home, which opens the ledger; in turns, the best round
counts. None of them may import TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measured import Measured, add_json, tell

COMMANDS = {
    "bone-age --help": ["-m", "bone_age.cli", "--help"],
    "bone-age train --help": ["-m", "bone_age.cli", "train", "--help"],
    "bone-age predict --help": ["-m", "bone_age.cli", "predict", "--help"],
    "bone-age history, empty home": ["-m", "bone_age.cli", "history"],
    "python that imports TensorFlow": ["-c", "import tensorflow"],
    "python that imports nothing": ["-c", ""],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    options = parser.parse_args()
    best = dict.fromkeys(COMMANDS, float("inf"))
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"BONE_AGE_HOME": home, "TF_CPP_MIN_LOG_LEVEL": "3"}
        for _ in range(options.rounds):
            for name, command in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
                best[name] = min(best[name], time.perf_counter() - started)
    slowest = best["python that imports TensorFlow"]
    print("| command | seconds | of TensorFlow's import |")
    print("|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} | {seconds / slowest:.2f} |")
    ours = {name: seconds for name, seconds in best.items() if name.startswith("bone-age")}
    rows = [Measured(f"seconds of {name}", seconds, at_most=1.5) for name, seconds in ours.items()]
    worst = max(ours.values()) / slowest
    tell([*rows, Measured("time, slowest of these / Python that imports TensorFlow", worst)], options.json)


if __name__ == "__main__":
    main()
