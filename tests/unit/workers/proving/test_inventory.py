"""One walk finds every reference, however it is written, and every UID that is none."""

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.domain.result import ResultKind
from tests.analyses import known, read_results
from workers.proving.inventory import EVIDENCE, Inventory, take_inventory

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def refer(uid: str, sop_class_uid: str = "1.2.840.10008.5.1.4.1.1.2") -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class_uid, uid
    return reference


def make_object() -> Dataset:
    """Return an object that refers to an Instance of a Series, to a bare one, to a Study and to a predecessor."""
    ds, series, study, earlier = Dataset(), Dataset(), Dataset(), Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.4", "1.2.5"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.6", [refer("1.2.7"), refer("1.2.8")]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.9", [series]
    ds.CurrentRequestedProcedureEvidenceSequence = [study]
    earlier.StudyInstanceUID, earlier.ReferencedSeriesSequence = "1.2.9", [Dataset()]
    earlier.ReferencedSeriesSequence[0].ReferencedSOPSequence = [refer("1.2.10")]
    ds.PredecessorDocumentsSequence = [earlier]
    ds.SourceImageSequence = [refer("1.2.7")]
    ds.ReferencedStudySequence = [refer("1.2.11")]
    return ds


def resend(ds: Dataset, syntax: UID) -> Dataset:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def told(inventory: Inventory) -> set[tuple[str, str, str, str]]:
    return {
        (one.place, one.sop_instance_uid, one.series_instance_uid, one.study_instance_uid)
        for one in inventory.references
    }


@pytest.mark.parametrize("syntax", SYNTAXES, ids=[syntax.name for syntax in SYNTAXES])
def test_references_are_found_in_every_transfer_syntax(syntax: UID) -> None:
    inventory = take_inventory(resend(make_object(), syntax))
    assert told(inventory) == {
        (EVIDENCE[0], "1.2.7", "1.2.6", "1.2.9"),
        (EVIDENCE[0], "1.2.8", "1.2.6", "1.2.9"),
        ("SourceImageSequence", "1.2.7", "", ""),
    }
    assert inventory.predecessors == ["1.2.10"]
    assert inventory.bad_uids == []
    assert inventory.cut == []


def test_the_series_of_an_object_is_not_that_of_what_it_refers_to() -> None:
    ds = make_object()
    assert {one.series_instance_uid for one in take_inventory(ds).references} == {"1.2.6", ""}


@pytest.mark.parametrize("uid", ["1." + "2" * 63, "1.2.x", "1..2", "one"])
def test_a_uid_that_is_none_is_found_at_any_depth(uid: str) -> None:
    ds = make_object()
    ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]["SeriesInstanceUID"]._value = uid
    (complaint,) = take_inventory(ds).bad_uids
    assert complaint.startswith("SeriesInstanceUID")


def test_every_reference_of_our_own_results_is_found() -> None:
    case, results = known("ct")
    inputs = {str(ds.SOPInstanceUID) for ds in case.inputs["ct"]}
    objects = read_results(results)
    seg = str(objects[ResultKind.SEG].SOPInstanceUID)
    listed = {one.sop_instance_uid for one in take_inventory(objects[ResultKind.SEG]).references if one.is_listing}
    evidence = {one.sop_instance_uid for one in take_inventory(objects[ResultKind.SR]).references if one.is_listing}
    assert listed == inputs
    assert evidence == inputs | {seg}
