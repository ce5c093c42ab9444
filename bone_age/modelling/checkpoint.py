"""Training state every few minutes, so that a kill costs at most those minutes and changes no figure.

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
    """What happened so far; `epochs` holds one row of figures an epoch, `best_epoch` counts from 0.

    `steps` of the running epoch are done; they took `seconds`, and `means` are their loss and error.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    means: dict[str, float] = field(default_factory=dict)
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
        """Save a finished epoch.

        Args:
            judged_weights: By which the epoch was judged: the model's own, or their running average.
        """
        if history.epochs_since_best == 0:
            self._write_arrays(BEST, judged_weights)
        self.save_state(model, history)

    def save_state(self, model: keras.Model, history: History) -> None:
        """Write weights and optimiser first, then the history that says they are there."""
        name = _state_name(history)
        self._write_arrays(name, _values(_state_of(model)))
        self.save_history(history)
        for old in self.folder.glob(f"*-{STATE}"):
            if old.name != name:
                old.unlink()

    def save_history(self, history: History) -> None:
        self._replace(HISTORY, json.dumps(asdict(history)).encode())

    def restore(self, model: keras.Model, history: History) -> None:
        """Put a compiled model back to where `history` ends."""
        if not history.epochs and not history.steps:
            return
        with np.load(self.folder / _state_name(history)) as arrays:
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


def _state_name(history: History) -> str:
    return f"{len(history.epochs)}-{history.steps}-{STATE}"


def _state_of(model: keras.Model) -> list[Any]:
    """Weights, random-generator states and optimiser slots; Keras' metrics start anew with every call of `fit`."""
    metrics = {id(variable) for variable in model.metrics_variables}
    optimizer = {id(variable) for variable in model.optimizer.variables}
    own = [v for v in model.variables if id(v) not in metrics and id(v) not in optimizer]
    return [*own, *model.optimizer.variables]


def _values(variables: list[Any]) -> list[Any]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]
