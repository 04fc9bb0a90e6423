"""Systems that we did not write create, claim, perform, watch and cancel workitems, over DIMSE."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from node.audit.message import AuditEvent
from node.dimse.services import Services
from node.dimse.workitems import Acquaintance, Record, Surroundings, WorkitemService
from node.domain import workitem as ups
from node.domain.job import JobState
from node.ledger.job_workitems import Premises, uid_of_job
from node.ledger.subscriptions import SubscriptionLedger, WorkitemEvent
from node.ledger.workitems import WorkitemLedger
from tests.ledgers import NOON, STUDY, Books, at, copy_ledger, make_outcome, make_result
from tests.listeners import AET, listening_for, sole_reader

CLASSES = (ups.PUSH, ups.PULL, ups.WATCH, ups.EVENT, ups.QUERY)
PREMISES = Premises(aet="RADNODE", wado_root="http://node.example/dicom-web")
LOCK, OTHER_LOCK = "1.2.9.1", "1.2.9.2"
WATCHER = "WATCHER"
NAMES = count(1)
CHANGE, CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5


@dataclass
class Worklist:
    """Our receiver with a ledger, and what it told the audit trail."""

    books: Books
    port: int
    records: list[AuditEvent]

    @property
    def subscriptions(self) -> SubscriptionLedger:
        """The subscriptions of its ledger."""
        return SubscriptionLedger(self.books.engine, PREMISES)

    def told(self, aet: str, uid: str) -> list[tuple[int, str]]:
        """Return what a subscriber was told of a workitem: type, and state where it is one."""
        events = self.subscriptions.events_after(0, aet=aet, limit=1000)
        return [(one.event_type, _state_of(one)) for one in events if one.sop_instance_uid == uid]


def _state_of(event: WorkitemEvent) -> str:
    return ups.text_of(event.information, ups.PROCEDURE_STEP_STATE)


def services_on(books: Books, record: Record) -> Services:
    known = Acquaintance(pipelines=frozenset({"lung_nodules"}), subscribers=frozenset({WATCHER}))
    ledgers = WorkitemLedger(books.engine, PREMISES), SubscriptionLedger(books.engine, PREMISES)
    return WorkitemService(
        *ledgers, known, Surroundings(clock=lambda: NOON, record=record, told=lambda: None)
    ).services()


@pytest.fixture(scope="module")
def worklist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worklist]:
    folder = tmp_path_factory.mktemp("workitems")
    books, records = Books(copy_ledger(folder)), list[AuditEvent]()
    with listening_for(services_on(books, records.append), folder) as port:
        yield Worklist(books, port, records)
    books.close()


@pytest.fixture(params=[ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=["implicit", "explicit"])
def scu(request: pytest.FixtureRequest, worklist: Worklist) -> Iterator[Association]:
    """Return an Association of pynetdicom's with all five SOP Classes."""
    yield from _associate(worklist.port, request.param)


@pytest.fixture
def plain(worklist: Worklist) -> Iterator[Association]:
    """Return such an Association in the Transfer Syntax that everybody speaks."""
    yield from _associate(worklist.port, ImplicitVRLittleEndian)


def _associate(port: int, transfer_syntax: str) -> Iterator[Association]:
    peer = AE(ae_title="PLANNER")
    for uid in CLASSES:
        peer.add_requested_context(uid, transfer_syntax)
    assoc = peer.associate("127.0.0.1", port, ae_title=AET)
    assert {context.abstract_syntax for context in assoc.accepted_contexts} == set(CLASSES)
    with sole_reader(assoc):
        yield assoc
    assoc.release()


def code(value: str, scheme: str = "99SITE") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, value
    return item


