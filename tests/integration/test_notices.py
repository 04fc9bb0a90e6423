"""A modality and an archive that we did not write tell us of Procedure Steps and availability, over DIMSE."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from node.dimse.notices import NoticeTaker
from node.domain.completeness import Statement
from node.domain.uids import StudyUID
from node.ledger.notices import NoticeLedger
from tests.ledgers import NOON, STUDY, Books, copy_ledger, make_facts
from tests.listeners import AET, listening_for, sole_reader

MPPS, IAN, VERIFICATION = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33", "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SERIES = f"{STUDY}.1"
IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)
SECRET = "Canary^Notice"


@dataclass
class Listening:
    """Our receiver with a ledger, and how often it told the stations that there is news."""

    books: Books
    port: int
    told: list[str]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("notices")
    books, told = Books(copy_ledger(folder)), list[str]()
    taker = NoticeTaker(NoticeLedger(books.engine), lambda: NOON, lambda: told.append("news"))
    with listening_for(taker.services(), folder) as port:
        yield Listening(books, port, told)
    books.close()


@pytest.fixture(params=[IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def scu(request: pytest.FixtureRequest, listening: Listening) -> Iterator[Association]:
    """Return an Association of pynetdicom's in either Transfer Syntax."""
    modality = AE(ae_title="CT1")
    for uid in (MPPS, IAN):
        modality.add_requested_context(uid, request.param)
    assoc = modality.associate("127.0.0.1", listening.port, ae_title=AET)
    assert assoc.is_established
    assert {context.abstract_syntax for context in assoc.accepted_contexts} == {MPPS, IAN}
    with sole_reader(assoc):
        yield assoc
    assoc.release()


@pytest.fixture
def uid(request: pytest.FixtureRequest) -> str:
    """Return a UID that no other test names."""
    return f"1.2.9.{abs(hash(request.node.name)) % 10**12}"


def references(count: int, *, first: int = 1) -> list[Dataset]:
    found = []
    for number in range(first, first + count):
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = CT, f"{SERIES}.{number}"
        found.append(one)
    return found


def performed(count: int) -> list[Dataset]:
    series = Dataset()
    series.PerformingPhysicianName = series.OperatorsName = SECRET
    series.ProtocolName, series.SeriesDescription = "Thorax", "axial"
    series.SeriesInstanceUID, series.RetrieveAETitle = SERIES, ""
    series.ReferencedImageSequence = references(count)
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    return [series]


