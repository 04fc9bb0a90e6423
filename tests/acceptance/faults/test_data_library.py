"""Odd files that others have collected: all of pydicom's, each stored byte for byte or refused by name."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_charset_files
from sqlalchemy import select

from node.errors import NotDicom
from node.header.part10 import Part10, read_part10
from node.ledger.schema import instances
from tests.footprint import Witness
from tests.instances import BIG_ENDIAN, CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, INSTANCE, encode
from tests.node_process import Launch, NodeProcess
from tests.pdus import STORAGE_ID, Accepted, Response, wire_to
from tests.peers import wait_until
from tests.storing import RULE_OF_NOTHING, Archive, Offer, exercise, offered, requested

LIBRARY = Path(pydicom.__file__).parent / "data"
STORED = "stored"
# What the node answers to a Presentation Context that it does not take (PS3.8 table 9-18).
NOT_ACCEPTED = {3: "abstract syntax not supported", 4: "transfer syntaxes not supported"}
RT_ION_PLAN, RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.8", "1.2.840.10008.5.1.4.1.1.481.3"
# Data sets without File Meta Information, and what it would say.
BARE = {
    "ExplVR_BigEndNoMeta.dcm": Part10(
        sop_class_uid=RT_ION_PLAN,
        sop_instance_uid="1.2.333.4444.5.6.7.8",
        transfer_syntax_uid=BIG_ENDIAN,
        sending_aet="",
        data_set_offset=0,
    ),
    "ExplVR_LitEndNoMeta.dcm": Part10(
        sop_class_uid=RT_ION_PLAN,
        sop_instance_uid="1.2.333.4444.5.6.7.8",
        transfer_syntax_uid=EXPLICIT,
        sending_aet="",
        data_set_offset=0,
    ),
    "rtstruct.dcm": Part10(
        sop_class_uid=RT_STRUCTURE_SET,
        sop_instance_uid="1.2.826.0.1.3680043.8.498.2010020400001",
        transfer_syntax_uid=IMPLICIT,
        sending_aet="",
        data_set_offset=0,
    ),
}
# Everything else is no DICOM, and is sent as a CT Image all the same.
NOTHING = Part10(
    sop_class_uid=CT_IMAGE_STORAGE,
    sop_instance_uid=INSTANCE,
    transfer_syntax_uid=EXPLICIT,
    sending_aet="",
    data_set_offset=0,
)
DIRECTORY = "abstract syntax not supported"
REFUSED = {
    "JPEGLSNearLossless_08.dcm": "bad-identifier",
    "JPEGLSNearLossless_16.dcm": "bad-identifier",
    "MR_truncated.dcm": "not-dicom",
    "README.txt": "not-dicom",
    "SC_rgb_jls_lossy_line.dcm": "bad-identifier",
    "SC_rgb_jls_lossy_sample.dcm": "bad-identifier",
    # Implicit VR in the middle of Explicit VR.
    "SC_rgb_jpeg.dcm": "not-dicom",
    "UN_sequence.dcm": "bad-identifier",
    # Number of Frames 1A, and pixels of 15 Frames.
    "badVR.dcm": "not-dicom",
    "crayons.icc": "not-dicom",
    "dicomdirtests/DICOMDIR": DIRECTORY,
    "dicomdirtests/DICOMDIR-bigEnd": DIRECTORY,
    "dicomdirtests/DICOMDIR-empty.dcm": DIRECTORY,
    "dicomdirtests/DICOMDIR-implicit": DIRECTORY,
    "dicomdirtests/DICOMDIR-nooffset": DIRECTORY,
    "dicomdirtests/DICOMDIR-nopatient": DIRECTORY,
    "dicomdirtests/DICOMDIR-reordered": DIRECTORY,
    "dicomdirtests/README.txt": "not-dicom",
    "dicomdirtests/TINY_ALPHA/DICOMDIR": DIRECTORY,
    "dicomdirtests/TINY_ALPHA/README": "not-dicom",
    # No SOP Class UID in these two.
    "empty_charset_LEI.dcm": "abstract syntax not supported",
    "nested_priv_SQ.dcm": "abstract syntax not supported",
    "meta_missing_tsyntax.dcm": "not-dicom",
    "no_meta.dcm": "not-dicom",
    "no_meta_group_length.dcm": "bad-identifier",
    "priv_SQ.dcm": "bad-identifier",
    # Their File Meta Information names another SOP Instance than the data set.
    "rtdose.dcm": "uid-mismatch",
    "rtdose_1frame.dcm": "uid-mismatch",
    "rtdose_expb.dcm": "uid-mismatch",
    "rtdose_expb_1frame.dcm": "uid-mismatch",
    "rtplan.dcm": "uid-mismatch",
    "rtplan.dump": "not-dicom",
    "rtplan_truncated.dcm": "not-dicom",
    "rtstruct.dump": "not-dicom",
    "test1.json": "not-dicom",
    "test_PN.json": "not-dicom",
    "zipMR.gz": "not-dicom",
}
TEST_FILES, CHARACTER_SETS = 176, 17


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Return a node that only receives: some of these files are what the shipped rules want."""
    with NodeProcess(tmp_path_factory.mktemp("library"), RULE_OF_NOTHING, launch=Launch(verb="serve")) as running:
        yield running


