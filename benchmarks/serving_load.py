"""A server under load: 64 clients, good and bad files mixed, the champion swapped and the database slow in the middle.

    .venv/bin/python -m benchmarks.serving_load --images DIR [--clients 64] [--seconds 60] [--bad 0.2] [--json FILE]

Makes a home of its own with two versions (the reference model, and the same network with other figures in its linear
correction, so that their answers differ) and starts a server on a loopback port; ends both. Every answer is held
against what the version that it names says of that image, computed beforehand. At a third of the time version 2 becomes
champion, at two thirds version 1 again; from then for a sixth of the time another connection holds the lock of the
prediction log's database. A client that is told to come back (503) waits as long as it was told. Beforehand the bare
ONNX session answers the same images one after the other, as the throughput to compare with, and with --batching also in
batches of 2, 4 and 8. Exits with 1 after a wrong answer, a 500, an answer that did not come, or a lost entry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.measured import Measured, add_json, tell
from bone_age import registry
from bone_age.data.manifest import sex_input
from bone_age.imaging import decode_image, preprocess
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.serving.bundle import FACTS, load_bundle, write_checksums
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL, load_predictor

BAD = (b"", b"%PDF-1.7 no radiograph", b"\x89PNG\r\n\x1a\n" + bytes(200), b"\xff\xd8\xff\xe0" + bytes(5000))
KEYS = tuple[str, int]  # model, image


@dataclass
class Seen:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    rss_mb: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of hand radiographs")
    parser.add_argument("--n", type=int, default=24, help="so many of them, the first by name")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--bad", type=float, default=0.2, help="share of files that are no radiograph")
    parser.add_argument("--batching", action="store_true", help="also measure whether batches would pay")
    add_json(parser)
    options = parser.parse_args(arguments)
    images = [path.read_bytes() for path in sorted(options.images.iterdir())[: options.n]]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BONE_AGE_HOME"] = str(Path(scratch) / "home")
        for name in ("MLFLOW_TRACKING_URI", "BONE_AGE_DATABASE_URL"):
            os.environ.pop(name, None)
        register_two(Path(scratch))
        expected, bare = answers_beforehand(images, options.batching)
        seen, entries = load(images, expected, options)
    return report(seen, entries, bare, options)


def register_two(scratch: Path) -> None:
    """Version 1 is the reference model and champion; version 2 answers 1 % and 3 months more."""
    for version in (1, 2):
        folder = shutil.copytree(REFERENCE_MODEL, scratch / f"bundle-{version}")
        if version == 2:
            facts = json.loads((folder / FACTS).read_text())
            facts["correction"]["slope"] *= 1.01
            facts["correction"]["intercept_months"] += 3
            (folder / FACTS).write_text(json.dumps(facts))
            write_checksums(folder)
        run_id = connect().create_run(experiment_id(), run_name=f"load-{version}").info.run_id
        tags = {"model_digest": load_bundle(folder).digest}
        assert registry.register_bundle(folder, run_id, tags, "load test") == version
    registry.set_alias("champion", 1)


def answers_beforehand(images: list[bytes], batching: bool) -> tuple[dict[KEYS, float | None], float]:
    """What each version says of each image (None: refused), and how many images a second the bare session answers."""
    expected: dict[KEYS, float | None] = {}
    for version in (1, 2):
        predictor = load_predictor(f"models:/bone-age/{version}")
        for place, image in enumerate(images):
            try:
                expected[predictor.name, place] = predictor.predict(image, "F").bone_age_months
            except ValueError:
                expected[predictor.name, place] = None
    prepared = np.stack([preprocess(decode_image(image), predictor.preprocessing) for image in images])
    bare = images_a_second(predictor, prepared, 1)
    print(f"bare session, one by one: {bare:.2f} images a second", flush=True)
    for size in (2, 4, 8) if batching else ():
        print(f"bare session, batches of {size}: {images_a_second(predictor, prepared, size):.2f} images a second")
    return expected, bare


def images_a_second(predictor: Predictor, prepared: Any, size: int) -> float:
    flip, sex = predictor.bundle.facts.flip_averaging, sex_input(["F"] * size)
    predictor.network.run(prepared[:size], sex, flip)
    started, n = time.perf_counter(), len(prepared) // size
    for batch in range(n):
        predictor.network.run(prepared[batch * size : (batch + 1) * size], sex, flip)
    return n * size / (time.perf_counter() - started)


def load(images: list[bytes], expected: dict[KEYS, float | None], options: argparse.Namespace) -> tuple[Seen, int]:
    """Run it, and count the entries of the prediction log afterwards."""
    environment = os.environ | {"BONE_AGE_SERVE_PAGE": "false", "BONE_AGE_SERVE_POLL_S": "1"}
    command = [sys.executable, "-m", "bone_age.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split(" at ")[1].split(" ")[0]
        seen = asyncio.run(everybody(url, psutil.Process(process.pid), images, expected, options))
    finally:
        process.terminate()
        process.wait(60)
    log = PredictionLog.open(f"sqlite:///{os.environ['BONE_AGE_HOME']}/predictions.db")
    return seen, sum(1 for _ in log.entries())


async def everybody(
    url: str, process: psutil.Process, images: list[bytes], expected: dict[KEYS, float | None], options: Any
) -> Seen:
    seen = Seen()
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=httpx.Limits()) as client:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        ends = time.monotonic() + options.seconds
        clients = [
            one_client(client, number, ends, images, expected, options.bad, seen) for number in range(options.clients)
        ]
        await asyncio.gather(*clients, disturb(options.seconds), watch(process, ends, seen))
        seen.rss_mb.append(process.memory_info().rss / 1e6)
    return seen


async def one_client(
    client: httpx.AsyncClient, number: int, ends: float, images: list[bytes], expected: Any, bad: float, seen: Seen
) -> None:
    chance = random.Random(number)  # noqa: S311 - nothing secret
    while time.monotonic() < ends:
        is_bad = chance.random() < bad
        place = chance.randrange(len(BAD) if is_bad else len(images))
        content = BAD[place] if is_bad else images[place]
        started = time.perf_counter()
        try:
            response = await client.post("/v1/predict", files={"image": content}, data={"sex": "F"})
        except httpx.HTTPError as error:
            seen.lost[type(error).__name__] += 1
            continue
        seen.statuses[response.status_code] += 1
        if response.status_code == 503:
            await asyncio.sleep(float(response.headers["retry-after"]))
        elif response.status_code == 200:
            seen.seconds.append(time.perf_counter() - started)
            answer = response.json()
            seen.models[answer["model"]] += 1
            should = None if is_bad else expected[answer["model"], place]
            if should != answer["bone_age_months"]:
                seen.wrong.append(f"{answer['model']} image {place}: {answer['bone_age_months']}, expected {should}")
        elif not is_bad and any(expected[f"models:/bone-age/{version}", place] is not None for version in (1, 2)):
            seen.wrong.append(f"image {place} refused: {response.text[:200]}")


async def disturb(seconds: float) -> None:
    """Swap the champion, and hold the prediction log's database."""
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(registry.set_alias, "champion", 2)
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(registry.set_alias, "champion", 1)
    await asyncio.to_thread(hold_database, seconds / 6)


