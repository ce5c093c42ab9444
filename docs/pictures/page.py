"""Make the picture of the page that README shows, from the screenshot that the browser tests take of a drawn hand.

.venv/bin/python docs/pictures/page.py    (needs Chromium; some 40 s)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
TEST = "tests/e2e/test_page.py::test_an_example_fills_the_form_and_is_answered"
HEIGHT_PX, COLOURS = 1800, 256  # down to where the model looked


def main() -> None:
    subprocess.run([sys.executable, "-m", "pytest", "-q", "--no-cov", TEST], cwd=PROJECT, check=True)
    with Image.open(PROJECT / "build" / "screenshots" / "example.png") as screenshot:
        top = screenshot.convert("RGB").crop((0, 0, screenshot.width, min(HEIGHT_PX, screenshot.height)))
    small = top.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(Path(__file__).with_name("page.png"), optimize=True)


if __name__ == "__main__":
    main()
