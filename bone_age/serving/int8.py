"""What a model in eight bits says of itself, and which processors may run it."""

from __future__ import annotations

import platform
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bone_age.errors import ModelError

CPU_FACTS = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64", "i386", "i686")


class Int8Facts(BaseModel):
    """How a model in eight bits came about, and how far its answers are from those of the model that it was made of.

    Attributes:
        parent_digest: SHA-256 (hex) of that model.
        parent_test_mae: Its MAE on the same radiographs of the test split, months.
        calibration_rows: Training radiographs that set the scales.
        compared_rows: Validation radiographs whose answers were compared.
        mean_absolute_difference_months, largest_difference_months: Of those answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent_digest: str
    parent_test_mae: float
    calibration_rows: int = Field(ge=1)
    compared_rows: int = Field(ge=1)
    mean_absolute_difference_months: float
    largest_difference_months: float


def require_exact_sums() -> None:
    """Raise ModelError where products of eight bits are added up in sixteen, as x86 processors before VNNI do.

    Such sums overflow without a sign, and answers would not be those that the model was measured with. Source: ONNX
    Runtime, "Quantize ONNX models".
    """
    if platform.machine().lower() not in X86:
        return
    try:
        features = CPU_FACTS.read_text()
    except OSError:
        features = ""
    if "vnni" not in features:
        raise ModelError(
            "a model in eight bits needs a processor with VNNI, and this one shows none: export it without --int8"
        )
