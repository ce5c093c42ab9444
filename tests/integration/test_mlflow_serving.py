"""`mlflow models serve` on a registered version, started for real: the same answers as `bone-age predict`."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bone_age.serving.references import load_predictor
from tests.batch_data import draw
from tests.worlds import World

VERSION = "models:/bone-age/2"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def address(world: World, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    arguments = ["-m", VERSION, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "models", "serve", *arguments]
    log = tmp_path / "serve.log"
    with log.open("w") as file:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where MLflow looks for uvicorn
        environment = os.environ | world.home.exports() | {"PATH": path}
        server = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield wait_until_ready(f"http://127.0.0.1:{port}", server, log)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_ready(address: str, server: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + 240
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
                assert answer.status == 200
                return address
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def post(address: str, body: object) -> object:
    content = json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def test_it_answers_base64_images_as_predict_does_and_refuses_without_a_sex(address: str, tmp_path: Path) -> None:
    hands = [draw(tmp_path / f"{number}.png", number) for number in range(3)]
    asked = list(zip(hands, "FMF", strict=True))
    records = [{"image": base64.b64encode(hand.read_bytes()).decode(), "sex": sex} for hand, sex in asked]
    answers = post(address, {"dataframe_records": records})
    assert isinstance(answers, list)
    predictor = load_predictor(VERSION)
    for told, (hand, sex) in zip(answers, asked, strict=True):
        alone = predictor.predict(hand, sex)
        assert told == pytest.approx(
            {name: getattr(alone, name) for name in ("bone_age_months", "lower_months", "upper_months")}, abs=1e-3
        )
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, {"dataframe_records": [{"image": records[0]["image"]}]})
    assert refused.value.code == 400
    assert "sex missing" in refused.value.read().decode()
