"""A page becomes a PDF of one A4 sheet: the picture, and its words unseen on top so that they can be searched."""

import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from workers.drawing.canvas import MINUS, Drawing, Written

# A4 across, in points (1/72 inch).
SHEET_PT = (841.89, 595.28)
# Widths of the page's letters to those of Helvetica, in percent: the unseen words cover the seen ones.
LETTER_WIDTH = 112
UP_FILTER = 2  # each byte is the difference from the row above (PNG); rows of a page are much alike


def write_pdf(drawing: Drawing, *, title: str, created_at: datetime) -> bytes:
    """Return the PDF; the same page and time give the same bytes.

    Parameters
    ----------
    title
        Title of the document, Latin letters.
    created_at
        UTC; the clock is not asked.

    References
    ----------
    ISO 32000-1 7.5 (file structure), 9.3.6 (text rendering mode 3 shows nothing)
    """
    rows, columns, _ = drawing.pixels.shape
    scale = min(SHEET_PT[0] / columns, SHEET_PT[1] / rows)
    corner = ((SHEET_PT[0] - columns * scale) / 2, (SHEET_PT[1] - rows * scale) / 2)
    content = _fill_sheet(corner, (columns * scale, rows * scale))
    content += b"".join(_hide(written, scale, (corner[0], corner[1] + rows * scale)) for written in drawing.words)
    parameters = f"/Predictor 15 /Colors 3 /BitsPerComponent 8 /Columns {columns}"
    image = (
        f"/Type /XObject /Subtype /Image /Width {columns} /Height {rows} /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        f"/DecodeParms << {parameters} >>"
    )
    return _assemble(
        (
            b"<< /Type /Catalog /Pages 2 0 R /Lang (en-US) /ViewerPreferences << /DisplayDocTitle true >> >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {SHEET_PT[0]} {SHEET_PT[1]}] /Contents 4 0 R "
            "/Resources << /XObject << /Page 5 0 R >> /Font << /Words 6 0 R >> >> >>".encode(),
            _stream("", content),
            _stream(image, _difference(drawing.pixels)),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
            b"<< /Title (%s) /Producer (radnode) /CreationDate (D:%sZ) >>"
            % (_escape(title), f"{created_at:%Y%m%d%H%M%S}".encode()),
        )
    )


def _fill_sheet(corner: tuple[float, float], size: tuple[float, float]) -> bytes:
    """Return the operators that paint the sheet black and the page in its middle."""
    black = f"0 g 0 0 {SHEET_PT[0]} {SHEET_PT[1]} re f"
    return f"{black}\nq {size[0]:.3f} 0 0 {size[1]:.3f} {corner[0]:.3f} {corner[1]:.3f} cm /Page Do Q\n".encode()


def _hide(written: Written, scale: float, top_left: tuple[float, float]) -> bytes:
    """Return the operators that write one line where it stands on the page, unseen."""
    x, y = top_left[0] + written.at[0] * scale, top_left[1] - written.at[1] * scale
    place = f"BT 3 Tr /Words {written.size * scale:.2f} Tf {LETTER_WIDTH} Tz {x:.2f} {y:.2f} Td".encode()
    return b"%s (%s) Tj ET\n" % (place, _escape(written.text))


def _escape(text: str) -> bytes:
    """Return `text` as a literal string in WinAnsi; letters of other scripts are left to the picture."""
    plain = text.replace(MINUS, "-").encode("cp1252", "ignore")
    for letter in (b"\\", b"(", b")"):
        plain = plain.replace(letter, b"\\" + letter)
    return plain


def _difference(pixels: NDArray[np.uint8]) -> bytes:
    rows = pixels.reshape(pixels.shape[0], -1)
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP_FILTER
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered.tobytes()


def _stream(dictionary: str, content: bytes) -> bytes:
    packed = zlib.compress(content)
    head = f"<< {dictionary} /Filter /FlateDecode /Length {len(packed)} >>".encode()
    return b"%s\nstream\n%s\nendstream" % (head, packed)


def _assemble(objects: Sequence[bytes]) -> bytes:
    """Return the file: its objects in order, where each begins, and where to start; the last one is the Info."""
    parts = [b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n", *_number(objects)]
    starts = np.cumsum([len(part) for part in parts]).tolist()
    table = b"".join(b"%010d 00000 n \n" % start for start in starts[:-1])
    count = len(objects) + 1
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table))
    parts.append(b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (count, len(objects)))
    parts.append(b"startxref\n%d\n%%%%EOF\n" % starts[-1])
    return b"".join(parts)


def _number(objects: Sequence[bytes]) -> Iterator[bytes]:
    for number, body in enumerate(objects, start=1):
        yield b"%d 0 obj\n%s\nendobj\n" % (number, body)
