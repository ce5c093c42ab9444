"""Training state after each epoch, so that a kill costs at most one epoch and changes no figure.

Keras' BackupAndRestore forgets which epoch was best and how long ago; early stopping after a resume would then start
anew. So weights, optimiser, dropout seeds and history are kept together here, written whole (temporary file, rename).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

STATE, BEST, HISTORY = "state.npz", "best.npz", "history.json"


@dataclass
class History:
    """What happened so far; `epochs` holds one row of figures an epoch, `best_epoch` counts from 0."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_validation_mae: float = float("inf")
    finished: bool = False
    mlflow_run_ids: list[str] = field(default_factory=list)

    @property
    def epochs_since_best(self) -> int:
        return len(self.epochs) - 1 - self.best_epoch

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.epochs)


class Checkpoint:
    """The training state of one plan in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def history(self) -> History:
        try:
            return History(**json.loads((self.folder / HISTORY).read_text()))
        except FileNotFoundError:
            return History()

    def save_epoch(self, model: keras.Model, history: History, judged_weights: list[Any]) -> None:
        """Write weights and optimiser first, then the history that says they are there.

        Args:
            judged_weights: By which the epoch was judged: the model's own, or their running average.
        """
        epoch = len(history.epochs)
        self._write_arrays(f"{epoch}-{STATE}", _values(_state_of(model)))
        if history.epochs_since_best == 0:
            self._write_arrays(BEST, judged_weights)
        self.save_history(history)
        for old in self.folder.glob(f"*-{STATE}"):
            if old.name != f"{epoch}-{STATE}":
                old.unlink()

    def save_history(self, history: History) -> None:
        self._replace(HISTORY, json.dumps(asdict(history)).encode())

    def restore(self, model: keras.Model, history: History) -> None:
        """Put a compiled model back to where `history` ends."""
        if not history.epochs:
            return
        with np.load(self.folder / f"{len(history.epochs)}-{STATE}") as arrays:
            for variable, name in zip(_state_of(model), arrays.files, strict=True):
                variable.assign(arrays[name])

    def restore_best(self, model: keras.Model) -> None:
        """Put the weights of the best epoch into a model."""
        with np.load(self.folder / BEST) as arrays:
            model.set_weights([arrays[name] for name in arrays.files])

    def _write_arrays(self, name: str, arrays: list[Any]) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}.npz"
        try:
            np.savez(temporary, *arrays)
            os.replace(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        os.replace(temporary, self.folder / name)


def _state_of(model: keras.Model) -> list[Any]:
    """Weights, random-generator states and optimiser slots; metrics are sums of the running epoch and left out."""
    metrics = {id(variable) for variable in model.metrics_variables}
    optimizer = {id(variable) for variable in model.optimizer.variables}
    own = [v for v in model.variables if id(v) not in metrics and id(v) not in optimizer]
    return [*own, *model.optimizer.variables]


def _values(variables: list[Any]) -> list[Any]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]
