"""Instances that come in pieces: metadata in JSON or XML, bulk data in parts of their own (PS3.18 10.5.1)."""

import json
import re
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from node.errors import MediaTypeNotSupported, NodeError, NotDicom, RequestMalformed, TooLarge
from node.header.scan import EXPLICIT_LITTLE_ENDIAN
from node.intake.ports import Arrival
from node.intake.reception import Reception
from node.store.port import Spool, Store
from node.web.native import Model, from_xml
from node.web.negotiation import DICOM_JSON, OCTETS, MediaType
from node.web.submission import Submission, as_node_errors

# Of one request, in all its parts: metadata of thousands of Instances. Bulk data do not stand in it.
MAX_METADATA_BYTES = 64 * 2**20
# What is not passed on in pieces: a value inside a sequence, or of a VR that is no string of bytes or words.
MAX_HELD_BYTES = 16 * 2**20
CHUNK_BYTES = 1024 * 1024
PIXEL_DATA = "7FE00010"
META_GROUP = "0002"
TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
STREAMED_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
UNDEFINED_LENGTH = 0xFFFFFFFF
# Of compressed bulk data without the parameter transfer-syntax (PS3.18 table 8.7.3-4).
DEFAULT_SYNTAXES: Mapping[str, str] = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
}
EMPTY_OFFSET_TABLE = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
END_OF_FRAGMENTS = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One part of bulk data, and where it lies among the others."""

    media_type: MediaType
    offset: int
    size_bytes: int

    @property
    def transfer_syntax_uid(self) -> str:
        """In which it is encoded."""
        told = self.media_type.parameters.get("transfer-syntax", "")
        return told or DEFAULT_SYNTAXES.get(self.media_type.name, EXPLICIT_LITTLE_ENDIAN)

    @property
    def is_compressed(self) -> bool:
        """Whether it is one frame of encapsulated Pixel Data."""
        return self.media_type.name in DEFAULT_SYNTAXES


class PiecesTaker:
    """Keeps metadata and bulk data until the body is over, then stores the Instances that they make.

    Bulk data lie in one temporary file of the store, whatever their number and size.

    Parameters
    ----------
    kind
        Media type of the metadata.
    """

    def __init__(self, submission: Submission, store: Store, kind: str) -> None:
        self._submission = submission
        self._store = store
        self._kind = kind
        self._spool: Spool | None = None
        self._metadata: deque[bytearray] = deque()
        self._metadata_bytes = 0
        self._bulks: dict[str, list[Bulk]] = {}

    def begin(self, media_type: MediaType, headers: Mapping[str, str]) -> "MetadataTaker | BulkTaker":
        """Begin a part.

        Raises
        ------
        RequestMalformed
            If bulk data do not say which they are.
        MediaTypeNotSupported
            If they are of a kind that no Transfer Syntax holds.
        StoreFull, Transient
            If the store takes nothing.
        """
        if media_type.name == self._kind:
            self._metadata.append(bytearray())
            return MetadataTaker(self, self._metadata[-1])
        if media_type.name != OCTETS and media_type.name not in DEFAULT_SYNTAXES:
            known = ", ".join((OCTETS, *DEFAULT_SYNTAXES))
            raise MediaTypeNotSupported(f"bulk data are {media_type.name}; the node reads {known}")
        location = headers.get("content-location", "")
        if not location:
            raise RequestMalformed("a part of bulk data has no Content-Location; correct the client")
        if self._spool is None:
            self._spool = self._store.spool()
        return BulkTaker(self._spool, self._bulks.setdefault(location, []), media_type)

    def finish(self) -> None:
        """Store every Instance that the metadata tell of.

        Raises
        ------
        RequestMalformed
            If the metadata cannot be read, or tell of none.
        """
        is_empty = True
        while self._metadata:
            # What is stored is let go of: as objects of Python, metadata are many times as large.
            models = deque(self._read(bytes(self._metadata.popleft())))
            is_empty = is_empty and not models
            while models:
                self._store_one(models.popleft())
        if is_empty:
            raise RequestMalformed("the metadata tell of no Instance; send at least one")

    def count(self, size_bytes: int) -> None:
        """Take note of so many bytes of metadata more.

        Raises
        ------
        TooLarge
            If all parts of the request together have too many.
        """
        self._metadata_bytes += size_bytes
        if self._metadata_bytes > MAX_METADATA_BYTES:
            raise TooLarge(f"metadata have more than {MAX_METADATA_BYTES} bytes; send bulk data in parts of their own")

    def discard(self) -> None:
        """Forget the pieces."""
        self._metadata.clear()
        if self._spool is not None:
            self._spool.discard()
            self._spool = None

    def _read(self, content: bytes) -> Sequence[Model]:
        if self._kind != DICOM_JSON:
            return (from_xml(content),)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise RequestMalformed("a part of metadata is no JSON; correct the client") from exc
        models = found if isinstance(found, list) else [found]
        if not all(isinstance(model, dict) and all(isinstance(el, dict) for el in model.values()) for model in models):
            raise RequestMalformed("the metadata are no DICOM JSON Model; correct the client")
        return models

    def _store_one(self, model: Model) -> None:
        submission = self._submission
        arrival = submission.origin.arrival()
        try:
            with as_node_errors():
                plan = _Plan(model, self._bulks, self._spool)
                arrival = plan.arrival(submission)
                submission.close(self._write(plan, arrival), arrival)
        except NodeError as exc:
            submission.refuse(arrival, exc)

    def _write(self, plan: "_Plan", arrival: Arrival) -> Reception:
        reception = self._submission.intake.receive(arrival)
        try:
            for piece in plan.encode():
                reception.write((piece,))
        except BaseException:
            reception.discard()
            raise
        return reception


class MetadataTaker:
    """One part of metadata, which is small."""

    def __init__(self, pieces: PiecesTaker, content: bytearray) -> None:
        self._pieces = pieces
        self._content = content

    def write(self, content: memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        TooLarge
            If the request has too many.
        """
        self._pieces.count(len(content))
        self._content += content

    def end(self) -> None:
        """Do nothing: it is read when all is there."""

    def discard(self) -> None:
        """Do nothing: nothing is kept."""


