"""Images per second of `fit` through `Batches`, with and without our malloc settings, against a bare Keras loop.

    .venv/bin/python -m benchmarks.training_step [--size 80] [--images 320]

Each variant runs in a process of its own (malloc settings cannot be taken back) and prints its second and third
epoch; the first one compiles. The ratios are against the bare `train_on_batch` loop on one constant batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

from benchmarks.measured import Measured, add_json, tell

BATCH = 32
VARIANTS = ("bare loop", "fit", "fit, malloc settings", "fit, malloc settings, augmentation")


def measure(variant: str, size: int, n: int) -> float:
    """Images per second of one variant, in this process."""
    from bone_age.freed_memory import keep_freed_memory, make_repeatable
    from bone_age.modelling.batches import Batches
    from bone_age.modelling.network import build_network
    from bone_age.modelling.training import compile_model
    from bone_age.settings import AugmentationSettings, TrainingConfig

    if "malloc" in variant:
        keep_freed_memory()
    make_repeatable(1)
    plan = TrainingConfig(name="benchmark", architectures={"xception_multi": {"image_size_px": size}}).plans[0]
    model = build_network(plan).trained
    compile_model(model, plan.training)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
    months, sex = rng.uniform(0, 228, n).astype(np.float32), np.ones((n, 1), np.float32)
    augmentation = AugmentationSettings() if "augmentation" in variant else None
    batches = Batches([images], np.arange(n), sex, months, BATCH, 1, augmentation)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        if variant == "bare loop":
            for _ in range(n // BATCH):
                model.train_on_batch([images[:BATCH], sex[:BATCH]], months[:BATCH, None])
        else:
            model.fit(batches, steps_per_epoch=batches.steps_per_epoch, epochs=1, verbose=0)
        times.append(time.perf_counter() - started)
    return n * 2 / sum(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--variant", choices=VARIANTS)
    add_json(parser)
    options = parser.parse_args()
    if options.variant:
        print(measure(options.variant, options.size, options.images))
        return
    rates = {}
    for variant in VARIANTS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training_step",
            "--variant",
            variant,
            f"--size={options.size}",
            f"--images={options.images}",
        ]
        rates[variant] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        print(
            f"{variant:36s} {rates[variant]:6.1f} images/s   ratio {rates[variant] / rates[VARIANTS[0]]:.2f}",
            flush=True,
        )

    bare, fit, ours, augmented = (rates[variant] for variant in VARIANTS)
    rows = [
        Measured(f"{options.size} px: images/s, fit with our settings / bare Keras loop", ours / bare, at_least=0.95),
        Measured(
            f"{options.size} px: images/s, with augmentation / bare loop on one batch", augmented / bare, at_least=0.97
        ),
        Measured(f"{options.size} px: images/s, fit with our settings / fit without", ours / fit),
    ]
    tell(rows, options.json)


if __name__ == "__main__":
    main()
