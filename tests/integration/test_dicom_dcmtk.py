"""DICOM files as archives hold them, made by OFFIS' dcmtk from a synthetic hand and read back: the same picture as the
PNG, or a refusal of one line. Windows are compared with what dcmtk itself would show."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bone_age.data.synthetic import render_hand
from bone_age.imaging import ImageError, decode_image, read_image
from bone_age.serving.dicom_question import complete_question
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL, load_predictor
from tests.dicoms import recompress

pytestmark = [
    pytest.mark.skipif(shutil.which("img2dcm") is None, reason="needs dcmtk: apt-get install dcmtk"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

HEIGHT_PX, WIDTH_PX = 640, 512
NO_DIFFERENCE_MONTHS = 0.25
Make = Callable[[Path, Path], None]


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def with_gdcm(syntax: int) -> Make:
    """dcmtk has no free JPEG 2000 encoder; GDCM has one."""
    return lambda plain, out: recompress(plain, out, syntax)


def with_dcmtk(*command: str) -> Make:
    return lambda plain, out: run(*command, plain, out)


KEEP_EVERY_LEVEL = {
    "explicit VR": with_dcmtk("dcmconv", "+te"),
    "implicit VR": with_dcmtk("dcmconv", "+ti"),
    "big endian": with_dcmtk("dcmconv", "+tb"),
    "JPEG lossless, first-order": with_dcmtk("dcmcjpeg", "+e1"),
    "JPEG lossless": with_dcmtk("dcmcjpeg", "+el"),
    "JPEG-LS": with_dcmtk("dcmcjpls"),
    "run lengths": with_dcmtk("dcmcrle"),
    "JPEG 2000 lossless": with_gdcm(gdcm.TransferSyntax.JPEG2000Lossless),
    "no meta header, no preamble": with_dcmtk("dcmconv", "--write-dataset"),
    "no meta header, implicit VR": with_dcmtk("dcmconv", "--write-dataset", "+ti"),
    "lengths left open": with_dcmtk("dcmconv", "--length-undefined"),
    "group lengths": with_dcmtk("dcmconv", "--group-length-create", "--padding-create", "512", "512"),
}
KEEP_WHAT_IS_SEEN = {
    (8, "JPEG"): with_dcmtk("dcmcjpeg", "+eb"),
    (8, "JPEG, extended"): with_dcmtk("dcmcjpeg", "+ee"),
    (8, "JPEG 2000"): with_gdcm(gdcm.TransferSyntax.JPEG2000),
    (12, "JPEG 2000"): with_gdcm(gdcm.TransferSyntax.JPEG2000),
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor(str(REFERENCE_MODEL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`8.png`, `8.dcm` (from a BMP of it), `12.png` and `12.dcm`: one hand in levels of 8 bits, and of 12 in 16."""
    made = tmp_path_factory.mktemp("dcmtk")
    hand = render_hand(96, "F", 4, HEIGHT_PX, WIDTH_PX)
    Image.fromarray(hand).save(made / "8.png")
    Image.fromarray(hand).save(made / "8.bmp")
    run("img2dcm", "-i", "BMP", made / "8.bmp", made / "8.dcm")
    finer = np.random.default_rng(1).integers(0, 16, hand.shape)
    deep = (hand.astype(np.uint16) * 16 + finer).astype("<u2")
    Image.fromarray(deep).save(made / "12.png")
    deep.tofile(made / "12.raw")
    bits = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    dump = subprocess.run(["dcmdump", "-q", made / "8.dcm"], check=True, capture_output=True, text=True).stdout
    lines = [line for line in dump.splitlines() if "PixelData" not in line and not any(name in line for name in bits)]
    lines += [f"(0028,010{place}) US {value}" for place, value in enumerate(bits.values())]
    (made / "12.dump").write_text("\n".join([*lines, f"(7fe0,0010) OW ={made / '12.raw'}"]) + "\n")
    run("dump2dcm", made / "12.dump", made / "12.dcm")
    return made


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the 8-bit file (or another), changed by `dcmodify`."""

    def change(*changes: str, source: str = "8.dcm") -> Path:
        copy = tmp_path / "changed.dcm"
        shutil.copyfile(folder / source, copy)
        for flag, change in zip(changes[::2], changes[1::2], strict=True):
            run("dcmodify", "-nb", "-imt", flag, change, copy)
        return copy

    return change


def spread(levels: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Over 0 to 65535, as more than 8 bits are decoded."""
    low, high = int(levels.min()), int(levels.max())
    return (levels.astype(float) - low) / (high - low) * 65535


