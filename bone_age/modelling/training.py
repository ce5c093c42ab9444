"""Training one planned architecture: repeatable, resumable after a kill, best epoch kept.

The loop is Keras' own `fit`; this module adds what a run must not lose (state after each epoch) and what a reader of
MLflow wants (figures per epoch). Early stopping lives with the checkpoint, because it has to survive a resume.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bone_age.data.manifest import sex_input
from bone_age.data.prepared import PreparedImages
from bone_age.errors import BoneAgeError
from bone_age.modelling.batches import Batches
from bone_age.modelling.checkpoint import Checkpoint, History
from bone_age.modelling.devices import (
    accelerators,
    across_devices,
    empty_variables,
    give_back_freed_memory,
    keep_freed_memory,
    make_repeatable,
)
from bone_age.modelling.export import export_onnx
from bone_age.modelling.frozen_features import frozen_features
from bone_age.modelling.network import Network, build_network, uses_sex
from bone_age.modelling.trained import TrainedModel, TrainingRecord
from bone_age.progress import bar
from bone_age.provenance import code_digest
from bone_age.settings import AugmentationSettings, Home, PlannedTraining, TrainingSettings, digest_of

EpochListener = Callable[[int, dict[str, float]], None]
FINISHED_KEPT_DAYS = 7
CHECKPOINT_SECONDS = 300  # writing the state takes about a second


def train(
    plan: PlannedTraining, images: PreparedImages, home: Home, folder: Path, on_epoch: EpochListener, run_id: str
) -> TrainedModel:
    """Train one architecture and write it to `folder` (which exists and is empty).

    Args:
        plan: What to build and by which recipe.
        images: The prepared images with their splits.
        home: Keeps what has to outlive a kill: checkpoints and cached features.
        folder: Takes `model.keras`, `model.onnx`, `preprocessing.json` and `training.json`.
        on_epoch: Called after each epoch with its number (from 0) and figures; for a resumed training also for those
            before the kill, so that the caller's record is whole.
        run_id: The MLflow run of this attempt; earlier attempts are named in the result.
    Raises:
        BoneAgeError: The loss became infinite or NaN.
    """
    keep_freed_memory()
    make_repeatable(plan.seed)
    checkpoint = Checkpoint(home.checkpoints / training_key(plan, images))
    _forget_finished(home.checkpoints, keep=checkpoint.folder)
    history = checkpoint.history()
    history.mlflow_run_ids.append(run_id)
    checkpoint.save_history(history)
    for epoch, figures in enumerate(history.epochs):
        on_epoch(epoch, figures)
    if plan.training.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return _build_fit_write(plan, images, home, folder, checkpoint, history, on_epoch)
    finally:  # the network went with its function, so that there is something to give back
        keras.mixed_precision.set_global_policy("float32")
        keras.backend.clear_session()
        gc.collect()
        give_back_freed_memory()


def _build_fit_write(
    plan: PlannedTraining,
    images: PreparedImages,
    home: Home,
    folder: Path,
    checkpoint: Checkpoint,
    history: History,
    on_epoch: EpochListener,
) -> TrainedModel:
    for phase in phases(plan):
        if history.finished or len(history.epochs) >= phase.last_epoch:
            continue
        with across_devices():
            network = build_network(phase.plan)
            compile_model(network.trained, plan.training)
        _fit(phase, network, images, home, checkpoint, history, on_epoch)
        empty_variables(network.trained)
    history.finished = True
    checkpoint.save_history(history)
    keras.mixed_precision.set_global_policy("float32")
    return _write(plan, images, checkpoint, history, folder)


@dataclass(frozen=True)
class Phase:
    """Epochs `first_epoch` up to `last_epoch` (excluded) of a training, at the image size of `plan`."""

    plan: PlannedTraining
    first_epoch: int
    last_epoch: int


def phases(plan: PlannedTraining) -> list[Phase]:
    """The epochs on smaller images, in their order, then those at the prepared size."""
    found, first = [], 0
    for resized in plan.training.warmup_resized:
        preprocessing = plan.preprocessing.model_copy(update={"image_size_px": resized.image_size_px})
        smaller = plan.model_copy(update={"preprocessing": preprocessing})
        found.append(Phase(smaller, first, first + resized.epochs))
        first += resized.epochs
    return [*found, Phase(plan, first, plan.training.epochs)]


def training_key(plan: PlannedTraining, images: PreparedImages) -> str:
    """Names a training by everything that decides its result, code included: only the same training is resumed."""
    weights = Path(plan.training.weights)
    content = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else plan.training.weights
    parts = {"plan": digest_of(plan), "images": images.digest, "weights": content, "code": code_digest("modelling")}
    return digest_of(parts)[:24]


def compile_model(model: keras.Model, recipe: TrainingSettings) -> None:
    """AdamW and Huber loss on months.

    The learning rate is set from outside, step by step: Keras' schedules are built into the graph once for every
    weight (for the weight decay), and an optimizer that makes its slots in the first step has that step traced twice.
    """
    average = {} if recipe.averaging_decay is None else {"use_ema": True, "ema_momentum": recipe.averaging_decay}
    model.compile(
        optimizer=keras.optimizers.AdamW(
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.gradient_clip_norm,
            **average,
        ),
        loss=keras.losses.Huber(delta=recipe.huber_delta_months),
        metrics=[keras.metrics.MeanAbsoluteError(name="mae")],
        jit_compile=bool(accelerators()) and "auto",  # compiling for a CPU costs more than it saves in a short run
    )
    model.optimizer.build(model.trainable_variables)


def learning_rate_at(step: int, recipe: TrainingSettings, total_steps: int) -> float:
    """Linear warm-up from a hundredth of the learning rate, then a cosine to 0; steps count from 0."""
    peak, warmup = recipe.learning_rate, math.floor(recipe.warmup_share * total_steps)
    if step < warmup:
        return peak / 100 + (peak - peak / 100) * step / warmup
    share_done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return peak * 0.5 * (1 + math.cos(math.pi * share_done))


def _fit(
    phase: Phase,
    network: Network,
    images: PreparedImages,
    home: Home,
    checkpoint: Checkpoint,
    history: History,
    on_epoch: EpochListener,
) -> None:
    plan = phase.plan
    recipe = plan.training
    sources: list[Any] = [images.images]
    augmentation = recipe.augmentation
    if network.frozen is not None:
        mirrors = augmentation is not None and augmentation.flip
        sources, augmentation = frozen_features(network.frozen, images, home.feature_cache, mirrors), None
    checkpoint.restore(network.trained, history)
    while len(history.epochs) < phase.last_epoch and not _stopped_early(history, recipe):
        epoch, step = len(history.epochs), history.steps
        train_batches = _batches(plan, images, "train", sources, plan.seed, augmentation, (epoch, step))
        network.trained.fit(
            train_batches,
            steps_per_epoch=train_batches.steps_per_epoch - step,
            shuffle=False,  # the batches are shuffled already
            validation_data=_batches(plan, images, "validation", sources),
            initial_epoch=epoch,
            epochs=epoch + 1 if step else phase.last_epoch,  # the rest of a resumed epoch is shorter than the others
            verbose=0,
            callbacks=[_Keeper(plan, checkpoint, history, on_epoch, train_batches.steps_per_epoch)],
        )


def _stopped_early(history: History, recipe: TrainingSettings) -> bool:
    in_warmup = len(history.epochs) <= recipe.warmup_epochs
    return not in_warmup and history.epochs_since_best >= recipe.early_stopping_epochs


def _batches(
    plan: PlannedTraining,
    images: PreparedImages,
    split: str,
    sources: list[Any],
    shuffle_seed: int | None = None,
    augmentation: AugmentationSettings | None = None,
    start: tuple[int, int] = (0, 0),
) -> Batches:
    table = images.split(split)
    sex = sex_input(table["sex"]) if uses_sex(plan.architecture) else None
    return Batches(
        sources,
        table["array_row"].to_numpy(np.int64),
        sex,
        table["bone_age_months"].to_numpy(np.float32),
        plan.training.batch_size,
        shuffle_seed,
        augmentation,
        start,
        plan.preprocessing.image_size_px if len(sources[0].shape) == 3 else None,
    )


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Before each step the learning rate; every few minutes and after each epoch the checkpoint; figures and a bar."""

    def __init__(
        self, plan: PlannedTraining, checkpoint: Checkpoint, history: History, on_epoch: EpochListener, steps: int
    ) -> None:
        super().__init__()
        self.plan, self.checkpoint, self.history, self.on_epoch = plan, checkpoint, history, on_epoch
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
        title = f"{self.plan.name} epoch {epoch + 1}/{self.plan.training.epochs}"
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
        total = self.plan.training.epochs * self.steps_per_epoch
        step = len(self.history.epochs) * self.steps_per_epoch + self.steps_before + batch
        self.model.optimizer.learning_rate = learning_rate_at(step, self.plan.training, total)

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
        if self.plan.training.averaging_decay is not None:
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
            "images_per_second": self.steps_per_epoch * self.plan.training.batch_size / self.trained_seconds,
            "seconds": self.seconds,
        }
        if not all(map(math.isfinite, figures.values())):
            raise BoneAgeError(f"{self.plan.name}: epoch {epoch + 1} gave {figures}; lower training.learning_rate")
        history = self.history
        history.epochs.append(figures)
        history.steps, history.seconds, history.means = 0, 0.0, {}
        if epoch == self.plan.training.warmup_epochs:
            history.best_validation_mae = math.inf  # figures on smaller images do not count
        if figures["validation_mae"] < history.best_validation_mae:
            history.best_validation_mae, history.best_epoch = figures["validation_mae"], epoch
        self.checkpoint.save_epoch(self.model, history, self.judged)
        self.on_epoch(epoch, figures)
        self.progress.remove_task(self.task)
        best = ", the best so far" if history.best_epoch == epoch else ""
        self.progress.console.print(
            f"{self.plan.name} epoch {epoch + 1}/{self.plan.training.epochs}: "
            f"validation MAE {figures['validation_mae']:.1f} months{best} "
            f"({figures['images_per_second']:.0f} images/s)",
            highlight=False,
            soft_wrap=True,
        )
        if _stopped_early(history, self.plan.training):
            self.model.stop_training = True


