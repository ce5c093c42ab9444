"""Train the architectures of a configuration without pipeline, tracking and TensorFlow, on any Keras backend.

For a machine with a GPU where only Keras and, say, PyTorch are installed:

    KERAS_BACKEND=torch python -m benchmarks.train_alone --config configs/rsna_gpu.yaml --data DIR --out DIR

The same code prepares the images, splits and trains as in `bone-age train`; for each training `OUT/<name>` takes the
model, its history, and its predictions for validation and test as CSV. What is missing is what makes a version that can
be promoted: data checks, calibration, lineage. A training that was killed goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import sex_input
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.data.splits import assign_splits
from bone_age.modelling.network import uses_sex
from bone_age.modelling.training import train
from bone_age.settings import Home, PlannedTraining, TrainingConfig, load_config

AT_ONCE = 256


def main() -> None:
    """Train every architecture and ablation of the configuration, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a folder in one of the RSNA layouts")
    parser.add_argument("--out", type=Path, required=True, help="takes a folder for each training")
    parser.add_argument("--only", nargs="*", help="names of trainings; all of the configuration when left out")
    options = parser.parse_args()
    config = load_config(options.config).with_source(str(options.data))
    config.require_weights()
    for plan in config.plans:
        if options.only is None or plan.name in options.only:
            _train(plan, config, options.out)


def _train(plan: PlannedTraining, config: TrainingConfig, out: Path) -> None:
    target = out / plan.name
    if (target / "predictions.csv").exists():
        print(f"{plan.name}: done before, in {target}", flush=True)
        return
    target.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    images = _prepared(plan, config, out)
    print(f"{plan.name}: {len(images.table)} images after {time.perf_counter() - started:.0f} s", flush=True)

    def say(epoch: int, figures: dict[str, float]) -> None:
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        print(f"{plan.name}: epoch {epoch + 1}: {shown}", flush=True)

    train(plan, images, Home(), target, say, run_id="alone")
    _predict(plan, images, target).to_csv(target / "predictions.csv", index=False)
    print(f"{plan.name}: {time.perf_counter() - started:.0f} s in all", flush=True)


def _prepared(plan: PlannedTraining, config: TrainingConfig, out: Path) -> PreparedImages:
    """The images as this training wants them; plans with the same preprocessing share one copy."""
    key = hashlib.sha256(f"{config.data} {config.split} {plan.preprocessing.digest}".encode()).hexdigest()
    folder = out / "prepared" / key[:16]
    if not folder.exists():
        dataset = assign_splits(load_dataset(config.data), config.split)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            unfinished = Path(made) / "images"
            unfinished.mkdir()
            prepare_images(dataset, plan.preprocessing, config.validation.error_unreadable_share, unfinished)
            unfinished.rename(folder)
    return PreparedImages.load(folder)


def _predict(plan: PlannedTraining, images: PreparedImages, folder: Path) -> pd.DataFrame:
    """Estimates of the best weights for validation and test, of each image and of its mirror image; months."""
    import keras

    model = keras.saving.load_model(folder / "model.keras", compile=False)
    table = images.table[images.table["split"].isin(["validation", "test"])]
    pixels = images.images[table["array_row"].to_numpy()]
    inputs = [pixels, sex_input(table["sex"])]

    def months(images_seen: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen = [images_seen, inputs[1]] if uses_sex(plan.architecture) else images_seen
        return model.predict(seen, batch_size=AT_ONCE, verbose=0)[:, 0]

    found = table[["image_id", "sex", "bone_age_months", "split"]]
    return found.assign(estimated_months=months(pixels), estimated_months_of_mirror=months(pixels[:, :, ::-1]))


if __name__ == "__main__":
    main()