# Encodings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", KEEP_EVERY_LEVEL)
@pytest.mark.parametrize("bits", [8, 12])
def test_encodings_without_a_loss_give_the_pngs_picture(folder: Path, tmp_path: Path, bits: int, encoding: str) -> None:
    KEEP_EVERY_LEVEL[encoding](folder / f"{bits}.dcm", tmp_path / "made.dcm")
    decoded, png = read_image(tmp_path / "made.dcm"), read_image(folder / f"{bits}.png")
    if bits == 8:
        assert np.array_equal(decoded, png)
    else:
        assert decoded.dtype == np.uint16
        assert np.abs(decoded - spread(png)).max() <= 0.5


@pytest.mark.parametrize(("bits", "encoding"), KEEP_WHAT_IS_SEEN)
def test_lossy_encodings_give_nearly_the_pngs_picture(folder: Path, tmp_path: Path, bits: int, encoding: str) -> None:
    KEEP_WHAT_IS_SEEN[bits, encoding](folder / f"{bits}.dcm", tmp_path / "made.dcm")
    decoded, png = spread(read_image(tmp_path / "made.dcm")), spread(read_image(folder / f"{bits}.png"))
    assert np.abs(decoded - png).mean() < 0.01 * 65535


@pytest.mark.parametrize("bits", [8, 12])
def test_png_and_dicom_have_the_same_bone_age(predictor: Predictor, folder: Path, bits: int) -> None:
    png, dicom = (predictor.predict(folder / f"{bits}.{kind}", "F").bone_age_months for kind in ("png", "dcm"))
    assert abs(png - dicom) < NO_DIFFERENCE_MONTHS


def test_command_line_answers_every_encoding_alike_in_one_run(folder: Path, tmp_path: Path) -> None:
    """As users do, with a process of its own; what cannot be read is named beside the answers."""
    images = [folder / "8.png"]
    for number, encoding in enumerate(("implicit VR", "JPEG lossless", "JPEG 2000 lossless")):
        images.append(tmp_path / f"{number}.dcm")
        KEEP_EVERY_LEVEL[encoding](folder / "8.dcm", images[-1])
    run("dcmconv", "+td", folder / "8.dcm", tmp_path / "deflated.dcm")
    command = [sys.executable, "-c", "from bone_age.cli import main; main()", "predict", "--sex", "F", "--json"]
    command += ["--model", str(REFERENCE_MODEL), *map(str, images), str(tmp_path / "deflated.dcm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answers = json.loads(done.stdout)
    assert [answer["image"] for answer in answers] == [str(image) for image in images]
    assert len({answer["bone_age_months"] for answer in answers}) == 1
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'deflated.dcm'}: deflated DICOM is not supported\n"


# What the header says of the pixels ----------------------------------------------------------------------------------


def shown_by_dcmtk(file: Path, *options: str) -> npt.NDArray[np.uint8]:
    out = file.with_suffix(".pgm")
    run("dcm2pnm", "+opb", *options, file, out)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("L"))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": "90", "WindowWidth": "100"},
        {"WindowCenter": "600", "WindowWidth": "1300"},
        {"WindowCenter": "100\\50", "WindowWidth": "180\\10"},
        {"RescaleSlope": "2", "RescaleIntercept": "-150", "WindowCenter": "20", "WindowWidth": "300"},
        {"RescaleSlope": "-3", "RescaleIntercept": "1000", "WindowCenter": "700", "WindowWidth": "800"},
    ],
    ids=str,  # whole slopes only: dcmtk cuts rescaled values down to whole ones
)
def test_window_and_rescale_show_what_dcmtk_shows(
    changed: Callable[..., Path], bits: int, photometric: str, elements: dict[str, str]
) -> None:
    options = ["-i", f"PhotometricInterpretation={photometric}"]
    for name, value in elements.items():
        options += ["-i", f"{name}={value}"]
    file = changed(*options, source=f"{bits}.dcm")
    expected = shown_by_dcmtk(file, "--use-window", "1").astype(float)
    decoded = read_image(file) / (1 if bits == 8 else 257)
    assert len(np.unique(expected)) > 8
    assert np.abs(decoded - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 12])
