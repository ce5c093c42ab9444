from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bone_age.data.manifest import sex_input
from bone_age.data.prepared import PreparedImages
from bone_age.errors import BoneAgeError
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import AugmentationSettings, Home, PlannedTraining


class StoppedError(Exception):
    """Stands for a process that was killed between two epochs."""


def weights_of(model: TrainedModel) -> list[np.ndarray]:
    import keras

    loaded: list[np.ndarray] = keras.saving.load_model(model.folder / "model.keras").get_weights()
    return loaded


def mae_of(model: TrainedModel, images: PreparedImages) -> float:
    """Of the exported network, over the validation split, in months."""
    rows = images.split("validation")
    sex = sex_input(rows["sex"])
    months = OnnxNetwork(model.onnx).predict_months(images.images[rows["array_row"].to_numpy()], sex)
    return float(np.abs(months.ravel() - rows["bone_age_months"].to_numpy()).mean())


def shallow(plan: PlannedTraining, **changes: object) -> PlannedTraining:
    """One epoch of the exit flow alone, which compiles in seconds."""
    recipe = plan.training.model_copy(update={"trainable_from": "block13_sepconv1", "epochs": 1, **changes})
    return plan.model_copy(update={"training": recipe})


def test_an_interrupted_training_resumes_and_equals_the_uninterrupted_one(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, tiny_model: TrainedModel, home: Home, tmp_path: Path
) -> None:
    """To the last bit: weights, figures of both epochs, best epoch."""
    from bone_age.modelling.training import train

    def stop(epoch: int, figures: dict[str, float]) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(tiny_plan, tiny_images, home, tmp_path, stop, "first-attempt")
    seen: list[int] = []
    resumed = train(tiny_plan, tiny_images, home, tmp_path, lambda epoch, _: seen.append(epoch), "second-attempt")
    assert seen == [0, 1]
    assert resumed.record.mlflow_run_ids == ["first-attempt", "second-attempt"]
    assert resumed.record.best_epoch == tiny_model.record.best_epoch
    for name in ("train_loss", "validation_mae", "learning_rate"):
        assert [row[name] for row in resumed.record.epochs] == [row[name] for row in tiny_model.record.epochs]
    for a, b in zip(weights_of(resumed), weights_of(tiny_model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_stopped_within_an_epoch_goes_on_from_there(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, on two sizes and with averaged weights; no step is done twice."""
    from bone_age.modelling import keeper as keeping
    from bone_age.modelling import training

    small = ({"epochs": 1, "image_size_px": 40},)
    plan = shallow(tiny_plan, cached_features=False, averaging_decay=0.8, freeze_batchnorm=True, earlier_stages=small)
    whole = training.train(
        plan, tiny_images, Home(home=home.home / "whole").prepare(), tmp_path, lambda *_: None, "run"
    )

    monkeypatch.setattr(keeping, "CHECKPOINT_SECONDS", 0)
    keep = keeping.Keeper.on_train_batch_end
    seen: list[tuple[int, int]] = []

    def stop_in(epoch: int, step: int) -> None:
        def after_a_step(keeper: keeping.Keeper, batch: int, logs: object = None) -> None:
            keep(keeper, batch, logs)
            seen.append((0 if "1/2" in keeper.title else 1, keeper.history.steps))
            if seen[-1] == (epoch, step):
                raise StoppedError

        monkeypatch.setattr(keeping.Keeper, "on_train_batch_end", after_a_step)

    for stop in ((0, 2), (1, 1)):
        stop_in(*stop)
        with pytest.raises(StoppedError):
            training.train(plan, tiny_images, home, tmp_path, lambda *_: None, "run")
    stop_in(-1, -1)
    resumed = training.train(plan, tiny_images, home, tmp_path, lambda *_: None, "run")
    assert len(seen) == len(set(seen)) == 2 * 5
    for of_resumed, of_whole in zip(resumed.record.epochs, whole.record.epochs, strict=True):
        assert of_resumed["validation_mae"] == of_whole["validation_mae"]
        for name in ("train_loss", "train_mae"):
            assert of_resumed[name] == pytest.approx(of_whole[name], rel=1e-5)
    for a, b in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_last_stage_freezes_is_as_the_stage_before_left_it(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path
) -> None:
    from bone_age.modelling.training import train

    deeper = ({"trainable_from": "block11_sepconv1", "learning_rate": 1e-2},)
    plan = shallow(tiny_plan, freeze_batchnorm=True, learning_rate=5e-3, earlier_stages=deeper)
    model = train(plan, tiny_images, home, tmp_path, lambda *_: None, "run")
    assert mae_of(model, tiny_images) == pytest.approx(model.record.epochs[-1]["validation_mae"], abs=0.05)


def test_a_stage_starts_from_the_best_weights_of_the_one_before(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path
) -> None:
    """The upper blocks first; a last stage that hardly learns then has their figures, and is a whole model."""
    from bone_age.modelling.training import train

    first = ({"trainable_from": "block13_sepconv1", "learning_rate": 1e-3},)
    plan = shallow(tiny_plan, trainable_from=None, freeze_batchnorm=True, learning_rate=1e-12, earlier_stages=first)
    seen: list[int] = []
    model = train(plan, tiny_images, home, tmp_path, lambda epoch, _: seen.append(epoch), "run")
    assert seen == [0, 1]
    upper, whole = (row["validation_mae"] for row in model.record.epochs)
    assert whole == pytest.approx(upper, abs=0.05)
    assert model.record.best_epoch == 1
    assert model.record.parameters_trained > 0.9 * model.record.parameters_total


def test_the_average_of_the_weights_follows_them_with_the_decay() -> None:
    """Against the recursion written out by hand, for the trained weights; what is not trained is passed as it is."""
    import keras

    from bone_age.modelling.keeper import averaged_weights
    from bone_age.modelling.training import compile_model
    from bone_age.settings import TrainingSettings

    fixed = keras.layers.Dense(2, trainable=False)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), fixed])
    compile_model(model, TrainingSettings(averaging_decay=0.75, learning_rate=0.1))
    inputs, labels = np.eye(3, dtype=np.float32), np.ones((3, 2), np.float32)
    expected: list[np.ndarray] = []
    for _ in range(3):
        model.train_on_batch(inputs, labels)
        now = model.get_weights()
        expected = [0.75 * old + 0.25 * new for old, new in zip(expected, now, strict=True)] if expected else now
    for average, by_hand in zip(averaged_weights(model), expected, strict=True):
        np.testing.assert_allclose(average, by_hand, rtol=1e-5)
    assert not np.allclose(averaged_weights(model)[0], model.get_weights()[0])


def test_a_finished_training_is_not_trained_again(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path
) -> None:
    from bone_age.modelling.checkpoint import Checkpoint
    from bone_age.modelling.training import train, training_key

    plan = shallow(tiny_plan)
    first = train(plan, tiny_images, home, tmp_path, lambda epoch, figures: None, "run")
    assert Checkpoint(home.checkpoints / training_key(plan, tiny_images)).history().finished
    again = train(plan, tiny_images, home, tmp_path, lambda epoch, figures: None, "run-2")
    assert again.record.epochs == first.record.epochs


def test_the_record_says_how_keras_and_onnx_agree_and_what_was_trained(tiny_model: TrainedModel) -> None:
    record = tiny_model.record
    assert record.onnx_difference_months < 1e-2
    assert record.parameters_trained < record.parameters_total
    assert len(record.epochs) == 2
    assert set(json.loads((tiny_model.folder / "preprocessing.json").read_text())) >= {"image_size_px", "fit", "clahe"}


def test_a_model_with_a_frozen_part_trains_on_cached_features_and_is_saved_whole(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path
) -> None:
    from bone_age.modelling.training import train

    plan = shallow(tiny_plan, learning_rate=5e-3, batchnorm_momentum=0.1)
    model = train(plan, tiny_images, home, tmp_path, lambda *_: None, "run")
    assert model.record.onnx_difference_months < 1e-2
    assert mae_of(model, tiny_images) == pytest.approx(model.record.epochs[-1]["validation_mae"], abs=0.05)
    features = sorted(home.feature_cache.glob("*/*.npy"))
    assert [file.name for file in features] == ["mirrored.npy", "upright.npy"]
    assert np.load(features[0], mmap_mode="r").dtype == np.float16


def test_without_a_cache_the_frozen_part_runs_in_every_step_and_stays_as_it_was(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home, tmp_path: Path
) -> None:
    import keras

    from bone_age.modelling.devices import make_repeatable
    from bone_age.modelling.network import build_network
    from bone_age.modelling.training import train

    plan = shallow(tiny_plan, cached_features=False)
    make_repeatable(plan.seed)
    before = build_network(plan).full
    after = keras.saving.load_model(
        train(plan, tiny_images, home, tmp_path, lambda *_: None, "run").folder / "model.keras"
    )
    assert not list(home.feature_cache.glob("*"))
    changed = {
        layer.name
        for layer, trained in zip(before.layers, after.layers, strict=True)  # Keras numbers the unnamed ones on
        if not all(map(np.array_equal, layer.get_weights(), trained.get_weights()))
    }
    assert "block13_sepconv1" in changed
    assert not {name for name in changed if name.startswith("block") and int(name.split("_")[0][5:]) < 13}


def test_features_of_changed_copies_are_of_training_images_and_differ(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home
) -> None:
    from bone_age.modelling.frozen_features import frozen_features
    from bone_age.modelling.network import build_network

    update = {"trainable_from": "block2_sepconv1", "cached_views": 2, "augmentation": AugmentationSettings(flip=False)}
    plan = tiny_plan.model_copy(update={"training": tiny_plan.training.model_copy(update=update)})
    frozen = build_network(plan).frozen
    assert frozen is not None
    upright, *changed = frozen_features(frozen, tiny_images, home.feature_cache, plan)
    train = tiny_images.split("train")["array_row"].to_numpy()
    held_out = tiny_images.split("test")["array_row"].to_numpy()
    assert len(changed) == 2
    assert upright[held_out].any()
    for view in changed:
        assert not view[held_out].any()
        assert (np.abs(view[train] - upright[train]).reshape(len(train), -1).max(axis=1) > 0.01).all()
    assert not np.array_equal(changed[0], changed[1])
    again = frozen_features(frozen, tiny_images, home.feature_cache, plan)
    for first, second in zip((upright, *changed), again, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.fault
def test_features_go_on_where_a_killed_computation_stopped(
    tiny_plan: PlannedTraining, tiny_images: PreparedImages, home: Home
) -> None:
    from bone_age.modelling.frozen_features import frozen_features
    from bone_age.modelling.network import build_network

    recipe = tiny_plan.training.model_copy(update={"trainable_from": "block5_sepconv1"})
    frozen = build_network(tiny_plan.model_copy(update={"training": recipe})).frozen
    assert frozen is not None
    recipe = tiny_plan.training.model_copy(update={"augmentation": None})
    plan = tiny_plan.model_copy(update={"training": recipe})
    (whole,) = frozen_features(frozen, tiny_images, home.feature_cache, plan)
    (state,) = home.feature_cache.glob("*/upright.json")
    expected, kept = np.array(whole), 32
    partial = np.load(state.with_suffix(".npy"), mmap_mode="r+")
    partial[kept:] = 0
    partial[0] = 7  # done before the kill, so it is not computed again
    partial.flush()
    state.write_text(json.dumps({"done": kept}))
    (resumed,) = frozen_features(frozen, tiny_images, home.feature_cache, plan)
    np.testing.assert_array_equal(resumed[kept:], expected[kept:])
    assert (resumed[0] == 7).all()
    assert len(list(home.feature_cache.iterdir())) == 1


def test_a_loss_that_is_no_number_ends_the_training(
    tiny_plan: PlannedTraining,
    tiny_images: PreparedImages,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bone_age.modelling import network
    from bone_age.modelling.training import train

    monkeypatch.setattr(network, "MONTHS_SD", 1e30)
    wild = shallow(tiny_plan, huber_delta_months=1e30)
    with pytest.raises(BoneAgeError, match=r"lower training\.learning_rate"):
        train(wild, tiny_images, home, tmp_path, lambda *_: None, "run")


@pytest.mark.parametrize("change", [{"seed": 4}, {"training": {"epochs": 3}}, {"preprocessing": {"clahe": None}}])
def test_the_key_of_a_training_follows_what_decides_its_result(
    change: dict[str, object], tiny_plan: PlannedTraining, tiny_images: PreparedImages
) -> None:
    from bone_age.modelling.training import training_key

    other = PlannedTraining.model_validate(tiny_plan.model_dump() | change)
    assert training_key(other, tiny_images) != training_key(tiny_plan, tiny_images)
    assert training_key(tiny_plan, tiny_images) == training_key(tiny_plan.model_copy(), tiny_images)


def test_several_devices_train_one_mirrored_model() -> None:
    """In a process of its own, where TensorFlow is told to see two CPUs as two devices."""
    script = """
import numpy as np, tensorflow as tf
from bone_age.modelling import devices
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
devices.accelerators = lambda: ["cpu:0", "cpu:1"]
tf.distribute.MirroredStrategy.__init__.__defaults__ = (["cpu:0", "cpu:1"], None)
from bone_age.modelling.batches import Batches
from bone_age.modelling.network import build_network
from bone_age.modelling.training import compile_model
from bone_age.settings import TrainingConfig
plan = TrainingConfig(name="x", architectures={"xception_multi": {"image_size_px": 72}}).plans[0]
with devices.across_devices():
    model = build_network(plan).trained
    compile_model(model, plan.training)
images = np.zeros((8, 72, 72), np.uint8)
batches = Batches([images], np.arange(8), np.ones((8, 1), np.float32), np.full(8, 90, np.float32), 4, 1)
history = model.fit(batches, steps_per_epoch=2, epochs=1, verbose=0).history
print(tf.distribute.get_strategy().__class__.__name__, model.distribute_strategy.num_replicas_in_sync, history["loss"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[1] == "2"
