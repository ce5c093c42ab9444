"""Validation finds each kind of bad data, names rows and values, and lets good data pass."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bone_age.data.expectations import validate_dataset
from bone_age.data.image_facts import image_facts
from bone_age.data.leakage import near_duplicates
from bone_age.data.manifest import Dataset
from bone_age.data.sources import read_dataset
from bone_age.data.splits import assign_splits
from bone_age.data.validation import DataValidation
from bone_age.settings import SplitSettings, ValidationBounds

N_GOOD = 48


def picture(seed: int, side_px: int = 96) -> npt.NDArray[np.uint8]:
    """Smooth random blobs: like radiographs, they survive re-encoding, and no two are alike."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (16, 16)).astype(np.float32)
    return cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@dataclass
class Folder:
    """A good data set to spoil."""

    root: Path
    rows: list[dict[str, str]]

    def image(self, index: int) -> Path:
        return self.root / self.rows[index]["image"]

    def add(self, content: bytes, **row: str) -> None:
        name = f"added{len(self.rows)}.png"
        (self.root / name).write_bytes(content)
        label = {"sex": "M", "bone_age_months": "100", "patient_id": name, "split": "train"}
        self.rows.append({"image": name} | label | row)

    def read(self) -> Dataset:
        pd.DataFrame(self.rows).to_csv(self.root / "manifest.csv", index=False)
        return read_dataset(self.root)

    def validate(self, bounds: ValidationBounds | None = None) -> DataValidation:
        return validate_dataset(self.read(), bounds or ValidationBounds())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    rows = []
    for i in range(N_GOOD):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture(i))
        label = {"sex": "MF"[i % 2], "bone_age_months": str(5 * i)}
        split = {"patient_id": f"p{i}", "split": ("train", "validation", "test")[i % 3]}
        rows.append({"image": f"{i}.png"} | label | split)
    return Folder(tmp_path, rows)