def created(study: str) -> Dataset:
    """Return the attributes with which a modality begins a step (PS3.4 table F.7.2-1)."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID, scheduled.AccessionNumber = study, "A1"
    scheduled.ReferencedStudySequence, scheduled.RequestedProcedureID = [], "P1"
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [scheduled]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = SECRET, SECRET, "", ""
    ds.PerformedProcedureStepID, ds.PerformedStationAETitle = "S1", "CT1"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20250114", "120000"
    ds.PerformedProcedureStepStatus, ds.Modality = "IN PROGRESS", "CT"
    ds.PerformedSeriesSequence = []
    return ds


def changed(state: str | None, count: int | None) -> Dataset:
    ds = Dataset()
    if state is not None:
        ds.PerformedProcedureStepStatus = state
    if count is not None:
        ds.PerformedSeriesSequence = performed(count)
    return ds


def available(study: str, count: int, *, of_step: bool = False, word: str = "ONLINE") -> Dataset:
    """Return an Instance Availability Notification (PS3.4 table R.3.2-1)."""
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = SERIES, references(count)
    for one in series.ReferencedSOPSequence:
        one.InstanceAvailability, one.RetrieveAETitle = word, "PACS"
    ds = Dataset()
    ds.ReferencedPerformedProcedureStepSequence = references(1) if of_step else []
    ds.StudyInstanceUID, ds.ReferencedSeriesSequence = study, [series]
    return ds


def statements(listening: Listening, study: str) -> list[Statement]:
    """Return what is known of a Study, once an Instance of it has come."""
    uid = StudyUID(study)
    facts = make_facts(study=study)
    listening.books.instances.record_instance(facts)
    return list(listening.books.view.study_story(uid).statements)


def set_raw(ds: Dataset, keyword: str, value: str) -> None:
    """Put a value into a data set that pydicom would warn of."""
    element = DataElement(keyword, "UI", value, validation_mode=IGNORE)
    ds[keyword] = element


def named(answer: Dataset) -> int:
    """Return the tag that an answer is about; pynetdicom does not show (0000,1005)."""
    group, number = answer.ErrorComment.rpartition("(")[2].strip(")").split(",")
    return int(group + number, 16)


def begin(scu: Association, uid: str, ds: Dataset | None = None) -> int:
    status, _ = scu.send_n_create(ds or created(uid), MPPS, uid)
    return int(status.Status)


def go_on(scu: Association, uid: str, ds: Dataset) -> Dataset:
    status, _ = scu.send_n_set(ds, MPPS, uid)
    return status


def test_a_step_is_told_from_its_begin_to_its_end(scu: Association, listening: Listening, uid: str) -> None:
    before = len(listening.told)
    assert begin(scu, uid) == 0x0000
    (whole,) = statements(listening, uid)
    assert (whole.expected, whole.is_final, whole.source, whole.notice_uid) == (None, False, "CT1", uid)
    assert go_on(scu, uid, changed(None, 40)).Status == 0x0000
    assert [(one.expected, one.is_final) for one in statements(listening, uid)] == [(None, False), (40, False)]
    assert go_on(scu, uid, changed("COMPLETED", 120)).Status == 0x0000
    assert [(one.expected, one.is_final) for one in statements(listening, uid)] == [(None, True), (120, True)]
    assert len(listening.told) == before + 3


def test_a_step_that_ends_without_a_list_has_told_it_before(scu: Association, listening: Listening, uid: str) -> None:
    begin(scu, uid)
    go_on(scu, uid, changed("IN PROGRESS", 7))
    assert go_on(scu, uid, changed("DISCONTINUED", None)).Status == 0x0000
    assert [(one.expected, one.is_final) for one in statements(listening, uid)] == [(None, True), (7, True)]


def test_a_step_that_is_over_may_no_longer_be_updated(scu: Association, uid: str) -> None:
    begin(scu, uid)
    go_on(scu, uid, changed("COMPLETED", 3))
    status = go_on(scu, uid, changed("IN PROGRESS", 4))
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)


def test_a_step_is_created_once_and_changed_only_then(scu: Association, uid: str) -> None:
    assert go_on(scu, uid, changed("COMPLETED", 3)).Status == 0x0112
    assert begin(scu, uid) == 0x0000
    assert begin(scu, uid) == 0x0111


@pytest.mark.parametrize(
    ("change", "status", "tag"),
    [
        (lambda ds: setattr(ds, "PerformedProcedureStepStatus", "COMPLETED"), 0x0106, 0x00400252),
        (lambda ds: delattr(ds, "PerformedProcedureStepStatus"), 0x0120, 0x00400252),
        (lambda ds: setattr(ds, "PerformedProcedureStepStatus", ""), 0x0121, 0x00400252),
        (lambda ds: delattr(ds, "ScheduledStepAttributesSequence"), 0x0120, 0x00400270),
        (lambda ds: setattr(ds, "ScheduledStepAttributesSequence", []), 0x0121, 0x00400270),
        (lambda ds: delattr(ds.ScheduledStepAttributesSequence[0], "StudyInstanceUID"), 0x0120, 0x0020000D),
        (lambda ds: set_raw(ds.ScheduledStepAttributesSequence[0], "StudyInstanceUID", "no uid"), 0x0106, 0x0020000D),
    ],
)
def test_a_step_that_lacks_what_it_needs_is_told_which(
    change: object, status: int, tag: int, scu: Association, listening: Listening, uid: str
) -> None:
    ds = created(uid)
    assert callable(change)
    change(ds)
    answer, _ = scu.send_n_create(ds, MPPS, uid)
    assert (answer.Status, named(answer)) == (status, tag)
    assert statements(listening, uid) == []


def test_a_step_without_a_uid_is_given_one(scu: Association, listening: Listening, uid: str) -> None:
    answer, _ = scu.send_n_create(created(uid), MPPS, None)
    assert answer.Status == 0x0000
    (whole,) = statements(listening, uid)
    assert whole.notice_uid.startswith("2.25.")


def test_a_step_in_another_state_than_there_is(scu: Association, uid: str) -> None:
    begin(scu, uid)
    answer = go_on(scu, uid, changed("PAUSED", None))
    assert (answer.Status, named(answer)) == (0x0106, 0x00400252)


def test_what_is_available_is_told(scu: Association, listening: Listening, uid: str) -> None:
    status, _ = scu.send_n_create(available(uid, 60), IAN, f"{uid}.1")
    assert status.Status == 0x0000
    status, _ = scu.send_n_create(available(uid, 120, of_step=True), IAN, f"{uid}.2")
    assert status.Status == 0x0000
    found = statements(listening, uid)
    assert [(one.expected, one.is_final) for one in found] == [(60, False), (120, True)]
    assert {one.told.value for one in found} == {"Instance Availability Notification"}


def test_what_is_not_available_will_not_come(scu: Association, listening: Listening, uid: str) -> None:
    scu.send_n_create(available(uid, 5, word="UNAVAILABLE"), IAN, uid)
    assert [one.expected for one in statements(listening, uid)] == [0]


def test_a_notification_that_lacks_what_it_needs_is_told_which(scu: Association, uid: str) -> None:
    answer, _ = scu.send_n_create(available(uid, 5, word="SOMEWHERE"), IAN, uid)
    assert (answer.Status, named(answer)) == (0x0106, 0x00080056)
    ds = available(uid, 5)
    del ds.ReferencedSeriesSequence
    answer, _ = scu.send_n_create(ds, IAN, uid)
    assert (answer.Status, named(answer)) == (0x0120, 0x00081115)


def test_no_operation_is_served_that_is_not_offered(scu: Association, uid: str) -> None:
    status, _ = scu.send_n_set(changed("COMPLETED", 1), IAN, uid)
    assert status.Status == 0x0211
    status = scu.send_n_delete(MPPS, uid)
    assert status.Status == 0x0211
    # And the Association goes on.
    assert begin(scu, uid) == 0x0000


def test_a_large_step_is_taken(scu: Association, listening: Listening, uid: str) -> None:
    begin(scu, uid)
    assert go_on(scu, uid, changed("COMPLETED", 5000)).Status == 0x0000
    assert [one.expected for one in statements(listening, uid)] == [None, 5000]


def test_nothing_of_the_patient_is_kept(scu: Association, listening: Listening, uid: str) -> None:
    begin(scu, uid)
    go_on(scu, uid, changed("COMPLETED", 2))
    with listening.books.engine.connect() as connection:
        for table in ("expectations", "notices", "events"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert rows
            assert SECRET not in str(rows)
