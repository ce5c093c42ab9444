from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import full_size
from bone_age.imaging import read_image

Folders = tuple[Path, Path]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two originals, the second 20 grey levels brighter than its copy."""
    originals, copies = tmp_path / "rsna" / "full-size", tmp_path / "copies"
    originals.mkdir(parents=True)
    copies.mkdir()
    (tmp_path / "rsna" / "full-size.csv").write_text("id,boneage,male\n7,90,True\n8,120,False\n")
    for name, level, brighter in (("7", 100, 0), ("8", 100, 20)):
        cv2.imwrite(str(originals / f"{name}.png"), np.full((400, 300), level + brighter, np.uint8))
        cv2.imwrite(str(copies / f"{name}.jpg"), np.full((32, 32), level, np.uint8))
    return tmp_path / "rsna", copies


@pytest.fixture
def compare(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The script with a model that answers the mean grey level, in months."""

    def predict(path: Path, sex: str) -> Any:
        assert sex == {"7": "M", "8": "F"}[path.stem]
        return SimpleNamespace(bone_age_months=float(read_image(path).mean()))

    fake = SimpleNamespace(name="fake", preprocessing=SimpleNamespace(fit="stretch"), predict=predict)
    monkeypatch.setattr(full_size, "load_predictor", lambda reference: fake)

    def main(*more: str) -> int:
        return full_size.main(["--full-size", str(folders[0]), "--copies", str(folders[1]), *more])

    return main


def test_a_difference_beyond_the_bound_is_named_and_fails(
    compare: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare() == 1
    said = capsys.readouterr().out
    assert said.splitlines()[2].split() == ["8", "120", "120.0", "100.0", "+20.00"]
    assert "1 of 2 within 3 months" in said
    assert "largest 20.00" in said


def test_differences_within_the_bound_pass(compare: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--bound", "20.5") == 0
    assert "2 of 2 within 20.5 months" in capsys.readouterr().out


def test_an_absent_copy_is_bad_input(
    compare: Callable[..., int], folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[1] / "8.jpg").unlink()
    assert compare() == 2
    assert "no image of id '8'" in capsys.readouterr().err
