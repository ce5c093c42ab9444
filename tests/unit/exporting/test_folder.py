from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bone_age.errors import InputError, ModelError
from bone_age.exporting.folder import export_bundle
from bone_age.serving.bundle import CARD, CHECKSUMS, CONFIG, FIGURES, MODEL_KERAS, TRAINING, load_bundle
from bone_age.serving.predictor import Predictor

HAND = np.random.default_rng(4).integers(0, 256, (90, 70), dtype=np.uint8)


def test_an_exported_folder_answers_as_the_version_does(tiny_bundle: Path, tmp_path: Path) -> None:
    exported = export_bundle(load_bundle(tiny_bundle), tmp_path / "a" / "model")
    assert {file.name for file in exported.folder.iterdir()} == {file.name for file in tiny_bundle.iterdir()}
    answers = [Predictor.from_folder(folder).predict(HAND, "F") for folder in (tiny_bundle, exported.folder)]
    assert answers[0].bone_age_months == answers[1].bone_age_months


def test_the_small_form_is_a_quarter_and_answers_almost_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    exported = export_bundle(load_bundle(tiny_bundle), tmp_path / "model", half=True)

    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.iterdir())

    assert size(exported.folder) < 0.27 * size(tiny_bundle)
    assert not (exported.folder / MODEL_KERAS).exists()
    assert {CARD, CONFIG, FIGURES, TRAINING} < set(json.loads((exported.folder / CHECKSUMS).read_text()))
    answers = [Predictor.from_folder(folder).predict(HAND, "F") for folder in (tiny_bundle, exported.folder)]
    assert answers[0].bone_age_months == pytest.approx(answers[1].bone_age_months, abs=0.5)


def test_an_export_overwrites_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all I have")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="exists already"):
            export_bundle(load_bundle(tiny_bundle), out)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_export_leaves_nothing_behind(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(InputError, match="No space left"):
        export_bundle(load_bundle(tiny_bundle), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [CARD, CONFIG, FIGURES, TRAINING])
def test_a_changed_description_is_noticed(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = export_bundle(load_bundle(tiny_bundle), tmp_path / "model").folder
    (folder / name).write_text((folder / name).read_text().replace("a", "b", 1))
    with pytest.raises(ModelError, match="checksum"):
        load_bundle(folder)


def test_the_card_says_what_the_files_beside_it_say(tiny_bundle: Path) -> None:
    card, figures = (tiny_bundle / CARD).read_text(), json.loads((tiny_bundle / FIGURES).read_text())
    assert f"| MAE, months | {figures['mae']:.2f} [{figures['mae_lo']:.2f}, {figures['mae_hi']:.2f}] |" in card
    assert figures["dataset_fingerprint"] in card
    assert "Not a medical device" in card
    assert "Trained on drawn images" in card
    for name, group in figures["subgroups"].items():
        assert f"| {name} | {group['n']} |" in card