def draft(**changes: object) -> Dataset:
    """Return the attributes with which a planner creates a workitem (PS3.4 table CC.2.5-3)."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jürgen", "P-7", "", "M"
    ds.ScheduledProcedureStepPriority, ds.ProcedureStepLabel = "MEDIUM", "Contour the liver"
    ds.WorklistLabel, ds.InputReadinessState = "planning", "READY"
    ds.ScheduledProcedureStepStartDateTime = "20250114130000"
    ds.ScheduledWorkitemCodeSequence, ds.ScheduledStationNameCodeSequence = [code("contour")], [code("ws-1")]
    ds.ProcedureStepState, ds.TransactionUID = "SCHEDULED", ""
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def create(scu: Association, **changes: object) -> str:
    uid = f"1.2.8.{next(NAMES)}"
    status, _ = scu.send_n_create(draft(**changes), ups.PUSH, uid)
    assert status.Status == 0
    return uid


def act(scu: Association, uid: str, action: int, *, context: str, **attributes: object) -> int:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    status, _ = scu.send_n_action(ds, action, ups.PUSH, uid, meta_uid=context)
    return int(status.Status)


def move(scu: Association, uid: str, state: str, lock: str = LOCK) -> int:
    return act(scu, uid, CHANGE, context=ups.PULL, ProcedureStepState=state, TransactionUID=lock)


def performed() -> list[Dataset]:
    item = Dataset()
    item.PerformedStationNameCodeSequence = [code("ws-1")]
    item.PerformedWorkitemCodeSequence = [code("contour")]
    item.PerformedProcedureStepStartDateTime = "20250114130000"
    item.PerformedProcedureStepEndDateTime = "20250114130500"
    item.OutputInformationSequence = []
    return [item]


def set_attributes(scu: Association, uid: str, lock: str = "", **attributes: object) -> int:
    ds = Dataset()
    ds.TransactionUID = lock
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    status, _ = scu.send_n_set(ds, ups.PUSH, uid, meta_uid=ups.PULL)
    return int(status.Status)


def get(scu: Association, uid: str, *tags: int) -> Dataset:
    status, found = scu.send_n_get([Tag(tag) for tag in tags], ups.PUSH, uid, meta_uid=ups.WATCH)
    assert status.Status == 0
    assert found is not None
    return found


def find(scu: Association, model: str = ups.QUERY, **keys: object) -> list[Dataset]:
    ds = Dataset()
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    *matches, (last, _) = scu.send_c_find(ds, model)
    assert last.Status == 0
    assert all(status.Status == 0xFF00 for status, _ in matches)
    return [found for _, found in matches if found is not None]


def bring_to(scu: Association, state: str) -> str:
    """Return a new workitem that was brought to a state."""
    uid = create(scu)
    if state != "SCHEDULED":
        assert move(scu, uid, "IN PROGRESS") == 0
    if state == "COMPLETED":
        assert set_attributes(scu, uid, LOCK, UnifiedProcedureStepPerformedProcedureSequence=performed()) == 0
    if state in {"COMPLETED", "CANCELED"}:
        assert move(scu, uid, state) == 0
    return uid


def test_a_planner_creates_a_performer_claims_and_completes_and_a_watcher_hears_of_it(
    worklist: Worklist, scu: Association
) -> None:
    uid = create(scu)
    subscribe = {"ReceivingAE": WATCHER, "DeletionLock": "TRUE"}
    assert act(scu, uid, SUBSCRIBE, context=ups.WATCH, **subscribe) == 0
    waiting = find(scu, ups.PULL, ProcedureStepState="SCHEDULED", SOPInstanceUID=uid, PatientName="", WorklistLabel="")
    assert [(one.SOPInstanceUID, str(one.PatientName), one.WorklistLabel) for one in waiting] == [
        (uid, "Müller^Jürgen", "planning")
    ]
    assert move(scu, uid, "IN PROGRESS") == 0
    progress = Dataset()
    progress.ProcedureStepProgress, progress.ProcedureStepProgressDescription = 40, "half of it"
    assert set_attributes(scu, uid, LOCK, ProcedureStepProgressInformationSequence=[progress]) == 0
    assert set_attributes(scu, uid, LOCK, UnifiedProcedureStepPerformedProcedureSequence=performed()) == 0
    assert move(scu, uid, "COMPLETED") == 0
    found = get(scu, uid)
    assert (found.ProcedureStepState, found.SOPClassUID) == ("COMPLETED", ups.PUSH)
    assert found.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 40
    assert "TransactionUID" not in found
    assert worklist.told(WATCHER, uid) == [
        (ups.STATE_REPORT, "SCHEDULED"),
        (ups.STATE_REPORT, "IN PROGRESS"),
        (ups.PROGRESS_REPORT, ""),
        (ups.STATE_REPORT, "COMPLETED"),
    ]
    assert act(scu, uid, UNSUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0


def test_only_what_is_asked_for_is_told(plain: Association) -> None:
    assert [element.keyword for element in get(plain, create(plain), 0x00741000)] == [
        "SpecificCharacterSet",
        "ProcedureStepState",
    ]


# PS3.4 table CC.1.1-2: state, what is asked for, with the right Transaction UID and without.
TRANSITIONS = [
    ("SCHEDULED", "SCHEDULED", 0xC303, 0xC303),
    ("SCHEDULED", "IN PROGRESS", 0x0000, 0xC301),
    ("SCHEDULED", "COMPLETED", 0xC310, 0xC301),
    ("SCHEDULED", "CANCELED", 0xC310, 0xC301),
    ("IN PROGRESS", "SCHEDULED", 0xC303, 0xC303),
    ("IN PROGRESS", "IN PROGRESS", 0xC302, 0xC301),
    ("IN PROGRESS", "COMPLETED", 0xC304, 0xC301),
    ("IN PROGRESS", "CANCELED", 0x0000, 0xC301),
    ("COMPLETED", "SCHEDULED", 0xC303, 0xC303),
    ("COMPLETED", "IN PROGRESS", 0xC300, 0xC301),
    ("COMPLETED", "COMPLETED", 0xB306, 0xC301),
    ("COMPLETED", "CANCELED", 0xC300, 0xC301),
    ("CANCELED", "SCHEDULED", 0xC303, 0xC303),
    ("CANCELED", "IN PROGRESS", 0xC300, 0xC301),
    ("CANCELED", "COMPLETED", 0xC300, 0xC301),
    ("CANCELED", "CANCELED", 0xB304, 0xC301),
]


@pytest.mark.parametrize(("state", "wanted", "with_lock", "without"), TRANSITIONS)
def test_every_transition_has_the_status_of_the_standard(
    plain: Association, state: str, wanted: str, with_lock: int, without: int
) -> None:
    uid = bring_to(plain, state)
    assert move(plain, uid, wanted, lock="") == without
    if state != "SCHEDULED":
        # Any Transaction UID is the right one of a workitem that nobody performs.
        assert move(plain, uid, wanted, lock=OTHER_LOCK) == without
    assert get(plain, uid).ProcedureStepState == state
    assert move(plain, uid, wanted) == with_lock
    assert get(plain, uid).ProcedureStepState == (wanted if with_lock == 0 else state)


@pytest.mark.parametrize(
    ("state", "lock", "status"),
    [
        ("SCHEDULED", "", 0x0000),
        ("SCHEDULED", LOCK, 0xC301),
        ("IN PROGRESS", LOCK, 0x0000),
        ("IN PROGRESS", "", 0xC301),
        ("IN PROGRESS", OTHER_LOCK, 0xC301),
        ("COMPLETED", LOCK, 0xC300),
        ("CANCELED", LOCK, 0xC300),
    ],
)
def test_only_the_performer_changes_a_workitem(plain: Association, state: str, lock: str, status: int) -> None:
    uid = bring_to(plain, state)
    assert set_attributes(plain, uid, lock, ProcedureStepLabel="Contour both") == status
    label = "Contour both" if status == 0 else "Contour the liver"
    assert get(plain, uid).ProcedureStepLabel == label


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, 0xC309),
        ({"ProcedureStepState": ""}, 0x0121),
        ({"ScheduledProcedureStepPriority": "URGENT"}, 0x0106),
        ({"InputReadinessState": ""}, 0x0121),
        ({"TransactionUID": LOCK}, 0x0106),
        ({"UnifiedProcedureStepPerformedProcedureSequence": performed()}, 0x0106),
    ],
)
def test_what_may_not_be_created_is_refused(plain: Association, changes: dict[str, object], status: int) -> None:
    answer, _ = plain.send_n_create(draft(**changes), ups.PUSH, "1.2.8.0")
    assert answer.Status == status
    missing = draft()
    del missing.ProcedureStepLabel
    answer, _ = plain.send_n_create(missing, ups.PUSH, "1.2.8.0")
    assert (answer.Status, answer.ErrorComment) == (0x0120, "attribute-missing (0074,1204)")


def test_what_is_there_is_not_created_twice_and_what_is_not_there_is_unknown(plain: Association) -> None:
    answer, _ = plain.send_n_create(draft(), ups.PUSH, create(plain))
    assert answer.Status == 0x0111
    assert move(plain, "1.2.8.99.1", "IN PROGRESS") == 0xC307
    assert set_attributes(plain, "1.2.8.99.1") == 0xC307
    assert act(plain, "1.2.8.99.1", CANCEL, context=ups.PUSH, ReasonForCancellation="x") == 0xC307
    assert act(plain, "1.2.8.99.1", SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0xC307


def test_actions_belong_to_their_sop_classes(plain: Association) -> None:
    uid = create(plain)
    assert act(plain, uid, CHANGE, context=ups.PUSH, ProcedureStepState="IN PROGRESS", TransactionUID=LOCK) == 0x0123
    assert act(plain, uid, SUBSCRIBE, context=ups.PULL, ReceivingAE=WATCHER) == 0x0123
    assert act(plain, uid, 9, context=ups.WATCH, ReceivingAE=WATCHER) == 0x0123
    assert act(plain, uid, SUSPEND, context=ups.WATCH, ReceivingAE=WATCHER) == 0xC314
    assert act(plain, uid, SUBSCRIBE, context=ups.WATCH, ReceivingAE="NOBODY") == 0xC308
    assert set_attributes(plain, uid, PatientName="Other^Name") == 0x0106


@pytest.mark.parametrize(
    ("state", "status"), [("SCHEDULED", 0), ("IN PROGRESS", 0xC312), ("COMPLETED", 0xC311), ("CANCELED", 0xB304)]
)
def test_a_request_to_cancel_ends_what_nobody_performs(plain: Association, state: str, status: int) -> None:
    uid = bring_to(plain, state)
    assert act(plain, uid, CANCEL, context=ups.PUSH, ReasonForCancellation="not needed") == status
    found = get(plain, uid)
    assert found.ProcedureStepState == ("CANCELED" if status == 0 else state)
    if status == 0:
        why = found.ProcedureStepProgressInformationSequence[0]
        assert (why.ReasonForCancellation, why.ProcedureStepCancellationDateTime[:8]) == ("not needed", "20250114")
        assert why.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_a_step_that_nobody_claimed_is_canceled_by_way_of_in_progress(worklist: Worklist, plain: Association) -> None:
    uid = create(plain)
    act(plain, uid, SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER)
    assert act(plain, uid, CANCEL, context=ups.WATCH, ReasonForCancellation="not needed") == 0
    states = ["SCHEDULED", "IN PROGRESS", "CANCELED"]
    assert worklist.told(WATCHER, uid) == [(ups.STATE_REPORT, state) for state in states]


def test_a_new_watcher_of_all_hears_of_what_is_there_only_if_he_locks_it(
    worklist: Worklist, plain: Association
) -> None:
    uid = create(plain)
    assert act(plain, ups.GLOBAL, SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0
    assert worklist.told(WATCHER, uid) == []
    act(plain, ups.GLOBAL, SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER, DeletionLock="TRUE")
    assert worklist.told(WATCHER, uid) == [(ups.STATE_REPORT, "SCHEDULED")]
    assert act(plain, ups.GLOBAL, UNSUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0


def test_a_performer_who_listens_is_asked_to_cancel(worklist: Worklist, plain: Association) -> None:
    uid = bring_to(plain, "IN PROGRESS")
    act(plain, uid, SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER)
    assert act(plain, uid, CANCEL, context=ups.WATCH, ReasonForCancellation="wrong patient") == 0
    assert get(plain, uid).ProcedureStepState == "IN PROGRESS"
    assert worklist.told(WATCHER, uid)[-1] == (ups.CANCEL_REQUESTED, "")


def test_who_watches_all_hears_of_new_ones_until_he_suspends(worklist: Worklist, plain: Association) -> None:
    assert act(plain, ups.GLOBAL, SUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0
    first = create(plain)
    assert act(plain, ups.GLOBAL, SUSPEND, context=ups.WATCH, ReceivingAE=WATCHER) == 0
    second = create(plain)
    assert move(plain, first, "IN PROGRESS") == 0
    heard = [(ups.STATE_REPORT, "SCHEDULED"), (ups.ASSIGNED, ""), (ups.STATE_REPORT, "IN PROGRESS")]
    assert worklist.told(WATCHER, first) == heard
    assert worklist.told(WATCHER, second) == []
    assert act(plain, ups.GLOBAL, UNSUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0
    assert move(plain, first, "CANCELED") == 0
    assert worklist.told(WATCHER, first) == heard


def test_who_watches_some_hears_of_those_that_match(worklist: Worklist, plain: Association) -> None:
    keys = {"ReceivingAE": WATCHER, "DeletionLock": "FALSE", "WorklistLabel": "dose"}
    assert act(plain, ups.FILTERED_GLOBAL, SUBSCRIBE, context=ups.WATCH, **keys) == 0
    heard, other = create(plain, WorklistLabel="dose"), create(plain)
    assert worklist.told(WATCHER, heard) == [(ups.STATE_REPORT, "SCHEDULED"), (ups.ASSIGNED, "")]
    assert worklist.told(WATCHER, other) == []
    assert act(plain, ups.FILTERED_GLOBAL, UNSUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER) == 0


def test_workitems_are_found_by_what_stations_ask_for(plain: Association) -> None:
    here = create(plain, ScheduledStationNameCodeSequence=[code("mr-9")], WorklistLabel="search")
    there = create(plain, ScheduledProcedureStepStartDateTime="20250201080000", WorklistLabel="search")

    def uids(**keys: Any) -> set[str]:
        return {one.SOPInstanceUID for one in find(plain, WorklistLabel="search", SOPInstanceUID="", **keys)}

    station = Dataset()
    station.CodeValue = "mr-9"
    assert {one.SOPInstanceUID for one in find(plain, SOPInstanceUID=[here, there, "1.2.8.99"])} == {here, there}
    assert uids() == {here, there}
    assert uids(ScheduledStationNameCodeSequence=[station]) == {here}
    assert uids(ScheduledProcedureStepStartDateTime="20250201-20250301") == {there}
    assert uids(ScheduledProcedureStepStartDateTime="-20250131235959") == {here}
    assert uids(PatientName="müller*", PatientID="P-?") == {here, there}
    assert uids(PatientID="P-8") == set()
    assert uids(ProcedureStepState="COMPLETED") == set()


def test_a_job_is_a_workitem_that_others_watch_and_cancel(worklist: Worklist, plain: Association) -> None:
    books = worklist.books
    first, second = books.add_job().job_id, books.add_job(study="1.2.4").job_id
    reliable = {"ReceivingAE": WATCHER, "DeletionLock": "TRUE"}
    assert act(plain, ups.GLOBAL, SUBSCRIBE, context=ups.WATCH, **reliable) == 0xB301
    done, ended = uid_of_job(first), uid_of_job(second)
    assert {one.SOPInstanceUID for one in find(plain, ups.WATCH, WorklistLabel="radnode", SOPInstanceUID="")} == {
        done,
        ended,
    }
    assert move(plain, done, "IN PROGRESS") == 0x0124
    job = books.jobs.claim_job(first, owner="w", lease_s=60.0, now=at(1))
    assert job is not None
    assert move(plain, done, "COMPLETED") == 0xC301
    result = make_result(job)
    books.jobs.finish_job(job, make_outcome(result), now=at(3))
    assert act(plain, ended, CANCEL, context=ups.PUSH, ReasonForCancellation="not wanted") == 0
    while worklist.subscriptions.follow_jobs(now=at(4)):
        pass
    found = get(plain, done)
    output = found.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence[0]
    assert output.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == result.sop_instance_uid
    assert output.StudyInstanceUID == STUDY
    assert output.WADORSRetrievalSequence[0].RetrieveURL.startswith("http://node.example/dicom-web/studies/")
    states = [state for _, state in worklist.told(WATCHER, done)]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    canceled = get(plain, ended)
    assert canceled.ProcedureStepState == "CANCELED"
    why = canceled.ProcedureStepProgressInformationSequence[0]
    assert why.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "canceled-by-hand"
    assert "not wanted" in why.ReasonForCancellation
    assert act(plain, done, CANCEL, context=ups.PUSH, ReasonForCancellation="too late") == 0xC311
    assert books.view.find_job(second).state is JobState.CANCELED
    act(plain, ups.GLOBAL, UNSUBSCRIBE, context=ups.WATCH, ReceivingAE=WATCHER)


def test_what_is_announced_and_does_not_come_is_empty(books: Books, tmp_path: Path) -> None:
    """pynetdicom announces an empty Attribute List, and sends none."""
    services = services_on(books, lambda _: None)
    with (
        listening_for(services, tmp_path, dimse_timeout_s=9.0) as port,
        contextmanager(_associate)(port, ImplicitVRLittleEndian) as scu,
    ):
        uid = create(scu, WorklistLabel="")
        assert act(scu, uid, CANCEL, context=ups.PUSH) == 0
        # And the Association goes on.
        found = get(scu, uid)
        assert (found.ProcedureStepState, found.WorklistLabel) == ("CANCELED", "radnode")


def test_who_looked_is_in_the_audit_trail_and_patients_are_not(worklist: Worklist, plain: Association) -> None:
    find(plain, PatientName="Müller*")
    record = worklist.records[-1]
    assert (record.kind, record.facts["visitor"]) == ("workitems-searched", "PLANNER")
    assert "ller" not in repr(record)
