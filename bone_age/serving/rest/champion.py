"""The model that answers: the champion, followed while the server runs, or one fixed model.

A new champion is loaded, verified and tried out beside the old one, and only then takes its place, so no question meets
a half-loaded model. One that does not verify is logged and kept out, and the old one goes on. MLflow (two seconds
of imports) is used on a thread of its own, and not at all while there is no registry.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import numpy as np

from bone_age.errors import BoneAgeError, ModelError
from bone_age.freed_memory import give_back_freed_memory
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor, reference_predictor
from bone_age.serving.rest.journal import note, whereabouts
from bone_age.serving.rest.metrics import Metrics
from bone_age.settings import Home

RETRY_REFUSED_S = 60.0
REFERENCE = "reference"


class ChampionFollower:
    """Keeps `current` at the registry's champion.

    Args:
        reference: A fixed model as `load_predictor` takes it; None follows the champion.
        poll_s: How often to ask who is champion.
    """

    def __init__(self, reference: str | None, poll_s: float, metrics: Metrics) -> None:
        self.current: Predictor | None = None
        self.failure: BoneAgeError | None = None
        self.loaded = threading.Event()
        self._reference, self._poll_s, self._metrics = reference, poll_s, metrics
        self._stopped = threading.Event()
        self._refused: tuple[str, float] = ("", 0.0)
        self._unreachable = self._is_old_one_going = False
        self._thread = threading.Thread(target=self._run, name="champion", daemon=True)

    def start(self, on_failure: Callable[[], None]) -> None:
        """Load the first model in the background; `on_failure` is called when there can be none (see `failure`)."""
        self._on_failure = on_failure
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._is_old_one_going:
                self._is_old_one_going = False
                give_back_freed_memory()
            self._look()
            if self._reference is not None and self.current is not None:
                return
            self._stopped.wait(self._poll_s)

    def _look(self) -> None:
        try:
            name = self._reference or champion_name()
            if self._unreachable:
                self._unreachable = False
                note("registry_answers_again")
        except Exception as error:
            if not self._unreachable:
                self._unreachable = True
                note("registry_does_not_answer", logging.ERROR, **whereabouts(error))
            self._metrics.model_kept_out("unchecked")
            return
        is_new = self.current is None or self.current.name != name
        if is_new and not (self._refused[0] == name and time.monotonic() < self._refused[1]):
            self._take(name)

    def _take(self, name: str) -> None:
        try:
            predictor = verified(name)
        except Exception as error:
            self._keep_out(name, error)
            return
        before, self.current = self.current, predictor
        self._metrics.model_loaded(predictor)
        note("model_loaded", model=predictor.name, digest=predictor.digest, before=before and before.name)
        self.loaded.set()
        self._is_old_one_going = before is not None
        give_back_freed_memory()

    def _keep_out(self, name: str, error: Exception) -> None:
        self._metrics.model_kept_out("not_verified")
        kept = self.current and self.current.name
        note("model_not_verified", logging.ERROR, model=name, why=str(error), kept=kept, **whereabouts(error))
        self._refused = (name, time.monotonic() + RETRY_REFUSED_S)
        if self.current is None:
            self.failure = error if isinstance(error, BoneAgeError) else ModelError(f"{name}: {error}")
            self._stopped.set()
            self._on_failure()


def champion_name() -> str:
    """The champion as `models:/bone-age/7`, or `reference` where there is none."""
    home = Home()
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (home.root / "mlflow.db").exists():
        return REFERENCE
    from bone_age.registry import CHAMPION, REGISTERED_MODEL, version_by_alias

    version = version_by_alias(CHAMPION)
    return REFERENCE if version is None else f"models:/{REGISTERED_MODEL}/{version.version}"


def verified(name: str) -> Predictor:
    """Load a model, hold it against its checksums and its version's tag, and let it answer once.

    Raises:
        ModelError: It is absent, was changed, or cannot answer.
    """
    predictor = reference_predictor() if name == REFERENCE else load_predictor(name)
    if predictor.name.startswith("models:/"):
        from bone_age.registry import version_facts

        registered = version_facts(int(predictor.name.rpartition("/")[2])).model_digest
        if registered and registered != predictor.digest:
            raise ModelError(f"{name}: its files are not those that were registered (digest {predictor.digest[:12]})")
    size = predictor.preprocessing.image_size_px
    try:
        months = predictor.predict_prepared(np.zeros((1, size, size), np.uint8), ["F"])
    except Exception as error:  # onnxruntime's errors have no common type
        raise ModelError(f"{name}: cannot answer: {' '.join(str(error).split())[:200]}") from None
    if not np.isfinite(months).all():
        raise ModelError(f"{name}: answers {months[0]} months")
    return predictor
