"""Decode the pixels of one DICOM file with GDCM, as a program: file on stdin, NumPy array on stdout.

GDCM is the one decoder here for lossless JPEG and JPEG-LS, and it ends the process (C++ `terminate`) on
some damaged files and writes to stderr on others. In a process of its own it costs about a second an image and harms
nobody. It is started by its path, so that it imports nothing of the package.
"""

from __future__ import annotations

import io
import sys

import numpy as np
import pydicom


def main() -> None:
    header = pydicom.dcmread(io.BytesIO(sys.stdin.buffer.read()))
    header.pixel_array_options(decoding_plugin="gdcm")
    pixels = np.ascontiguousarray(header.pixel_array)
    np.lib.format.write_array_header_2_0(sys.stdout.buffer, np.lib.format.header_data_from_array_1_0(pixels))
    sys.stdout.buffer.write(pixels.data)


if __name__ == "__main__":
    main()