@pytest.fixture(scope="module")
def witness(node: NodeProcess) -> Witness:
    """Return who has seen the node after all that it opens but once was opened."""
    exercise(node)
    return Witness(node)


def files(folder: str) -> list[Path]:
    """Return every file below a folder of pydicom's, in the order of their names."""
    return [path for path in sorted((LIBRARY / folder).rglob("*")) if path.is_file()]


def offer_of(path: Path) -> Offer:
    """Return how somebody would send this file."""
    content = path.read_bytes()
    try:
        part10 = read_part10(content)
    except NotDicom:
        part10 = BARE.get(path.name, NOTHING)
    return Offer(
        data_set=content[part10.data_set_offset :],
        transfer_syntax_uid=part10.transfer_syntax_uid,
        sop_class_uid=part10.sop_class_uid,
        sop_instance_uid=part10.sop_instance_uid,
    )


def outcome(node: NodeProcess, offer: Offer) -> str:
    """Return what became of `offer`: `STORED`, the code of its refusal, or why it cannot be sent."""
    with wire_to(node.peer) as wire:
        accepted = wire.associate(requested(offer))
        assert isinstance(accepted, Accepted)
        if accepted.results[STORAGE_ID]:
            return NOT_ACCEPTED[accepted.results[STORAGE_ID]]
        wire.send(offered(offer))
        answer = wire.answer()
        assert isinstance(answer, Response), answer
        wire.release()
    assert (answer.status == 0x0000) == (answer.comment == "")
    return answer.comment.split(":")[0] or STORED


def test_every_file_of_pydicom_is_stored_or_refused_by_name(node: NodeProcess) -> None:
    archive = Archive(node)
    found: dict[str, str] = {}
    for path in files("test_files"):
        offer = offer_of(path)
        name = str(path.relative_to(LIBRARY / "test_files"))
        found[name] = outcome(node, offer)
        if found[name] == STORED:
            wait_until(partial(is_kept, archive, offer), what=name)
    assert len(found) == TEST_FILES
    assert {name: code for name, code in found.items() if code != STORED} == REFUSED
    told = Counter(code for _, code in archive.refusals())
    assert told == Counter(code for code in REFUSED.values() if code != DIRECTORY)
    assert [kind for kind, _ in archive.events()].count("instance-refused") == told.total()
    assert not [line for line in archive.log_lines() if "traceback" in line]


def is_kept(archive: Archive, offer: Offer) -> bool:
    """Return whether the version that counts is `offer`: several of the files are versions of one Instance."""
    return archive.content(offer.sop_instance_uid) == offer.data_set


def test_names_in_every_character_set_are_kept_and_understood(node: NodeProcess) -> None:
    archive = Archive(node)
    paths = get_charset_files("*.dcm")
    assert len(paths) == CHARACTER_SETS
    for number, path in enumerate(paths):
        ds = completed(pydicom.dcmread(path), number)
        syntax = str(ds.file_meta.TransferSyntaxUID)
        offer = Offer(
            data_set=encode(ds, syntax),
            transfer_syntax_uid=syntax,
            sop_class_uid=CT_IMAGE_STORAGE,
            sop_instance_uid=ds.SOPInstanceUID,
        )
        assert outcome(node, offer) == STORED, path
        assert archive.content(ds.SOPInstanceUID) == offer.data_set
        assert attributes(node, ds.SOPInstanceUID).get("PatientName", "") == str(ds.get("PatientName", "")).strip(), (
            path
        )
    assert archive.events() == []


def completed(ds: pydicom.Dataset, number: int) -> pydicom.Dataset:
    """Return `ds` as an Instance of its own: some of these files were stripped of UIDs, or of their pixels only."""
    ds.SOPClassUID, ds.SOPInstanceUID = CT_IMAGE_STORAGE, f"1.2.3.9.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.9", "1.2.3.9.0"
    for keyword in ("BitsAllocated", "PixelData"):
        if keyword in ds:
            delattr(ds, keyword)
    return ds


def attributes(node: NodeProcess, sop_instance_uid: str) -> dict[str, object]:
    """Return what the ledger keeps of the header."""
    with node.view.reading() as connection:
        statement = select(instances.c.attributes).where(instances.c.sop_instance_uid == sop_instance_uid)
        found: dict[str, object] = connection.execute(statement).scalar_one()
        return found
