"""The training pipeline as Kubeflow Pipelines gets it: compiled by ZenML's orchestrator and Kubeflow's own compiler.

There is no cluster: ZenML's check that its server is a remote one is left out, and what would be uploaded is read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bone_age.provenance import PROJECT

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif("BONE_AGE_KFP" not in os.environ, reason="needs Kubeflow's compiler: make test-services"),
]

VARIABLES = {
    "KUBEFLOW_HOST": "https://kubeflow.example.org/pipeline",
    "REGISTRY": "registry.example.org",
    "TRAIN_IMAGE": "registry.example.org/bone-age-train:1.0",
    "ARTIFACTS": "s3://bone-age/zenml",
    "BONE_AGE_DATABASE_URL": "postgresql://bone_age@postgresql.svc:5432/bone_age",
}
COMPILE = """
import os, sys
sys.path.append(os.environ["BONE_AGE_KFP"])  # after all else: what it shares with the project is the project's
import steps
from zenml.client import Client
from zenml.integrations.integration import Integration
from zenml.integrations.kubeflow.orchestrators.kubeflow_orchestrator import KubeflowOrchestrator
from zenml.stack import Stack
from zenml.utils import source_utils
source_utils.set_custom_source_root(sys.argv[1])
from bone_age.governance.policy import Policy
from bone_age.provenance import SHIPPED
from bone_age.settings import load_config
from pipelines.stacks import on_active_stack, register_stack
from pipelines.training import training_pipeline

class WrittenError(Exception):
    pass

def keep(orchestrator, snapshot, pipeline_file_path, run_name):
    raise WrittenError(pipeline_file_path)

Integration.check_installation = classmethod(lambda cls, *_, **__: True)
Stack.validate = Stack.prepare_pipeline_submission = lambda stack, *_, **__: None
KubeflowOrchestrator._upload_and_run_pipeline = keep
secrets = {"bone-age": {"PGPASSWORD": "x"}, "bone-age-kubeflow": {"username": "u", "password": "p"}}
for name, values in (secrets | {"bone-age-s3": {"key": "k", "secret": "s"}}).items():
    Client().create_secret(name, values)
os.environ["MLFLOW_TRACKING_URI"] = "http://mlflow.svc:5000"
register_stack("kubeflow")
arguments = (load_config(SHIPPED / "configs/quickstart.yaml"), Policy.read(SHIPPED / "configs/policy.yaml"), "k", "w")
try:
    on_active_stack(training_pipeline, "compiled", *arguments)(*arguments)
except WrittenError as written:
    print(written)
"""
TRAININGS = ("resnet50-multi", "resnet50-single", "xception-multi", "xception-single")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("kubeflow")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "ZENML_"))}
    environment = inherited | VARIABLES | {"BONE_AGE_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", COMPILE, str(PROJECT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = yaml.safe_load(Path(done.stdout.splitlines()[-1]).read_text())
    return found


def test_every_step_is_a_task_of_the_image_and_trainings_lie_side_by_side(compiled: dict[str, Any]) -> None:
    tasks = compiled["root"]["dag"]["tasks"]
    executors = compiled["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {VARIABLES["TRAIN_IMAGE"]}
    assert len(tasks) == len(executors) == 22
    for name in TRAININGS:
        assert tasks[name]["dependentTasks"] == ["preprocess-images"]
    assert tasks["promote-best"]["dependentTasks"] == ["collect-evidence"]


def test_steps_find_what_is_shared_and_get_what_they_need(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
    for executor in executors.values():
        variables = {one["name"]: one["value"] for one in executor["container"]["env"]}
        assert variables["MLFLOW_TRACKING_URI"] == "http://mlflow.svc:5000"
        assert variables["BONE_AGE_DATABASE_URL"] == VARIABLES["BONE_AGE_DATABASE_URL"]
        assert "PGPASSWORD" not in variables, "a secret's value stays in ZenML"
    cpus = {name: executor["container"]["resources"]["resourceCpuLimit"] for name, executor in executors.items()}
    assert {cpus[f"exec-{name}"] for name in TRAININGS} == {"4.0"}
    assert cpus["exec-compare-models"] == "1.0"
