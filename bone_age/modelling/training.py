"""Training one planned architecture: repeatable, resumable after a kill, best epoch kept.

The loop is Keras' own `fit`, a call for each stage of the recipe; what a run must not lose and what a reader of MLflow
wants to see is added by `keeper.py`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bone_age.data.manifest import sex_input
from bone_age.data.prepared import PreparedImages
from bone_age.freed_memory import give_back_freed_memory, keep_freed_memory
from bone_age.modelling.batches import Batches
from bone_age.modelling.checkpoint import Checkpoint, History
from bone_age.modelling.devices import (
    accelerators,
    across_devices,
    empty_variables,
    make_repeatable,
)
from bone_age.modelling.export import export_onnx
from bone_age.modelling.frozen_features import frozen_features
from bone_age.modelling.keeper import EpochListener, Keeper, stopped_early
from bone_age.modelling.network import Network, build_network, uses_sex
from bone_age.modelling.trained import TrainedModel, TrainingRecord
from bone_age.provenance import code_digest
from bone_age.settings import AugmentationSettings, Home, PlannedTraining, TrainingSettings, digest_of

FINISHED_KEPT_DAYS = 7


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
    stages = _stages(plan, checkpoint)
    stages[-1].history.mlflow_run_ids.append(run_id)
    checkpoint.save_history(stages[-1].history)
    for epoch, figures in enumerate(_epochs_of(stages)):
        on_epoch(epoch, figures)
    if plan.training.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        if not stages[-1].history.finished:
            _fit_all(stages, images, home, on_epoch)
        keras.mixed_precision.set_global_policy("float32")
        return _write(plan, images, stages, folder)
    finally:  # the network went with its function, so that there is something to give back
        keras.mixed_precision.set_global_policy("float32")
        keras.backend.clear_session()
        gc.collect()
        give_back_freed_memory()


@dataclass(frozen=True)
class Stage:
    """One of the trainings that hand on their weights; `title` is for people who watch."""

    title: str
    plan: PlannedTraining
    checkpoint: Checkpoint
    history: History


def _stages(plan: PlannedTraining, checkpoint: Checkpoint) -> list[Stage]:
    """The last stage's state lies in the training's own folder, that of earlier ones below it."""
    plans, found = plan.stages, []
    for number, part in enumerate(plans, start=1):
        is_last = number == len(plans)
        place = checkpoint if is_last else Checkpoint(checkpoint.folder / f"stage-{number}")
        title = plan.name if len(plans) == 1 else f"{plan.name} stage {number}/{len(plans)}"
        found.append(Stage(title, part, place, place.history()))
    return found


def _epochs_of(stages: list[Stage]) -> list[dict[str, float]]:
    return [figures for stage in stages for figures in stage.history.epochs]


def _fit_all(stages: list[Stage], images: PreparedImages, home: Home, on_epoch: EpochListener) -> None:
    """Train every stage that is not finished, each from the best weights of the one before."""
    for number, stage in enumerate(stages):
        if stage.history.finished:
            continue
        with across_devices():
            network = build_network(stage.plan)
            if number:
                network.full.set_weights(_best(stages[:number]).full.get_weights())
            compile_model(network.trained, stage.plan.training)
        _fit(stage, network, images, home, _counted_on(on_epoch, len(_epochs_of(stages[:number]))))
        stage.history.finished = True
        stage.checkpoint.save_history(stage.history)
        empty_variables(network.trained)


def _counted_on(on_epoch: EpochListener, epochs_before: int) -> EpochListener:
    return lambda epoch, figures: on_epoch(epochs_before + epoch, figures)


def _best(stages: list[Stage]) -> Network:
    """The network of the last of these stages with its best weights; what it froze is as those before it left it."""
    before = _best(stages[:-1]).full.get_weights() if len(stages) > 1 else None
    network = build_network(stages[-1].plan)
    if before is not None:
        network.full.set_weights(before)
    stages[-1].checkpoint.restore_best(network.trained)
    return network


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


def _fit(stage: Stage, network: Network, images: PreparedImages, home: Home, on_epoch: EpochListener) -> None:
    plan, history = stage.plan, stage.history
    sources: list[Any] = [images.images]
    augmentation = plan.training.augmentation
    if network.frozen is not None:
        sources, augmentation = frozen_features(network.frozen, images, home.feature_cache, plan), None
    stage.checkpoint.restore(network.trained, history)
    while len(history.epochs) < plan.training.epochs and not stopped_early(history, plan.training):
        epoch, step = len(history.epochs), history.steps
        train_batches = _batches(plan, images, "train", sources, plan.seed, augmentation, (epoch, step))
        keeper = Keeper(stage.title, plan.training, stage.checkpoint, history, on_epoch, train_batches.steps_per_epoch)
        network.trained.fit(
            train_batches,
            steps_per_epoch=train_batches.steps_per_epoch - step,
            shuffle=False,  # the batches are shuffled already
            validation_data=_batches(plan, images, "validation", sources),
            initial_epoch=epoch,
            epochs=epoch + 1
            if step
            else plan.training.epochs,  # the rest of a resumed epoch is shorter than the others
            verbose=0,
            callbacks=[keeper],
        )


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


def _write(plan: PlannedTraining, images: PreparedImages, stages: list[Stage], folder: Path) -> TrainedModel:
    last = stages[-1]
    cut = _best(stages)
    network = _uncut(last.plan, cut)
    network.full.save(folder / "model.keras", include_optimizer=False)
    export_onnx(network, folder / "model.onnx")
    (folder / "preprocessing.json").write_text(plan.preprocessing.model_dump_json(indent=2))
    record = TrainingRecord(
        plan=plan,
        epochs=_epochs_of(stages),
        best_epoch=len(_epochs_of(stages[:-1])) + last.history.best_epoch,
        parameters_total=network.full.count_params(),
        parameters_trained=sum(math.prod(v.shape) for v in cut.trained.trainable_variables),
        images_digest=images.digest,
        dataset_fingerprint=images.dataset_fingerprint,
        backend=f"{keras.backend.backend()} (keras {keras.__version__})",
        devices=accelerators() or ["cpu"],
        mlflow_run_ids=last.history.mlflow_run_ids,
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
