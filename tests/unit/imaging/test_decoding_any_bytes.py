"""Bytes of any kind, in a process of their own: a picture or a refusal of one line, never a crash, never 500 MB."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import gdcm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.decoding import DecodingProcess, Outcome
from tests.dicoms import PATIENT, radiograph, recompress, stored

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

MAX_MB = 500
SMALL = (np.add.outer(np.arange(24), np.arange(32)) * 4).astype(np.uint8)


@pytest.fixture(scope="module")
def process() -> Iterator[DecodingProcess]:
    started = DecodingProcess()
    yield started
    started.close()


def is_picture_or_refusal(outcome: Outcome) -> bool:
    assert outcome.peak_mb < MAX_MB
    if outcome.refusal is not None:
        return re.fullmatch(r".+", outcome.refusal) is not None and PATIENT not in outcome.refusal
    return len(outcome.shape) == 2 and min(outcome.shape) > 0 and outcome.dtype in ("uint8", "uint16")


# Files ---------------------------------------------------------------------------------------------------------------


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def compressed(pixels: np.ndarray, frame: bytes, syntax: str, **elements: object) -> bytes:
    header = radiograph(pixels, PixelData=encapsulate([frame]), **elements)
    header["PixelData"].is_undefined_length = True
    return stored(header, syntax)


def run_lengths(pixels: np.ndarray) -> bytes:
    header = radiograph(pixels)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.compress(RLELossless)
    return stored(header, RLELossless)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_zeros(width_px: int, height_px: int, bits: int, colour: int, interlace: int, inflated: int) -> bytes:
    """A header that claims, and as many zeros as are asked for behind it, whatever the header says."""
    packer, rest = zlib.compressobj(1), inflated
    packed = b""
    while rest > 0:
        packed += packer.compress(bytes(min(rest, 2**20)))
        rest -= 2**20
    header = struct.pack(">IIBBBBB", width_px, height_px, bits, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", b"\x10\x80") if colour == 3 else b""
    body = chunk(b"IHDR", header) + palette + chunk(b"IDAT", packed + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


GREY, COLOUR = Image.fromarray(SMALL), Image.fromarray(SMALL).convert("RGB")
WINDOW = {"WindowCenter": 60, "WindowWidth": 90, "RescaleSlope": 1, "RescaleIntercept": 0}
SMALL_FILES = {
    "grey PNG": saved(GREY, "PNG"),
    "deep PNG": saved(Image.fromarray(SMALL.astype(np.uint16) * 200), "PNG"),
    "transparent PNG": saved(COLOUR.convert("RGBA"), "PNG"),
    "palette PNG": saved(GREY.convert("P"), "PNG", transparency=3),
    "JPEG": saved(COLOUR, "JPEG", exif=Image.Exif()),
    "progressive JPEG": saved(GREY, "JPEG", progressive=True),
    "DICOM": stored(radiograph(SMALL, **WINDOW)),
    "deep implicit DICOM": stored(radiograph(SMALL.astype(np.uint16) * 16, bits=12), ImplicitVRLittleEndian),
    "big-endian DICOM": stored(radiograph(SMALL.astype(">u2"), bits=12, PixelData=b"\0" * 1536), ExplicitVRBigEndian),
    "JPEG in DICOM": compressed(SMALL, saved(GREY, "JPEG"), JPEGBaseline8Bit),
    "JPEG 2000 in DICOM": compressed(SMALL, saved(GREY, "JPEG2000", no_jp2=True), JPEG2000Lossless),
    "run lengths in DICOM": run_lengths(SMALL),
}


@pytest.mark.parametrize("name", SMALL_FILES)
def test_the_files_that_are_damaged_below_are_pictures_when_whole(process: DecodingProcess, name: str) -> None:
    outcome = process.decode(SMALL_FILES[name])
    assert (outcome.refusal, outcome.shape) == (None, [24, 32])


# Any bytes -----------------------------------------------------------------------------------------------------------

OFTEN = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x08\0\x05\0", bytes(128) + b"DICM", b"PK\x03\x04", b"GIF89a"]


@pytest.mark.fault
@OFTEN
@given(start=st.sampled_from(STARTS), rest=st.binary(min_size=1, max_size=600))
def test_random_bytes(process: DecodingProcess, start: bytes, rest: bytes) -> None:
    assert is_picture_or_refusal(process.decode(start + rest))


@pytest.mark.fault
@OFTEN
@given(
    data=st.sampled_from(list(SMALL_FILES.values())),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=6),
    cut=st.floats(0.01, 1),
    extra=st.binary(max_size=40),
)
def test_real_files_with_bytes_changed_cut_and_added(
    process: DecodingProcess, data: bytes, edits: list[tuple[float, bytes]], cut: float, extra: bytes
) -> None:
    changed = bytearray(data)
    for place, value in edits:
        start = int(place * (len(data) - 1))
        changed[start : start + len(value)] = value
    assert is_picture_or_refusal(process.decode(bytes(changed[: int(cut * len(changed)) + 1]) + extra))


SIDE = st.integers(0, 2**31 - 1) | st.integers(1, 9000) | st.sampled_from([1, 65535, 7071, 50_000_000])


@pytest.mark.fault
@settings(OFTEN, max_examples=60)
@given(
    width_px=SIDE,
    height_px=SIDE,
    bits=st.sampled_from([1, 2, 4, 8, 16, 7]),
    colour=st.sampled_from([0, 2, 3, 4, 6, 5]),
    interlace=st.booleans(),
    inflated=st.integers(0, 30_000_000),
)
def test_png_headers_that_claim_anything(
    process: DecodingProcess, width_px: int, height_px: int, bits: int, colour: int, interlace: bool, inflated: int
) -> None:
    data = png_of_zeros(width_px, height_px, bits, colour, int(interlace), inflated)
    assert is_picture_or_refusal(process.decode(data))


@pytest.mark.fault
@OFTEN
@given(
    name=st.sampled_from(["JPEG", "progressive JPEG", "JPEG in DICOM"]),
    height_px=st.integers(0, 65535),
    width_px=st.integers(0, 65535),
    components=st.integers(0, 255) | st.just(None),
)
def test_jpeg_headers_that_claim_anything(
    process: DecodingProcess, name: str, height_px: int, width_px: int, components: int | None
) -> None:
    data = bytearray(SMALL_FILES[name])
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[frame + 5 : frame + 9] = struct.pack(">HH", height_px, width_px)
    if components is not None:
        data[frame + 9] = components
    assert is_picture_or_refusal(process.decode(bytes(data)))


@pytest.mark.fault
@OFTEN
@given(
    name=st.sampled_from(["DICOM", "deep implicit DICOM", "JPEG 2000 in DICOM", "run lengths in DICOM"]),
    elements=st.dictionaries(
        st.sampled_from([0x0010, 0x0011, 0x0002, 0x0100, 0x0101, 0x0102, 0x0103, 0x0006]),
        st.integers(0, 65535) | st.integers(0, 17),
        min_size=1,
    ),
)
def test_dicom_headers_that_claim_anything(process: DecodingProcess, name: str, elements: dict[int, int]) -> None:
    """Rows, columns, samples, bits allocated and stored, high bit, sign, planes: any 16-bit number."""
    data = bytearray(SMALL_FILES[name])
    for element, value in elements.items():
        place = data.find(struct.pack("<HH", 0x0028, element))
        if place >= 0:
            data[place + 8 : place + 10] = struct.pack("<H", value)
    assert is_picture_or_refusal(process.decode(bytes(data)))


@pytest.mark.fault
@OFTEN
@given(sizes=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 64), min_size=8, max_size=8))
def test_jpeg_2000_headers_that_claim_anything(process: DecodingProcess, sizes: list[int]) -> None:
    """Size and offset of the picture and of its tiles."""
    data = bytearray(SMALL_FILES["JPEG 2000 in DICOM"])
    start = data.index(b"\xff\x4f\xff\x51") + 8
    for place, size in enumerate(sizes):
        if size % 3:  # some stay as they are, or no picture would pass the first check
            data[start + 4 * place : start + 4 * place + 4] = struct.pack(">I", size)
    assert is_picture_or_refusal(process.decode(bytes(data)))


# As large as may be --------------------------------------------------------------------------------------------------

SIDE_PX = 7071  # squared just within the limit of pixels


def blank(mode: str, side_px: int = SIDE_PX) -> Image.Image:
    return Image.new(mode, (side_px, side_px))


def zeros(dtype: str, side_px: int = SIDE_PX, samples: int = 1) -> np.ndarray:
    return np.zeros((side_px, side_px, samples) if samples > 1 else (side_px, side_px), dtype)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
YBR = RGB | {"PhotometricInterpretation": "YBR_FULL_422"}
LARGE_FILES = {
    "grey PNG": lambda: png_of_zeros(SIDE_PX, SIDE_PX, 8, 0, 0, SIDE_PX * (SIDE_PX + 1)),
    "deep interlaced PNG": lambda: png_of_zeros(SIDE_PX, SIDE_PX, 16, 0, 1, 2 * SIDE_PX * (SIDE_PX + 9)),
    "transparent PNG": lambda: png_of_zeros(SIDE_PX, SIDE_PX, 8, 6, 0, SIDE_PX * (4 * SIDE_PX + 1)),
    "deep transparent PNG": lambda: png_of_zeros(SIDE_PX, SIDE_PX, 16, 6, 0, SIDE_PX * (8 * SIDE_PX + 1)),
    "palette PNG": lambda: png_of_zeros(SIDE_PX, SIDE_PX, 8, 3, 0, SIDE_PX * (SIDE_PX + 1)),
    "wide PNG": lambda: png_of_zeros(20_000, 2500, 16, 6, 0, 2500 * 160_001),
    "high PNG": lambda: png_of_zeros(2500, 20_000, 8, 6, 0, 20_000 * 10_001),
    "turned colour JPEG": lambda: saved(blank("RGB"), "JPEG", exif=turned()),
    "progressive grey JPEG": lambda: saved(blank("L"), "JPEG", progressive=True),
    "progressive colour JPEG": lambda: saved(blank("RGB", 5000), "JPEG", progressive=True, subsampling=0),
    "16-bit DICOM": lambda: stored(radiograph(zeros("u2"))),
    "12-bit DICOM": lambda: stored(radiograph(zeros("u2"), bits=12, **WINDOW)),
    "signed DICOM": lambda: stored(radiograph(zeros("i2"), bits=12)),
    "colour DICOM": lambda: stored(radiograph(zeros("u1", 6600, 3), **RGB)),
    "subsampled colour DICOM": lambda: stored(
        radiograph(zeros("u1", 7070, 3), PixelData=bytes(2 * 7070 * 7070), **YBR)
    ),
    "run lengths in DICOM": lambda: run_lengths(zeros("u2")),
    "JPEG in DICOM": lambda: compressed(zeros("u1"), saved(blank("L"), "JPEG"), JPEGBaseline8Bit),
    "colour JPEG in DICOM": lambda: compressed(
        zeros("u1", 4470, 3), saved(blank("RGB", 4470), "JPEG"), JPEGBaseline8Bit, **YBR
    ),
    "JPEG 2000 in DICOM": lambda: compressed(
        zeros("u2", 4470), saved(blank("I;16", 4470), "JPEG2000", no_jp2=True, irreversible=False), JPEG2000Lossless
    ),
    "colour JPEG 2000 in DICOM": lambda: compressed(
        zeros("u1", 2580, 3),
        saved(blank("RGB", 2580), "JPEG2000", no_jp2=True, irreversible=False),
        JPEG2000Lossless,
        **RGB | {"PhotometricInterpretation": "YBR_RCT"},
    ),
}


@pytest.fixture(scope="module")
def process_of_large_files() -> Iterator[DecodingProcess]:
    """One that decoded nothing else: what thousands of random files leave behind in a process differs each time."""
    started = DecodingProcess()
    yield started
    started.close()


@pytest.mark.parametrize("name", LARGE_FILES)
def test_the_largest_pictures_are_decoded_within_the_limit(process_of_large_files: DecodingProcess, name: str) -> None:
    outcome = process_of_large_files.decode(LARGE_FILES[name]())
    assert outcome.refusal is None
    assert is_picture_or_refusal(outcome)


@pytest.mark.parametrize("syntax", [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless])
def test_the_largest_lossless_jpegs_are_decoded_within_the_limit(tmp_path: Path, syntax: int) -> None:
    """Together with the process of its own that decodes them; of noise, which no encoding makes small.

    Asked of a fresh process: one that decoded others before still holds some 100 MB of theirs.
    """
    noise = np.random.default_rng(1).integers(0, 2**16, (4470, 4470)).astype(np.uint16)
    (tmp_path / "plain.dcm").write_bytes(stored(radiograph(noise)))
    recompress(tmp_path / "plain.dcm", tmp_path / "compressed.dcm", syntax)
    process = DecodingProcess()
    outcome = process.decode((tmp_path / "compressed.dcm").read_bytes())
    process.close()
    assert outcome.refusal is None
    assert is_picture_or_refusal(outcome)


BEYOND = {
    "progressive colour JPEG": lambda: saved(blank("RGB", 5010), "JPEG", progressive=True, subsampling=0),
    "JPEG 2000 in DICOM": lambda: compressed(
        zeros("u1", 4480), saved(blank("L", 4480), "JPEG2000", no_jp2=True), JPEG2000Lossless
    ),
    "colour JPEG in DICOM": lambda: compressed(
        zeros("u1", 4480, 3), saved(blank("RGB", 4480), "JPEG"), JPEGBaseline8Bit, **YBR
    ),
    "PNG": lambda: png_of_zeros(7072, 7072, 8, 0, 0, 7072 * 7073),
    "PNG of one row": lambda: png_of_zeros(50_000_000, 1, 8, 6, 0, 200_000_001),
    "DICOM of one column": lambda: stored(radiograph(np.zeros((65_535, 2), np.uint8))),
}


@pytest.mark.parametrize("name", BEYOND)
def test_beyond_the_limit_nothing_is_decoded(process: DecodingProcess, name: str) -> None:
    data = BEYOND[name]()
    before = process.decode(SMALL_FILES["DICOM"])
    outcome = process.decode(data)
    assert outcome.refusal is not None
    assert "exceeds the limit" in outcome.refusal
    assert outcome.peak_mb < before.peak_mb + 10


def test_the_measure_sees_what_a_decoder_takes() -> None:
    """Or the bounds above would say nothing: a fresh process, first small and then large."""
    fresh = DecodingProcess()
    small = fresh.decode(SMALL_FILES["grey PNG"]).peak_mb
    large = fresh.decode(LARGE_FILES["transparent PNG"]()).peak_mb
    after = fresh.decode(SMALL_FILES["grey PNG"]).peak_mb
    fresh.close()
    assert large - small > 4 * SIDE_PX**2 / 2**20
    assert after < large / 2
