"""The batch on a Ray cluster of several nodes, on this machine; a node goes in the middle of the work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bone_age.errors import InputError
from bone_age.serving.batch import parts, run_batch
from bone_age.serving.batch.parts import Parts
from tests.batch_data import draw, write_manifest
from tests.worlds import World

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # before Ray is imported

ROWS = 12 * parts.PART_ROWS + 7
OBJECT_STORE_BYTES = 80_000_000


@pytest.fixture
def model(world: World) -> Path:
    return world.bundle(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number in range(5):
        draw(folder / f"{number}.png", number)
    (folder / "text.png").write_text("hello")
    os.symlink("0.png", os.fsencode(folder) + b"/\xe9\n.png")
    rows = [(f"{number % 5}.png", "FM"[number % 2]) for number in range(ROWS)]
    rows[100] = ("text.png", "F")
    rows[500] = ("1.png", "?")
    return write_manifest(folder, rows)


@pytest.fixture
def cluster() -> Iterator[object]:
    """A head that takes no work and two nodes that take one task each; files stay within the test's patience."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
    made.wait_for_nodes()
    yield made
    made.shutdown()


def test_a_node_that_goes_in_the_middle_loses_and_doubles_no_row(
    cluster: object, model: Path, data: Path, tmp_path: Path
) -> None:
    here, out = tmp_path / "here.csv", tmp_path / "ray.csv"
    run_batch(data, here, str(model))
    command = [sys.executable, "-m", "bone_age.cli", "batch", "--engine", "ray", "--model", model]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}  # type: ignore[attr-defined]
    process = subprocess.Popen(
        [*map(str, command), "--data", str(data), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    workplace = Parts(out, ROWS).folder
    until = time.monotonic() + 500
    while len(list(workplace.glob("part-*"))) < 2 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    before = len(list(workplace.glob("part-*")))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)  # type: ignore[attr-defined]
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert before < 13, "all was done before the node went; nothing was tested"
    assert f"{ROWS - 2} of {ROWS} radiographs answered" in said
    assert out.read_bytes() == here.read_bytes()
    failed = [path.with_name(f"{path.stem}.failed.csv").read_bytes() for path in (out, here)]
    assert failed[0] == failed[1]


def test_without_a_cluster_one_is_started_here_and_answers_names_that_are_no_text(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (data / "manifest.csv").unlink()
    for out, engine in ((tmp_path / "here.parquet", "local"), (tmp_path / "ray.parquet", "ray")):
        report = run_batch(data, out, str(model), engine, "F")
        assert (report.answered, report.failed_rows) == (6, 1)
    assert (tmp_path / "here.parquet").read_bytes() == (tmp_path / "ray.parquet").read_bytes()
    import ray

    assert not ray.is_initialized()
    assert not list(tmp_path.glob(".*"))


def test_without_ray_it_says_what_to_install(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "bone_age.serving.batch.on_ray", raising=False)
    with pytest.raises(InputError, match="install the extra `ray`"):
        run_batch(data, tmp_path / "a.csv", str(model), "ray")
