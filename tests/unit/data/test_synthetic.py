"""Synthetic hands: stages against the textbooks, pictures against what radiographs are, folders against failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data import synthetic
from bone_age.data.manifest import Sex
from bone_age.data.skeleton import OSSIFICATION, Hand, grow_hand
from bone_age.data.synthetic import render_hand, synthetic_key, write_synthetic
from bone_age.errors import BoneAgeError, InputError
from bone_age.settings import SyntheticData

SMALL = SyntheticData(n=24, seed=5, height_px=96, width_px=80)
CARPALS = {"capitate", "hamate", "triquetrum", "lunate", "scaphoid", "trapezium", "trapezoid", "pisiform"}
SEXES = st.sampled_from(["M", "F"])
SEEDS = st.integers(0, 2**32 - 1)


def hand(bone_age_months: float, sex: Sex, seed: int = 3) -> Hand:
    return grow_hand(bone_age_months, sex, np.random.default_rng(seed))


def calcified_parts(one: Hand) -> dict[str, int]:
    """Separate pieces of every bone, counted on a drawing of it."""
    parts = {}
    for bone in one.bones:
        every = np.concatenate(bone.outlines_mm)
        low, high = every.min(axis=0) - 1, every.max(axis=0) + 1
        canvas = np.zeros(np.ceil(5 * (high - low)).astype(int)[::-1], dtype=np.uint8)
        for outline in bone.outlines_mm:
            cv2.fillPoly(canvas, [np.round((outline - low) * 5).astype(np.int32)], 1)
        parts[bone.name] = cv2.connectedComponents(canvas)[0] - 1
    return parts


def read(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def bone_area_mm2(one: Hand) -> float:
    return sum(cv2.contourArea(o.astype(np.float32)) for bone in one.bones for o in bone.outlines_mm)


def carpals(one: Hand) -> int:
    return len(CARPALS & {bone.name for bone in one.bones})


def test_a_grown_hand_has_all_bones_and_no_open_plate() -> None:
    parts = calcified_parts(hand(240, "M"))
    assert len(parts) == 5 + 14 + 8 + 1 + 2
    assert set(parts.values()) == {1}


def test_an_infant_has_two_carpals_and_no_epiphysis() -> None:
    for parts in (calcified_parts(hand(7, "M")), calcified_parts(hand(7, "F"))):
        assert set(parts) & CARPALS == {"capitate", "hamate"}
        assert set(parts.values()) == {1}


@pytest.mark.parametrize(
    ("bone_age_months", "sex", "expected"),
    [(36, "M", 3), (60, "M", 4), (96, "M", 7), (60, "F", 7), (120, "F", 8), (132, "M", 7), (168, "M", 8)],
)
def test_carpals_are_as_many_as_the_textbooks_say(bone_age_months: float, sex: Sex, expected: int) -> None:
    counts = [carpals(hand(bone_age_months, sex, seed)) for seed in range(15)]
    assert np.median(counts) == expected


def test_the_ulnar_epiphysis_comes_years_after_the_radial_one() -> None:
    parts = calcified_parts(hand(60, "M"))
    assert (parts["radius"], parts["ulna"]) == (2, 1)
    assert calcified_parts(hand(110, "M"))["ulna"] == 2


@pytest.mark.parametrize(("sex", "bone_age_months"), [("F", 172), ("M", 198)])
def test_fingertips_unite_while_the_radius_is_still_open(sex: Sex, bone_age_months: float) -> None:
    stages = [calcified_parts(hand(bone_age_months, sex, seed)) for seed in range(5)]
    assert np.median([parts[f"distal_{n}"] for parts in stages for n in range(1, 6)]) == 1
    assert OSSIFICATION["radius"].progress(bone_age_months, sex) < 0.9


def test_every_centre_comes_and_completes_earlier_in_girls() -> None:
    for name, centre in OSSIFICATION.items():
        assert centre.appears_months[0] < centre.appears_months[1], name
        assert centre.complete_months[0] < centre.complete_months[1], name
        assert max(centre.appears_months) < min(centre.complete_months), name


def test_a_girl_looks_like_an_older_boy() -> None:
    for age in (24, 60, 96, 132, 168):
        girl = hand(age, "F").maturity
        assert hand(age, "M").maturity < girl
        assert hand(age * 1.55, "M").maturity > girl


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sex=SEXES)
def test_one_child_only_ever_matures(seed: int, sex: Sex) -> None:
    ages = (6, 24, 48, 72, 96, 120, 144, 168, 192, 216)
    stages = [hand(age, sex, seed) for age in ages]
    for younger, older in pairwise(stages):
        assert {bone.name for bone in younger.bones} <= {bone.name for bone in older.bones}
        assert younger.maturity <= older.maturity
        assert bone_area_mm2(younger) < bone_area_mm2(older) * 1.02


@settings(max_examples=25, deadline=None)
@given(age=st.floats(0, 240), sex=SEXES, seed=SEEDS, height_px=st.integers(64, 300), width_px=st.integers(64, 300))
def test_every_picture_has_the_size_asked_for_and_contrast(
    age: float, sex: Sex, seed: int, height_px: int, width_px: int
) -> None:
    image = render_hand(age, sex, seed, height_px, width_px)
    assert image.shape == (height_px, width_px)
    assert image.dtype == np.uint8
    assert image.std() > 5


def test_the_same_arguments_give_the_same_bytes_alone_or_in_threads() -> None:
    alone = [render_hand(100, "M", seed).tobytes() for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: render_hand(100, "M", seed).tobytes(), range(12))) == alone
    assert len(set(alone)) == 12


def test_age_and_sex_change_the_skeleton_and_not_the_way_the_picture_was_taken() -> None:
    for seed in range(5):
        older, younger = render_hand(150, "F", seed).astype(float), render_hand(147, "F", seed).astype(float)
        assert 0 < np.abs(older - younger).mean() < 6


def test_bones_are_brighter_than_the_film_around_the_hand_unless_inverted() -> None:
    bright = 0
    for seed in range(100):
        image = render_hand(120, "M", seed, 128, 104)
        border = np.concatenate([image[2], image[:, 2], image[:, -3]])
        bright += int(np.median(border) < np.median(image[50:100, 30:70]))
    assert 90 <= bright <= 99


def test_the_hand_fills_the_frame_at_every_age() -> None:
    for age in (6, 60, 120, 216):
        heights = []
        for seed in range(8):
            one = hand(age, "F", seed)
            placed, _ = synthetic._placement(one, plain(seed), 256, 208)
            tips = np.concatenate([placed(ray) for ray in one.rays_mm])
            assert (tips > -1).all()
            assert (tips < [209, 257]).all()
            heights.append(np.ptp(tips[:, 1]))
        assert 130 < np.mean(heights) < 215


def plain(seed: int) -> synthetic._Acquisition:
    return synthetic._Acquisition.draw(np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, "F", 1), "bone age is -1 months"),
        ((241, "F", 1), "bone age is 241 months"),
        ((float("nan"), "F", 1), "bone age is nan months"),
        ((100, "female", 1), "sex is 'female'"),
        ((100, "M", 1, 20, 300), "size is 20 x 300 px"),
    ],
)
def test_impossible_hands_are_refused(arguments: tuple[float, Sex, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_hand(*arguments)


def edge_directions(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Which way edges run, place by place: the same for a picture and its negative."""
    grey = image.astype(np.float32) / 255
    across, down = cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1)
    strength, bins = np.hypot(across, down), (np.arctan2(down, across) % np.pi) / np.pi * 8
    layers = []
    for centre in range(8):
        away = np.minimum(np.abs(bins - centre), 8 - np.abs(bins - centre))
        layers.append(cv2.resize(cv2.GaussianBlur(np.clip(1 - away, 0, 1) * strength, (0, 0), 3), (10, 12)))
    cells = np.stack(layers).astype(np.float64)
    return np.asarray(cells / (np.sqrt((cells**2).sum(axis=0)) + 0.05)).ravel()


