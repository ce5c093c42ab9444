"""Write one DICOM file anew without compression, with GDCM, as a program: the names of the file and of the new one.

GDCM is the one decoder here for lossless JPEG and JPEG-LS, and it ends the process (C++ `terminate`) on some damaged
files and writes to stderr on others. In a process of its own it costs half a second an image and harms nobody. Files
are handed over by name because GDCM gives pixels to Python as text, which takes up to twelve times their size.
"""

from __future__ import annotations

import sys

import gdcm


def main(compressed: str, plain: str) -> None:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(compressed)
    if not reader.Read():
        sys.exit("cannot be read")
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    change.SetInput(reader.GetImage())
    if not change.Change():
        sys.exit("cannot be decoded")
    writer.SetFileName(plain)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        sys.exit("cannot be written")


if __name__ == "__main__":
    main(*sys.argv[1:])
