"""Stacks: where steps run. `make stack STACK=NAME` registers `configs/stacks/NAME.yaml` with ZenML and makes it active.

A file holds a stack as `zenml stack export` writes one, and beside it ZenML's run configuration: `settings` for all
steps, `steps` by the name of the step's function, so that all four trainings are meant by one entry. Both are kept on
the registered stack: what was registered is what runs, whatever the file or the environment say later.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from zenml.client import Client
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
from zenml.enums import ExecutionMode, StackComponentType
from zenml.integrations.registry import integration_registry
from zenml.models import ComponentResponse
from zenml.pipelines.pipeline_definition import Pipeline

import steps  # noqa: F401  (points ZenML to the home)
from bone_age.errors import BoneAgeError, InputError
from bone_age.mlflow_connection import first_line
from bone_age.provenance import SHIPPED
from bone_age.settings import Home, Strict

FOLDER = SHIPPED / "configs" / "stacks"
RUN_LABEL = "bone-age-run"
_PLACEHOLDER = re.compile(r"\$\{(\w+)(:-([^}]*))?\}")


class ComponentFile(Strict):
    """One component, as ZenML exports it."""

    name: str
    flavor: str
    configuration: dict[str, Any]


class StackFile(Strict):
    """A file of `configs/stacks/`. `secrets` are names of ZenML secrets, whose keys become variables of every step."""

    stack_name: str
    components: dict[StackComponentType, ComponentFile]
    environment: dict[str, str] = Field(default_factory=dict)
    secrets: list[str] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = Field(default_factory=dict)


def read_stack(name: str, variables: Mapping[str, str]) -> StackFile:
    """Read a stack file, `${NAME}` and `${NAME:-default}` replaced; a key that becomes empty goes with its value.

    Raises:
        InputError: No such stack, a variable without value or default, a key that is not known.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"no stack {name!r}; there are {', '.join(sorted(file.stem for file in FOLDER.glob('*.yaml')))}"
        )
    text = path.read_text(encoding="utf-8")
    missing = [
        key
        for key, default, _ in _PLACEHOLDER.findall(_without_comments(text))
        if not default and not variables.get(key)
    ]
    if missing:
        raise InputError(f"stack {name}: {', '.join(dict.fromkeys(missing))} not set")
    try:
        file = StackFile(**_filled(yaml.safe_load(text), variables))
        PipelineRunConfiguration(settings=file.settings, steps=file.steps)
    except ValidationError as error:
        issue = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, issue['loc']))}: {issue['msg']}") from None
    return file


def register_stack(name: str) -> str:
    """Register a stack with its components, or bring the registered one up to date, and make it active.

    Returns:
        One line that says what is active now.
    Raises:
        InputError: As `read_stack`, or a secret is not in ZenML.
        BoneAgeError: A package is missing, or ZenML refuses the stack.
    """
    home = Home().prepare()
    file = read_stack(name, home.exports() | os.environ)
    _require_integrations(file)
    client = Client()
    secrets = _secret_ids(client, file.secrets)
    try:
        components = {kind: _component(client, kind, part).id for kind, part in file.components.items()}
        if not client.list_stacks(name=file.stack_name):
            client.create_stack(file.stack_name, components)
        stack = client.get_stack(file.stack_name, allow_name_prefix_match=False)
        client.update_stack(
            stack.id,
            component_updates=components,
            labels={RUN_LABEL: {"settings": file.settings, "steps": file.steps}},
            environment=dict.fromkeys(stack.environment) | file.environment,
            add_secrets=[one for one in secrets if one not in stack.secrets],
            remove_secrets=[one for one in stack.secrets if one not in secrets],
        )
        client.activate_stack(stack.id)
    except Exception as error:
        raise BoneAgeError(f"stack {name}: {first_line(error)}") from error
    parts = ", ".join(f"{kind.value} {part.name} ({part.flavor})" for kind, part in file.components.items())
    return f"stack {file.stack_name} is registered and active: {parts}"


def on_active_stack(pipeline: Pipeline, run_name: str, *arguments: Any) -> Pipeline:
    """The pipeline as the active stack's file wants it run; as it is where the file says nothing.

    What failed ends the run at once, where the orchestrator can do that; Kubeflow's goes on with steps that do not
    need what failed, and is refused anything else.

    Args:
        arguments: The pipeline's own; which steps there are depends on them.
    """
    client = Client()
    modes = client.active_stack.orchestrator.supported_execution_modes
    if ExecutionMode.FAIL_FAST not in modes:
        pipeline = pipeline.with_options(execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
    wanted = (client.active_stack_model.labels or {}).get(RUN_LABEL) or {}
    if not any(wanted.values()):
        return pipeline.with_options(run_name=run_name)
    drawn = pipeline.copy()
    drawn.prepare(*arguments)
    kinds = {invocation: one.step.entrypoint.__name__ for invocation, one in drawn.invocations.items()}
    chosen = {invocation: wanted["steps"][kind] for invocation, kind in kinds.items() if kind in wanted["steps"]}
    return pipeline.with_options(run_name=run_name, settings=wanted["settings"], steps=chosen)


def _component(client: Client, kind: StackComponentType, part: ComponentFile) -> ComponentResponse:
    try:
        there = client.get_stack_component(kind, part.name, allow_name_prefix_match=False)
    except KeyError:
        return client.create_stack_component(part.name, part.flavor, kind, part.configuration)
    if there.flavor_name != part.flavor:
        raise InputError(f"{kind.value} {part.name} is there already, of flavor {there.flavor_name}")
    if there.configuration != part.configuration:
        gone = dict.fromkeys(set(there.configuration) - set(part.configuration))
        return client.update_stack_component(there.id, kind, configuration=gone | part.configuration)
    return there


def _require_integrations(file: StackFile) -> None:
    for part in file.components.values():
        integration = integration_registry.integrations.get(part.flavor)
        if integration is not None and not integration.check_installation():
            packages = " ".join(f"'{one}'" for one in integration.get_requirements())
            raise BoneAgeError(f"stack {file.stack_name} needs: {Path(sys.executable)} -m pip install {packages}")


def _secret_ids(client: Client, names: list[str]) -> list[Any]:
    found = []
    for name in names:
        try:
            found.append(client.get_secret(name, allow_partial_name_match=False).id)
        except KeyError:
            raise InputError(f"ZenML has no secret {name}; `zenml secret create {name} --KEY=VALUE ...`") from None
    return found


def _without_comments(text: str) -> str:
    return re.sub(r"(?m)(^|\s)#.*$", "", text)


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        filled = {_filled(key, variables): _filled(one, variables) for key, one in value.items()}
        return {key: one for key, one in filled.items() if key != ""}
    if isinstance(value, list):
        return [_filled(one, variables) for one in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: variables.get(found[1]) or found[3] or "", value)
    return value


def main() -> None:
    """`python -m pipelines.stacks NAME`."""
    try:
        print(register_stack(sys.argv[1] if len(sys.argv) > 1 else ""))
    except BoneAgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
