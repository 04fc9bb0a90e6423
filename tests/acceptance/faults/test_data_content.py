"""Faults in what is sent: data sets that lie, bombs, wrong UIDs, the same Instance again; and odd ones that are sound.

For each the exact Status and the beginning of the Error Comment; what was refused leaves no file, one line of the log
and one Event, and what got 0x0000 is kept byte for byte.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
)

from node.dimse.contexts import transfer_syntaxes
from node.header.elements import MAX_DEPTH, MAX_ELEMENTS
from node.header.part10 import file_meta
from node.header.scan import MAX_INFLATED_BYTES
from tests.footprint import Witness
from tests.instances import (
    BIG_ENDIAN,
    CT_IMAGE_STORAGE,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    JPEG_2000,
    SERIES,
    STUDY,
    ct_slice,
    encode,
)
from tests.node_process import Launch, NodeProcess, command_words, run_radnode
from tests.pdus import COMMAND, DATA, LAST, STORAGE_ID, STORE_RSP, Aborted, Closed, Response, p_data, pdv, store_rq
from tests.peers import wait_until
from tests.storing import RULE_OF_NOTHING, Archive, Offer, exercise, offered, store, storing

WHOLE = encode(ct_slice())
PIXELS = WHOLE.index(struct.pack("<HH", 0x7FE0, 0x0010))
BEFORE_PIXELS = WHOLE[:PIXELS]
PIXEL_ELEMENT_BYTES = len(WHOLE) - PIXELS
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SHORT_TEXT = struct.pack("<HH2sH", 0x0008, 0x0104, b"LO", 4) + b"text"
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
# A header of JPEG 2000 that announces 60,000 x 60,000 pixels, and no pixel behind it.
HUGE_CODESTREAM = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIHBBB", 41, 0, *(60000, 60000, 0, 0) * 2, 1, 11, 1, 1)
MAX_INSTANCE_BYTES = 40_000_000
MEMORY_LIMIT_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Return a node that keeps small Instances only; its `[store]` goes on here."""
    settings = f"max_instance_bytes = {MAX_INSTANCE_BYTES}\n" + RULE_OF_NOTHING
    with NodeProcess(tmp_path_factory.mktemp("data"), settings, launch=Launch(verb="serve")) as running:
        yield running


@pytest.fixture(scope="module")
def witness(node: NodeProcess) -> Witness:
    """Return who has seen the node after all that it opens but once was opened."""
    exercise(node)
    return Witness(node)


@pytest.fixture
def archive(node: NodeProcess) -> Archive:
    return Archive(node)


def native(value: bytes, *, length: int | None = None, uid: str = INSTANCE, **changes: object) -> bytes:
    """Return a CT Image with this Pixel Data, and other attributes changed."""
    ds = ct_slice(sop_instance_uid=uid)
    for keyword, change in changes.items():
        setattr(ds, keyword, change)
    del ds.PixelData
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(value) if length is None else length)
    return encode(ds) + head + value


def encapsulated(*fragments: bytes, end: bytes = SEQUENCE_END, uid: str = INSTANCE, **changes: object) -> bytes:
    """Return a CT Image with an empty Basic Offset Table and these fragments."""
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value for value in (b"", *fragments))
    return native(items + end, length=UNDEFINED, uid=uid, **changes)


def with_element(vr: bytes, value: bytes, *, length: int | None = None, uid: str = INSTANCE) -> bytes:
    """Return a CT Image with one more element, of a 32 bit length, before its pixels."""
    whole = encode(ct_slice(sop_instance_uid=uid))
    head = struct.pack("<HH2sHI", 0x0040, 0xA730, vr, 0, len(value) if length is None else length)
    return whole[:-PIXEL_ELEMENT_BYTES] + head + value + whole[-PIXEL_ELEMENT_BYTES:]