def test_monochrome1_of_the_negative_is_the_picture(folder: Path, tmp_path: Path, bits: int) -> None:
    png = read_image(folder / f"{bits}.png")
    stored = ((2**bits - 1) - png).astype(png.dtype)
    stored.tofile(tmp_path / "negative.raw")
    dump = subprocess.run(["dcmdump", "-q", folder / f"{bits}.dcm"], check=True, capture_output=True, text=True).stdout
    lines = [line.replace("MONOCHROME2", "MONOCHROME1") for line in dump.splitlines() if "PixelData" not in line]
    (tmp_path / "dump").write_text("\n".join([*lines, f"(7fe0,0010) OW ={tmp_path / 'negative.raw'}"]) + "\n")
    run("dump2dcm", tmp_path / "dump", tmp_path / "negative.dcm")
    decoded = read_image(tmp_path / "negative.dcm")
    assert np.abs(decoded - (png.astype(float) if bits == 8 else spread(png))).max() <= 0.5


# Odd headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        ("-e", "SOPClassUID", "-e", "SOPInstanceUID"),
        ("-e", "SamplesPerPixel"),
        ("-e", "PhotometricInterpretation"),
        ("-e", "BitsStored", "-e", "HighBit", "-e", "PixelRepresentation"),
        ("-i", "NumberOfFrames=1"),
        ("-i", "NumberOfFrames="),
        ("-i", "PatientOrientation=X\\Y\\Z"),
        ("-i", "ImageOrientationPatient=9\\9\\9"),
        ("-i", "PixelSpacing=none"),
        ("-i", "WindowCenter=", "-i", "WindowWidth="),
        ("-i", "WindowWidth=0", "-i", "WindowCenter=5"),
        ("-i", "PatientAge=soon", "-i", "PatientBirthDate=yesterday", "-i", "PatientSex=?"),
        ("-i", "SpecificCharacterSet=ISO_IR 999"),
    ],
    ids=" ".join,
)
def test_what_does_not_touch_the_pixels_changes_nothing(
    folder: Path, changed: Callable[..., Path], changes: tuple[str, ...]
) -> None:
    assert np.array_equal(read_image(changed(*changes)), read_image(folder / "8.png"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (("-i", "NumberOfFrames=2"), "holds 2 frames"),
        (("-e", "Rows"), "Rows is missing"),
        (("-e", "PixelData"), "no integer pixel data"),
        (("-i", "Rows=650"), "incomplete"),
        (("-i", "Rows=65000", "-i", "Columns=65000"), "exceeds the limit"),
        (("-i", "BitsAllocated=32"), "32 bits are not supported"),
        (("-i", "PhotometricInterpretation=HSV"), "photometric interpretation is not supported"),
        (("-i", "NumberOfFrames=many"), "damaged"),
    ],
    ids=str,
)
def test_what_leaves_no_picture_is_refused_in_one_line(
    changed: Callable[..., Path], changes: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ImageError, match=rf"^.*changed\.dcm: .*{why}.*$") as refusal:
        read_image(changed("-i", "PatientName=Doe^Jane", *changes))
    assert "Doe" not in str(refusal.value)


def test_lossy_jpeg_of_12_bits_is_refused(folder: Path, tmp_path: Path) -> None:
    """No decoder here reads it rightly."""
    run("dcmcjpeg", "+ee", folder / "12.dcm", tmp_path / "made.dcm")
    with pytest.raises(ImageError, match="lossy JPEG of 12 bits within DICOM is not supported"):
        read_image(tmp_path / "made.dcm")


def test_pixel_data_longer_than_the_picture_is_cut(folder: Path, changed: Callable[..., Path]) -> None:
    decoded = read_image(changed("-i", f"Rows={HEIGHT_PX - 40}"))
    assert np.array_equal(decoded, read_image(folder / "8.png")[: HEIGHT_PX - 40])


@pytest.mark.parametrize("encoding", ["explicit VR", "JPEG lossless", "JPEG-LS", "run lengths", "JPEG 2000 lossless"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_a_file_cut_short_is_refused(folder: Path, tmp_path: Path, encoding: str, kept: float) -> None:
    KEEP_EVERY_LEVEL[encoding](folder / "8.dcm", tmp_path / "made.dcm")
    whole = (tmp_path / "made.dcm").read_bytes()
    with pytest.raises(ImageError):
        decode_image(whole[: int(kept * len(whole))])


def test_sex_age_and_side_of_a_real_file_are_used(changed: Callable[..., Path]) -> None:
    elements = ("PatientSex=F", "PatientBirthDate=20120615", "StudyDate=20201215", "PatientAge=008Y", "Laterality=R")
    options = [word for element in elements for word in ("-i", element)]
    question = complete_question(changed(*options).read_bytes(), None, None)
    assert (question.sex, question.chronological_age_months) == ("F", pytest.approx(102, abs=0.1))
    assert [warning.code for warning in question.warnings] == ["sex_from_dicom", "age_from_dicom", "right_hand"]
