"""What serving costs beside the network: an answer against the bare ONNX session and against `keras.predict`.

    .venv/bin/python -m benchmarks.serving_latency --image FILE [--model REF] [--sex F] [--rounds 30] [--starts 3]

Compared like with like: the reference model's answer is the mean over an image and its mirror image, two runs of the
network, so the bare session runs twice as well. For Keras, which has no mirror image, the answer's network runs once
too, with the rest of the way as it is; what Keras takes for two images in one call is printed beside it. All are
measured in turns, so that they meet the same machine. Keras has the same architecture, input size and head with random
weights, in a process of its own. A start is a process from its beginning to its first answer over HTTP, in an empty
home. Exits with 1 where a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import psutil

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.manifest import sex_input
from bone_age.imaging import decode_image, preprocess
from bone_age.serving.answering import answer_in_full
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL, load_predictor

BOUNDS = {
    "answer / bare session": 1.15,
    "answer of one run / keras.predict": 0.5,
    "start to first answer, s": 3.0,
    "RSS, MB": 700.0,
}

KERAS = """
import sys, time
import numpy as np
from bone_age.modelling.network import build_network
from bone_age.settings import PlannedTraining, TrainingConfig
plan = TrainingConfig.model_validate(
    {
        "name": "latency",
        "seed": 0,
        "architectures": {"xception_multi": {}},
        "preprocessing": {"image_size_px": int(sys.argv[1])},
    }
).plans[0]
network = build_network(plan).full
feed = {"image": np.random.default_rng(0).integers(0, 255, (2, int(sys.argv[1]), int(sys.argv[1])), np.uint8),
        "sex": np.ones((2, 1), np.float32)}
for line in sys.stdin:
    n = int(line)
    started = time.perf_counter()
    network.predict({name: values[:n] for name, values in feed.items()}, verbose=0)
    print("took", time.perf_counter() - started, flush=True)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="a hand radiograph")
    parser.add_argument("--model", default=str(REFERENCE_MODEL), help="a model that averages over the mirror image")
    parser.add_argument("--sex", choices=("M", "F"), default="F")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--starts", type=int, default=3)
    add_json(parser)
    options = parser.parse_args(arguments)
    content = options.image.read_bytes()
    print(
        f"{options.image.name}, {len(content) / 1e3:.0f} kB, {os.cpu_count()} cores, {options.rounds} rounds in turns"
    )
    started = [start_to_answer(options.model, content, options.sex) for _ in range(options.starts)]
    starts, _, rss_mb = zip(*started, strict=True)
    for seconds, cpu_seconds, mb in started:
        print(
            f"start to first answer              {seconds:8.2f} s    ({cpu_seconds:.2f} s of CPU, {mb:.0f} MB)",
            flush=True,
        )
    figures = ratios(options.model, content, options.sex, options.rounds) | {
        "start to first answer, s": float(np.median(starts)),
        "RSS, MB": max(rss_mb),
    }
    rows = [Measured(name, figures[name], at_most=bound) for name, bound in BOUNDS.items()]
    tell(rows, options.json)
    return 0 if all(row.holds for row in rows) else 1


def ratios(model: str, content: bytes, sex: str, rounds: int) -> dict[str, float]:
    """Medians in ms are printed; the ratios of medians are returned."""
    predictor = load_predictor(model)
    prepared = preprocess(decode_image(content), predictor.preprocessing)[None]
    flip = predictor.bundle.facts.flip_averaging
    size = predictor.preprocessing.image_size_px
    facts = predictor.bundle.facts.model_copy(update={"flip_averaging": False})
    one_run = Predictor(replace(predictor.bundle, facts=facts), predictor.name)
    with (
        keras_process(size) as keras_ms,
        serving(model) as (url, _),
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        ways: dict[str, Callable[[], float]] = {
            "bare session": timed(lambda: predictor.network.run(prepared, sex_input([sex]), flip)),
            "answer": timed(lambda: answer_in_full(predictor, content, sex)),
            "answer over HTTP": timed(lambda: ask(client, content, sex)),
            "answer of one run": timed(lambda: answer_in_full(one_run, content, sex)),
            "keras.predict": lambda: keras_ms(1),
            "keras.predict of two": lambda: keras_ms(2),
        }
        for way in ways.values():
            way(), way()
        took = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                took[name].append(way())
    for name, times in took.items():
        low, middle, high = np.percentile(times, (5, 50, 95))
        print(f"{name:34} {middle:8.1f} ms   (p5 {low:.1f}, p95 {high:.1f})")
    median = {name: float(np.median(times)) for name, times in took.items()}
    pairs = (("answer", "bare session"), ("answer of one run", "keras.predict"))
    return {f"{one} / {other}": median[one] / median[other] for one, other in pairs}


def timed(way: Callable[[], Any]) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        way()
        return (time.perf_counter() - started) * 1e3

    return once


@contextmanager
def keras_process(size: int) -> Iterator[Callable[[int], float]]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", KERAS, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    asked, told = required(process.stdin), required(process.stdout)

    def once(n_images: int) -> float:
        asked.write(f"{n_images}\n")
        asked.flush()
        for line in told:
            if line.startswith("took"):
                return float(line.split()[1]) * 1e3
        raise RuntimeError("Keras ended")

    try:
        yield once
    finally:
        asked.close()
        process.wait(30)


@contextmanager
def serving(model: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server without the page in an empty home, and its process."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "BONE_AGE_HOME": home,
            "BONE_AGE_SERVE_PAGE": "false",
            "BONE_AGE_SERVE_DRAIN_S": "0",
        }
        command = [sys.executable, "-m", "bone_age.cli", "serve", "--port", "0", "--model", model]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        try:
            yield required(process.stdout).readline().split(" at ")[1].split(" ")[0], psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def start_to_answer(model: str, content: bytes, sex: str) -> tuple[float, float, float]:
    """From the process's start to its first answer: seconds, and seconds of CPU; its memory in MB after nine more."""
    started = time.perf_counter()
    with serving(model) as (url, process), httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.02)
        ask(client, content, sex)
        seconds, cpu = time.perf_counter() - started, process.cpu_times()
        for _ in range(9):
            ask(client, content, sex)
        return seconds, cpu.user + cpu.system, process.memory_info().rss / 1e6


def ask(client: httpx.Client, content: bytes, sex: str) -> dict[str, Any]:
    response = client.post("/v1/predict", files={"image": content}, data={"sex": sex})
    response.raise_for_status()
    answer: dict[str, Any] = json.loads(response.text)
    return answer


def required(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


if __name__ == "__main__":
    sys.exit(main())
