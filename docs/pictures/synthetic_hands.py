"""Draw the contact sheet of synthetic hands that docs and README show.

.venv/bin/python docs/pictures/synthetic_hands.py
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bone_age.data.synthetic import write_synthetic
from bone_age.settings import SyntheticData

YEARS = (1, 3, 5, 8, 11, 14, 17)


def main() -> None:
    figure, axes = plt.subplots(2, len(YEARS), figsize=(9.8, 4.6), facecolor="white")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_synthetic(Path(scratch), SyntheticData(n=400, seed=2017))
        with (folder / "manifest.csv").open() as file:
            rows = list(csv.DictReader(file))
        for line, sex in zip(axes, "FM", strict=True):
            for axis, years in zip(line, YEARS, strict=True):
                of_sex = [row for row in rows if row["sex"] == sex]
                row = min(of_sex, key=lambda row: abs(float(row["bone_age_months"]) - 12 * years))
                axis.imshow(cv2.imread(str(folder / row["image"]), cv2.IMREAD_GRAYSCALE), cmap="gray")
                axis.set_title(f"{row['sex']}, {float(row['bone_age_months']):.0f} months", fontsize=8)
                axis.axis("off")
    figure.suptitle("Synthetic hands, drawn from a seed; not radiographs", fontsize=10)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("synthetic-hands.png"), dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
