"""DICOM files of synthetic pictures, with a patient's name that must not come out of them."""

from __future__ import annotations

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

PATIENT = "Doe^Jane"


def radiograph(pixels: np.ndarray, bits: int | None = None, **elements: object) -> Dataset:
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    header.PatientName, header.PatientID = PATIENT, "4711"
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = pixels.dtype.itemsize * 8
    header.BitsStored = bits or header.BitsAllocated
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(header, name, value)
    return header


def stored(header: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


def recompress(plain: Path, out: Path, syntax: int) -> None:
    """Write a file anew in another encoding, a `gdcm.TransferSyntax`, with GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
