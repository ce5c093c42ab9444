"""How long a request is held up by its entry in the prediction log, with the database well and with none there.

    .venv/bin/python benchmarks/prediction_log.py [--entries 2000] [--database-url postgresql://…]

Prints the 50th, 99th and 100th percentile of `PredictionLog.record` in microseconds, as a ratio to the 80 ms an answer
takes, and how many entries a second reached the database.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from bone_age.data.synthetic import render_hand
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.predictor import Answered
from bone_age.serving.references import REFERENCE_MODEL, load_predictor

NOWHERE = "postgresql://nobody:none@127.0.0.1:1/none"
AN_ANSWER_S = 0.08


def measure(name: str, url: str, entries: int, answered: Answered) -> None:
    log, taken = PredictionLog.open(url, capacity=entries), []
    began = time.perf_counter()
    for number in range(entries):
        start = time.perf_counter()
        log.record(f"r{number}", "F", answered, AN_ANSWER_S)
        taken.append(time.perf_counter() - start)
        time.sleep(0.001)
    counts = log.close(60 if url != NOWHERE else 0)
    median, high, longest = np.percentile(taken, [50, 99, 100])
    print(
        f"{name}: p50 {median * 1e6:.0f} us, p99 {high * 1e6:.0f} us, longest {longest * 1e6:.0f} us; "
        f"ratio of p99 to an answer {high / AN_ANSWER_S:.4f}; {counts.written} written, {counts.dropped} dropped, "
        f"{counts.written / (time.perf_counter() - began):.0f} a second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--database-url")
    options = parser.parse_args()
    answered = load_predictor(str(REFERENCE_MODEL)).answer(render_hand(96, "F", 4, 640, 512), "F")
    with tempfile.TemporaryDirectory() as folder:
        url = options.database_url or f"sqlite:///{Path(folder) / 'predictions.db'}"
        measure("database well", url, options.entries, answered)
    measure("no database", NOWHERE, options.entries, answered)


if __name__ == "__main__":
    main()
