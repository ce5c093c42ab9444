"""DICOM radiographs to grey levels, as the file's header says they are to be shown.

The order is the standard's (DICOM PS3.4, N.2): modality LUT or rescale, VOI LUT or the first window, then the
inversion that MONOCHROME1 asks for. It is applied to a table of the stored values instead of to the pixels, so the
work and memory do not grow with floating-point copies of the picture. A window that cannot be used is passed over:
the whole range is kept then, and nothing is lost. Messages never quote text of the header, where names are.
"""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_windowing, convert_color_space
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from bone_age.imaging.grey import BLOCK_PIXELS, GreyImage, ImageError, ImageTooLargeError, check_size

Levels = npt.NDArray[np.float64]  # modality values, or display values
ToGrey = Callable[[npt.NDArray[np.generic]], GreyImage]  # some rows, [H, W] or [H, W, 3], to [H, W]

# The decoder of each compressed encoding that is decoded here; all others are left to GDCM.
_DECODED_IN_PROCESS = {
    JPEGBaseline8Bit: "pillow",
    JPEG2000Lossless: "pillow",
    JPEG2000: "pillow",
    RLELossless: "pydicom",
}
_GDCM_TIMEOUT_S = 120
_PIXEL_ELEMENTS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)
_GREY_OR_PALETTE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_PREAMBLE_BYTES = 132
_MAX_RLE_BYTES = 16 * 1024**2  # runs may expand 64-fold, and nothing says so before they do
_MAX_SAMPLES = 20_000_000  # of compressed encodings, whose decoders hold a picture several times or in wide numbers
_MAX_JPEG_SAMPLES = 60_000_000
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as for PNG and JPEG
# Start-of-frame markers of JPEG (without DHT, JPG and DAC, which lie among them) and of JPEG-LS.
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}

# Remarks on odd metadata (see decode.py); pydicom's quote it, so they must not reach a log either.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def decode_dicom(data: bytes) -> GreyImage:
    """Decode a single-frame DICOM image.

    Returns:
        `[H, W]`, larger is brighter. uint8 for up to 8 stored bits; uint16 for more, with the window (or without one
        the values present) spread over its range.
    Raises:
        ImageError: No usable picture: no or several frames, missing elements, wrong lengths, too large, or an
            encoding that is not supported. Other exceptions of pydicom may escape on damaged files; `decode_image`
            turns them into `ImageError`.
    """
    header = read_header(data)
    _complete(header)
    _check_before_decoding(header)
    try:
        stored, colours = _stored_pixels(header)
    except Exception:  # pydicom's own messages may quote the header
        raise ImageError("DICOM pixel data is damaged, incomplete or encoded in an unknown way") from None
    header.PixelData = None  # as large as what is yet to come
    if colours == "PALETTE COLOR":
        return _in_blocks(stored, lambda rows: _luminance(apply_color_lut(rows, header)))
    if stored.ndim == 3 and colours.startswith("YBR_FULL"):
        return _in_blocks(stored, lambda rows: _luminance(convert_color_space(rows, "YBR_FULL", "RGB")))
    return _in_blocks(stored, _luminance if stored.ndim == 3 else _presentation_of(stored, header))


