"""Which model answers: a version in the registry, a folder, or, where none was promoted yet, the reference model.

A folder is loaded without MLflow being imported.
"""

from __future__ import annotations

from pathlib import Path

from bone_age.errors import ModelError
from bone_age.provenance import SHIPPED
from bone_age.serving.bundle import CHECKSUMS, Bundle, load_bundle
from bone_age.serving.predictor import Predictor, Warning

REFERENCE_MODEL = SHIPPED / "models" / "reference"
SYNTHETIC = Warning(
    "synthetic_model", "This model was trained on synthetic images; its answers mean nothing for a child."
)


def reference_model() -> Bundle:
    """The verified reference model that the project ships.

    Raises:
        ModelError: There is none in this installation, or it was changed.
    """
    return load_bundle(REFERENCE_MODEL)


def load_predictor(reference: str | None) -> Predictor:
    """Load a model by its reference; None is the champion or, where there is none, the reference model.

    Raises:
        ModelError: There is no such model, or its checksums do not match.
    """
    if reference is None:
        return _champion_or_reference()
    if reference.startswith("models:/"):
        return _registered(reference)
    return _with_warnings(Path(reference), reference)


def _registered(reference: str) -> Predictor:
    from bone_age.registry import resolve

    exact, folder = resolve(reference)
    return _with_warnings(folder, exact)


def _champion_or_reference() -> Predictor:
    from bone_age.registry import CHAMPION, REGISTERED_MODEL, version_by_alias

    if version_by_alias(CHAMPION) is not None:
        return _registered(f"models:/{REGISTERED_MODEL}@{CHAMPION}")
    return reference_predictor()


def reference_predictor() -> Predictor:
    """The reference model as it answers where nothing was promoted.

    Raises:
        ModelError: There is none in this installation, or it was changed.
    """
    if not (REFERENCE_MODEL / CHECKSUMS).is_file():
        raise ModelError("there is no champion yet; `bone-age train` makes one, or name a model with --model")
    said = Warning(
        "reference_model",
        "No model was promoted here; the project's reference model answered. It was trained on radiographs of the RSNA "
        "2017 challenge, from two hospitals in the United States, and is for research and teaching.",
    )
    return _with_warnings(REFERENCE_MODEL, "reference", said)


def _with_warnings(folder: Path, name: str, *warnings: Warning) -> Predictor:
    bundle = load_bundle(folder)
    return Predictor(bundle, name, (*warnings, SYNTHETIC) if bundle.facts.synthetic else warnings)