def test_good_data_passes_without_a_word(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    validation = folder.validate()
    assert (validation.passed, validation.errors, validation.warnings) == (True, (), ())
    assert validation.n == N_GOOD
    assert validation.result["success"] is True
    printed = capfd.readouterr()
    assert printed.out == ""


def test_everything_wrong_with_labels_is_named_at_once(folder: Folder) -> None:
    folder.rows[1]["sex"] = "girl"
    folder.rows[2]["sex"] = ""
    folder.rows[3]["bone_age_months"] = "ten"
    folder.rows[4]["bone_age_months"] = "-5"
    folder.rows[5]["bone_age_months"] = "240.5"
    folder.rows.append(dict(folder.rows[0]))
    validation = folder.validate()
    assert not validation.passed
    for message in (
        "sex is neither M nor F: manifest.csv:3 ('girl'), manifest.csv:4 ('')",
        "bone_age_months is no number: manifest.csv:5 ('ten')",
        "bone_age_months is outside 0 to 240: manifest.csv:6 ('-5'), manifest.csv:7 ('240.5')",
        "image_id appears more than once: manifest.csv:2 ('0'), manifest.csv:50 ('0')",
    ):
        assert message in validation.errors


def test_everything_wrong_with_images_is_named_at_once(folder: Folder) -> None:
    folder.image(1).unlink()
    folder.image(2).unlink()
    folder.image(2).mkdir()
    folder.image(3).write_bytes(b"")
    folder.image(4).write_text("this is text")
    intact = cv2.imencode(".jpg", picture(5))[1].tobytes()
    folder.image(5).write_bytes(intact[: len(intact) // 2])
    cv2.imwrite(str(folder.image(6)), np.full((1, 1), 7, np.uint8))
    cv2.imwrite(str(folder.image(7)), np.full((96, 96), 7, np.uint8))
    cv2.imwrite(str(folder.image(8)), picture(8, side_px=63))
    errors = "\n".join(folder.validate(ValidationBounds(error_unreadable_share=0)).errors)
    assert re.search(r"cannot be read: manifest.csv:3 \('1.png: .*manifest.csv:4 \('2.png: is a folder'\)", errors)
    assert re.search(r"does not decode: manifest.csv:5 .*empty.*manifest.csv:6 .*manifest.csv:7 .*truncated", errors)
    assert "below 64 px: manifest.csv:8 (1), manifest.csv:10 (63)" in errors
    assert "is blank: SD of grey levels (grey_sd) is below 2 of 255: manifest.csv:8 (0), manifest.csv:9 (0)" in errors


def test_only_the_first_five_rows_are_named(folder: Folder) -> None:
    for row in folder.rows[:40]:
        row["sex"] = "?"
    (message,) = [error for error in folder.validate().errors if error.startswith("sex is neither")]
    assert message.count("manifest.csv:") == 5
    assert message.endswith("and 35 more")


@pytest.mark.fault
def test_damaged_images_up_to_the_configured_share_are_a_warning(folder: Folder) -> None:
    folder.image(9).write_bytes(b"damaged")
    lenient = folder.validate(ValidationBounds(error_unreadable_share=0.05))
    assert lenient.passed
    assert any("will be left out: manifest.csv:11 ('9.png" in warning for warning in lenient.warnings)
    strict = folder.validate(ValidationBounds(error_unreadable_share=0.01))
    assert any("more than the 1.0% that may be left out: manifest.csv:11" in error for error in strict.errors)
    assert not any("does not decode" in warning for warning in strict.warnings)


@pytest.mark.fault
def test_an_absent_image_is_an_error_whatever_share_may_be_damaged(folder: Folder) -> None:
    folder.image(9).unlink()
    assert not folder.validate(ValidationBounds(error_unreadable_share=1.0)).passed


def test_one_image_with_two_labels_is_an_error(folder: Folder) -> None:
    folder.add(folder.image(3).read_bytes(), split="train")
    (error,) = folder.validate().errors
    assert "different labels" in error
    assert "manifest.csv:5 ('F 15 months, and the same image is M 100 months in manifest.csv:50')" in error


def test_an_image_twice_with_one_label_in_one_split_is_a_warning(folder: Folder) -> None:
    folder.add(folder.image(3).read_bytes(), sex="F", bone_age_months="15", split="train")
    validation = folder.validate()
    assert validation.passed
    assert any("counts more than once: manifest.csv:5" in warning for warning in validation.warnings)


def test_an_image_in_two_splits_is_leakage(folder: Folder) -> None:
    folder.add(folder.image(3).read_bytes(), sex="F", bone_age_months="15", split="test")
    (error,) = folder.validate().errors
    assert "is in two splits" in error
    assert "manifest.csv:5 ('in train, and manifest.csv:50 in test')" in error


def test_a_patient_in_two_splits_is_leakage(folder: Folder) -> None:
    folder.rows[1]["patient_id"] = folder.rows[0]["patient_id"]
    (error,) = folder.validate().errors
    assert "one patient (same patient_id) is in two splits: manifest.csv:2" in error


def test_a_re_encoded_copy_in_another_split_is_a_warning_with_both_ids(folder: Folder) -> None:
    copy = cv2.imencode(".jpg", picture(3), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    folder.add(copy, split="test")
    validation = folder.validate(ValidationBounds(near_duplicate_bits=12))
    assert validation.passed
    (warning,) = validation.warnings
    assert "manifest.csv:5 ('3 in train looks like added48 in test (manifest.csv:50)" in warning
    assert [(pair.image_id, pair.other_image_id) for pair in validation.near_duplicates] == [("3", "added48")]


def test_two_alike_images_of_a_patient_in_one_split_are_listed_and_no_leakage(folder: Folder) -> None:
    folder.add(cv2.imencode(".jpg", picture(3), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), patient_id="p3")
    validation = folder.validate(ValidationBounds(near_duplicate_bits=12))
    assert (validation.errors, validation.warnings) == ((), ())
    assert len(validation.near_duplicates) == 1


def test_one_sex_or_one_age_only_is_an_error(folder: Folder) -> None:
    for row in folder.rows:
        row |= {"sex": "M", "bone_age_months": str(8 + float(row["bone_age_months"]) / 24)}  # as if given in years
    errors = "\n".join(folder.validate().errors)
    assert "share of one sex (share_of_one_sex) is above 0.95: 1" in errors
    assert "bone ages span (age_span_months) less than 60 months; are they given in years?: 9.792" in errors


def test_an_uneven_distribution_is_a_warning(folder: Folder) -> None:
    for row in folder.rows:
        row |= {"sex": "M" if row["sex"] == "M" or float(row["bone_age_months"]) > 100 else "F"}
        if float(row["bone_age_months"]) > 120:
            row["bone_age_months"] = "120"
    validation = folder.validate()
    warnings = "\n".join(validation.warnings)
    assert validation.passed
    assert "share of one sex (share_of_one_sex) is above 0.7: 0.7917" in warnings
    assert "share of the most common bone age is above 0.25" in warnings
    assert "bands without a radiograph (F 120_168, F 168_240, M 168_240): 3" in warnings


def test_data_without_any_usable_label_is_refused_without_a_crash(folder: Folder) -> None:
    for row in folder.rows:
        row |= {"sex": "", "bone_age_months": ""}
    validation = folder.validate()
    assert not validation.passed
    assert not any("cannot be checked" in error for error in validation.errors)


def test_messages_carry_no_control_characters_and_the_page_no_markup_from_the_labels(folder: Folder) -> None:
    folder.rows[1]["sex"] = "\x1b[31m<script>alert(1)</script>"
    folder.rows[2]["patient_id"] = folder.rows[3]["patient_id"] = "<img src=x onerror=alert(1)>"
    validation = folder.validate()
    assert all(message.isprintable() for message in validation.errors)
    assert "<script" not in validation.html
    assert "<img" not in validation.html


def test_the_page_is_great_expectations_own_and_loads_nothing(folder: Folder) -> None:
    folder.rows[1]["sex"] = "girl"
    html = folder.validate().html
    assert "SYNTHETIC" not in html
    assert "values must belong to this set" in html
    assert "girl" in html
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", html)
    assert "http" not in re.sub(r"http-equiv", "", html)
    assert "default-src 'none'" in html


def test_the_page_says_when_images_are_synthetic(folder: Folder) -> None:
    assert "SYNTHETIC" in validate_dataset(replace(folder.read(), synthetic=True), ValidationBounds()).html


def test_a_saved_validation_is_loaded_as_it_was(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder.rows[1]["sex"] = "girl"
    folder.rows[4]["bone_age_months"] = ""
    folder.add(cv2.imencode(".jpg", picture(4))[1].tobytes(), split="test", bone_age_months="")
    validation = folder.validate(ValidationBounds(near_duplicate_bits=12))
    saved = tmp_path_factory.mktemp("saved")
    validation.save(saved)
    loaded = DataValidation.load(saved)
    # NaN ages differ from themselves, so texts are compared
    assert repr(loaded) == repr(validation)
    names = {"validation.json", "great_expectations.json", "data_docs.html", "near_duplicates.csv"}
    assert {path.name for path in saved.iterdir()} == names
    json.loads((saved / "great_expectations.json").read_text(), parse_constant=lambda name: pytest.fail(name))


# What the images tell ------------------------------------------------------------------------------------------------


def test_image_facts_follow_the_order_of_the_manifest(folder: Folder) -> None:
    cv2.imwrite(str(folder.image(0)), picture(0, side_px=300)[:200])
    folder.image(1).write_bytes(b"damaged")
    facts = image_facts(folder.read())
    assert (facts["width_px"][0], facts["height_px"][0]) == (300, 200)
    assert list(facts["decodes"]) == [True, False, *[True] * (N_GOOD - 2)]
    assert facts["perceptual_hash"][1] == ""
    assert facts["grey_sd"][2] == pytest.approx(picture(2).std(), rel=1e-3)


def test_contrast_and_hash_of_a_16_bit_image_are_those_of_its_8_bit_version(folder: Folder) -> None:
    for index, depth in ((0, 16), (1, 12)):
        scaled = picture(7).astype(np.float64) / 255 * (2**depth - 1)
        scaled.flat[0] = 2**depth - 1
        cv2.imwrite(str(folder.image(index)), scaled.astype(np.uint16))
    facts = image_facts(folder.read())
    assert facts["grey_sd"][0] == pytest.approx(facts["grey_sd"][7], rel=0.02)
    assert facts["grey_sd"][1] == pytest.approx(facts["grey_sd"][7], rel=0.02)
    assert {facts["perceptual_hash"][index] for index in (0, 1)} == {facts["perceptual_hash"][0]}


def naive_pairs(hashes: list[int], max_bits: int) -> list[tuple[int, int, int]]:
    every = [(i, j, (hashes[i] ^ hashes[j]).bit_count()) for i in range(len(hashes)) for j in range(i + 1, len(hashes))]
    return [pair for pair in every if pair[2] <= max_bits]


@pytest.mark.parametrize("max_bits", [0, 2, 12])
def test_near_duplicates_are_all_pairs_within_the_bound_and_no_other(max_bits: int) -> None:
    rng = np.random.default_rng(5)
    hashes = [int.from_bytes(rng.bytes(32)) for _ in range(150)]
    for original, flips in ((0, 1), (70, 2), (140, 12), (149, 13), (3, 0)):
        hashes.append(hashes[original] ^ sum(1 << int(bit) for bit in rng.choice(256, flips, replace=False)))
    n = len(hashes)
    table = pd.DataFrame(
        {
            "image_id": [str(i) for i in range(n)],
            "source_row": [f"m.csv:{i}" for i in range(n)],
            "split": "",
            "bone_age_months": 1.0,
            "sha256": [f"{i:064x}" for i in range(n)],
            "perceptual_hash": [f"{value:064x}" for value in hashes],
        }
    )
    found = [(int(p.image_id), int(p.other_image_id), p.differing_bits) for p in near_duplicates(table, max_bits)]
    assert sorted(found) == naive_pairs(hashes, max_bits)


@pytest.mark.timeout(60)
def test_a_thousand_copies_of_one_image_are_judged(folder: Folder) -> None:
    content = folder.image(0).read_bytes()
    for _ in range(1000):
        folder.add(content)
    assert not folder.validate().passed


def test_real_radiographs_pass() -> None:
    if not os.environ.get("BONE_AGE_RSNA_DIR"):
        pytest.skip("needs real radiographs: set BONE_AGE_RSNA_DIR")
    dataset = assign_splits(read_dataset(Path(os.environ["BONE_AGE_RSNA_DIR"]), limit=300), SplitSettings())
    validation = validate_dataset(dataset, ValidationBounds())
    assert validation.errors == ()
