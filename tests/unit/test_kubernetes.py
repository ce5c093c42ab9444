"""The manifests against the schemas of Kubernetes, against each other, and against what the images promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bone_age.serving.rest.settings import ServeSettings
from bone_age.settings import load_config

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "docker" / "k8s"
OLDEST, NEWEST = "1.29", "1.33"  # ReadWriteOncePod is stable from 1.29 on


def documents() -> list[dict[str, Any]]:
    """Every object that the kustomization puts together."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return [one for name in kustomization["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())]


def named(one: dict[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


OBJECTS = {named(one): one for one in documents()}
PODS = {
    "serve": OBJECTS["Deployment/serve"]["spec"]["template"],
    "retrain": OBJECTS["CronJob/retrain"]["spec"]["jobTemplate"]["spec"]["template"],
}


def keys_of(pod: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Keys of the Secret that a pod needs, and whether it starts without."""
    for variable in pod["spec"]["containers"][0]["env"]:
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "bone-age"
            yield reference["key"], reference.get("optional", False)


def test_the_kustomization_names_every_file_and_no_object_is_there_twice() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    assert len(OBJECTS) == len(documents())


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_follow_the_schema_to_the_letter(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


@pytest.mark.parametrize("change", [{"replica": 2}, {"replicas": "two"}])
def test_the_schema_would_notice(change: dict[str, Any]) -> None:
    deployment = OBJECTS["Deployment/serve"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment | {"spec": deployment["spec"] | change}, NEWEST, strict=True)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_are_held_as_tightly_as_the_compose_file_holds_containers(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/data"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert len({mount["mountPath"] for mount in container["volumeMounts"]}) == len(container["volumeMounts"])
    assert "memory" in container["resources"]["limits"]
    assert container["image"] in {image["name"] for image in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]}  # fmt: skip # noqa: E501


def test_service_scaler_budget_and_policies_mean_the_pods_they_should() -> None:
    labels = PODS["serve"]["metadata"]["labels"]
    for selector in (
        OBJECTS["Deployment/serve"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service/serve"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget/serve"]["spec"]["selector"]["matchLabels"],
        OBJECTS["NetworkPolicy/questions"]["spec"]["podSelector"]["matchLabels"],
        OBJECTS["NetworkPolicy/shared-services"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    retrains = PODS["retrain"]["metadata"]["labels"]
    assert OBJECTS["NetworkPolicy/alerts"]["spec"]["podSelector"]["matchLabels"].items() <= retrains.items()
    assert not OBJECTS["Service/serve"]["spec"]["selector"].items() <= retrains.items()
    target = OBJECTS["HorizontalPodAutoscaler/serve"]["spec"]["scaleTargetRef"]
    assert f"{target['kind']}/{target['name']}" in OBJECTS
    assert OBJECTS["HorizontalPodAutoscaler/serve"]["spec"]["minReplicas"] > OBJECTS["PodDisruptionBudget/serve"]["spec"]["minAvailable"]  # fmt: skip # noqa: E501


def test_probes_ask_for_what_the_server_has_and_time_limits_fit() -> None:
    from bone_age.serving.rest import app

    (container,) = PODS["serve"]["spec"]["containers"]
    source = Path(app.__file__).read_text()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in source
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", "a server without a champion is alive"
    settings = ServeSettings()
    (drain,) = [float(one["value"]) for one in container["env"] if one["name"] == "BONE_AGE_SERVE_DRAIN_S"]
    assert PODS["serve"]["spec"]["terminationGracePeriodSeconds"] >= drain + settings.time_limit_s
    assert container["ports"][0]["containerPort"] == settings.port


def test_networks_open_where_the_settings_point() -> None:
    settings = OBJECTS["ConfigMap/bone-age"]["data"]
    rules = OBJECTS["NetworkPolicy/shared-services"]["spec"]["egress"]
    opened = {
        (rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for rule in rules
        for port in rule["ports"]
    }
    for address in settings.values():
        host, port = address.rpartition("@")[2].rpartition("//")[2].split("/")[0].split(":")
        assert (host.split(".")[1], int(port)) in opened


def test_the_page_says_how_to_make_every_key_of_the_secret() -> None:
    page = (PROJECT / "docs" / "how-to" / "cluster.md").read_text()
    for pod in PODS.values():
        for key, _ in keys_of(pod):
            assert f"--from-literal={key}=" in page
    assert not [one for one in OBJECTS.values() if one["kind"] == "Secret"], "no password in a repository"


def test_the_job_runs_what_the_image_has() -> None:
    (container,) = PODS["retrain"]["spec"]["containers"]
    arguments, mounts = container["args"], {mount["mountPath"] for mount in container["volumeMounts"]}
    config = load_config(PROJECT / arguments[arguments.index("--config") + 1])
    assert arguments[arguments.index("--data") + 1] in mounts
    for plan in config.plans:
        assert str(Path("/app", plan.training.weights).parent) in mounts, "the image has no weights to begin with"
    assert OBJECTS["CronJob/retrain"]["spec"]["concurrencyPolicy"] == "Forbid"
    for volume in PODS["retrain"]["spec"]["volumes"]:
        assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in OBJECTS
