"""Any bytes become a grey picture or one `ImageError`; nothing else, and never at the price of memory."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from bone_age.imaging import ImageError, decode_image, read_image
from bone_age.imaging.decode import MAX_FILE_BYTES
from bone_age.imaging.grey import MAX_PIXELS

# pytest sets its own filters; that nothing is printed outside it is tested below.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::UserWarning:pydicom")

GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
DEEP = (np.arange(24 * 32, dtype=np.uint16) * 85).reshape(24, 32)


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width_px: int, height_px: int, body: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_grey_png_keeps_every_level() -> None:
    assert np.array_equal(decode_image(png(Image.fromarray(GREY))), GREY)


def test_16_bit_png_keeps_every_level() -> None:
    decoded = decode_image(png(Image.fromarray(DEEP)))
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, DEEP)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_as_colour_keeps_every_level(mode: str) -> None:
    assert np.array_equal(decode_image(png(Image.fromarray(GREY).convert(mode))), GREY)


def test_colour_becomes_luminance() -> None:
    colours = Image.new("RGB", (20, 20), (255, 0, 0))
    assert np.unique(decode_image(png(colours))).tolist() == [76]  # 0.299 * 255, ITU-R BT.601


def test_one_bit_png_is_black_and_white() -> None:
    checked = Image.fromarray((np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)).convert("1")
    assert np.unique(decode_image(png(checked))).tolist() == [0, 255]


def test_transparency_lies_over_black() -> None:
    colours = np.full((16, 16, 4), 200, np.uint8)
    colours[:8, :, 3], colours[8:, :, 3] = 0, 255
    decoded = decode_image(png(Image.fromarray(colours)))
    assert np.unique(decoded[:8]).tolist() == [0]
    assert np.unique(decoded[8:]).tolist() == [200]


def test_palette_with_a_transparent_colour_lies_over_black() -> None:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([255, 255, 255, 90, 90, 90])
    picture.paste(1, (0, 0, 16, 8))
    decoded = decode_image(png(picture, transparency=0))
    assert np.unique(decoded[:8]).tolist() == [90]
    assert np.unique(decoded[8:]).tolist() == [0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_is_decoded(options: dict[str, object]) -> None:
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    decoded = decode_image(jpeg(Image.fromarray(smooth), **options))
    assert decoded.shape == (48, 64)
    assert np.abs(decoded.astype(int) - smooth).max() <= 3


def test_jpeg_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored picture has to be turned clockwise
    picture = np.zeros((16, 32), np.uint8)
    picture[:, 16:] = 255  # bright on the right, so at the bottom after a clockwise turn
    decoded = decode_image(jpeg(Image.fromarray(picture), exif=exif))
    assert decoded.shape == (32, 16)
    assert decoded[:12].max() < 20
    assert decoded[20:].min() > 235


def test_exif_that_cannot_be_read_does_not_matter() -> None:
    broken = jpeg(Image.fromarray(GREY), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decode_image(broken).shape == GREY.shape


def test_of_an_animated_png_the_first_frame_is_taken() -> None:
    frames = [Image.fromarray(np.full((16, 16), level, np.uint8)) for level in (10, 200)]
    assert np.unique(decode_image(png(frames[0], save_all=True, append_images=frames[1:]))).tolist() == [10]


def test_format_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "hand.jpg"
    path.write_bytes(png(Image.fromarray(GREY)))
    assert np.array_equal(read_image(path), GREY)


def test_one_pixel_is_decoded() -> None:
    assert decode_image(png(Image.fromarray(np.array([[7]], np.uint8)))).tolist() == [[7]]


def test_cmyk_is_refused() -> None:
    with pytest.raises(ImageError, match="CMYK"):
        decode_image(jpeg(Image.new("CMYK", (16, 16))))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_other_formats_are_refused(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, kind)
    with pytest.raises(ImageError, match="is not a PNG, JPEG or DICOM file"):
        decode_image(file.getvalue())


@pytest.mark.parametrize("encode", [png, jpeg])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(encode: object, kept: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    whole = encode(Image.fromarray(noise))  # type: ignore[operator]
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        decode_image(whole[: int(len(whole) * kept)])


def test_bomb_is_refused_by_its_header_and_costs_no_memory() -> None:
    bomb = png_claiming(10_000, 10_000)
    tracemalloc.start()
    with pytest.raises(ImageError, match="10000x10000 pixels exceeds the limit of 50 megapixels"):
        decode_image(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_real_bomb_does_not_grow_the_process() -> None:
    """A hundred black megapixels in 100 kB; a child of its own, because the peak of a process never falls."""
    code = """
