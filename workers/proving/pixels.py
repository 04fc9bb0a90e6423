"""Proof of what lies in one object alone: Pixel Data and an enclosed document are as long as the header says."""

from collections.abc import Iterator

from pydicom import Dataset

from workers.proving.proof import Contradiction

PDF_TYPE = "application/pdf"
PDF_BEGIN = b"%PDF-"
# Two pixels share their color, so that the length is another one (PS3.3 C.7.6.3.1.2).
SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


def prove_pixel_length(ds: Dataset) -> Iterator[Contradiction]:
    """Yield what is wrong with the length of Pixel Data (7FE0,0010); encapsulated ones tell theirs when decoded.

    References
    ----------
    DICOM PS3.5 8.1.1, PS3.3 C.7.6.3.1
    """
    pixels = ds.get("PixelData")
    if not pixels:
        yield Contradiction(thing="Pixel Data", expected="pixels", found="none", remedy="Write the object again.")
        return
    is_compressed = ds.file_meta.TransferSyntaxUID.is_encapsulated
    if is_compressed or ds.get("PhotometricInterpretation") in SUBSAMPLED:
        return
    frames, samples = int(ds.get("NumberOfFrames") or 1), int(ds.get("SamplesPerPixel") or 1)
    bits = frames * samples * int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated)
    expected = (bits + 7) // 8
    if len(pixels) not in (expected, expected + expected % 2):
        yield Contradiction(
            thing="Pixel Data",
            expected=f"{expected + expected % 2} bytes for {frames} frames of {ds.Rows} x {ds.Columns}",
            found=f"{len(pixels)} bytes",
            remedy="Rows, Columns, Number of Frames or the pixels are wrong; write the object again.",
        )


def prove_document(ds: Dataset) -> Iterator[Contradiction]:
    """Yield what is wrong with an Encapsulated PDF.

    References
    ----------
    DICOM PS3.3 A.45.1, C.24.2
    """
    document = bytes(ds.get("EncapsulatedDocument") or b"")
    if ds.get("MIMETypeOfEncapsulatedDocument") != PDF_TYPE or not document.startswith(PDF_BEGIN):
        yield Contradiction(
            thing="Encapsulated Document",
            expected=f"a PDF, and {PDF_TYPE} as its MIME type",
            found="another type, or bytes that are no PDF",
            remedy="Enclose the document again.",
        )
    length = ds.get("EncapsulatedDocumentLength")
    if length is not None and not len(document) - 1 <= int(length) <= len(document):
        yield Contradiction(
            thing="Encapsulated Document Length",
            expected=f"{len(document)} bytes",
            found=f"{length} bytes",
            remedy="The document is cut, or its length is wrong; enclose it again.",
        )
