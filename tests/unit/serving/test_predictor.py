from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bone_age.cli import main
from bone_age.data.prepared import PreparedImages
from bone_age.errors import InputError, ModelError
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.likeness import REFUSE_ABOVE, UnlikeTrainingError
from bone_age.imaging import ImageError, preprocess, read_image
from bone_age.serving.bundle import CHECKSUMS, LIKENESS, MODEL_ONNX, load_bundle, write_checksums
from bone_age.serving.predictor import Predictor, years_and_months
from bone_age.serving.references import load_predictor
from bone_age.settings import Home


@pytest.fixture(scope="session")
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor.from_folder(tiny_bundle, "tiny")


@pytest.fixture(scope="session")
def hand(tiny_images: PreparedImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One preprocessed hand as a PNG; preprocessing it again changes little, but the same for every caller."""
    path = tmp_path_factory.mktemp("hand") / "hand.png"
    cv2.imwrite(str(path), np.asarray(tiny_images.images[0]))
    return path


# The three ways to hand over an image --------------------------------------------------------------------------------


def test_path_bytes_and_array_give_one_answer(predictor: Predictor, hand: Path) -> None:
    answers = [predictor.predict(given, "F") for given in (hand, hand.read_bytes(), read_image(hand))]
    assert len({(a.bone_age_months, a.lower_months, a.upper_months) for a in answers}) == 1
    assert answers[0].image == str(hand)
    assert answers[0].lower_months < answers[0].bone_age_months < answers[0].upper_months


def test_the_childs_sex_reaches_the_network(predictor: Predictor, hand: Path) -> None:
    assert predictor.predict(hand, "F").bone_age_months != predictor.predict(hand, "M").bone_age_months


@pytest.mark.parametrize("sex", ["", "m", "male", "X", "1", None, 1])
def test_a_sex_is_never_guessed(sex: object, predictor: Predictor, hand: Path) -> None:
    with pytest.raises(InputError, match="expected M or F"):
        predictor.predict(hand, sex)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((80, 80, 3), np.uint8),
        np.zeros((80, 80), np.float32),
        np.zeros((80,), np.uint8),
        np.array(["hand"]),
    ],
)
def test_an_array_that_is_no_grey_image_is_refused(array: np.ndarray, predictor: Predictor) -> None:
    with pytest.raises(InputError, match=r"expected uint8 or uint16 \[H, W\]"):
        predictor.predict(array, "F")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no image at all" * 50])
def test_bytes_that_are_no_image_are_refused(content: bytes, predictor: Predictor) -> None:
    with pytest.raises(ImageError):
        predictor.predict(content, "F")


def test_an_inverted_radiograph_is_turned_back_and_said(
    predictor: Predictor, tiny_images: PreparedImages, tmp_path: Path
) -> None:
    """Where inversion is recognised (not every drawing is clear enough), the answer says so and stays the same."""
    upright = [np.asarray(tiny_images.images[row]) for row in range(12)]
    answers = [(predictor.predict(image, "F"), predictor.predict(255 - image, "F")) for image in upright]
    codes = [[[warning.code for warning in answer.warnings] for answer in pair] for pair in answers]
    said = [pair for pair, (as_is, turned) in zip(answers, codes, strict=True) if turned == ["inverted", *as_is]]
    assert len(said) >= 8
    assert all(abs(a.bone_age_months - b.bone_age_months) < 0.01 for a, b in said)


def test_an_answer_is_json_with_the_documented_keys(predictor: Predictor, hand: Path) -> None:
    answer = json.loads(json.dumps(predictor.predict(hand, "F").to_json()))
    assert list(answer) == [
        "image", "bone_age_months", "lower_months", "upper_months", "model", "warnings", "growth", "age_consistency",
        "interval_coverage", "model_digest", "dataset_fingerprint", "flip_averaging", "bone_age",
    ]  # fmt: skip
    assert answer["model_digest"] == predictor.bundle.digest
    assert answer["dataset_fingerprint"] == predictor.bundle.facts.dataset_fingerprint


@pytest.mark.parametrize(
    ("months", "words"),
    [(0.2, "0 years 0 months"), (11.6, "1 year 0 months"), (13, "1 year 1 month"), (111.6, "9 years 4 months")],
)
def test_months_are_said_in_years_and_months(months: float, words: str) -> None:
    assert years_and_months(months) == words


def test_serving_gives_what_evaluation_gave(
    predictor: Predictor, tiny_images: PreparedImages, tiny_evaluated: EvaluatedModel
) -> None:
    table = tiny_images.split("test")
    batch = np.stack([tiny_images.images[row] for row in table["array_row"]])
    months = predictor.predict_prepared(batch, table["sex"].tolist())
    expected = tiny_evaluated.test.predictions.set_index("image_id").loc[table["image_id"], "predicted_months"]
    np.testing.assert_allclose(months, expected, atol=1e-3)


def test_the_recorded_correction_reaches_every_answer(predictor: Predictor, hand: Path, copy: Path) -> None:
    facts = json.loads((copy / "model.json").read_text())
    facts["correction"] = {"slope": 1.1, "intercept_months": -10.0}
    (copy / "model.json").write_text(json.dumps(facts))
    write_checksums(copy)
    corrected, image = Predictor.from_folder(copy), read_image(hand)
    plain = predictor.predict(hand, "F").bone_age_months
    assert corrected.predict(hand, "F").bone_age_months == pytest.approx(1.1 * plain - 10, abs=1e-3)
    prepared = preprocess(image, predictor.preprocessing)[None]
    months = [one.predict_prepared(prepared, ["F"])[0] for one in (predictor, corrected)]
    assert months[1] == pytest.approx(1.1 * months[0] - 10, abs=1e-3)


def test_full_size_originals_are_answered(predictor: Predictor, rsna_dir: Path) -> None:
    images = sorted((rsna_dir / "full-size").glob("*.png"))
    assert len(images) == 24
    for image in images:
        answer = predictor.predict(image, "F")
        assert 0 <= answer.lower_months <= answer.bone_age_months <= answer.upper_months


# What is unlike the training radiographs ------------------------------------------------------------------------------


@pytest.fixture
def strict(copy: Path) -> Path:
    """The model, as if trained on radiographs that are all alike: everything else is far from them."""
    likeness = load_bundle(copy).likeness
    assert likeness is not None
    replace(likeness, unit=likeness.unit / 1e6).save(copy / LIKENESS)
    facts = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(facts | {"synthetic": False}))
    write_checksums(copy)
    return copy


def test_what_is_far_from_the_training_radiographs_is_refused_with_its_name(strict: Path, hand: Path) -> None:
    with pytest.raises(UnlikeTrainingError, match=rf"^{hand}: image does not look like a hand") as refused:
        Predictor.from_folder(strict).predict(hand, "F")
    assert refused.value.distance > REFUSE_ABOVE
    with pytest.raises(UnlikeTrainingError, match=r"^image does not look like a hand"):
        Predictor.from_folder(strict).predict(hand.read_bytes(), "F")


def test_the_command_line_names_the_refused_image_and_ends_with_2(
    strict: Path, hand: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(hand), "--sex", "F", "--model", str(strict), "--json"])
    out, said = capsys.readouterr()
    assert (ended.value.code, json.loads(out)) == (2, [])
    assert said.startswith(f"error: {hand}: image does not look like a hand radiograph")


def test_a_model_of_drawn_hands_warns_and_refuses_nothing(strict: Path, hand: Path) -> None:
    facts = json.loads((strict / "model.json").read_text())
    (strict / "model.json").write_text(json.dumps(facts | {"synthetic": True}))
    write_checksums(strict)
    answered = Predictor.from_folder(strict).answer(hand, "F")
    assert [warning.code for warning in answered.prediction.warnings] == ["unlike_training"]
    assert answered.likeness_distance is not None
    assert answered.likeness_distance > REFUSE_ABOVE


def test_evaluation_scores_every_row_also_what_would_be_refused(
    strict: Path, predictor: Predictor, tiny_images: PreparedImages
) -> None:
    batch = np.asarray(tiny_images.images[:4])
    scored = [one.predict_prepared(batch, ["F"] * 4) for one in (Predictor.from_folder(strict), predictor)]
    np.testing.assert_array_equal(*scored)


def test_a_model_from_before_there_was_a_likeness_answers_as_it_did(
    copy: Path, predictor: Predictor, hand: Path
) -> None:
    (copy / LIKENESS).unlink()
    write_checksums(copy)
    answered = Predictor.from_folder(copy).answer(hand, "F")
    assert answered.likeness_distance is None
    assert answered.prediction.bone_age_months == predictor.predict(hand, "F").bone_age_months


def test_a_cached_evaluation_keeps_the_likeness(tiny_evaluated: EvaluatedModel, tmp_path: Path) -> None:
    for name, evaluated in (("with", tiny_evaluated), ("without", replace(tiny_evaluated, likeness=None))):
        (tmp_path / name).mkdir()
        evaluated.save(tmp_path / name)
    kept = EvaluatedModel.load(tmp_path / "with").likeness
    assert kept is not None
    assert tiny_evaluated.likeness is not None
    np.testing.assert_array_equal(kept.directions, tiny_evaluated.likeness.directions)
    assert EvaluatedModel.load(tmp_path / "without").likeness is None


def test_a_likeness_that_is_none_is_refused_when_the_model_is_loaded(copy: Path) -> None:
    likeness = load_bundle(copy).likeness
    assert likeness is not None
    replace(likeness, mean=np.full_like(likeness.mean, np.nan)).save(copy / LIKENESS)
    write_checksums(copy)
    with pytest.raises(ModelError, match=r"likeness\.npz: mean is not of finite float32 numbers"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.tile(np.arange(63, dtype=np.uint8) * 4, (200, 1)), "image of 63x200 pixels is too small: at least 64"),
        (np.full((200, 200), 37, np.uint8), "image is blank"),
        (np.zeros((200, 200), np.uint16), "image is blank"),
        (np.where(np.arange(200) < 3, np.uint8(200), np.uint8(0)) * np.ones((200, 1), np.uint8), "image is nearly all"),
    ],
)
def test_what_no_model_could_answer_is_refused(image: np.ndarray, said: str, predictor: Predictor) -> None:
    with pytest.raises(ImageError, match=f"^{said}"):
        predictor.predict(image, "F")


# A folder that is not what its checksums say --------------------------------------------------------------------------


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.keras", "preprocessing.json", "calibration.json", "model.json", "likeness.npz"]
)
def test_one_flipped_bit_is_refused_by_name(name: str, copy: Path) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: checksum does not match"):
        load_bundle(copy)


def test_an_absent_file_is_refused_by_name(copy: Path) -> None:
    (copy / MODEL_ONNX).unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: listed in checksums\.json but absent"):
        load_bundle(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"model.onnx": 1}', "\x00", "[" * 100_000])
def test_checksums_that_are_none_are_refused(content: str, copy: Path) -> None:
    (copy / CHECKSUMS).write_text(content)
    with pytest.raises(ModelError, match=r"checksums\.json"):
        load_bundle(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/file"])
def test_checksums_name_files_of_the_folder_only(name: str, copy: Path) -> None:
    (copy.parent / "outside").write_text("x")
    (copy / "sub").mkdir()
    (copy / "sub" / "file").write_text("x")
    sums = json.loads((copy / CHECKSUMS).read_text())
    (copy / CHECKSUMS).write_text(json.dumps(sums | {name: "0" * 64}))
    with pytest.raises(ModelError, match="absent"):
        load_bundle(copy)


def test_a_preprocessing_of_another_size_than_the_network_is_refused(copy: Path) -> None:
    preprocessing = copy / "preprocessing.json"
    preprocessing.write_text(json.dumps(json.loads(preprocessing.read_text()) | {"image_size_px": 80}))
    write_checksums(copy)
    with pytest.raises(ModelError, match=r"model\.onnx: takes images of 72 px, its preprocessing makes 80"):
        load_predictor(str(copy))


# References -----------------------------------------------------------------------------------------------------------


def test_a_folder_answers_under_its_name_and_says_that_it_is_synthetic(copy: Path, hand: Path) -> None:
    answer = load_predictor(str(copy)).predict(hand, "M")
    assert answer.model == str(copy)
    assert [warning.code for warning in answer.warnings] == ["synthetic_model"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model here"):
        load_predictor(str(tmp_path))


def test_without_champion_and_reference_model_the_error_says_what_to_do(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bone_age.serving.references.REFERENCE_MODEL", tmp_path / "none")
    with pytest.raises(ModelError, match="bone-age train"):
        load_predictor(None)


def test_where_nothing_was_promoted_the_reference_model_answers_and_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, hand: Path
) -> None:
    monkeypatch.setattr("bone_age.serving.references.REFERENCE_MODEL", tiny_bundle)
    answer = load_predictor(None).predict(hand, "M")
    assert answer.model == "reference"
    assert "reference_model" in [warning.code for warning in answer.warnings]


# What a process loads -------------------------------------------------------------------------------------------------


def test_predicting_from_a_folder_needs_neither_tensorflow_nor_zenml_nor_mlflow(copy: Path, hand: Path) -> None:
    code = f"""
import sys
from bone_age.cli import main
try:
    main(["predict", {str(hand)!r}, "--sex", "F", "--model", {str(copy)!r}])
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted({{"tensorflow", "keras", "zenml", "mlflow", "great_expectations"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from bone_age.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(sorted({"tensorflow", "keras", "zenml", "mlflow", "onnxruntime", "pandas", "cv2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"
