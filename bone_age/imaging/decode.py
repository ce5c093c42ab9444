"""Bytes to a grey picture: PNG, JPEG or DICOM, recognised by content and not by name.

Files come from strangers. Size limits are checked on the header before a pixel is decoded, and whatever is wrong ends
as one `ImageError`. Pillow decodes PNG and JPEG rather than OpenCV: it reads the header alone, refuses truncated
files where OpenCV fills up with grey, and prints nothing. The few formats that no radiograph comes in (CMYK, several
frames) are refused rather than guessed at.
"""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from bone_age.imaging.grey import (
    BLOCK_PIXELS,
    MAX_PIXELS,
    GreyImage,
    ImageError,
    ImageTooLargeError,
    UnknownFormatError,
    check_size,
)

MAX_FILE_BYTES = 128 * 1024**2  # `MAX_PIXELS` uncompressed 16-bit pixels and their header
MAX_JPEG_SCANS = 32  # progressive encoders write about ten; each scan costs a pass over the whole picture

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_START_OF_SCAN = b"\xff\xda"
_UPRIGHT: dict[int, Callable[[GreyImage], npt.NDArray[Any]]] = {  # what undoes each orientation of EXIF
    2: np.fliplr,
    3: lambda grey: np.rot90(grey, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda grey: np.rot90(grey, -1),
    7: lambda grey: np.rot90(grey.T, 2),
    8: np.rot90,
}

# Remarks on odd metadata are of no use to the reader of a radiograph, and `catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: Path) -> GreyImage:
    """Read a radiograph from a file.

    Returns:
        `[H, W]` grey, as `decode_image`.
    Raises:
        ImageError: The file is absent, not a regular file, unreadable, empty, too large or no image; names the path.
    """
    data = read_file(path)
    try:
        return decode_image(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def read_file(path: Path) -> bytes:
    """A file's bytes, of too large a one no more than `decode_image` needs to refuse it.

    Raises:
        ImageError: The file is absent, not a regular file, or unreadable; names the path.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # ImageError, or a path with a NUL
        raise ImageError(f"{path}: {error}".replace("\0", "\\0")) from None


def decode_image(data: bytes) -> GreyImage:
    """Decode a PNG, JPEG or DICOM file to grey levels.

    Colour becomes luminance, transparency is laid over black, and the orientation noted in EXIF is applied. Of an
    animated PNG the first frame is taken. DICOM is presented as its header says (`bone_age.imaging.dicom`).

    Returns:
        `[H, W]`, uint8, or uint16 where the file holds more than 8 bits; larger is brighter.
    Raises:
        ImageError: The bytes are no such image, are damaged or truncated, or exceed `MAX_PIXELS`, `MAX_FILE_BYTES`.
    """
    kind = _recognise(data)
    try:
        if kind == "DICOM":
            from bone_age.imaging.dicom import decode_dicom  # not needed, and not loaded, for PNG and JPEG

            return decode_dicom(data)
        return _decode_with_pillow(data, kind)
    except ImageError:
        raise
    except OSError as error:
        reason = "is truncated" if "truncated" in str(error) else "is damaged and cannot be decoded"
        raise ImageError(f"{kind} {reason}") from None
    except Exception:  # parsers of hostile bytes raise what they like: SyntaxError, struct.error, MemoryError, ...
        raise ImageError(f"{kind} is damaged and cannot be decoded") from None


def is_dicom(data: bytes) -> bool:
    """Whether a file's content is taken for DICOM, with or without the 128-byte preamble."""
    if data.startswith((_PNG_SIGNATURE, _JPEG_SIGNATURE)):
        return False
    # without a preamble it starts with an element of group 0002 or 0008
    return data[128:132] == b"DICM" or (data[:2] in (b"\x02\x00", b"\x08\x00") and data[3:4] == b"\x00")


def _recognise(data: bytes) -> Literal["PNG", "JPEG", "DICOM"]:
    if not data:
        raise ImageError("file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLargeError(f"file exceeds the limit of {MAX_FILE_BYTES // 1024**2} MiB")
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(_JPEG_SIGNATURE):
        return "JPEG"
    if is_dicom(data):
        return "DICOM"
    raise UnknownFormatError("is not a PNG, JPEG or DICOM file")


def _decode_with_pillow(data: bytes, kind: Literal["PNG", "JPEG"]) -> GreyImage:
    scans = _scans(data) if kind == "JPEG" else 1
    if scans > MAX_JPEG_SCANS:
        raise ImageError(f"JPEG has more than {MAX_JPEG_SCANS} scans")
    # The plug-ins themselves, not Image.open: it warns about large pictures where we refuse them.
    opener: type[ImageFile] = PngImageFile if kind == "PNG" else JpegImageFile
    with opener(io.BytesIO(data)) as image:
        check_size(image.height, image.width)
        # scans are kept until the last is there
        if scans > 1 and image.mode != "L" and image.height * image.width > MAX_PIXELS // 2:
            raise ImageTooLargeError("colour JPEG in several scans exceeds the limit of 25 megapixels")
        image.load()
        orientation = 1
        with contextlib.suppress(Exception):  # EXIF that cannot be read turns nothing
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        grey = _to_grey(image)
    return np.ascontiguousarray(_UPRIGHT[orientation](grey)) if orientation in _UPRIGHT else grey


def _scans(data: bytes) -> int:
    """How many scans a JPEG has; those of a thumbnail within its header do not count."""
    position = 2
    while data[position : position + 1] == b"\xff" and data[position : position + 2] != _JPEG_START_OF_SCAN:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.count(_JPEG_START_OF_SCAN, position)


def _to_grey(image: Image.Image) -> GreyImage:
    """Convert a few rows at a time: Pillow has four bytes a pixel for colours, and would copy them at every step."""
    if image.mode == "CMYK":
        raise ImageError("CMYK JPEG is not supported; save it in grey or RGB")
    is_deep = image.mode.startswith("I")  # 16-bit PNG; older Pillow widens it to 32 bits
    grey = np.empty((image.height, image.width), np.uint16 if is_deep else np.uint8)
    rows = max(BLOCK_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        grey[top : top + rows] = np.asarray(strip if is_deep else _luminance(strip))
    return grey


def _luminance(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, (0, 0, 0, 255)), colours).convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    return image.convert("L")