def averaged_weights(model: keras.Model) -> list[Any]:
    """The running average of a compiled model's weights, in the order of `get_weights`; its own without one."""
    averages = getattr(model.optimizer, "_model_variables_moving_average", None)
    if not averages:
        return list(model.get_weights())
    of_variable = {id(v): average for v, average in zip(model.trainable_variables, averages, strict=True)}
    return [keras.ops.convert_to_numpy(of_variable.get(id(v), v)) for v in model.weights]


def _write(
    plan: PlannedTraining, images: PreparedImages, checkpoint: Checkpoint, history: History, folder: Path
) -> TrainedModel:
    cut = build_network(plan)
    checkpoint.restore_best(cut.trained)
    network = _uncut(plan, cut)
    network.full.save(folder / "model.keras", include_optimizer=False)
    export_onnx(network, folder / "model.onnx")
    (folder / "preprocessing.json").write_text(plan.preprocessing.model_dump_json(indent=2))
    record = TrainingRecord(
        plan=plan,
        epochs=history.epochs,
        best_epoch=history.best_epoch,
        parameters_total=network.full.count_params(),
        parameters_trained=sum(math.prod(v.shape) for v in cut.trained.trainable_variables),
        images_digest=images.digest,
        dataset_fingerprint=images.dataset_fingerprint,
        backend=f"{keras.backend.backend()} (keras {keras.__version__})",
        devices=accelerators() or ["cpu"],
        mlflow_run_ids=history.mlflow_run_ids,
        onnx_difference_months=_onnx_difference(network.full, images, plan, folder / "model.onnx"),
    )
    (folder / "training.json").write_text(record.model_dump_json(indent=2))
    return TrainedModel.load(folder)


