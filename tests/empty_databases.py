"""MLflow's and ZenML's databases as they are before anything happened, made once for all tests of a process.

Their migrations take five seconds and four, and hundreds of tests want a home of their own. The tests of whole
training runs, and `make run`, begin with nothing.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

MLFLOW, ZENML = Path("mlflow.db"), Path("zenml/local_stores/default_zen_store/zenml.db")
MAKE = """
import mlflow
import steps  # says where ZenML keeps its own
from zenml.client import Client
from zenml.utils import source_utils
from bone_age.settings import Home
source_utils.set_custom_source_root(".")
mlflow.MlflowClient(Home().prepare().tracking_uri).search_experiments()
Client().active_stack
"""


def lay_into(home: Path) -> Path:
    """Put them into a home, which is made where it is not there. Returns it."""
    for file in (MLFLOW, ZENML):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_made() / file, home / file)
    return home


@cache
def _made() -> Path:
    home = Path(tempfile.mkdtemp(prefix="bone-age-empty-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BONE_AGE_", "MLFLOW_", "ZENML_"))}
    environment = inherited | {"BONE_AGE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", MAKE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return home
