"""What the images and services promise, read from their files; `make test-images` holds the built images against it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from bone_age.provenance import lock_of
from bone_age.serving.prediction_log import LogCounts
from bone_age.serving.rest.metrics import Metrics
from bone_age.settings import load_config

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
TARGETS = ("train", "serve", "tracking")
LABELS = {
    "org.opencontainers.image.version": "VERSION",
    "org.opencontainers.image.revision": "GIT_COMMIT",
    "bone-age.lock-digest": "LOCK_DIGEST",
}
OWN = ("mlflow", "serve", "scheduler")
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)


def _instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile with its argument, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def _stages(text: str) -> dict[str, list[tuple[str, str]]]:
    stages: dict[str, list[tuple[str, str]]] = {}
    for name, argument in _instructions(text):
        if name == "FROM":
            stages[argument.split(" AS ")[1]] = []
        if stages:
            stages[list(stages)[-1]].append((name, argument))
    return stages


def _ancestry(stages: dict[str, list[tuple[str, str]]], name: str) -> list[tuple[str, str]]:
    parent = stages[name][0][1].split(" AS ")[0]
    return (_ancestry(stages, parent) if parent in stages else []) + stages[name]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[tuple[str, str]]]:
    return _stages((DOCKER / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def space() -> ModuleType:
    spec = importlib.util.spec_from_file_location("space", DOCKER / "space.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_ends_as_a_user_with_one_volume_labels_and_a_health_check(
    stages: dict[str, list[tuple[str, str]]], target: str
) -> None:
    found = _ancestry(stages, target)
    assert [argument for name, argument in found if name == "USER"][-1] == "1000:1000"
    assert [json.loads(argument) for name, argument in found if name == "VOLUME"] == [["/data"]]
    assert sum(name == "HEALTHCHECK" for name, _ in stages[target]) == 1
    labels = " ".join(argument for name, argument in stages[target] if name == "LABEL")
    for label, argument in LABELS.items():
        assert f'{label}="${{{argument}}}"' in labels
        assert ("ARG", f"{argument}=unknown") in stages[target]


def test_the_base_is_a_pinned_argument_and_the_last_stage_serves(stages: dict[str, list[tuple[str, str]]]) -> None:
    assert _instructions((DOCKER / "Dockerfile").read_text())[0][0] == "ARG"
    default = _instructions((DOCKER / "Dockerfile").read_text())[0][1]
    assert re.fullmatch(r"BASE_IMAGE=python:3\.11\.\d+-slim-bookworm", default)
    foreign = {body[0][1].split(" AS ")[0] for body in stages.values()} - set(stages)
    assert foreign == {"${BASE_IMAGE}"}
    assert list(stages)[-1] == "serve"


@pytest.mark.parametrize("target", TARGETS)
def test_packages_are_wheels_from_the_targets_own_hashed_lock(
    stages: dict[str, list[tuple[str, str]]], target: str
) -> None:
    installed = [argument for name, argument in stages[f"{target}-packages"] if name == "RUN"]
    assert len(installed) == 1
    for option in ("--require-hashes", "--only-binary :all:", f"-r requirements-{target}.lock"):
        assert option in installed[0]
    assert "--no-deps" in dict(stages["tools"])["ENV"]
    for name, argument in _ancestry(stages, target):  # what runs is put together by copying, nothing is fetched there
        assert name != "RUN" or not re.search(r"pip install|apt-get|curl|wget", argument)


@pytest.mark.parametrize("part", [*TARGETS, "build"])
def test_a_parts_lock_has_hashes_for_all_and_the_versions_of_the_whole_lock(part: str) -> None:
    text = (PROJECT / f"requirements-{part}.lock").read_text()
    assert not re.search(r"https?://|index-url|find-links|file:", text)
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert blocks
    for block in blocks:
        assert PINNED.match(block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]
    whole = set(PINNED.findall((PROJECT / "requirements.lock").read_text()))  # some for each version of Python
    added = {name for name, version in PINNED.findall(text) if (name, version) not in whole}
    assert added == ({"flask-wtf", "wtforms"} if part == "tracking" else set())


def test_serving_has_no_tensorflow_and_training_no_page() -> None:
    serve, train = (
        dict(PINNED.findall((PROJECT / f"requirements-{part}.lock").read_text())) for part in TARGETS[1::-1]
    )
    assert not {"tensorflow", "keras", "zenml", "torch", "ray"} & set(serve)
    assert {"onnxruntime", "mlflow", "gradio", "fastapi"} <= set(serve)
    assert {"tensorflow", "zenml", "apscheduler"} <= set(train)
    assert not {"gradio", "pytest", "ray"} & set(train)


@pytest.mark.parametrize("part", ["serve", "train"])
def test_a_parts_lock_answers_the_projects_own_requirements(part: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pinned = {_canonical(name): version for name, version in _pinned(part).items()}
    for line in [*project["dependencies"], *project["optional-dependencies"][part]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pinned[_canonical(wanted.name)]), line


def test_the_lock_of_a_version_trained_in_an_image_is_found_again() -> None:
    lock = (PROJECT / "requirements-train.lock").read_bytes()
    assert lock_of(hashlib.sha256(lock).hexdigest(), "unknown") == lock
    assert lock_of("0" * 64, "unknown") is None


def _pinned(part: str) -> dict[str, str]:
    return dict(PINNED.findall((PROJECT / f"requirements-{part}.lock").read_text()))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_copied_is_let_through_and_nothing_secret_is(stages: dict[str, list[tuple[str, str]]]) -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copies = [argument for body in stages.values() for name, argument in body if name == "COPY"]
    own = [argument.split()[:-1] for argument in copies if "--from" not in argument]
    copied = {source for sources in own for source in sources if not source.startswith("--")}
    assert copied == let_through
    assert all((PROJECT / name).exists() for name in copied)
    assert "**/.env" in lines


def test_services_of_this_project_are_read_only_unprivileged_and_pinned_to_a_user(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in OWN:
        service = services[name]
        assert service["read_only"] is True
        assert service["user"] == "1000:1000"
        assert service["cap_drop"] == ["ALL"]
        written = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert [volume.rsplit(":", 1)[1] for volume in written] == ["/data"]
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service


def test_foreign_images_are_pinned_checked_and_reach_the_machine_on_loopback_only(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        if name not in OWN:
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?\}$", service["image"]), service["image"]
            assert "healthcheck" in service, name
        assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service.get("ports", ())), name
    assert not any("ports" in services[name] for name in ("postgres", "zenml-database"))
    locked = dict(PINNED.findall((PROJECT / "requirements.lock").read_text()))["zenml"]
    assert services["zenml"]["image"].endswith(f":{locked}}}")


def test_profiles_hold_all_that_their_services_wait_for(services: dict[str, dict[str, Any]]) -> None:
    assert {profile for service in services.values() for profile in service["profiles"]} == {
        "tracking", "serve", "schedule",
    }  # fmt: skip
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert set(service["profiles"]) <= set(services[needed]["profiles"]), (name, needed)


def test_no_secret_has_a_default(services: dict[str, dict[str, Any]]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    secret = re.compile(r"(?:PASSWORD|SECRET_KEY|TOKEN|USERNAME|ADMIN_USER)\w*$")
    values = [(key, value) for service in services.values() for key, value in service.get("environment", {}).items()]
    demanded = set(re.findall(r"\$\{(\w+):\?", text))
    for key, value in values:
        if secret.search(key) and value != "zenml":  # the name of a database's own role
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), (key, value)
    example = dict(line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines()
                   if line and not line.startswith("#"))  # fmt: skip
    assert set(example) == demanded
    assert not any(example.values())
    offered = set(re.findall(r"\$\{(\w+):-", text))
    assert not {name for name in offered if secret.search(name)}


def test_no_credentials_stand_in_any_url() -> None:
    for file in DOCKER.rglob("*"):
        if file.is_file():
            assert not re.search(r"://[^\s/@:]+:[^\s/@]+@", file.read_text()), file


def test_the_dashboard_and_alerts_ask_for_metrics_that_the_server_has() -> None:
    metrics = Metrics()
    metrics.requested("/v1/predict", "POST", 200)
    text = metrics.text(LogCounts(0, 0, 0, None)).decode()
    known = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    known |= {f"{name}_bucket" for name in known}
    board = json.loads((DOCKER / "grafana" / "dashboards" / "bone-age.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    groups = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    asked += [rule["expr"] for group in groups for rule in group["rules"]]
    names = {name for expression in asked for name in re.findall(r"\bbone_age_\w+", expression)}
    assert names
    assert names <= known, names - known


@pytest.mark.parametrize("script", sorted(path.name for path in DOCKER.glob("*.sh")))
def test_scripts_are_shell_that_parses(script: str) -> None:
    subprocess.run(["sh", "-n", DOCKER / script], check=True)


def test_a_container_says_in_one_line_that_its_volume_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("no folder")
    places = {"HOME": f"{file}/home", "TMPDIR": f"{file}/tmp", "PATH": os.environ["PATH"]}
    done = subprocess.run([DOCKER / "entrypoint.sh", "true"], capture_output=True, text=True, env=places)
    assert done.returncode == 2
    assert re.fullmatch(r"error: /data cannot be written by uid \d+; .*\n", done.stderr)


def test_a_container_makes_its_folders_and_hands_the_command_on(tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PATH": os.environ["PATH"]}
    done = subprocess.run([DOCKER / "entrypoint.sh", "sh", "-c", "echo $0 $1; exit 7", "a", "b c"],
                          capture_output=True, text=True, env=places)  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "a b c\n")
    assert (tmp_path / "home").is_dir()
    assert (tmp_path / "tmp").is_dir()


def test_the_small_quickstart_has_all_four_networks() -> None:
    assert len(load_config(DOCKER / "quickstart_small.yaml").plans) == 4


def test_a_space_builds_the_serve_target_alone_on_its_port(space: ModuleType) -> None:
    known = {"VERSION": "1.2.3", "GIT_COMMIT": "abc", "LOCK_DIGEST": "def"}
    text = space.dockerfile((DOCKER / "Dockerfile").read_text(), known)
    stages = _stages(text)
    assert list(stages)[-1] == "serve"
    assert not [name for name in stages if name.startswith(("train", "tracking"))]
    for body in stages.values():
        for name, argument in body:
            if name == "COPY" and argument.startswith("--from="):
                assert argument.split("=")[1].split()[0] in stages
            elif name == "COPY":
                sources = [word for word in argument.split()[:-1] if not word.startswith("--")]
                assert {source.removeprefix("./") for source in sources} <= {*space.PARTS, "README.md"}
    serve = dict(stages["serve"])
    assert serve["EXPOSE"] == "7860"
    assert serve["USER"] == "1000:1000"
    settings = " ".join(argument for name, argument in stages["serve"] if name == "ENV")
    assert "BONE_AGE_SERVE_PORT=7860" in settings
    assert "BONE_AGE_SERVE_FRAME_ANCESTORS=https://huggingface.co" in settings
    assert ("ARG", "GIT_COMMIT=abc") in stages["serve"]


def test_a_space_is_a_whole_folder_and_overwrites_nothing_else(space: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    space.main(folder)
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (front["sdk"], front["app_port"]) == ("docker", 7860)
    assert len(front["short_description"]) <= 60
    assert (folder / "models" / "reference" / "model.onnx").stat().st_size > 1_000_000
    assert "*.onnx filter=lfs" in (folder / ".gitattributes").read_text()
    assert not (folder / "tests").exists()
    space.main(folder)  # once more, over its own
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something that is no Space"):
        space.main(other)
    assert (other / "thesis.tex").exists()
