"""DICOM radiographs are shown as their header says, or refused in one line that names no patient."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from bone_age.imaging import ImageError, decode_image
from tests.dicoms import PATIENT, radiograph, recompress, stored

# pytest sets its own filters; that nothing is printed outside it is tested below.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

RAMP_12_BIT = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)
RAMP_8_BIT = np.arange(32 * 32).reshape(32, 32).astype(np.uint8)


def without_preamble(header: Dataset, *, implicit: bool) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, implicit_vr=implicit, little_endian=True)
    return file.getvalue()


def lut(entries: list[int], first: int, bits: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return Sequence([item])


def test_8_bit_radiograph_keeps_its_levels_as_a_png_would() -> None:
    decoded = decode_image(stored(radiograph(RAMP_8_BIT)))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, RAMP_8_BIT)


def test_window_over_all_of_8_bits_changes_nothing() -> None:
    decoded = decode_image(stored(radiograph(RAMP_8_BIT, WindowCenter=128, WindowWidth=256)))
    assert np.array_equal(decoded, RAMP_8_BIT)


def test_12_bits_are_spread_over_16() -> None:
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12)))
    assert decoded.dtype == np.uint16
    assert (decoded[0, 0], decoded[-1, -1]) == (0, 65535)
    assert len(np.unique(decoded)) == 1024
    assert (np.diff(decoded.ravel().astype(int)) > 0).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_plain_transfer_syntaxes_agree(syntax: str) -> None:
    assert np.array_equal(
        decode_image(stored(radiograph(RAMP_12_BIT, bits=12), syntax)),
        decode_image(stored(radiograph(RAMP_12_BIT, bits=12))),
    )


def test_big_endian_agrees_with_little_endian() -> None:
    big = radiograph(RAMP_12_BIT, bits=12, PixelData=RAMP_12_BIT.byteswap().tobytes())
    big["PixelData"].VR = "OW"
    assert np.array_equal(
        decode_image(stored(big, ExplicitVRBigEndian)), decode_image(stored(radiograph(RAMP_12_BIT, bits=12)))
    )


def test_monochrome1_is_the_negative_of_monochrome2() -> None:
    for pixels, bits, white in ((RAMP_8_BIT, 8, 255), (RAMP_12_BIT, 12, 65535)):
        plain = decode_image(stored(radiograph(pixels, bits=bits)))
        negative = decode_image(stored(radiograph(pixels, bits=bits, PhotometricInterpretation="MONOCHROME1")))
        assert np.abs(white - plain.astype(int) - negative).max() <= 1


def test_window_is_applied_before_monochrome1_inverts() -> None:
    """A window at the low end: everything above it is white, so black after the inversion, not the other way."""
    window = {"WindowCenter": 500, "WindowWidth": 400, "PhotometricInterpretation": "MONOCHROME1"}
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, **window)))
    assert (decoded[RAMP_12_BIT > 701] == 0).all()
    assert (decoded[RAMP_12_BIT < 299] == 65535).all()
    assert 0 < decoded[RAMP_12_BIT == 500] < 65535


def test_first_of_several_windows_is_taken() -> None:
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, WindowCenter=[1000, 3000], WindowWidth=[100, 100])))
    assert (decoded[RAMP_12_BIT > 1051] == 65535).all()
    assert (decoded[RAMP_12_BIT < 949] == 0).all()


def test_window_counts_in_rescaled_units() -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 200}
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, **rescale)))
    assert (decoded[RAMP_12_BIT < 949] == 0).all()
    assert (decoded[RAMP_12_BIT > 1051] == 65535).all()


@pytest.mark.parametrize("window", [{}, {"WindowCenter": -2048, "WindowWidth": 4096}])
def test_negative_rescale_slope_turns_light_into_dark(window: dict[str, int]) -> None:
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, RescaleSlope=-1, RescaleIntercept=0, **window)))
    assert decoded[0, 0] > 65000
    assert decoded[-1, -1] < 500


def test_signed_pixels_keep_their_order() -> None:
    pixels = (RAMP_12_BIT.astype(np.int16) - 2048).astype(np.int16)
    decoded = decode_image(stored(radiograph(pixels, bits=12)))
    assert np.array_equal(decoded, decode_image(stored(radiograph(RAMP_12_BIT, bits=12))))


def test_bits_beyond_the_stored_ones_are_ignored() -> None:
    with_overlay = RAMP_12_BIT | np.uint16(0x8000)
    decoded = decode_image(stored(radiograph(with_overlay, bits=12)))
    assert np.array_equal(decoded, decode_image(stored(radiograph(RAMP_12_BIT, bits=12))))


@pytest.mark.parametrize(("bits", "brightest"), [(8, 255), (12, 4095)])
def test_voi_lut_is_preferred_to_the_window_and_clamps(bits: int, brightest: int) -> None:
    table = lut([0, brightest // 2, brightest], first=2000, bits=bits)
    decoded = decode_image(
        stored(radiograph(RAMP_12_BIT, bits=12, VOILUTSequence=table, WindowCenter=10, WindowWidth=5))
    )
    assert (decoded[RAMP_12_BIT <= 2000] == 0).all()
    assert (decoded[RAMP_12_BIT >= 2004] == 65535).all()


def test_modality_lut_comes_before_the_window() -> None:
    falling = lut(list(range(4095, -1, -1)), first=0, bits=16)
    decoded = decode_image(
        stored(radiograph(RAMP_12_BIT, bits=12, ModalityLUTSequence=falling, WindowCenter=1000, WindowWidth=2))
    )
    assert (decoded[RAMP_12_BIT < 3090] == 65535).all()
    assert (decoded[RAMP_12_BIT > 3100] == 0).all()


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"VOILUTFunction": "WAVELET"}])
def test_unusable_window_is_passed_over(window: dict[str, object]) -> None:
    broken = {"WindowCenter": 100, "WindowWidth": 100} | window
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, **broken)))
    assert np.array_equal(decoded, decode_image(stored(radiograph(RAMP_12_BIT, bits=12))))


def test_sigmoid_window_rises_smoothly() -> None:
    sigmoid = {"WindowCenter": 2048, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    decoded = decode_image(stored(radiograph(RAMP_12_BIT, bits=12, **sigmoid))).astype(int).ravel()
    assert (np.diff(decoded) >= 0).all()
    assert abs(decoded[512] - 32768) < 300


def test_colour_becomes_luminance() -> None:
    green = np.zeros((16, 16, 3), np.uint8)
    green[..., 1] = 255
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert np.unique(decode_image(stored(radiograph(green, **colour)))).tolist() == [150]


def saved_jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def jpeg_in_dicom(rows: int = 32) -> bytes:
    frame = saved_jpeg(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    header = radiograph(RAMP_8_BIT, Rows=rows, PixelData=encapsulate([frame]))
    header["PixelData"].is_undefined_length = True
    return stored(header, JPEGBaseline8Bit)


def test_jpeg_within_dicom_is_decoded() -> None:
    decoded = decode_image(jpeg_in_dicom())
    assert np.abs(decoded[:, 4:-4].astype(int) - np.arange(32, 224, 8)).max() < 6


def test_jpeg_2000_within_dicom_is_decoded() -> None:
    file = io.BytesIO()
    Image.fromarray(RAMP_8_BIT).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    header = radiograph(RAMP_8_BIT, PixelData=encapsulate([file.getvalue()]))
    assert np.array_equal(decode_image(stored(header, JPEG2000Lossless)), RAMP_8_BIT)


def test_run_lengths_within_dicom_are_decoded() -> None:
    header = radiograph(RAMP_12_BIT, bits=12)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.compress(RLELossless)
    plain = decode_image(stored(radiograph(RAMP_12_BIT, bits=12)))
    assert np.array_equal(decode_image(stored(header, RLELossless)), plain)


def lossless_jpeg_in_dicom(folder: Path, syntax: int, header: Dataset | None = None) -> bytes:
    plain, compressed = folder / "plain.dcm", folder / "compressed.dcm"
    plain.write_bytes(stored(header or radiograph(RAMP_12_BIT, bits=12)))
    recompress(plain, compressed, syntax)
    return compressed.read_bytes()


@pytest.mark.parametrize("syntax", [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless])
def test_lossless_jpeg_within_dicom_keeps_every_level(tmp_path: Path, syntax: int) -> None:
    decoded = decode_image(lossless_jpeg_in_dicom(tmp_path, syntax))
    assert np.array_equal(decoded, decode_image(stored(radiograph(RAMP_12_BIT, bits=12))))


def palette(pixels: np.ndarray) -> Dataset:
    header = radiograph(pixels, PhotometricInterpretation="PALETTE COLOR")
    for colour, step in (("Red", 1), ("Green", 3), ("Blue", 7)):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        header[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(header, f"{colour}PaletteColorLookupTableData", bytes(level * step % 256 for level in range(256)))
    return header


COLOURS = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}


@pytest.mark.parametrize("syntax", [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless])
@pytest.mark.parametrize(
    "header",
    [
        radiograph((RAMP_12_BIT.astype(np.int16) - 2048).astype(np.int16), bits=12),
        radiograph(RAMP_12_BIT, bits=12, PhotometricInterpretation="MONOCHROME1"),
        radiograph(RAMP_12_BIT, bits=12, WindowCenter=900, WindowWidth=700),
        radiograph(COLOURS, **RGB),
        radiograph(COLOURS, **RGB | {"PhotometricInterpretation": "YBR_FULL"}),
        palette(RAMP_8_BIT),
    ],
    ids=["signed", "MONOCHROME1", "window", "RGB", "YBR", "palette"],
)
def test_lossless_jpeg_is_shown_as_the_plain_file_is(tmp_path: Path, header: Dataset, syntax: int) -> None:
    decoded = decode_image(lossless_jpeg_in_dicom(tmp_path, syntax, header))
    assert np.array_equal(decoded, decode_image(stored(header)))


def test_of_frames_that_the_header_does_not_count_the_first_is_taken() -> None:
    frames = [saved_jpeg(np.full((32, 32), level, np.uint8)) for level in (40, 200)]
    header = radiograph(RAMP_8_BIT, PixelData=encapsulate(frames))
    header["PixelData"].is_undefined_length = True
    assert np.unique(decode_image(stored(header, JPEGBaseline8Bit))).tolist() == [40]


def test_damage_that_ends_the_lossless_decoder_is_a_refusal(tmp_path: Path) -> None:
    whole = lossless_jpeg_in_dicom(tmp_path, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    precision = whole.index(b"\xff\xc3") + 4
    with pytest.raises(ImageError, match="damaged"):
        decode_image(whole[:precision] + b"\xee" + whole[precision + 1 :])


def test_compressed_picture_larger_than_its_header_says_is_refused() -> None:
    with pytest.raises(ImageError, match="another shape"):
        decode_image(jpeg_in_dicom(rows=8))


@pytest.mark.parametrize("implicit", [True, False])
def test_file_without_preamble_is_decoded(implicit: bool) -> None:
    decoded = decode_image(without_preamble(radiograph(RAMP_8_BIT), implicit=implicit))
    assert np.array_equal(decoded, RAMP_8_BIT)


@pytest.mark.parametrize(
    "missing", ["PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation", "BitsStored"]
)
def test_elements_that_leave_no_doubt_may_be_absent(missing: str) -> None:
    header = radiograph(RAMP_8_BIT)
    delattr(header, missing)
    assert np.array_equal(decode_image(stored(header)), RAMP_8_BIT)


@pytest.mark.parametrize("missing", ["Rows", "Columns", "BitsAllocated", "PixelData"])
def test_elements_that_cannot_be_guessed_are_asked_for(missing: str) -> None:
    header = radiograph(RAMP_8_BIT)
    header["PixelData"].VR = "OB"
    delattr(header, missing)
    with pytest.raises(ImageError, match=f"{missing} is missing|no integer pixel data"):
        decode_image(stored(header))


def test_several_frames_are_refused() -> None:
    with pytest.raises(ImageError, match="holds 2 frames; a single radiograph is expected"):
        decode_image(stored(radiograph(RAMP_8_BIT, Rows=16, NumberOfFrames=2)))


@pytest.mark.parametrize("length", [0, 10, 1023])
def test_too_little_pixel_data_is_refused(length: int) -> None:
    header = radiograph(RAMP_8_BIT, PixelData=RAMP_8_BIT.tobytes()[:length] + b"\0" * (length % 2))
    header.Columns = 33
    with pytest.raises(ImageError, match="incomplete"):
        decode_image(stored(header))


def test_wrong_transfer_syntax_is_refused() -> None:
    data = stored(radiograph(RAMP_8_BIT))
    claimed = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.")
    assert claimed != data
    with pytest.raises(ImageError):
        decode_image(claimed)


def test_deflated_bomb_is_refused_before_it_is_inflated() -> None:
    bomb = stored(radiograph(np.zeros((6000, 6000), np.uint8)), DeflatedExplicitVRLittleEndian)
    tracemalloc.start()
    with pytest.raises(ImageError, match="deflated"):
        decode_image(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_header_of_a_bomb_is_refused() -> None:
    with pytest.raises(ImageError, match="60000x60000 pixels exceeds the limit"):
        decode_image(stored(radiograph(RAMP_8_BIT, Rows=60_000, Columns=60_000)))


@pytest.mark.parametrize("slope", ["1e308", "-1e308"])
def test_rescale_out_of_all_bounds_is_refused(slope: str) -> None:
    with pytest.raises(ImageError, match="not finite"):
        decode_image(stored(radiograph(RAMP_12_BIT, bits=12, RescaleSlope=slope, RescaleIntercept=0)))


def test_constant_picture_is_decoded() -> None:
    assert len(np.unique(decode_image(stored(radiograph(np.full((16, 16), 700, np.uint16)))))) == 1


def test_patient_is_named_neither_in_messages_nor_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    data = stored(radiograph(RAMP_8_BIT, Rows=999, SpecificCharacterSet=PATIENT))
    with caplog.at_level(logging.DEBUG, logger=""), pytest.raises(ImageError) as refusal:
        decode_image(data)
    assert "Doe" not in str(refusal.value) + caplog.text
    assert refusal.value.__suppress_context__


def test_memory_of_a_large_radiograph_stays_near_its_pixels() -> None:
    pixels = np.zeros((4000, 3000), np.uint16)
    pixels[1000:2000] = 4000
    data = stored(radiograph(pixels, bits=12, WindowCenter=2048, WindowWidth=4096))
    tracemalloc.start()
    decode_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * pixels.nbytes


VALID = [
    stored(radiograph(RAMP_12_BIT, bits=12, WindowCenter=2000, WindowWidth=900, RescaleSlope=1, RescaleIntercept=0)),
    stored(radiograph(RAMP_8_BIT), ImplicitVRLittleEndian),
    stored(radiograph(RAMP_12_BIT, bits=12, VOILUTSequence=lut([0, 1, 2], 0, 12))),
    without_preamble(radiograph(RAMP_8_BIT), implicit=False),
    jpeg_in_dicom(),
]


@pytest.mark.fault
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(
    data=st.sampled_from(VALID),
    edits=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0, 1) | st.none(),
)
def test_mutated_files_are_a_picture_or_a_refusal(data: bytes, edits: list[tuple[int, int]], cut: float | None) -> None:
    mutated = bytearray(data)
    for place, value in edits:
        mutated[place % len(mutated)] = value
    decoded, message = np.zeros((1, 1), np.uint8), "none"
    try:
        decoded = decode_image(bytes(mutated[: int(cut * len(mutated))] if cut is not None else mutated))
    except ImageError as error:
        message = str(error)
    assert re.fullmatch(r".+", message)
    assert "Doe" not in message
    assert decoded.ndim == 2
    assert decoded.dtype in (np.uint8, np.uint16)


def test_nothing_is_printed_about_damaged_files(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from bone_age.imaging import ImageError, decode_image
for path in Path(sys.argv[1]).iterdir():
    data = path.read_bytes()
    for place in range(132, min(len(data), 1200), 5):
        try:
            decode_image(data[:place] + b"\\xee\\x00" + data[place + 2 :])
        except ImageError:
            pass
"""
    for number, data in enumerate(VALID):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert run.stdout + run.stderr == b""