def _in_blocks(stored: npt.NDArray[np.generic], to_grey: Callable[[npt.NDArray[np.generic]], GreyImage]) -> GreyImage:
    rows = max(BLOCK_PIXELS // stored.shape[1], 1)
    grey: GreyImage = np.empty(stored.shape[:2], to_grey(stored[:1]).dtype)
    for top in range(0, len(stored), rows):
        grey[top : top + rows] = to_grey(stored[top : top + rows])
    return grey


def read_header(data: bytes, **options: Any) -> Dataset:
    """Read a file's elements; `options` as for `pydicom.dcmread`.

    Raises:
        ImageError: It is deflated. Other exceptions of pydicom may escape on damaged files.
    """
    has_preamble = data[128:_PREAMBLE_BYTES] == b"DICM"
    file = io.BytesIO(data)
    file.seek(_PREAMBLE_BYTES if has_preamble else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    # A deflated data set would be inflated whole, without a limit, before the first element could be judged.
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise ImageError("deflated DICOM is not supported")
    return pydicom.dcmread(io.BytesIO(data), force=not has_preamble, **options)


def _complete(header: Dataset) -> None:
    """Add what writers leave out and the standard, or the file itself, leaves no doubt about.

    Raises:
        ImageError: An element is missing that cannot be inferred.
    """
    if "PixelData" not in header:
        raise ImageError("DICOM file holds no integer pixel data")
    for name in ("Rows", "Columns", "BitsAllocated"):
        if not isinstance(header.get(name), int):
            raise ImageError(f"DICOM element {name} is missing or not a number")
    _set_absent(header, "SamplesPerPixel", 1)
    _set_absent(header, "PhotometricInterpretation", "MONOCHROME2" if header.SamplesPerPixel == 1 else "RGB")
    _set_absent(header, "PixelRepresentation", 0)
    _set_absent(header, "BitsStored", header.BitsAllocated)
    _set_absent(header, "HighBit", header.BitsStored - 1)
    if header.SamplesPerPixel != 1:
        _set_absent(header, "PlanarConfiguration", 0)
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little_endian = header.original_encoding
        explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _set_absent(header: Dataset, name: str, value: int | str) -> None:
    if header.get(name) in (None, ""):
        setattr(header, name, value)


def _check_before_decoding(header: Dataset) -> None:
    check_size(header.Rows, header.Columns)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"DICOM file holds {frames} frames; a single radiograph is expected")
    if header.BitsAllocated > 16:
        raise ImageError(f"DICOM pixels of {header.BitsAllocated} bits are not supported")
    if header.SamplesPerPixel == 1 and header.PhotometricInterpretation not in _GREY_OR_PALETTE:
        raise ImageError("DICOM photometric interpretation is not supported")
    syntax = header.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and header.BitsStored > 8:  # GDCM decodes it, wrongly
        raise ImageError("lossy JPEG of 12 bits within DICOM is not supported; store it without loss")
    if syntax == RLELossless:
        if len(header.PixelData) > _MAX_RLE_BYTES:
            raise ImageError(f"run-length encoded DICOM exceeds the limit of {_MAX_RLE_BYTES // 1024**2} MiB")
    elif syntax.is_compressed:
        samples = header.Rows * header.Columns * header.SamplesPerPixel
        most = _MAX_JPEG_SAMPLES if syntax == JPEGBaseline8Bit else _MAX_SAMPLES
        if samples > most:
            raise ImageTooLargeError(f"DICOM of this encoding exceeds the limit of {most // 10**6} million samples")
        frame = next(generate_frames(header.PixelData, number_of_frames=1))
        if _codestream_shape(frame) != (header.Rows, header.Columns, header.SamplesPerPixel):
            raise ImageError("DICOM pixel data is of another shape than the header says, or encoded in an unknown way")


def _stored_pixels(header: Dataset) -> tuple[npt.NDArray[np.generic], str]:
    """Decode the pixel data: `[H, W]`, or `[H, W, 3]` for colour, and the photometric interpretation it is in now.

    Damaged data raises whatever its decoder raises.
    """
    syntax, said = header.file_meta.TransferSyntaxUID, header.PhotometricInterpretation
    if not syntax.is_compressed:
        options: dict[str, Any] = {"view_only": True}
    elif syntax in _DECODED_IN_PROCESS:
        options = {"decoding_plugin": _DECODED_IN_PROCESS[syntax]}
    else:
        header, syntax, options = _decompressed_with_gdcm(header), ExplicitVRLittleEndian, {"view_only": True}
    pixels, found = get_decoder(syntax).as_array(header, index=0, raw=True, **options)
    return pixels, said if pixels.ndim == 2 else str(found["photometric_interpretation"])


def _decompressed_with_gdcm(header: Dataset) -> Dataset:
    """Decode in a process of its own (why: gdcm_process.py), which is given nothing that tells of the patient."""
    pixels = Dataset()
    for name in _PIXEL_ELEMENTS:
        if name in header:
            pixels.add(copy(header[name]))
    pixels.SOPClassUID, pixels.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2"  # GDCM reads no image without
    if pixels.SamplesPerPixel == 1:
        pixels.PhotometricInterpretation = "MONOCHROME2"  # of a palette it would ask for the colours
    pixels["PixelData"].is_undefined_length = True
    pixels.preamble, pixels.file_meta = bytes(128), FileMetaDataset()
    pixels.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    with tempfile.TemporaryDirectory(prefix="bone-age-") as folder:
        compressed, plain = Path(folder, "compressed.dcm"), Path(folder, "plain.dcm")
        pydicom.dcmwrite(compressed, pixels, enforce_file_format=True)
        del pixels
        header.PixelData = None
        command = [sys.executable, "-P", str(Path(__file__).with_name("gdcm_process.py")), str(compressed), str(plain)]
        subprocess.run(command, capture_output=True, check=True, timeout=_GDCM_TIMEOUT_S)
        return pydicom.dcmread(plain)


def _codestream_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Height, width and components that a JPEG, JPEG-LS or JPEG 2000 frame says it has.

    Compared with the DICOM header, whose size was checked, so that a small header cannot hide a bomb.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 256)  # JPEG 2000: start of codestream, then its size
    if start >= 0:
        x1, y1, x0, y0 = struct.unpack_from(">4I", frame, start + 8)
        (components,) = struct.unpack_from(">H", frame, start + 40)
        return y1 - y0, x1 - x0, components
    position = 2
    while frame[:2] == b"\xff\xd8" and position + 10 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker in _JPEG_FRAME_HEADERS:
            height_px, width_px, components = struct.unpack_from(">2HB", frame, position + 5)
            return height_px, width_px, components
        position += 1 if marker == 0xFF else 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _luminance(colours: npt.NDArray[np.generic]) -> GreyImage:
    if colours.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"DICOM colour pixels of type {colours.dtype} are not supported")
    grey = np.asarray(np.rint(colours[..., :3].astype(np.float32) @ _LUMINANCE))
    return grey.astype(np.uint8) if colours.dtype == np.uint8 else grey.astype(np.uint16)


