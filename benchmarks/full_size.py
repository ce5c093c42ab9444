"""Does a full-size radiograph get the same answer as its 299 px copy? A model is trained on one and serves the other.

    .venv/bin/python benchmarks/full_size.py --model REF --full-size DIR --copies DIR [--bound 3]

DIR of --full-size holds `full-size.csv` (`id,boneage,male`) and `full-size/<id>.png`; DIR of --copies holds the copies,
`<id>.jpg` or `<id>.png`. Prints the difference in months for each id, and exits with 1 where one exceeds the bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bone_age.data.layouts import TRAINING, labelled_rows, read_label_file
from bone_age.errors import BoneAgeError, InputError
from bone_age.imaging import ImageError
from bone_age.serving.references import load_predictor


@dataclass(frozen=True)
class Pair:
    """Two answers for one radiograph, months."""

    image_id: str
    label: float
    full_size: float
    copy: float

    @property
    def difference(self) -> float:
        return self.full_size - self.copy


def predicted_pairs(predictor: Any, full_size: Path, copies: Path) -> list[Pair]:
    """Predict every original of `full-size.csv` and its copy, each from its file.

    Args:
        predictor: `serving.predictor.Predictor`, or anything with its `predict`.
    Raises:
        InputError: The label file is not readable, a sex is unknown, or an image is absent.
        ImageError: An image cannot be used.
    """
    pairs = []
    for row in labelled_rows(read_label_file(full_size / "full-size.csv"), TRAINING):
        original, copy = _image(full_size / "full-size", row.image), _image(copies, row.image)
        months = [predictor.predict(path, row.sex).bone_age_months for path in (original, copy)]
        pairs.append(Pair(row.image, row.bone_age_months, *months))
    if not pairs:
        raise InputError(f"{full_size / 'full-size.csv'}: has no rows")
    return pairs


def _image(folder: Path, image_id: str) -> Path:
    found = [path for suffix in (".png", ".jpg", ".jpeg") if (path := folder / f"{image_id}{suffix}").is_file()]
    if not found:
        raise InputError(f"{folder}: has no image of id '{image_id}'")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for `bone-age evaluate`; by default the champion")
    parser.add_argument("--full-size", metavar="DIR", type=Path, required=True)
    parser.add_argument("--copies", metavar="DIR", type=Path, required=True)
    parser.add_argument("--bound", metavar="MONTHS", type=float, default=3.0)
    options = parser.parse_args(arguments)
    try:
        predictor = load_predictor(options.model)
        pairs = predicted_pairs(predictor, options.full_size, options.copies)
    except (BoneAgeError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{predictor.name}, fit {predictor.preprocessing.fit}; months")
    print(f"{'id':>8} {'label':>6} {'full size':>9} {'copy':>7} {'difference':>10}")
    for pair in sorted(pairs, key=lambda pair: -abs(pair.difference)):
        print(f"{pair.image_id:>8} {pair.label:6.0f} {pair.full_size:9.1f} {pair.copy:7.1f} {pair.difference:+10.2f}")
    sizes = [abs(pair.difference) for pair in pairs]
    within = sum(size <= options.bound for size in sizes)
    print(
        f"{within} of {len(pairs)} within {options.bound:g} months, ratio {within / len(pairs):.2f}; "
        f"mean |difference| {sum(sizes) / len(sizes):.2f}, largest {max(sizes):.2f}"
    )
    return 0 if within == len(pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
