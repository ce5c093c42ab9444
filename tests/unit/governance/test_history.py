"""`bone-age history` reads the ledger, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_it_loads_no_mlflow_and_nothing_that_draws_or_trains(tmp_path: Path) -> None:
    code = """
import sys
from bone_age.cli import main
try:
    main(["history"])
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted({"tensorflow", "keras", "zenml", "mlflow", "matplotlib", "scipy", "onnxruntime"} & set(sys.modules)))
"""
    environment = os.environ | {"BONE_AGE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == ["there was no champion yet", "[]"], done.stderr