def _presentation_of(stored: npt.NDArray[np.generic], header: Dataset) -> ToGrey:
    """What maps stored values to grey levels: a table over all values between their extremes."""
    lowest, highest = int(stored.min()), int(stored.max())
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        grey = _presentation(np.arange(lowest, highest + 1, dtype=np.int32), header)
    table = np.rint(grey * 255).astype(np.uint8) if header.BitsStored <= 8 else np.rint(grey * 65535).astype(np.uint16)

    def to_grey(rows: npt.NDArray[np.generic]) -> GreyImage:
        shown: GreyImage = table[rows.astype(np.int32) - lowest]
        return shown

    return to_grey


def _presentation(values: npt.NDArray[np.int32], header: Dataset) -> Levels:
    """Grey level, 0 black to 1 white, of each stored value; `[n]` to `[n]`."""
    modality = _modality(values, header)
    shown, low, high = _windowed(modality, header) or (modality, modality.min(), modality.max())
    if shown is modality and header.BitsStored <= 8:  # keeps its levels, as a PNG of the same picture would
        low, high = np.sort(_modality(_storable_range(header), header))
    grey: Levels = np.clip((shown - low) / (high - low if high != low else 1), 0, 1)
    if not np.isfinite(grey).all():
        raise ImageError("DICOM rescale or window gives values that are not finite")
    return 1 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _modality(values: npt.NDArray[np.int32], header: Dataset) -> Levels:
    if header.get("ModalityLUTSequence"):
        return _look_up(values, header.ModalityLUTSequence[0])[0]
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return values.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)


def _windowed(modality: Levels, header: Dataset) -> tuple[Levels, float, float] | None:
    """Display values with the darkest and brightest possible one; None where no usable window is given."""
    if header.get("VOILUTSequence"):
        return _look_up(modality, header.VOILUTSequence[0])
    if header.get("WindowCenter") is None or header.get("WindowWidth") is None:
        return None
    try:
        low, high = apply_windowing(np.array([-1e9, 1e9]), header)
        return apply_windowing(modality, header), low, high
    except (ValueError, TypeError):  # width below 1, unknown function, centre or width not a number
        return None


def _look_up(values: npt.NDArray[np.int32] | Levels, table: Dataset) -> tuple[Levels, float, float]:
    """Apply a modality or VOI LUT (PS3.3 C.11.1.1, C.11.2.1.1); also its lowest and highest entry.

    Not pydicom's functions: with 8-bit entries they let indices above 255 wrap around (3.0.2).
    """
    entries, first, _bits = table.LUTDescriptor
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) <= (entries or 2**16) + 1 else "<u2")
    levels = np.asarray(data, np.float64)[: entries or 2**16]
    index = np.clip(np.rint(values) - first, 0, len(levels) - 1).astype(np.int64)
    return levels[index], levels.min(), levels.max()


def _storable_range(header: Dataset) -> npt.NDArray[np.int32]:
    lowest = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
    return np.array([lowest, lowest + 2**header.BitsStored - 1], np.int32)
