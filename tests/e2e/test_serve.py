"""`bone-age serve` as a process: it starts, answers, is asked for the impossible, and ends without losing anybody."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from bone_age.serving.prediction_log import PredictionLog
from tests.e2e.conftest import World
from tests.served import eventually, png
from tests.worlds import write_small_bundle

TOKEN = "s3cret"
SECONDS_AN_OPERATION = 20
OPERATIONS = [
    "POST /v1/predict",
    "POST /v1/feedback",
    "GET /v1/model",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]


class ServeWorld(World):
    """A world with settings of the server."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"BONE_AGE_API_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("small"), 5.0).folder


@pytest.fixture
def guarded(world: World) -> World:
    return ServeWorld(**vars(world))


@dataclass(frozen=True)
class Running:
    """A server process that is ready, a client with the token, and what it logs."""

    process: subprocess.Popen[str]
    client: httpx.Client
    log: list[str]

    def end(self) -> int:
        """Its exit code, after it was asked to end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(world: World, *arguments: str | Path) -> Iterator[Running]:
    process = world.start("serve", "--port", "0", *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=log.extend, args=(process.stderr,))  # a full pipe would stop the server
    reader.start()
    try:
        url = process.stdout.readline().partition(" at ")[2].partition(" (")[0]
        assert url, log
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            eventually(lambda: client.get("/readyz").status_code == 200, 60)
            yield Running(process, client, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        reader.join(10)


def ask(client: httpx.Client, image: bytes) -> httpx.Response:
    return client.post("/v1/predict", files={"image": image}, data={"sex": "F"})


def test_it_answers_a_radiograph_and_ends_with_zero_and_a_log_of_json(guarded: World, rsna_dir: Path) -> None:
    image = min((rsna_dir / "boneage-training-dataset").iterdir()).read_bytes()
    with running(guarded) as server:
        client = server.client
        answered = ask(client, image).json()
        assert answered["model"] == "reference"
        assert 0 < answered["lower_months"] < answered["bone_age_months"] < answered["upper_months"]
        eventually(lambda: "gradio" in client.get("/").text.lower(), 60)
        assert client.get("/v1/nothing").json()["reason"] == "not_found"
        assert client.get("/nothing").json()["reason"] == "not_found"
        assert server.end() == 0
    events = [json.loads(line) for line in server.log]
    assert events[0]["event"] == "listening"
    assert events[-1] | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "stopped",
        "predictions_written": 1,
        "predictions_dropped": 0,
    }


def test_neither_tensorflow_nor_zenml_is_in_the_process(world: World, small_model: Path) -> None:
    code = """
import os, signal, sys, threading, time
sys.argv = ["bone-age", "serve", "--port", "0", "--model", sys.argv[1]]
def look():
    while "gradio" not in sys.modules:
        time.sleep(0.05)
    time.sleep(3)
    print(sorted(name for name in ("tensorflow", "keras", "zenml", "gradio", "onnxruntime") if name in sys.modules))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=look, daemon=True).start()
from bone_age.cli import main
main()
"""
    assert world.python(code, small_model).splitlines()[-1] == "['gradio', 'onnxruntime']"


@pytest.mark.fault
def test_sigterm_under_load_loses_no_request(guarded: World, small_model: Path) -> None:
    answered: list[str] = []
    lost: list[Exception] = []
    statuses: set[int] = set()

    def keep_asking(url: str) -> None:
        while True:
            try:
                with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as one:
                    response = ask(one, png())
            except httpx.ConnectError:
                return  # the door is closed: it was never taken
            except Exception as error:
                lost.append(error)
                return
            statuses.add(response.status_code)
            answered.append(response.json()["request_id"])

    with running(guarded, "--model", small_model) as server:
        client = server.client
        askers = [threading.Thread(target=keep_asking, args=(str(client.base_url),)) for _ in range(12)]
        for asker in askers:
            asker.start()
        eventually(lambda: len(answered) > 50, 60)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: client.get("/readyz").status_code == 503, 5)
        for asker in askers:
            asker.join(60)
        assert server.process.wait(60) == 0
    assert lost == []
    assert statuses == {200}
    recorded = {entry.request_id for entry in PredictionLog.open(f"sqlite:///{guarded.home}/predictions.db").entries()}
    assert recorded == set(answered)


def test_a_taken_port_and_an_absent_model_are_one_line(world: World, small_model: Path) -> None:
    guarded = ServeWorld(**vars(world))
    with running(guarded, "--model", small_model) as server:
        taken = world.run("serve", "--port", str(server.client.base_url.port), "--model", small_model)
    assert taken.exit_code == 2
    assert "choose another with --host and --port" in taken.error_line
    absent = world.run("serve", "--port", "0", "--model", "/nowhere/model")
    assert absent.exit_code == 2
    assert "/nowhere/model: no model here" in absent.error_line


def test_the_openapi_document_tells_the_truth(guarded: World, small_model: Path) -> None:
    """Schemathesis asks what the document allows and what it forbids; the server answers as the document says."""
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
        negative_data_rejection,
        unsupported_method,
    ]
    schemathesis.openapi.format("binary", st.sampled_from([png(), b"no picture"]))
    asked: Counter[str] = Counter()
    with running(guarded, "--model", small_model) as server:
        client = server.client
        headers = {"Authorization": client.headers["Authorization"]}
        schema = schemathesis.openapi.from_url(f"{client.base_url}openapi.json", headers=headers)
        ends = time.monotonic()
        for found in schema.get_all_operations():
            ends += SECONDS_AN_OPERATION

            @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=found.ok().as_strategy())
            def hold(case: schemathesis.Case) -> None:
                if time.monotonic() < ends:  # noqa: B023 - called at once
                    asked[case.operation.label] += 1
                    case.call_and_validate(headers=headers, checks=checks)

            hold()
        assert ask(client, png()).status_code == 200
    assert set(asked) == set(OPERATIONS)
    assert asked["POST /v1/predict"] > 10