def test_bone_age_can_be_learned_from_a_small_picture(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path, SyntheticData(n=240, seed=11, height_px=96, width_px=80))
    table = pd.read_csv(folder / "manifest.csv")
    ages = table["bone_age_months"].to_numpy(dtype=float)
    seen = np.array([edge_directions(read(folder / name)) for name in table["image"]])
    train, test = slice(0, 180), slice(180, None)
    seen -= seen[train].mean(axis=0)
    mean = ages[train].mean()
    weights = np.linalg.solve(seen[train] @ seen[train].T + np.eye(180), ages[train] - mean)
    predicted = seen[test] @ (seen[train].T @ weights) + mean
    assert np.abs(predicted - ages[test]).mean() < 0.6 * np.abs(ages[test] - mean).mean()


def test_a_written_data_set_is_complete_and_follows_the_manifest_layout(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "new" / "place", SMALL)
    assert folder == tmp_path / "new" / "place" / f"synthetic-{synthetic_key(SMALL)}"
    table = pd.read_csv(folder / "manifest.csv")
    assert list(table.columns) == ["image", "sex", "bone_age_months", "patient_id"]
    assert len(table) == SMALL.n == table["image"].nunique()
    assert {f"images/{p.name}" for p in (folder / "images").iterdir()} == set(table["image"])
    assert all(read(folder / name).shape == (96, 80) for name in table["image"])
    assert "ynthetic" in (folder / "README.txt").read_text()
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_ages_sexes_and_patients_are_spread_like_a_real_set(tmp_path: Path) -> None:
    rows = pd.DataFrame([vars(row) for row in synthetic._plan(SyntheticData(n=4000))])
    ages = rows["bone_age_months"]
    assert ages.between(6, 216).all()
    assert 0.6 < ages.between(60, 180).mean() < 0.9
    assert (ages < 24).mean() > 0.01
    assert (ages > 204).mean() > 0.01
    assert 0.47 < (rows["sex"] == "F").mean() < 0.53
    assert 0.03 < rows["patient_id"].duplicated().mean() < 0.07
    assert rows.groupby("patient_id")["sex"].nunique().max() == 1
    assert rows["seed"].is_unique


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    assert synthetic._plan(SyntheticData(n=500))[:60] == synthetic._plan(SyntheticData(n=60))


