"""What happens around Keras' steps: learning rate before each, checkpoint every few minutes, figures after an epoch.

Early stopping lives here with the checkpoint, because it has to survive a resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from bone_age.errors import BoneAgeError
from bone_age.modelling.checkpoint import Checkpoint, History
from bone_age.progress import bar
from bone_age.settings import TrainingSettings

EpochListener = Callable[[int, dict[str, float]], None]
CHECKPOINT_SECONDS = 300  # writing the state takes about a second


def learning_rate_at(step: int, recipe: TrainingSettings, total_steps: int) -> float:
    """Linear warm-up from a hundredth of the learning rate, then a cosine to 0; steps count from 0."""
    peak, warmup = recipe.learning_rate, math.floor(recipe.warmup_share * total_steps)
    if step < warmup:
        return peak / 100 + (peak - peak / 100) * step / warmup
    share_done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return peak * 0.5 * (1 + math.cos(math.pi * share_done))


def stopped_early(history: History, recipe: TrainingSettings) -> bool:
    """Whether the best epoch lies so many epochs back that more are not worth it."""
    return bool(history.epochs) and history.epochs_since_best >= recipe.early_stopping_epochs


def averaged_weights(model: keras.Model) -> list[Any]:
    """The running average of a compiled model's weights, in the order of `get_weights`; its own without one."""
    averages = getattr(model.optimizer, "_model_variables_moving_average", None)
    if not averages:
        return list(model.get_weights())
    of_variable = {id(v): average for v, average in zip(model.trainable_variables, averages, strict=True)}
    return [keras.ops.convert_to_numpy(of_variable.get(id(v), v)) for v in model.weights]


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Before each step the learning rate; every few minutes and after each epoch the checkpoint; figures and a bar."""

    def __init__(
        self,
        title: str,
        recipe: TrainingSettings,
        checkpoint: Checkpoint,
        history: History,
        on_epoch: EpochListener,
        steps: int,
    ) -> None:
        super().__init__()
        self.title, self.recipe = title, recipe
        self.checkpoint, self.history, self.on_epoch = checkpoint, history, on_epoch
        self.steps_per_epoch = steps
        self.progress = bar(transient=True)

    def on_train_begin(self, logs: Any = None) -> None:
        self.progress.start()

    def on_train_end(self, logs: Any = None) -> None:
        self.progress.stop()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        history = self.history
        self.started = self.saved = time.perf_counter()
        self.seconds_before, self.steps_before, self.means_before = history.seconds, history.steps, history.means
        title = f"{self.title} epoch {epoch + 1}/{self.recipe.epochs}"
        self.task = self.progress.add_task(title, total=self.steps_per_epoch, completed=history.steps, note="")

    @property
    def seconds(self) -> float:
        """Of the running epoch, before and after a resume."""
        return self.seconds_before + time.perf_counter() - self.started

    def means(self, logs: dict[str, Any], steps: int) -> dict[str, float]:
        """Loss and error over the first `steps` of the epoch; Keras knows those since the resume."""
        share = self.steps_before / steps
        return {
            name: share * self.means_before.get(name, 0.0) + (1 - share) * float(logs[name]) for name in ("loss", "mae")
        }

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        total = self.recipe.epochs * self.steps_per_epoch
        step = len(self.history.epochs) * self.steps_per_epoch + self.steps_before + batch
        self.model.optimizer.learning_rate = learning_rate_at(step, self.recipe, total)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.advance(self.task)
        if logs and batch % 4 == 0:
            self.progress.update(self.task, note=f"MAE {logs['mae']:.1f}")
        if time.perf_counter() - self.saved >= CHECKPOINT_SECONDS:
            self.history.steps, self.history.seconds = self.steps_before + batch + 1, self.seconds
            self.history.means = self.means(logs or {}, self.history.steps)
            self.checkpoint.save_state(self.model, self.history)
            self.saved = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        self.trained_seconds = self.seconds
        self.running = self.model.get_weights()
        self._assign(averaged_weights(self.model))

    def on_test_end(self, logs: Any = None) -> None:
        self.judged = self.model.get_weights()
        self._assign(self.running)

    def _assign(self, weights: list[Any]) -> None:
        if self.recipe.averaging_decay is not None:
            self.model.set_weights(weights)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        means = self.means(logs, self.steps_per_epoch)
        figures = {
            "train_loss": means["loss"],
            "train_mae": means["mae"],
            "validation_loss": float(logs["val_loss"]),
            "validation_mae": float(logs["val_mae"]),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "images_per_second": self.steps_per_epoch * self.recipe.batch_size / self.trained_seconds,
            "seconds": self.seconds,
        }
        if not all(map(math.isfinite, figures.values())):
            raise BoneAgeError(f"{self.title}: epoch {epoch + 1} gave {figures}; lower training.learning_rate")
        history = self.history
        history.epochs.append(figures)
        history.steps, history.seconds, history.means = 0, 0.0, {}
        if figures["validation_mae"] < history.best_validation_mae:
            history.best_validation_mae, history.best_epoch = figures["validation_mae"], epoch
        self.checkpoint.save_epoch(self.model, history, self.judged)
        self.on_epoch(epoch, figures)
        self.progress.remove_task(self.task)
        best = ", the best so far" if history.best_epoch == epoch else ""
        self.progress.console.print(
            f"{self.title} epoch {epoch + 1}/{self.recipe.epochs}: "
            f"validation MAE {figures['validation_mae']:.1f} months{best} "
            f"({figures['images_per_second']:.0f} images/s)",
            highlight=False,
            soft_wrap=True,
        )
        if stopped_early(history, self.recipe):
            self.model.stop_training = True