import io, resource, sys, zlib
from bone_age.imaging import ImageError, decode_image
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(data)
except ImageError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    packer, rows = zlib.compressobj(), b"\0" * 10_001 * 100
    packed = b"".join(packer.compress(rows) for _ in range(100)) + packer.flush()
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    run = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, check=True)
    assert int(run.stdout) < 10_000  # kB


def test_jpeg_bomb_is_refused_by_its_header() -> None:
    whole = bytearray(jpeg(Image.fromarray(GREY)))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(ImageError, match="exceeds the limit"):
        decode_image(bytes(whole))


def test_text_chunk_bomb_is_refused_or_ignored() -> None:
    compressed = zlib.compress(b"\0" * 200_000_000)
    bomb = png_claiming(16, 16, chunk(b"zTXt", b"Comment\0\0" + compressed))
    tracemalloc.start()
    with pytest.raises(ImageError):
        decode_image(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_jpeg_of_many_scans_is_refused() -> None:
    with pytest.raises(ImageError, match="scans"):
        decode_image(jpeg(Image.fromarray(GREY), progressive=True) + b"\xff\xda" * 40)


def test_large_text_in_a_sound_png_does_not_matter() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 500_000, zip=True)
    assert np.array_equal(decode_image(png(Image.fromarray(GREY), pnginfo=text)), GREY)


def test_limit_lets_the_largest_detectors_pass() -> None:
    assert MAX_PIXELS > 2 * 4_800 * 5_200 * 0.99


def test_too_large_a_file_is_refused() -> None:
    with pytest.raises(ImageError, match="file exceeds the limit of 128 MiB"):
        decode_image(bytes(MAX_FILE_BYTES + 1))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "file is empty"), (b"id,boneage,male\n1,180,False\n", "is not a PNG, JPEG or DICOM")]
)
def test_files_without_an_image_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hand.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as refusal:
        read_image(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_absent_files_folders_and_pipes_are_refused_by_name(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # opening one would wait for ever
    for path, message in ((tmp_path / "none.png", "no such file"), (tmp_path, "is a folder"), (pipe, "regular")):
        with pytest.raises(ImageError, match=message) as refusal:
            read_image(path)
        assert str(path) in str(refusal.value)
    with pytest.raises(ImageError):
        read_image(Path("a\0b.png"))
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / ("x" * 300 + ".png"))


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root reads every file, so it becomes somebody else for the length of a test."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield
    if was_root:
        os.seteuid(0)


def test_file_without_permission_is_refused_by_name(unprivileged: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hand.png"
        path.write_bytes(png(Image.fromarray(GREY)))
        path.chmod(0)
        with pytest.raises(ImageError, match=r"hand\.png: cannot be read: Permission denied"):
            read_image(path)


def is_picture_or_refusal(data: bytes) -> bool:
    """Grey levels [H, W], or an error of one line; anything else that is raised fails the test."""
    try:
        decoded = decode_image(data)
    except ImageError as error:
        return re.fullmatch(r".+", str(error)) is not None
    return decoded.ndim == 2 and decoded.size > 0 and decoded.dtype in (np.uint8, np.uint16)


@pytest.mark.fault
@settings(deadline=None)
@given(
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x08\0\x05\0"]), rest=st.binary(max_size=300)
)
def test_arbitrary_bytes_are_a_picture_or_a_refusal(start: bytes, rest: bytes) -> None:
    assert is_picture_or_refusal(start + rest)


VALID = {
    "png": png(Image.fromarray(GREY)),
    "16-bit png": png(Image.fromarray(DEEP)),
    "palette png": png(Image.fromarray(GREY).convert("P")),
    "jpeg": jpeg(Image.fromarray(GREY)),
    "progressive jpeg": jpeg(Image.fromarray(GREY), progressive=True, exif=Image.Exif()),
}


@pytest.mark.fault
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(
    data=st.sampled_from(list(VALID.values())),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0, 1) | st.none(),
)
def test_mutated_files_are_a_picture_or_a_refusal(
    data: bytes, edits: list[tuple[float, int]], cut: float | None
) -> None:
    mutated = bytearray(data)
    for place, value in edits:
        mutated[int(place * (len(mutated) - 1))] = value
    assert is_picture_or_refusal(bytes(mutated[: int(cut * len(mutated))] if cut is not None else mutated))


def test_nothing_is_printed_about_damaged_files(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from bone_age.imaging import ImageError, decode_image
for path in Path(sys.argv[1]).iterdir():
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        try:
            decode_image(data[:place] + b"\\xee\\x00" + data[place + 2 :])
        except ImageError:
            pass
"""
    for name, data in VALID.items():
        (tmp_path / name).write_bytes(data)
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert run.stdout + run.stderr == b""