def hold_database(seconds: float) -> None:
    database = sqlite3.connect(Path(os.environ["BONE_AGE_HOME"]) / "predictions.db", timeout=60)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(seconds)
    database.rollback()
    database.close()


async def watch(process: psutil.Process, ends: float, seen: Seen) -> None:
    while time.monotonic() < ends:
        seen.rss_mb.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(1)


def report(seen: Seen, entries: int, bare: float, options: argparse.Namespace) -> int:
    p50, p95, p99 = np.percentile(seen.seconds, (50, 95, 99)) if seen.seconds else (float("nan"),) * 3
    answered = seen.statuses[200]
    fifth = max(1, len(seen.rss_mb) // 5)
    figures = {
        "clients": options.clients,
        "seconds": options.seconds,
        "statuses": dict(sorted(seen.statuses.items())),
        "answers_by_model": dict(seen.models),
        "wrong_answers": len(seen.wrong),
        "server_errors": sum(count for status, count in seen.statuses.items() if status >= 500 and status != 503),
        "requests_without_answer": dict(seen.lost),
        "log_entries": entries,
        "p50_s": round(float(p50), 3),
        "p95_s": round(float(p95), 3),
        "p99_s": round(float(p99), 3),
        "answers_a_second": round(answered / options.seconds, 2),
        "throughput_of_bare_session": round(answered / options.seconds / bare, 2),
        "rss_mb_by_fifths": [round(max(seen.rss_mb[at : at + fifth])) for at in range(0, len(seen.rss_mb), fifth)],
    }
    print(json.dumps(figures, indent=2))
    for line in seen.wrong[:10]:
        print(line)
    wrong = len(seen.wrong) + figures["server_errors"] + sum(seen.lost.values())
    rows = [
        Measured(
            f"{options.clients} clients: wrong answers, server errors, requests without an answer", wrong, at_most=0
        ),
        Measured(
            f"{options.clients} clients: answers/s, ours / bare session",
            answered / options.seconds / bare,
            at_least=0.9,
        ),
        Measured(f"{options.clients} clients: time of an answer, p99 / p50", float(p99 / p50), at_most=4),
    ]
    tell(rows, options.json)
    failed = wrong or entries != answered or len(seen.models) < 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