def nested(levels: int, *, is_defined: bool) -> bytes:
    """Return an implicit sequence of so many levels, as the value of an element of unknown VR."""
    if not is_defined:
        inner = struct.pack("<HHI", 0x0040, 0xA730, UNDEFINED) + ITEM
        return ITEM + inner * levels + (ITEM_END + SEQUENCE_END) * levels + ITEM_END + SEQUENCE_END
    value = b""
    for _ in range(levels):
        value = struct.pack("<HHIHHI", 0xFFFE, 0xE000, len(value) + 8, 0x0040, 0xA730, len(value)) + value
    return value


def without(keyword: str) -> bytes:
    """Return a CT Image that lacks one attribute."""
    ds = ct_slice()
    delattr(ds, keyword)
    return encode(ds)


def with_uid(old: str, new: bytes) -> bytes:
    """Return a CT Image, the value of one UID replaced by other bytes."""
    value = old.encode() + b"\0" * (len(old) % 2)
    begin = WHOLE.index(b"UI" + struct.pack("<H", len(value)) + value)
    new += b"\0" * (len(new) % 2)
    return WHOLE[: begin + 2] + struct.pack("<H", len(new)) + new + WHOLE[begin + 4 + len(value) :]


def deflated(content: bytes) -> bytes:
    """Return `content` as the bare stream of Deflated Explicit VR Little Endian."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def bomb() -> bytes:
    """Return a data set that begins well, and inflates to more than is read."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = deflater.compress(BEFORE_PIXELS) + deflater.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block stands for itself and may be repeated.
    mebibyte = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return head + mebibyte * (MAX_INFLATED_BYTES // 2**20 + 1) + deflater.flush()


CANNOT_UNDERSTAND, NO_INSTANCE, MISMATCH = 0xC000, 0x0117, 0xA900
EMPTY = (NO_INSTANCE, "bad-identifier: {} is empty")
NO_UID = (NO_INSTANCE, "bad-identifier: {} ")
CUT = (CANNOT_UNDERSTAND, "not-dicom: data set is cut")
SHORT = (CANNOT_UNDERSTAND, "not-dicom: Pixel Data (7FE0,0010) is cut")
DEEP = (CANNOT_UNDERSTAND, "too-complex: sequences nest deeper")
DAMAGED = (CANNOT_UNDERSTAND, "not-dicom: ")


def uid_is(keyword: str, answer: tuple[int, str]) -> tuple[int, str]:
    """Return the answer that names this UID."""
    return answer[0], answer[1].format(keyword)


def of(data_set: bytes, transfer_syntax_uid: str = EXPLICIT, *, uid: str = INSTANCE) -> Offer:
    """Return the offer of a CT Image."""
    return Offer(data_set=data_set, transfer_syntax_uid=transfer_syntax_uid, sop_instance_uid=uid)


REFUSED: dict[str, tuple[Offer, tuple[int, str]]] = {
    "no Study Instance UID": (of(without("StudyInstanceUID")), uid_is("StudyInstanceUID", EMPTY)),
    "no Series Instance UID": (of(without("SeriesInstanceUID")), uid_is("SeriesInstanceUID", EMPTY)),
    "no SOP Instance UID": (of(without("SOPInstanceUID")), uid_is("SOPInstanceUID", EMPTY)),
    "no SOP Class UID": (of(without("SOPClassUID")), uid_is("SOPClassUID", EMPTY)),
    "empty UID": (of(with_uid(STUDY, b"")), uid_is("StudyInstanceUID", EMPTY)),
    "UID that climbs": (of(with_uid(STUDY, b"../../../../etc/cron.d/x")), uid_is("StudyInstanceUID", NO_UID)),
    "UID that is a path": (of(with_uid(SERIES, b"/etc/passwd")), uid_is("SeriesInstanceUID", NO_UID)),
    "UID that is a command": (of(with_uid(SERIES, b"1.2;$(reboot)`id`|sh")), uid_is("SeriesInstanceUID", NO_UID)),
    "UID with a zero inside": (of(with_uid(STUDY, b"1.2\x00.3")), uid_is("StudyInstanceUID", NO_UID)),
    "UID behind zeros": (of(with_uid(STUDY, b"\0\0" + b"1.2.3")), uid_is("StudyInstanceUID", NO_UID)),
    "UID of two values": (of(with_uid(STUDY, b"1.2.3\\1.2.4")), uid_is("StudyInstanceUID", NO_UID)),
    "UID in other digits": (of(with_uid(STUDY, "1.2.٣".encode())), uid_is("StudyInstanceUID", NO_UID)),
    "UID of 65 characters": (of(with_uid(STUDY, b"1." + b"2" * 63)), uid_is("StudyInstanceUID", NO_UID)),
    "UID of 64,000 characters": (of(with_uid(STUDY, b"1." + b"2" * 64000)), uid_is("StudyInstanceUID", NO_UID)),
    "announced without a UID": (
        Offer(data_set=WHOLE, sop_instance_uid=""),
        uid_is("AffectedSOPInstanceUID", EMPTY),
    ),
    "announced with a hostile UID": (
        Offer(data_set=with_uid(INSTANCE, b"../../x"), sop_instance_uid="../../x"),
        uid_is("AffectedSOPInstanceUID", NO_UID),
    ),
    "announced with too long a UID": (
        Offer(data_set=WHOLE, sop_instance_uid="1." * 40 + "1"),
        uid_is("AffectedSOPInstanceUID", NO_UID),
    ),
    "announced as another Instance": (
        Offer(data_set=WHOLE, sop_instance_uid="1.2.9"),
        (MISMATCH, f"uid-mismatch: Instance {INSTANCE} of SOP Class"),
    ),
    "announced as another SOP Class": (
        Offer(data_set=WHOLE, sop_class_uid="1.2.840.10008.5.1.4.1.1.4"),
        (MISMATCH, f"uid-mismatch: Instance {INSTANCE} of SOP Class"),
    ),
    "no data set": (of(b""), (CANNOT_UNDERSTAND, "not-dicom: the request brought no data set")),
    "zeros": (of(bytes(4096)), uid_is("StudyInstanceUID", EMPTY)),
    "text": (of(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" * 9), DAMAGED),
    "random bytes": (of(b"\x8f\x13\x99\x00" * 5000), DAMAGED),
    "a file instead of a data set": (
        of(file_meta(sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=INSTANCE, transfer_syntax_uid=EXPLICIT) + WHOLE),
        DAMAGED,
    ),
    "explicit data set announced as implicit": (of(WHOLE, IMPLICIT), DAMAGED),
    "little endian data set announced as big endian": (of(WHOLE, BIG_ENDIAN), DAMAGED),
    "cut in a header": (of(WHOLE[: PIXELS + 6]), CUT),
    "cut Pixel Data": (of(WHOLE[:-2]), CUT),
    "short Pixel Data": (of(native(bytes(46))), SHORT),
    "empty Pixel Data": (of(native(b"")), SHORT),
    "fewer Frames than announced": (of(native(bytes(48), NumberOfFrames=2)), SHORT),
    "2,147,483,647 Frames": (of(native(bytes(48), NumberOfFrames=2**31 - 1)), SHORT),
    "more Frames than announced": (
        of(native(bytes(96))),
        (CANNOT_UNDERSTAND, "not-dicom: Pixel Data (7FE0,0010) has 96 bytes where 1 Frame"),
    ),
    "no Pixel Data": (of(BEFORE_PIXELS), (CANNOT_UNDERSTAND, "not-dicom: the header announces Pixel Data")),
    "Pixel Data twice": (of(WHOLE + WHOLE[PIXELS:]), (CANNOT_UNDERSTAND, "not-dicom: (7FE0,0010) comes twice")),
    "attribute twice": (
        of(WHOLE[: WHOLE.index(b"\x28\0\x10\0")] + WHOLE[WHOLE.index(b"\x20\0\x0d\0") :]),
        (CANNOT_UNDERSTAND, "not-dicom: (0020,000D) comes twice"),
    ),
    "unknown Value Representation": (of(with_element(b"ZZ", b"ab")), DAMAGED),
    "character set with a zero inside": (
        of(WHOLE.replace(b"ISO_IR 100", b"ISO\0IR 100")),
        (CANNOT_UNDERSTAND, "not-dicom: Specific Character Set (0008,0005) is no Code String"),
    ),
    "item outside of a sequence": (
        of(BEFORE_PIXELS + ITEM_END + WHOLE[PIXELS:]),
        (CANNOT_UNDERSTAND, "not-dicom: an item outside of a sequence"),
    ),
    "item shorter than its elements": (
        of(with_element(b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 10) + SHORT_TEXT + SEQUENCE_END, length=UNDEFINED)),
        (CANNOT_UNDERSTAND, "not-dicom: an item ends inside an element"),
    ),
    "no fragment": (of(encapsulated(), JPEG_2000), DAMAGED),
    "empty fragments": (of(encapsulated(b"", b""), JPEG_2000), DAMAGED),
    "fragments without an end": (of(encapsulated(b"codestream", end=b""), JPEG_2000), CUT),
    "fragment of 4 GB": (
        of(encapsulated(end=struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFE)), JPEG_2000),
        CUT,
    ),
    "native pixels in a compressed syntax": (
        of(WHOLE, JPEG_2000),
        (CANNOT_UNDERSTAND, "not-dicom: Pixel Data (7FE0,0010) is not encapsulated"),
    ),
    "encapsulated pixels in a native syntax": (
        of(encapsulated(b"codestream")),
        (CANNOT_UNDERSTAND, "not-dicom: Pixel Data (7FE0,0010) is encapsulated"),
    ),
    "element of 4 GB": (of(with_element(b"OB", b"x", length=0xFFFFFFFE)), CUT),
    "sequence without an end": (of(with_element(b"SQ", ITEM, length=UNDEFINED)), DAMAGED),
    "item of 4 GB": (
        of(with_element(b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFE), length=UNDEFINED)),
        CUT,
    ),
    "text of undefined length": (of(with_element(b"LT", b"ab", length=UNDEFINED)), DAMAGED),
    "50,000 levels of undefined length": (
        of(with_element(b"UN", nested(50_000, is_defined=False), length=UNDEFINED)),
        DEEP,
    ),
    "50,000 levels that nobody closes": (of(with_element(b"SQ", ITEM * 50_000, length=UNDEFINED)), DEEP),
    "5,000 levels of defined length": (of(with_element(b"UN", nested(5_000, is_defined=True))), DEEP),
    "one level too many": (of(with_element(b"UN", nested(MAX_DEPTH + 1, is_defined=True))), DEEP),
    "elements without end": (
        of(encode(ct_slice(), IMPLICIT) + struct.pack("<HHI", 0x7FE1, 0x1001, 0) * (MAX_ELEMENTS + 1), IMPLICIT),
        (CANNOT_UNDERSTAND, f"too-complex: the data set has more than {MAX_ELEMENTS} ele"),
    ),
    "deflate bomb": (of(bomb(), DEFLATED), (CANNOT_UNDERSTAND, "too-large: the deflated data set is larger than")),
    "deflated and cut": (of(deflated(WHOLE)[:-20], DEFLATED), DAMAGED),
    "deflated and damaged": (of(b"\xff" * 200, DEFLATED), DAMAGED),
    "not deflated at all": (of(WHOLE, DEFLATED), DAMAGED),
    "cut, then deflated": (of(deflated(WHOLE[:-2]), DEFLATED), CUT),
    "larger than the node takes": (of(native(bytes(MAX_INSTANCE_BYTES))),
        (CANNOT_UNDERSTAND, f"too-large: more than {MAX_INSTANCE_BYTES} bytes")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_and_leaves_nothing(node: NodeProcess, archive: Archive, name: str) -> None:
    offer, (status, comment) = REFUSED[name]
    answer = store(node, offer)
    assert isinstance(answer, Response)
    assert (answer.command_field, answer.message_id, answer.status) == (STORE_RSP, 1, status)
    assert answer.comment.startswith(comment[:64]), answer.comment
    code = comment.split(":")[0]
    assert archive.refusals() == [(f"{status:04X}", code)]
    (event,) = archive.events()
    assert event[0] == "instance-refused"
    assert event[1].startswith(f"{code} from MODALITY: ")
    assert not archive.new_files()


def test_a_refusal_is_found_by_a_person(node: NodeProcess, archive: Archive) -> None:
    store(node, of(native(bytes(46))))
    found = json.loads(run_radnode("events", "--json", "--settings", node.file).stdout)
    assert found[0]["kind"] == "instance-refused"
    assert "46 bytes where 48 are announced" in found[0]["text"]
    assert len(archive.events()) == 1


def private(count: int, uid: str) -> bytes:
    """Return a CT Image with so many private elements."""
    ds = ct_slice(sop_instance_uid=uid)
    elements = bytearray()
    for number in range(count):
        block, element = divmod(number, 200)
        group = 0x0029 + 2 * (block // 200)
        if not element:
            elements += struct.pack("<HH2sH", group, 0x10 + block % 200, b"LO", 8) + b"PHANTOM "
        elements += struct.pack("<HH2sH", group, ((0x10 + block % 200) << 8) + element, b"SH", 4) + b"%4d" % (
            number % 9999
        )
    encoded = encode(ds)
    return encoded[:-PIXEL_ELEMENT_BYTES] + bytes(elements) + encoded[-PIXEL_ELEMENT_BYTES:]


def document(uid: str, sop_class_uid: str, **changes: object) -> Offer:
    """Return an object without pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.{sop_class_uid.rpartition('.')[2]}"
    ds.PatientName, ds.PatientID = "Grün^Käthe", "P1"
    for keyword, change in changes.items():
        setattr(ds, keyword, change)
    return Offer(data_set=encode(ds), sop_class_uid=sop_class_uid, sop_instance_uid=uid)


def titled(*, value_type: str = "CONTAINER") -> dict[str, object]:
    """Return the root of a Structured Report with one text in it."""
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "no finding"
    return {"ValueType": value_type, "ContinuityOfContent": "SEPARATE", "ContentSequence": [text]}


SOUND: dict[str, Offer] = {
    "implicit": of(encode(ct_slice(sop_instance_uid="1.2.3.5.1"), IMPLICIT), IMPLICIT, uid="1.2.3.5.1"),
    "big endian": of(encode(ct_slice(sop_instance_uid="1.2.3.5.2"), BIG_ENDIAN), BIG_ENDIAN, uid="1.2.3.5.2"),
    "deflated": of(encode(ct_slice(sop_instance_uid="1.2.3.5.3"), DEFLATED), DEFLATED, uid="1.2.3.5.3"),
    "deflated and padded": of(deflated(native(bytes(48), uid="1.2.3.5.4")) + bytes(3), DEFLATED, uid="1.2.3.5.4"),
    "random pixels": of(native(bytes(range(7, 55)), uid="1.2.3.5.5"), uid="1.2.3.5.5"),
    "padded pixels": of(native(bytes(80), uid="1.2.3.5.6") + bytes(512), uid="1.2.3.5.6"),
    "60,000 x 60,000 pixels in JPEG 2000": of(
        encapsulated(HUGE_CODESTREAM, uid="1.2.3.5.7", Rows=60000, Columns=60000), JPEG_2000, uid="1.2.3.5.7"
    ),
    "50,000 private elements": of(private(50_000, "1.2.3.5.8"), uid="1.2.3.5.8"),
    "32 levels of defined length": of(
        with_element(b"UN", nested(MAX_DEPTH - 1, is_defined=True), uid="1.2.3.5.9"), uid="1.2.3.5.9"
    ),
    "32 levels of undefined length": of(
        with_element(b"UN", nested(MAX_DEPTH - 1, is_defined=False), length=UNDEFINED, uid="1.2.3.5.10"),
        uid="1.2.3.5.10",
    ),
    "key object selection": document("1.2.3.5.11", KeyObjectSelectionDocumentStorage, Modality="KO", **titled()),
    "presentation state": document(
        "1.2.3.5.12", GrayscaleSoftcopyPresentationStateStorage, Modality="PR", ContentLabel="WINDOW"
    ),
    "structured report": document("1.2.3.5.13", EnhancedSRStorage, Modality="SR", **titled()),
    "PDF": document(
        "1.2.3.5.14",
        EncapsulatedPDFStorage,
        Modality="DOC",
        EncapsulatedDocument=b"%PDF-1.4 /JavaScript ",
        MIMETypeOfEncapsulatedDocument="application/pdf",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_and_sound_is_kept_byte_for_byte(node: NodeProcess, archive: Archive, name: str) -> None:
    offer = SOUND[name]
    assert store(node, offer) == Response(STORE_RSP, 1, 0x0000)
    assert archive.content(offer.sop_instance_uid) == offer.data_set
    assert len(archive.new_files()) == 1
    assert archive.refusals() == []
    assert archive.events() == []


def test_no_codestream_is_looked_into(node: NodeProcess, archive: Archive) -> None:
    """Whatever the Transfer Syntax promises: decoding is a worker's work."""
    native_syntaxes = {IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED}
    # In these the data set itself is deflated.
    referenced = {"1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
    compressed = [uid for uid in transfer_syntaxes() if uid not in native_syntaxes | referenced]
    for number, transfer_syntax_uid in enumerate(compressed):
        uid = f"1.2.3.6.{number}"
        offer = of(encapsulated(b"\xff\xd8 no codestream ", b"\0\xff" * 7, uid=uid), transfer_syntax_uid, uid=uid)
        assert store(node, offer) == Response(STORE_RSP, 1, 0x0000), transfer_syntax_uid
        assert archive.content(uid) == offer.data_set
    assert len(archive.new_files()) == len(compressed) > 30
    assert archive.events() == []


def test_deflate_bomb_takes_no_memory(node: NodeProcess) -> None:
    receivers = [child for child in node.process.children(recursive=True) if "receiver" in command_words(child)]
    before = sum(map(peak_bytes, receivers))
    answer = store(node, of(bomb(), DEFLATED))
    assert isinstance(answer, Response)
    assert answer.status == CANNOT_UNDERSTAND
    assert receivers
    assert sum(map(peak_bytes, receivers)) - before < MEMORY_LIMIT_BYTES


def peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that the process ever had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def test_the_same_instance_again_is_taken_and_kept_once(node: NodeProcess, archive: Archive) -> None:
    offer = of(native(bytes(48), uid="1.2.3.7.1"), uid="1.2.3.7.1")
    assert [store(node, offer) for _ in range(3)] == [Response(STORE_RSP, 1, 0x0000)] * 3
    assert archive.content("1.2.3.7.1") == offer.data_set
    assert len(archive.new_files()) == 1
    assert archive.events() == []


def test_other_pixels_under_the_same_uid_count_from_then_on_and_are_told(node: NodeProcess, archive: Archive) -> None:
    first, second = (of(native(bytes((level,)) * 48, uid="1.2.3.7.2"), uid="1.2.3.7.2") for level in (1, 2))
    assert store(node, first).status == 0x0000
    assert archive.content("1.2.3.7.2") == first.data_set
    assert store(node, second).status == 0x0000
    wait_until(lambda: archive.content("1.2.3.7.2") == second.data_set, what="the second version")
    ((kind, text),) = archive.events()
    assert kind == "instance-changed"
    assert "1.2.3.7.2" in text


def test_instance_of_another_series_under_the_same_uid_is_refused(node: NodeProcess, archive: Archive) -> None:
    first = of(native(bytes(48), uid="1.2.3.7.3"), uid="1.2.3.7.3")
    second = of(native(bytes(48), uid="1.2.3.7.3", SeriesInstanceUID="1.2.3.99"), uid="1.2.3.7.3")
    assert store(node, first).status == 0x0000
    assert archive.content("1.2.3.7.3") == first.data_set
    answer = store(node, second)
    assert (answer.status, answer.comment[:17]) == (0x0111, "identifier-clash:")
    assert archive.content("1.2.3.7.3") == first.data_set
    assert len(archive.new_files()) == 1
    assert [kind for kind, _ in archive.events()] == ["instance-refused"]


def test_versions_sent_in_parallel_never_mix(node: NodeProcess, archive: Archive) -> None:
    offers = [
        of(native(bytes((level,)) * 480_000, uid="1.2.3.7.4", Rows=400, Columns=600), uid="1.2.3.7.4")
        for level in range(8)
    ]
    with ThreadPoolExecutor(len(offers)) as senders:
        answers = list(senders.map(lambda offer: store(node, offer), offers * 3))
    assert answers == [Response(STORE_RSP, 1, 0x0000)] * len(answers)
    assert archive.content("1.2.3.7.4") in {offer.data_set for offer in offers}
    whole = {offer.data_set for offer in offers}
    for path in archive.new_files():
        assert archive.data_set(path) in whole


def test_instance_as_large_as_the_limit_is_taken_and_one_byte_more_is_not(node: NodeProcess, archive: Archive) -> None:
    room = MAX_INSTANCE_BYTES - len(native(b"", uid="1.2.3.7.5"))
    offer = of(native(bytes(room), uid="1.2.3.7.5", Rows=0), uid="1.2.3.7.5")
    assert len(offer.data_set) == MAX_INSTANCE_BYTES
    assert store(node, offer).status == 0x0000
    one_more = replace(offer, data_set=offer.data_set + b"\0", sop_instance_uid="1.2.3.7.6")
    assert store(node, one_more).status == CANNOT_UNDERSTAND
    assert len(archive.new_files()) == 1


def test_association_goes_on_behind_an_instance_that_was_too_large(node: NodeProcess, archive: Archive) -> None:
    small = of(native(bytes(48), uid="1.2.3.7.7"), uid="1.2.3.7.7")
    with storing(node, small) as wire:
        wire.send(offered(of(native(bytes(MAX_INSTANCE_BYTES)))), offered(small, 2))
        refused = wire.answer()
        assert isinstance(refused, Response)
        assert (refused.message_id, refused.status) == (1, CANNOT_UNDERSTAND)
        assert wire.answer() == Response(STORE_RSP, 2, 0x0000)
        wire.release()
    assert archive.content("1.2.3.7.7") == small.data_set
    assert len(archive.new_files()) == 1


def test_data_set_without_end_is_aborted_and_leaves_nothing(node: NodeProcess, archive: Archive) -> None:
    """What it writes is dropped at the limit, and it is no longer read at twice the limit."""
    offer = of(b"")
    fragment = p_data(pdv(STORAGE_ID, DATA, bytes(100_000)))
    with storing(node, offer) as wire:
        wire.send(p_data(pdv(STORAGE_ID, COMMAND | LAST, store_rq())))
        for _ in range(2 * MAX_INSTANCE_BYTES // 100_000 + 1):
            wire.send(fragment)
        assert wire.answers() == [Aborted(2, 0), Closed()]
    assert not archive.new_files()
