"""The commands of the documentation, run as they stand there, in a home with two versions and a little data.

What a page leaves to its reader (a folder, a file, a version's number) is filled in; long trainings are made short by
another configuration; what ends only when it is told to is told so when it has started. Lines that are not run are
listed with what tries them instead, so that a new command is either run or argued for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bone_age.data.synthetic import write_synthetic
from bone_age.settings import SyntheticData
from tests import empty_databases
from tests.e2e.conftest import LIGHT, World, write_config
from tests.e2e.test_governance import APPROVED, MANUAL, WIDE
from tests.unit.test_documentation import PAGES, PROJECT, identity, shell_blocks

NOT_RUN = {
    r"make (run|test|lint|install)": "CI itself",
    r"\.ci/run": "CI itself",
    r"make (images|test-images|space|backup|restore)": "needs containers; tests/unit/test_containers.py",
    r"docker |cp docker/\.env": "needs containers; tests/unit/test_containers.py, make test-images",
    r"(RADIOGRAPHS=\S+ )?make stack |zenml (login|secret) ": "tests/unit/test_stacks.py",
    r"export (KUBERNETES_CONTEXT|ARTIFACTS|BONE_AGE_DATABASE_URL)=": "a cluster's; tests/unit/test_stacks.py",
    r"pip (wheel|install)": "tests/e2e/test_wheel.py",
    r"kubectl ": "needs a cluster; tests/unit/test_kubernetes.py",
    r"make mlflow": "mlflow's own server on the home that `bone-age env` names",
    r"mlflow models serve|curl -s http://127.0.0.1:5001": "tests/integration/test_mlflow_serving.py",
    r".*git (init|lfs|push)": "needs an account at Hugging Face",
    r".*pre-commit install": "changes the checkout",
    r".*benchmarks[./]": "takes minutes to hours; tests/unit/benchmarks",
    r"BONE_AGE_HOME=/tmp/elsewhere": "another `make run`",
    r"alias bone-age=": "the command is on the path",
    r"curl -F .* http://127.0.0.1:8000": "tests/integration/test_rest.py",
    r"export MLFLOW_TRACKING_URI=http": "a server that is not here; tests/integration/test_mlflow_connection.py",
}
ELSEWHERE = {"docs/how-to/follow-a-prediction.md": "tests/e2e/test_training_run.py runs its blocks"}
FILLED_IN = (
    (r"\.venv/bin/bone-age", "bone-age"),
    (r"--config \S+", "--config short.yaml"),
    (r"(evaluate .*|export .*|train .*|tune .*|batch .*|schedule .*)--data \S+", r"\1--data $PWD/data"),
    (r"(calibrate .*)--data \S+", r"\1--data clinic"),
    (r"(?<=\s)(HAND|hand)\.png|\.bone-age/data/\S+\.png", "hand.png"),
    (r"models:/bone-age/\d+", "models:/bone-age/1"),
    (r"--version \d+", "--version 1"),
    (r"--to \d+", "--to 2"),
    (r"/shared/", ""),
    (r"RAY_ADDRESS=\S+ ", ""),
    (r" \.\.\.$", ""),
    (r"bone-age serve", f"{{stopped}} {sys.executable} -m bone_age.cli serve --port 0"),
    (r"bone-age (schedule --cron)", f"{{stopped}} {sys.executable} -m bone_age.cli \\1"),
)
STOPPED = f"{sys.executable} {Path(__file__).with_name('until_started.py')}"
REFUSED_OR_DRIFT = 3


def commands(page: Path) -> Iterator[list[str]]:
    """The lines of each shell block that are run, continued ones joined."""
    for block in shell_blocks(page):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        run = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        run = [line for line in run if not any(re.match(pattern, line) for pattern in NOT_RUN)]
        if run and identity(page) not in ELSEWHERE:
            yield run


BLOCKS = [
    pytest.param(block, id=f"{identity(page)}-{number}")
    for page in PAGES
    if page.name != "command-line.md"
    for number, block in enumerate(commands(page))
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A home with two versions that have both been champion, and a folder with what the pages name."""
    place = tmp_path_factory.mktemp("documented")
    for folder in ("configs", "models"):
        shutil.copytree(PROJECT / folder, place / folder)
    (place / ".venv").symlink_to(sys.prefix)
    hands: dict[str, Any] = {"height_px": 128, "width_px": 104}
    for name, settings in (("data", {"n": 110, "seed": 5}), ("clinic", {"n": 70, "seed": 21})):
        drawn = write_synthetic(place / "drawn", SyntheticData(**hands, **settings))
        shutil.copytree(drawn, place / name)
    shutil.copytree(place / "data", place / "radiographs")
    shutil.copy(min((place / "data" / "images").iterdir()), place / "hand.png")
    policy = place / "policy.yaml"
    bounds = WIDE | {"inferiority_margin_months": 500, "subgroup_rows": 5}
    policy.write_text(yaml.safe_dump(MANUAL | {"bounds": bounds}))
    short = LIGHT | {
        "search": {"trials": 1, "space": {"dropout": {"low": 0, "high": 0.1}}},
        "data": {"source": str(place / "data")},
    }
    world = World(empty_databases.lay_into(place / "home"))
    for version in (1, 2):
        config = write_config(place, **short | {"seed": version})
        trained = world.run("train", "--config", config, "--policy", policy)
        assert trained.exit_code == 0, trained.err
        promoted = world.run("promote", "--version", str(version), *APPROVED, "--policy", policy)
        assert promoted.exit_code == 0, promoted.out + promoted.err
    config.rename(place / "short.yaml")  # the second version's, so that training it again is served from the cache
    return world, place


@pytest.mark.parametrize("block", BLOCKS)
def test_documented_commands_do_what_they_say(block: list[str], place: tuple[World, Path]) -> None:
    world, folder = place
    script = "\n".join(filled_in(line) for line in block)
    tool = f'bone-age() {{ {sys.executable} -m bone_age.cli "$@" || [ $? = {REFUSED_OR_DRIFT} ]; }}\n'
    environment = world.environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", tool + script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode and "needs a processor with VNNI" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr


def filled_in(line: str) -> str:
    line = re.sub(r"\s#\s.*", "", line)
    for pattern, instead in FILLED_IN:
        line = re.sub(pattern, instead, line)
    return line.replace("{stopped}", STOPPED)


def test_every_line_that_is_not_run_is_still_in_the_documentation() -> None:
    lines = [line.strip() for page in PAGES for block in shell_blocks(page) for line in block.splitlines()]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in lines), f"{pattern}: nothing like it; take it off the list"
    for page in ELSEWHERE:
        assert list(shell_blocks(PROJECT / page)), page
