"""The REST API over real connections, with a real registry, database and models; no part is replaced."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bone_age import registry
from bone_age.errors import InputError, ModelError
from bone_age.serving.desk import Desk
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.references import load_predictor
from bone_age.serving.rest.server import open_door, prepare
from bone_age.serving.rest.settings import ServeSettings
from tests.served import Served, eventually, hand, png, serving
from tests.worlds import World, copy_world


def name(version: int) -> str:
    return f"models:/bone-age/{version}"


@pytest.fixture
def served(world: World) -> Iterator[Served]:
    """Version 1 is champion."""
    registry.set_alias("champion", 1)
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def long_served(template_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Version 1, for tests that leave the server as it was."""
    home = tmp_path_factory.mktemp("long") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(home))
        for variable in ("MLFLOW_TRACKING_URI", "BONE_AGE_DATABASE_URL"):
            patch.delenv(variable, raising=False)
        copy_world(template_world, home)
        with serving(reference=name(1)) as running:
            yield running


def refused(response: httpx.Response, status: int, reason: str) -> str:
    """What an error says, after its shape was looked at."""
    assert (response.status_code, response.json().get("reason")) == (status, reason), response.text
    assert set(response.json()) == {"detail", "reason", "request_id"}
    assert response.headers["x-request-id"] == response.json()["request_id"]
    detail: str = response.json()["detail"]
    return detail


def test_an_answer_is_what_the_command_line_answers(served: Served) -> None:
    response = served.ask(png(), "M", chronological_age_months="126")
    assert response.status_code == 200, response.text
    from bone_age.serving.answering import answer

    expected = answer(load_predictor(name(1)), png(), "M", 126, "upload").to_json()
    assert response.json() == json.loads(json.dumps(expected)) | {"request_id": response.headers["x-request-id"]}


def counted(client: httpx.Client, metric: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))


