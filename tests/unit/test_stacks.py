"""The files of stacks: what ZenML's own classes say of them, and what is said of those that are incomplete."""

from __future__ import annotations

import pytest

from bone_age.errors import InputError
from pipelines.stacks import FOLDER, read_stack

NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
VARIABLES = {
    "BONE_AGE_HOME": "/data",
    "KUBERNETES_CONTEXT": "ours",
    "KUBEFLOW_HOST": "https://kubeflow.example.org/pipeline",
    "REGISTRY": "registry.example.org",
    "TRAIN_IMAGE": "registry.example.org/bone-age-train:1.0",
    "ARTIFACTS": "s3://bone-age/zenml",
    "MLFLOW_TRACKING_URI": "http://mlflow.mlflow.svc:5000",
    "BONE_AGE_DATABASE_URL": "postgresql://bone_age@postgresql.postgresql.svc:5432/bone_age",
}


def test_there_are_four() -> None:
    assert NAMES == ["kubeflow", "kubernetes", "local", "local_docker"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_a_stack_and_a_run_configuration_of_zenml(name: str) -> None:
    stack = read_stack(name, VARIABLES)
    assert stack.stack_name == name
    assert {"orchestrator", "artifact_store"} <= {kind.value for kind in stack.components}


@pytest.mark.parametrize("name", ["kubernetes", "kubeflow"])
def test_nothing_is_built_and_trainings_have_resources(name: str) -> None:
    stack = read_stack(name, VARIABLES)
    assert stack.settings["docker"]["skip_build"] is True
    assert {"preprocess_images", "train_model"} <= set(stack.steps)


def test_what_is_not_set_is_named() -> None:
    with pytest.raises(InputError, match=r"KUBERNETES_CONTEXT.* not set"):
        read_stack("kubernetes", {})
    with pytest.raises(InputError, match=r"no stack 'nowhere'; there are kubeflow"):
        read_stack("nowhere", {})
