"""What folding the frozen normalisation and bfloat16 are worth: images per second of a full training step of Xception.

    .venv/bin/python benchmarks/training_precision.py [--size 299] [--batch 16] [--steps 4]

Each variant runs in a process of its own; its first step, which compiles, is left out. The ratios are against float32
with the normalisation frozen but in place, which is how Keras fine-tunes. bfloat16 pays where the processor multiplies
it (AMX, AVX-512 BF16); elsewhere the ratio says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

VARIANTS = ("float32", "float32 folded", "bfloat16", "bfloat16 folded")


def measure(variant: str, size: int, batch: int, steps: int) -> float:
    """Images per second of one variant, in this process."""
    import keras

    from bone_age.freed_memory import keep_freed_memory
    from bone_age.modelling.network import build_network
    from bone_age.modelling.training import compile_model
    from bone_age.settings import TrainingConfig

    keep_freed_memory()
    recipe = {"image_size_px": size, "freeze_batchnorm": "folded" in variant, "learning_rate": 1e-5}
    plan = TrainingConfig(name="benchmark", architectures={"xception_multi": recipe}).plans[0]
    if variant.startswith("bfloat16"):
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build_network(plan).trained
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    compile_model(model, plan.training)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (batch, size, size), dtype=np.uint8)
    sex, months = np.ones((batch, 1), np.float32), rng.uniform(0, 228, (batch, 1)).astype(np.float32)
    model.train_on_batch([images, sex], months)
    started = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch([images, sex], months)
    return batch * steps / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--variant", choices=VARIANTS)
    options = parser.parse_args()
    if options.variant:
        print(measure(options.variant, options.size, options.batch, options.steps))
        return
    rates: dict[str, float] = {}
    for variant in VARIANTS:
        numbers = [f"--size={options.size}", f"--batch={options.batch}", f"--steps={options.steps}"]
        command = [sys.executable, __file__, "--variant", variant, *numbers]
        rates[variant] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        ratio = rates[variant] / rates[VARIANTS[0]]
        print(f"{variant:16s} {rates[variant]:6.1f} images/s   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
