"""The wheel, installed away from the checkout: it answers with the reference model, and finds its configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from bone_age.data.synthetic import render_hand

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


def run(installed: Path, home: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed), "BONE_AGE_HOME": str(home)}
    command = (sys.executable, *command)
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_answers_with_the_reference_model(installed: Path, tmp_path: Path) -> None:
    hand = tmp_path / "hand.png"
    cv2.imwrite(str(hand), render_hand(120.0, "F", 3, 512, 416))
    said = run(installed, tmp_path / "home", "-m", "bone_age.cli", "predict", str(hand), "--sex", "F", "--json")
    (answer,) = json.loads(said)
    assert answer["model"] == "reference"
    assert 0 < answer["bone_age_months"] < 240


def test_it_is_itself_and_finds_what_it_ships(installed: Path, tmp_path: Path) -> None:
    code = """
import bone_age.provenance, pipelines, steps
print(bone_age.provenance.PACKAGE, bone_age.provenance.SHIPPED, steps.__file__, pipelines.__file__)
"""
    places = run(installed, tmp_path / "home", "-c", code).split()
    assert all(place.startswith(str(installed)) for place in places)
    shipped = Path(places[1])
    for folder in ("configs", "models"):
        ours = {str(file.relative_to(PROJECT)) for file in (PROJECT / folder).rglob("*") if file.is_file()}
        assert {str(file.relative_to(shipped)) for file in (shipped / folder).rglob("*") if file.is_file()} == ours