def test_the_key_changes_with_every_setting_and_with_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[dict[str, int]] = [{}, {"n": 25}, {"seed": 6}, {"height_px": 97}, {"width_px": 81}]
    keys = {synthetic_key(SMALL.model_copy(update=change)) for change in changes}
    monkeypatch.setattr(synthetic, "GENERATOR_VERSION", synthetic.GENERATOR_VERSION + 1)
    keys.add(synthetic_key(SMALL))
    assert len(keys) == 6
    assert all(len(key) == 12 for key in keys)


def test_a_complete_data_set_is_reused_and_not_drawn_again(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path, SMALL)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert write_synthetic(tmp_path, SMALL) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_two_writings_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = write_synthetic(tmp_path / "a", SMALL), write_synthetic(tmp_path / "b", SMALL)
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == SMALL.n + 2
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


@pytest.mark.parametrize("lost", ["manifest.csv", "images/S000002-1.png"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_damaged_data_set_is_refused_with_what_to_do(tmp_path: Path, lost: str, how: str) -> None:
    folder = write_synthetic(tmp_path, SMALL)
    if how == "absent":
        (folder / lost).unlink()
    else:
        (folder / lost).write_bytes(b"")
    with pytest.raises(InputError, match=rf"{Path(lost).name}.*delete .*run again") as caught:
        write_synthetic(tmp_path, SMALL)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/below: cannot be written: Not a directory"):
        write_synthetic(tmp_path / "file" / "below", SMALL)


def test_two_writers_at_once_end_with_one_data_set(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(write_synthetic, [tmp_path] * 2, [SMALL] * 2))
    assert folders == {tmp_path / f"synthetic-{synthetic_key(SMALL)}"}
    assert list(tmp_path.iterdir()) == list(folders)
    assert write_synthetic(tmp_path, SMALL) in folders


WRITE = (
    "import sys; from pathlib import Path; from bone_age.settings import SyntheticData; "
    "from bone_age.data.synthetic import write_synthetic; "
    "write_synthetic(Path(sys.argv[1]), SyntheticData(n=int(sys.argv[2]), seed=5, height_px=96, width_px=80))"
)


def start_writing(parent: Path, n: int, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + WRITE, str(parent), str(n)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_killed_writing_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    process = start_writing(tmp_path, 5000)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".synthetic-*/*/images/*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(tmp_path.glob(".synthetic-*"))
    assert not list(tmp_path.glob("synthetic-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_write_that_fails_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    process = start_writing(tmp_path, SMALL.n, limited)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().splitlines()[-1].startswith(f"{BoneAgeError.__module__}.BoneAgeError: ")
    assert "cannot be written: File too large" in errors
    assert list(tmp_path.iterdir()) == []
