"""Answers a drawn hand while the `serve` image is built, from the reference model, with page and registry loaded.

An image that cannot answer is not built; and what was imported leaves its bytecode behind. Bytecode of everything that
lies there and is never imported would be 150 MB; none at all would cost every start in a read-only container.
"""

from __future__ import annotations

import bone_age.cli
import bone_age.mlflow_connection
import bone_age.serving.page.mounting
import bone_age.serving.rest.server  # noqa: F401
from bone_age.data.synthetic import render_hand
from bone_age.serving.references import load_predictor

print(load_predictor(None).predict(render_hand(120.0, "F", 3), "F"))