class BulkTaker:
    """One part of bulk data, on its way to the others."""

    def __init__(self, spool: Spool, bulks: list[Bulk], media_type: MediaType) -> None:
        self._spool = spool
        self._bulks = bulks
        self._media_type = media_type
        self._offset = spool.size_bytes

    def write(self, content: memoryview) -> None:
        """Append the next bytes."""
        self._spool.write((content,))

    def end(self) -> None:
        """Take note that it came whole."""
        size_bytes = self._spool.size_bytes - self._offset
        self._bulks.append(Bulk(media_type=self._media_type, offset=self._offset, size_bytes=size_bytes))

    def discard(self) -> None:
        """Do nothing: who keeps the file forgets it."""


class _Plan:
    """How one Instance is put together; nothing of it is held but what is small."""

    def __init__(self, model: Model, bulks: Mapping[str, Sequence[Bulk]], spool: Spool | None) -> None:
        self._bulks = bulks
        self._spool = spool
        _check_names(model)
        shown = {tag.upper(): element for tag, element in model.items() if not tag.startswith(META_GROUP)}
        self._streamed = {
            tag: str(element["vr"])
            for tag, element in shown.items()
            if "BulkDataURI" in element and element.get("vr") in STREAMED_VRS
        }
        self._pieces = {tag: self._find(shown[tag]["BulkDataURI"]) for tag in self._streamed}
        self._data_set = self._read({tag: element for tag, element in shown.items() if tag not in self._streamed})

    def arrival(self, submission: Submission) -> Arrival:
        """Return how the Instance came."""
        pixels = self._pieces.get(PIXEL_DATA, ())
        return submission.origin.arrival(
            sop_class_uid=str(self._data_set.get("SOPClassUID", "")),
            sop_instance_uid=str(self._data_set.get("SOPInstanceUID", "")),
            transfer_syntax_uid=pixels[0].transfer_syntax_uid if pixels else EXPLICIT_LITTLE_ENDIAN,
        )

    def encode(self) -> Iterator[bytes]:
        """Yield the data set in Explicit VR Little Endian, piece by piece."""
        begin = 0
        for tag in sorted(self._streamed):
            yield self._encode_between(begin, int(tag, 16))
            yield from self._encode_streamed(tag)
            begin = int(tag, 16) + 1
        yield self._encode_between(begin, None)

    def _read(self, shown: Model) -> Dataset:
        try:
            data_set = Dataset.from_json(dict(shown), self._hold)
        except NodeError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as exc:
            # Its text may quote a value.
            raise NotDicom(f"the metadata cannot be read ({type(exc).__name__}); correct the client") from exc
        # JSON and XML came in UTF-8, whatever the data set was before (PS3.18 F.2.2).
        data_set.SpecificCharacterSet = "ISO_IR 192"
        return data_set

    def _hold(self, _tag: str, _vr: str, uri: str) -> bytes:
        """Return bulk data that cannot be passed on in pieces."""
        (bulk,) = self._find(uri)
        if bulk.size_bytes > MAX_HELD_BYTES:
            raise TooLarge(f"bulk data inside a sequence have {bulk.size_bytes} bytes; the node holds {MAX_HELD_BYTES}")
        return b"".join(self._content_of(bulk))

    def _find(self, uri: Any) -> Sequence[Bulk]:
        found = self._bulks.get(str(uri), ())
        if not found:
            raise NotDicom("the metadata name bulk data that did not come; send them in the same request")
        if len(found) > 1 and not all(bulk.is_compressed for bulk in found):
            raise NotDicom("bulk data came twice under one Content-Location; correct the client")
        return found

    def _encode_between(self, begin: int, end: int | None) -> bytes:
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, False
        try:
            write_dataset(stream, self._data_set[begin:end])
        except (
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            OverflowError,
            struct.error,
            NotImplementedError,
        ) as exc:
            raise NotDicom(f"the metadata cannot be encoded ({type(exc).__name__}); correct the client") from exc
        return stream.getvalue()

    def _encode_streamed(self, tag: str) -> Iterator[bytes]:
        pieces, vr = self._pieces[tag], self._streamed[tag]
        group, number = int(tag[:4], 16), int(tag[4:], 16)
        if pieces[0].is_compressed:
            yield struct.pack("<HH2sHI", group, number, b"OB", 0, UNDEFINED_LENGTH) + EMPTY_OFFSET_TABLE
            for bulk in pieces:
                yield struct.pack("<HHI", 0xFFFE, 0xE000, _even(bulk.size_bytes))
                yield from self._padded(bulk)
            yield END_OF_FRAGMENTS
        else:
            yield struct.pack("<HH2sHI", group, number, vr.encode("ascii"), 0, _even(pieces[0].size_bytes))
            yield from self._padded(pieces[0])

    def _padded(self, bulk: Bulk) -> Iterator[bytes]:
        yield from self._content_of(bulk)
        if bulk.size_bytes % 2:
            yield b"\0"

    def _content_of(self, bulk: Bulk) -> Iterator[bytes]:
        if self._spool is None:
            return
        end = bulk.offset + bulk.size_bytes
        with self._spool.view() as view:
            for begin in range(bulk.offset, end, CHUNK_BYTES):
                yield view[begin : min(begin + CHUNK_BYTES, end)]


def _check_names(model: Model) -> None:
    if not all(TAG.match(tag) and isinstance(element.get("vr", ""), str) for tag, element in model.items()):
        raise NotDicom("the metadata have a tag or vr that is none; correct the client")


def _even(size_bytes: int) -> int:
    even = size_bytes + size_bytes % 2
    if even >= UNDEFINED_LENGTH:
        raise TooLarge(f"one element has {size_bytes} bytes; none can hold so many (PS3.5 7.1.1)")
    return even
