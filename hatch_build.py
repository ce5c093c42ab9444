"""What a wheel holds beside the code: configurations, policies and the reference model, in `bone_age/shipped/`.

An editable installation finds them in the checkout.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling at each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {name: f"bone_age/shipped/{name}" for name in ("configs", "models")}