@pytest.mark.parametrize(
    ("files", "fields", "status", "reason", "said"),
    [
        ({"image": png()}, {"sex": "X"}, 422, "unusable_question", "sex is 'X'"),
        ({"image": png()}, {}, 422, "unusable_question", "sex is missing"),
        ({"image": png()}, {"sex": "F", "chronological_age_months": "ten"}, 422, "unusable_question", "is 'ten'"),
        ({"image": png()}, {"sex": "F", "chronological_age_months": "1_0"}, 422, "unusable_question", "is '1_0'"),
        ({"image": png()}, {"sex": "F", "chronological_age_months": "nan"}, 422, "unusable_question", "nan months"),
        ({"image": png()}, {"sex": "F", "chronological_age_months": "300"}, 422, "unusable_question", "0 to 240"),
        ({"image": png()}, {"sex": "F", "chronological_age": "9"}, 422, "unusable_question", "'chronological_age'"),
        ({"image": png()}, {"sex": ["F", "M"]}, 422, "unusable_question", "'sex' 2 times"),
        ({"picture": png()}, {"sex": "F"}, 422, "unusable_question", "'picture'"),
        ({"sex": b"F", "image": png()}, {}, 422, "unusable_question", "text, not files"),
        ({"image": b"%PDF-1.7"}, {"sex": "F"}, 415, "unknown_format", "PNG, JPEG or DICOM"),
        ({"image": png()[:60]}, {"sex": "F"}, 422, "unusable_image", "truncated"),
        ({"image": b""}, {"sex": "F"}, 422, "unusable_image", "empty"),
        ({"image": png(np.zeros((64, 64), np.uint8))}, {"sex": "F"}, 422, "unusable_image", "blank"),
        ({"image": png(np.zeros((1, 50_000_001), np.uint8))}, {"sex": "F"}, 413, "image_too_large", "megapixels"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(
    long_served: Served, files: dict[str, bytes], fields: dict[str, str], status: int, reason: str, said: str
) -> None:
    with long_served.client() as client:
        before = counted(client, f'bone_age_refusals_total{{reason="{reason}"}}')
        response = client.post("/v1/predict", files=files, data=fields)
        assert said in refused(response, status, reason)
        assert counted(client, f'bone_age_refusals_total{{reason="{reason}"}}') == before + 1


def test_the_bytes_are_believed_and_not_the_declared_type(long_served: Served) -> None:
    with long_served.client() as client:
        lying = {"image": ("x.exe", png(), "application/x-msdownload")}
        assert client.post("/v1/predict", files=lying, data={"sex": "F"}).status_code == 200
        lying = {"image": ("hand.png", b"MZ no picture", "image/png")}
        refused(client.post("/v1/predict", files=lying, data={"sex": "F"}), 415, "unknown_format")


def test_everything_else_is_refused_in_the_same_shape(long_served: Served) -> None:
    with long_served.client() as client:
        refused(client.get("/v1/nothing"), 404, "not_found")
        refused(client.get("/nothing"), 404, "not_found")
        refused(client.put("/v1/predict"), 405, "method_not_allowed")
        refused(client.post("/v1/predict", json={"image": "x"}), 415, "not_a_form")
        form = {"content-type": "multipart/form-data"}
        refused(client.post("/v1/predict", content=b"zzz", headers=form), 400, "malformed_upload")
        form = {"content-type": "multipart/form-data; boundary=x"}
        refused(client.post("/v1/predict", content=b"zzz", headers=form), 400, "malformed_upload")
        refused(client.post("/v1/feedback", content=b"{"), 422, "unusable_question")
        refused(client.post("/v1/feedback", content=b" " * 20_000), 413, "upload_too_large")
    with socket.create_connection(("127.0.0.1", int(long_served.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"HELO example\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["reason"] == "malformed_request"


def test_an_upload_above_the_limit_is_refused_whether_it_says_so_or_not(world: World) -> None:
    with serving(upload_mib=1) as served, served.client() as client:
        large = b"x" * (3 * 1024**2)
        files = {"image": large}
        assert "1 MiB" in refused(client.post("/v1/predict", files=files, data={"sex": "F"}), 413, "upload_too_large")

        def chunks() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
            for start in range(0, len(large), 65536):
                yield large[start : start + 65536]

        form = {"content-type": "multipart/form-data; boundary=b"}
        refused(client.post("/v1/predict", content=chunks(), headers=form), 413, "upload_too_large")


def test_uploads_that_do_not_fit_into_memory_together_are_told_to_come_back(world: World) -> None:
    with serving(upload_mib=2, uploads_mib=1) as served:
        response = served.ask(b"x" * int(1.5 * 1024**2))
        refused(response, 503, "busy")
        assert int(response.headers["retry-after"]) >= 1
        assert served.ask(png()).status_code == 200  # what was held is given back


@pytest.mark.fault
def test_an_upload_that_never_ends_is_cut_off(world: World) -> None:
    with serving(upload_time_limit_s=0.3) as served, served.client() as client:

        def slowly() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
            for _ in range(60):
                time.sleep(0.05)
                yield b"x"

        form = {"content-type": "multipart/form-data; boundary=b"}
        refused(client.post("/v1/predict", content=slowly(), headers=form), 408, "upload_too_slow")


def test_no_other_body_that_never_ends_or_grows_too_long_holds_a_connection(world: World) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(60):
            time.sleep(0.05)
            yield b" "

    def too_long() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    with serving(mount=a_page_that_reads, upload_time_limit_s=0.3, upload_mib=1) as served, served.client() as client:
        eventually(lambda: client.post("/gradio_api/upload").status_code == 200)
        json_type = {"content-type": "application/json"}
        refused(client.post("/v1/feedback", content=slowly(), headers=json_type), 408, "upload_too_slow")
        refused(client.post("/v1/feedback", content=too_long(), headers=json_type), 413, "upload_too_large")
        refused(client.post("/gradio_api/upload", content=slowly()), 408, "upload_too_slow")
        refused(client.post("/gradio_api/upload", content=too_long()), 413, "upload_too_large")


def test_a_page_whose_visitor_goes_away_is_at_no_fault_and_its_errors_have_the_one_shape(world: World) -> None:
    with serving(mount=a_page_that_reads) as served, served.client() as client:
        eventually(lambda: client.post("/gradio_api/upload").status_code == 200)
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as raw:
            raw.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n--b\r\n")
        eventually(lambda: 'status="400"' in client.get("/metrics").text)
        assert 'status="500"' not in client.get("/metrics").text
        assert "of Gradio's" in refused(client.get("/gradio_api/json"), 422, "unusable_question")
        refused(client.get("/gradio_api/upload"), 405, "method_not_allowed")
        refused(client.get("/gradio_api/fault"), 500, "internal_error")


def a_page_that_reads(app: FastAPI, desk: Desk) -> None:
    """Stands for Gradio: an application of its own, mounted, with its own answers to what goes wrong."""

    async def upload(request: Request) -> Response:
        return Response(await request.body())

    async def in_json(request: Request) -> Response:
        return JSONResponse({"detail": "a sentence of Gradio's"}, 422)

    async def fault(request: Request) -> Response:
        return Response("Internal Server Error", 500)

    routes = [
        Route("/gradio_api/upload", upload, methods=["POST"]),
        Route("/gradio_api/json", in_json),
        Route("/gradio_api/fault", fault),
    ]
    app.mount("/", Starlette(routes=routes))


@pytest.mark.fault
def test_an_upload_that_is_broken_off_is_no_fault_of_the_server(long_served: Served) -> None:
    port = int(long_served.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        raw.sendall(f"{head}Content-Length: 5000\r\n\r\n--b\r\n".encode())
    with long_served.client() as client:
        broken = 'bone_age_refusals_total{reason="upload_broken_off"}'
        eventually(lambda: counted(client, broken) == 1)
        assert 'status="500"' not in client.get("/metrics").text


def test_a_token_guards_everything_but_the_health_checks(world: World) -> None:
    with serving(api_token="s3cret") as served, served.client() as client:
        for path in ("/v1/model", "/metrics", "/docs", "/openapi.json", "/"):
            refused(client.get(path), 401, "token_needed")
            for wrong in ("Bearer s3cre", "Bearer s3cret2", "s3cret", "Basic !!", "Bearer \xe9"):
                headers = {"Authorization": wrong.encode("latin-1")}
                refused(client.get(path, headers=headers), 401, "token_needed")
            given = client.get(path, headers={"Authorization": "Bearer s3cret"})
            assert given.status_code == (404 if path == "/" else 200)
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        with_basic = client.get("/docs", auth=("anybody", "s3cret"))
        assert with_basic.status_code == 200
        refused(client.get("/v1/model", auth=("anybody", "s3cret")), 401, "token_needed")
        foreign = {"Sec-Fetch-Site": "cross-site"}
        refused(client.get("/docs", auth=("anybody", "s3cret"), headers=foreign), 401, "token_needed")
        link = foreign | {"Sec-Fetch-Mode": "navigate"}
        assert client.get("/docs", auth=("anybody", "s3cret"), headers=link).status_code == 200
        refused(client.post("/", auth=("anybody", "s3cret"), headers=link), 401, "token_needed")


def test_every_response_has_the_headers_that_keep_browsers_safe(long_served: Served) -> None:
    with long_served.client() as client:
        for path in ("/healthz", "/docs", "/v1/nothing", "/nothing", "/metrics"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "server" not in headers


def test_only_the_sites_that_were_named_may_frame_the_page_and_nobody_the_api() -> None:
    with serving(frame_ancestors="https://huggingface.co") as framed, framed.client() as client:
        page, api, docs = (client.get(path).headers for path in ("/", "/v1/model", "/docs"))
    assert "frame-ancestors https://huggingface.co" in page["content-security-policy"]
    assert "x-frame-options" not in page
    for headers in (api, docs):
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"


def test_the_metrics_tell_answers_model_and_queue(served: Served) -> None:
    assert served.ask(png()).status_code == 200
    with served.client() as client:
        text = client.get("/metrics").text
    assert f'bone_age_predictions_total{{model="{name(1)}"}} 1.0' in text
    assert "bone_age_answer_seconds_count 1.0" in text
    assert 'bone_age_requests_total{method="POST",route="/v1/predict",status="200"} 1.0' in text
    assert f'model="{name(1)}"}} 1.0' in text
    assert "bone_age_queue_depth 0.0" in text


def test_the_log_holds_a_line_a_request_and_nothing_of_the_patient(
    served: Served, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "bone_age.serving"), served.client() as client:
        files = {"image": ("Doe_Jane.png", png(), "image/png")}
        answered = client.post("/v1/predict?patient=Doe", files=files, data={"sex": "F"})
        client.get("/Doe/Jane")
        client.post("/v1/predict", files={"image": ("Doe.dcm", b"Doe")}, data={"sex": "Doe"})
    facts = [record.facts for record in caplog.records if hasattr(record, "facts")]
    requests = [one for one in facts if one["event"] == "request"]
    assert [one["status"] for one in requests] == [200, 404, 422]
    assert requests[0]["request_id"] == answered.headers["x-request-id"]
    out, err = capfd.readouterr()
    assert "Doe" not in json.dumps(facts) + out + err
    assert "Doe" not in answered.text


def test_an_answer_is_recorded_and_a_readers_bone_age_finds_it(served: Served, world: World) -> None:
    request_id = served.ask(png()).json()["request_id"]
    told = {"request_id": request_id, "bone_age_months": 120, "reader": "R2"}
    with served.client() as client:
        response = client.post("/v1/feedback", json=told)
        assert response.json() == {"status": "recorded", "request_id": request_id}
        refused(client.post("/v1/feedback", json=told | {"request_id": "0" * 32}), 404, "unknown_request")
        refused(client.post("/v1/feedback", json=told | {"bone_age_months": 300}), 422, "unusable_question")
        refused(client.post("/v1/feedback", json=told | {"bone_age_months": True}), 422, "unusable_question")
        refused(client.post("/v1/feedback", json=told | {"reader": "Dr Jane Doe"}), 422, "unusable_question")
        refused(client.post("/v1/feedback", json=told | {"months": 3}), 422, "unusable_question")
        assert 'bone_age_prediction_log{state="written"} 1.0' in client.get("/metrics").text
    (entry,) = PredictionLog.open(world.home).entries()
    assert (entry.request_id, entry.sex, entry.model) == (request_id, "F", name(1))
    assert [reading.bone_age_months for reading in entry.readings] == [120]


def test_a_new_champion_takes_over_without_a_failed_or_a_wrong_answer(served: Served) -> None:
    answers: list[tuple[int, str, float]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        with served.client() as client:
            while not stop.is_set():
                response = client.post("/v1/predict", files={"image": png()}, data={"sex": "F"})
                body = response.json()
                answers.append((response.status_code, body.get("model", ""), body.get("bone_age_months", -1)))

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    for version in (2, 3, 1, 2):
        registry.set_alias("champion", version)
        served.wait_for_model(name(version))
        time.sleep(0.2)
    stop.set()
    for asker in askers:
        asker.join()
    assert {status for status, _, _ in answers} == {200}
    expected = {
        name(version): load_predictor(name(version)).predict(png(), "F").bone_age_months for version in (1, 2, 3)
    }
    assert len(set(expected.values())) == 3
    assert {model for _, model, _ in answers} == set(expected)
    assert all(expected[model] == months for _, model, months in answers)


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["bit", "whole", "gone"])
def test_a_champion_that_does_not_verify_is_kept_out_and_the_old_one_goes_on(
    served: Served, world: World, damage: str
) -> None:
    bundle = world.bundle(2)
    if damage == "bit":
        content = bytearray((bundle / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / "model.onnx").write_bytes(content)
    elif damage == "whole":  # files and checksums agree with each other, and not with what was registered
        shutil.rmtree(bundle)
        shutil.copytree(world.bundle(3), bundle)
    else:
        shutil.rmtree(bundle)
    registry.set_alias("champion", 2)
    with served.client() as client:
        kept_out = 'bone_age_model_changes_total{outcome="not_verified"} 1.0'
        eventually(lambda: kept_out in client.get("/metrics").text)
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/model").json()["model"] == name(1)
    assert served.ask(png()).json()["model"] == name(1)
    registry.set_alias("champion", 3)
    served.wait_for_model(name(3))


def test_a_withdrawn_champion_is_followed_by_the_reference_model(served: Served) -> None:
    registry.remove_alias("champion")
    served.wait_for_model("reference")
    with served.client() as client:
        assert [one["code"] for one in client.get("/v1/model").json()["warnings"]] == ["reference_model"]


@pytest.mark.fault
def test_a_registry_that_goes_away_takes_no_answer_with_it(served: Served, world: World) -> None:
    database = world.home.root / "mlflow.db"
    kept = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    with served.client() as client:
        unchecked = 'bone_age_model_changes_total{outcome="unchecked"}'
        eventually(lambda: unchecked in client.get("/metrics").text)
    assert served.ask(png()).json()["model"] == name(1)
    database.write_bytes(kept)
    registry.set_alias("champion", 2)
    served.wait_for_model(name(2))


def test_a_fixed_model_is_not_followed(world: World) -> None:
    registry.set_alias("champion", 1)
    with serving(reference=name(3)) as served:
        registry.set_alias("champion", 2)
        time.sleep(0.5)
        assert served.ask(png()).json()["model"] == name(3)


def test_a_first_model_that_does_not_verify_ends_the_server_with_its_error(world: World) -> None:
    (world.bundle(1) / "model.onnx").write_bytes(b"damaged")
    registry.set_alias("champion", 1)
    chosen = ServeSettings(port=0, drain_s=0)
    door = open_door(chosen)
    service, server = prepare(chosen, None, None)
    server.run(sockets=[door])
    assert isinstance(service.follower.failure, ModelError)
    assert "model.onnx" in str(service.follower.failure)


def test_a_taken_port_is_an_error_in_one_line(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(InputError, match=f"127.0.0.1:{port}: Address already in use"):
        open_door(ServeSettings(port=port))


@pytest.mark.fault
def test_a_full_queue_is_refused_with_the_time_to_come_back(world: World) -> None:
    with serving(workers=1, queue_size=0) as served:
        statuses: list[httpx.Response] = []
        large = png(np.kron(hand(), np.ones((8, 8), np.uint8)))

        def ask_often() -> None:
            statuses.extend(served.ask(large) for _ in range(3))

        askers = [threading.Thread(target=ask_often) for _ in range(6)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        busy = [response for response in statuses if response.status_code == 503]
        assert {response.status_code for response in statuses} == {200, 503}
        for response in busy:
            refused(response, 503, "busy")
            assert int(response.headers["retry-after"]) >= 1


@pytest.mark.fault
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=2000),
        st.binary(max_size=500).map(
            lambda middle: (
                b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + middle + b"\r\n--b--\r\n"
            )
        ),
        st.tuples(st.integers(0, 200), st.integers(0, 255)).map(lambda cut: _mutated(*cut)),
    )
)
def test_any_bytes_are_answered_or_refused_cleanly(long_served: Served, body: bytes) -> None:
    with long_served.client() as client:
        response = client.post("/v1/predict", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert response.status_code in (200, 400, 413, 415, 422), response.text
    if response.status_code != 200:
        assert set(response.json()) == {"detail", "reason", "request_id"}


def _mutated(place: int, value: int) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    whole = bytearray(part % (b"image", b'; filename="x"', png()) + part % (b"sex", b"", b"F") + b"--b--\r\n")
    whole[place % len(whole)] = value
    return bytes(whole)