def _uncut(plan: PlannedTraining, network: Network) -> Network:
    """The same network without a cut: Keras cannot save one whose layers also start from an intermediate tensor."""
    if network.frozen is None:
        return network
    recipe = plan.training.model_copy(update={"trainable_from": None, "weights": "none"})
    whole = build_network(plan.model_copy(update={"training": recipe}))
    whole.full.set_weights(network.full.get_weights())
    return whole


def _onnx_difference(model: keras.Model, images: PreparedImages, plan: PlannedTraining, onnx_path: Path) -> float:
    """Largest difference in months between the Keras model and its ONNX file over up to 16 validation images."""
    from bone_age.serving.onnx_network import OnnxNetwork

    table = images.split("validation").head(16)
    batch = np.stack([images.images[row] for row in table["array_row"]])
    sex = sex_input(table["sex"])
    keras_months = model.predict([batch, sex] if uses_sex(plan.architecture) else batch, verbose=0)
    onnx_months = OnnxNetwork(onnx_path).run(batch, sex).bone_age_months
    return float(np.abs(keras_months[:, 0] - onnx_months).max())


def _forget_finished(checkpoints: Path, keep: Path) -> None:
    """Drop the state of trainings that ended more than a week ago; their models live in the artifact store."""
    for history_file in checkpoints.glob("*/history.json"):
        old = time.time() - history_file.stat().st_mtime > FINISHED_KEPT_DAYS * 86400
        if old and history_file.parent != keep and json.loads(history_file.read_text())["finished"]:
            shutil.rmtree(history_file.parent, ignore_errors=True)
