"""Systems that we did not write create, claim, perform, watch and cancel workitems over HTTP, and by WebSocket."""

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import requests
from pydicom import Dataset
from pynetdicom import AE
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from node.accounts.registry import TokenOrder
from node.dimse.workitems import Acquaintance, Surroundings, WorkitemService
from node.domain import workitem as ups
from node.domain.account import Right
from node.domain.workitem import DataSet, code_item, element
from node.ledger.job_workitems import uid_of_job
from node.ledger.subscriptions import SubscriptionLedger
from node.ledger.workitems import WorkitemLedger
from tests.ledgers import NOON, Books
from tests.listeners import AET, listening_for
from tests.peers import wait_until
from tests.websites import LIMIT_S, Website, website

JSON, XML = "application/dicom+json", "application/dicom+xml"
LOCK, OTHER_LOCK = "1.2.9.1", "1.2.9.2"
NAMES = count(1)
CLASSES = (ups.PUSH, ups.PULL, ups.WATCH)
INCONSISTENT = '299 radnode: "The submitted request is inconsistent with the state of the UPS Instance."'
UID_MISSING = '299 radnode: "The Transaction UID is missing."'
UID_INCORRECT = '299 radnode: "The Transaction UID is incorrect."'
PERFORMED = element(
    "SQ",
    {
        ups.PERFORMED_STATION_CODE: element("SQ", code_item("ws-1", "99SITE", "ws-1")),
        ups.PERFORMED_WORKITEM_CODE: element("SQ", code_item("contour", "99SITE", "contour")),
        ups.PERFORMED_START: element("DT", "20250114130000"),
        ups.PERFORMED_END: element("DT", "20250114130500"),
        ups.OUTPUT_INFORMATION: {"vr": "SQ", "Value": []},
    },
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site"), clock=lambda: NOON) as running:
        yield running


def draft(**changes: Any) -> dict[str, Any]:
    """Return the attributes with which a planner creates a workitem (PS3.4 table CC.2.5-3)."""
    return {
        ups.PROCEDURE_STEP_STATE: element("CS", "SCHEDULED"),
        ups.PRIORITY: element("CS", "MEDIUM"),
        ups.STEP_LABEL: element("LO", "Contour the liver"),
        ups.WORKLIST_LABEL: element("LO", "planning"),
        ups.INPUT_READINESS: element("CS", "READY"),
        ups.SCHEDULED_START: element("DT", "20250114130000"),
        ups.PATIENT_NAME: element("PN", {"Alphabetic": "Müller^Jürgen"}),
        ups.PATIENT_ID: element("LO", "P-7"),
        **changes,
    }


def ask(
    site: Website, method: str, path: str, model: DataSet | None = None, *, headers: Mapping[str, str] | None = None
) -> requests.Response:
    body = None if model is None else json.dumps(model).encode()
    told = {"Authorization": f"Bearer {site.token}", "Content-Type": JSON, **(headers or {})}
    return requests.request(method, f"{site.url}{path}", data=body, headers=told, timeout=LIMIT_S)


def create(site: Website, **changes: Any) -> str:
    uid = f"1.2.7.{next(NAMES)}"
    answer = ask(site, "POST", f"/workitems?{uid}", draft(**changes))
    assert (answer.status_code, answer.content) == (201, b""), answer.text
    url = f"{site.url}/workitems/{uid}"
    assert (answer.headers["Location"], answer.headers["Content-Location"]) == (url, url)
    return uid


def move(site: Website, uid: str, state: str, lock: str = LOCK) -> requests.Response:
    model = {ups.PROCEDURE_STEP_STATE: element("CS", state), ups.TRANSACTION_UID: element("UI", *filter(None, [lock]))}
    return ask(site, "PUT", f"/workitems/{uid}/state", model)


def change(site: Website, uid: str, lock: str = "", **attributes: Any) -> requests.Response:
    return ask(site, "POST", f"/workitems/{uid}{f'?{lock}' if lock else ''}", attributes)


def get(site: Website, uid: str) -> DataSet:
    answer = ask(site, "GET", f"/workitems/{uid}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON)
    found: DataSet = answer.json()
    return found


def state_of(site: Website, uid: str) -> str:
    return ups.text_of(get(site, uid), ups.PROCEDURE_STEP_STATE)


def bring_to(site: Website, state: str) -> str:
    """Return a new workitem that was brought to a state."""
    uid = create(site)
    if state != "SCHEDULED":
        assert move(site, uid, "IN PROGRESS").status_code == 200
    if state == "COMPLETED":
        assert change(site, uid, LOCK, **{ups.PERFORMED_PROCEDURE: PERFORMED}).status_code == 200
    if state in {"COMPLETED", "CANCELED"}:
        assert move(site, uid, state).status_code == 200
    return uid


def channel(site: Website, aet: str, **headers: str) -> ClientConnection:
    told = headers or {"Authorization": f"Bearer {site.token}"}
    url = f"ws://127.0.0.1:{site.port}/dicom-web/subscribers/{aet}"
    return connect(url, additional_headers=told, open_timeout=LIMIT_S, close_timeout=LIMIT_S, ping_interval=None)


def hear(channel: ClientConnection) -> tuple[str, int, str]:
    """Return what is told next: of which workitem, event type, and state where it is one."""
    told = json.loads(channel.recv(timeout=LIMIT_S))
    assert (told["00000002"]["Value"], told["00000100"]["Value"]) == ([ups.PUSH], [0x0100])
    uid, event_type = ups.text_of(told, "00001000"), int(ups.text_of(told, "00001002"))
    return uid, event_type, ups.text_of(told, ups.PROCEDURE_STEP_STATE)


def test_a_planner_creates_a_performer_claims_and_completes_and_a_watcher_hears_of_it(site: Website) -> None:
    uid = create(site)
    answer = ask(site, "POST", f"/workitems/{uid}/subscribers/WATCHER?deletionlock=true")
    where = f"ws://127.0.0.1:{site.port}/dicom-web/subscribers/WATCHER"
    assert (answer.status_code, answer.headers["Content-Location"]) == (201, where)
    with channel(site, "WATCHER") as first, channel(site, "WATCHER") as second:
        assert hear(first) == (uid, ups.STATE_REPORT, "SCHEDULED")
        (waiting,) = ask(site, "GET", f"/workitems?ProcedureStepState=SCHEDULED&SOPInstanceUID={uid}").json()
        assert ups.text_of(waiting, ups.PATIENT_NAME) == "Müller^Jürgen"
        assert move(site, uid, "IN PROGRESS").status_code == 200
        progress = {ups.PROGRESS_INFORMATION: element("SQ", {ups.PROGRESS: element("DS", 40)})}
        assert change(site, uid, LOCK, **progress).status_code == 200
        named = ask(site, "POST", f"/workitems/{uid}?transaction-uid={LOCK}", {ups.PERFORMED_PROCEDURE: PERFORMED})
        assert (named.status_code, named.headers["Content-Location"]) == (200, f"{site.url}/workitems/{uid}")
        assert move(site, uid, "COMPLETED").status_code == 200
        told = [hear(first) for _ in range(3)]
        assert told == [
            (uid, ups.STATE_REPORT, "IN PROGRESS"),
            (uid, ups.PROGRESS_REPORT, ""),
            (uid, ups.STATE_REPORT, "COMPLETED"),
        ]
        # Whoever came second heard at least what happened since.
        while (last := hear(second)) != told[-1]:
            assert last[0] == uid
    found = get(site, uid)
    assert float(ups.text_of(ups.items_of(found, ups.PROGRESS_INFORMATION)[0], ups.PROGRESS)) == 40
    assert (ups.text_of(found, ups.SOP_CLASS_UID), ups.TRANSACTION_UID in found) == (ups.PUSH, False)
    assert ask(site, "DELETE", f"/workitems/{uid}/subscribers/WATCHER").status_code == 200
    assert ask(site, "DELETE", f"/workitems/{uid}/subscribers/WATCHER").status_code == 404


# Tables CC.1.1-2 of PS3.4, and 11.7.3-1 of PS3.18: with the right Transaction UID.
TRANSITIONS = [
    ("SCHEDULED", "SCHEDULED", 400),
    ("SCHEDULED", "IN PROGRESS", 200),
    ("SCHEDULED", "COMPLETED", 409),
    ("SCHEDULED", "CANCELED", 409),
    ("IN PROGRESS", "SCHEDULED", 400),
    ("IN PROGRESS", "IN PROGRESS", 409),
    ("IN PROGRESS", "COMPLETED", 409),
    ("IN PROGRESS", "CANCELED", 200),
    ("COMPLETED", "SCHEDULED", 400),
    ("COMPLETED", "IN PROGRESS", 409),
    ("COMPLETED", "COMPLETED", 200),
    ("COMPLETED", "CANCELED", 409),
    ("CANCELED", "SCHEDULED", 400),
    ("CANCELED", "IN PROGRESS", 409),
    ("CANCELED", "COMPLETED", 409),
    ("CANCELED", "CANCELED", 200),
]


@pytest.mark.parametrize("state", ["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"])
def test_every_transition_has_the_status_of_the_standard(site: Website, state: str) -> None:
    uid = bring_to(site, state)
    for begin, wanted, status in TRANSITIONS:
        if begin != state or (status == 200 and wanted != state):
            continue
        if wanted != "SCHEDULED":
            refused = move(site, uid, wanted, lock="")
            assert (refused.status_code, refused.headers["Warning"]) == (400, UID_MISSING)
            if state != "SCHEDULED":
                # Any Transaction UID is the right one of a workitem that nobody performs.
                refused = move(site, uid, wanted, lock=OTHER_LOCK)
                assert (refused.status_code, refused.headers["Warning"]) == (400, UID_INCORRECT)
        answer = move(site, uid, wanted)
        already = f'299 radnode: "The UPS is already in the requested state of {wanted}."'
        assert (answer.status_code, answer.headers["Warning"]) == (status, already if status == 200 else INCONSISTENT)
    assert state_of(site, uid) == state


@pytest.mark.parametrize(
    ("state", "lock", "status", "warning"),
    [
        ("SCHEDULED", "", 200, None),
        ("SCHEDULED", LOCK, 400, UID_INCORRECT),
        ("IN PROGRESS", LOCK, 200, None),
        ("IN PROGRESS", "", 400, UID_MISSING),
        ("IN PROGRESS", OTHER_LOCK, 400, UID_INCORRECT),
        ("COMPLETED", LOCK, 400, INCONSISTENT),
        ("CANCELED", LOCK, 400, INCONSISTENT),
    ],
)
def test_only_the_performer_changes_a_workitem(
    site: Website, state: str, lock: str, status: int, warning: str | None
) -> None:
    uid = bring_to(site, state)
    answer = change(site, uid, lock, **{ups.STEP_LABEL: element("LO", "Contour both")})
    assert (answer.status_code, answer.headers.get("Warning")) == (status, warning)
    label = "Contour both" if status == 200 else "Contour the liver"
    assert ups.text_of(get(site, uid), ups.STEP_LABEL) == label


@pytest.mark.parametrize(
    ("state", "status", "warning"),
    [
        ("SCHEDULED", 202, None),
        ("IN PROGRESS", 409, '299 radnode: "The performer cannot be contacted."'),
        ("COMPLETED", 409, '299 radnode: "The UPS is already COMPLETED."'),
        ("CANCELED", 202, '299 radnode: "The UPS is already in the requested state of CANCELED."'),
    ],
)
def test_a_request_to_cancel_ends_what_nobody_performs(
    site: Website, state: str, status: int, warning: str | None
) -> None:
    uid = bring_to(site, state)
    answer = ask(site, "POST", f"/workitems/{uid}/cancelrequest")
    assert (answer.status_code, answer.headers.get("Warning")) == (status, warning)
    assert state_of(site, uid) == ("CANCELED" if status == 202 else state)


def test_a_performer_who_listens_is_asked_to_cancel(site: Website) -> None:
    uid = bring_to(site, "IN PROGRESS")
    assert ask(site, "POST", f"/workitems/{uid}/subscribers/PERFORMER").status_code == 201
    reason = {ups.REASON_FOR_CANCELLATION: element("LT", "wrong patient"), ups.CONTACT_NAME: element("LO", "Ward 3")}
    assert ask(site, "POST", f"/workitems/{uid}/cancelrequest", reason).status_code == 202
    with channel(site, "PERFORMER") as performer:
        assert hear(performer) == (uid, ups.STATE_REPORT, "IN PROGRESS")
        told = json.loads(performer.recv(timeout=LIMIT_S))
    assert ups.text_of(told, "00001002") == str(ups.CANCEL_REQUESTED)
    assert {tag: told[tag] for tag in reason} == reason
    assert ups.text_of(told, ups.REQUESTING_AE)


def test_workitems_are_found_by_what_stations_ask_for_page_by_page(site: Website) -> None:
    station = {ups.STATION_NAME_CODE: element("SQ", code_item("mr-9", "99SITE", "MR 9"))}
    label = {ups.WORKLIST_LABEL: element("LO", "search")}
    here, there = create(site, **label, **station), create(site, **label)

    def search(query: str, status: int = 200) -> list[str]:
        answer = ask(site, "GET", f"/workitems?WorklistLabel=search{query}")
        assert answer.status_code == status, answer.text
        return [ups.text_of(one, ups.SOP_INSTANCE_UID) for one in answer.json()] if answer.content else []

    assert search("") == [there, here]
    assert search("&ScheduledStationNameCodeSequence.CodeValue=mr-9") == [here]
    assert search("&PatientName=m%C3%BCller*&00100020=P-%3F") == [there, here]
    assert search("&limit=1", 206) == [there]
    assert search("&limit=1&offset=1") == [here]
    assert search("&ProcedureStepState=COMPLETED", 204) == []
    answer = ask(site, "GET", "/workitems?WorklistLabel=search&NoSuchThing=1&limit=1")
    assert answer.headers["Warning"].count("299 radnode:") == 2
    (told,) = ask(site, "GET", f"/workitems?SOPInstanceUID={here}&includefield=all").json()
    assert told == get(site, here)


def test_workitems_are_spoken_of_in_xml(site: Website) -> None:
    uid = create(site)
    answer = ask(site, "GET", f"/workitems/{uid}", headers={"Accept": XML})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, XML)
    root = ET.fromstring(answer.content)
    assert root.find("{*}DicomAttribute[@keyword='ProcedureStepLabel']/{*}Value") is not None
    again = f"1.2.7.{next(NAMES)}"
    for attribute in [one for one in root if one.get("keyword") in {"SOPInstanceUID", "SOPClassUID"}]:
        root.remove(attribute)
    told = {"Authorization": f"Bearer {site.token}", "Content-Type": XML}
    url = f"{site.url}/workitems?workitem={again}"
    assert requests.post(url, data=ET.tostring(root), headers=told, timeout=LIMIT_S).status_code == 201
    assert ups.text_of(get(site, again), ups.PATIENT_NAME) == "Müller^Jürgen"
    several = {"Accept": f'multipart/related; type="{XML}"'}
    both = ask(site, "GET", f"/workitems?SOPInstanceUID={uid},{again}", headers=several)
    assert (both.status_code, both.content.count(b"<NativeDicomModel")) == (200, 2)


def test_who_watches_all_hears_of_new_ones_also_of_what_came_while_nobody_listened(site: Website) -> None:
    watch = f"/workitems/{ups.FILTERED_GLOBAL}/subscribers/DOSE"
    assert ask(site, "POST", f"{watch}?filter=WorklistLabel=dose").status_code == 201
    label = {ups.WORKLIST_LABEL: element("LO", "dose")}
    missed = create(site, **label)
    with channel(site, "DOSE") as watcher:
        assert hear(watcher) == (missed, ups.STATE_REPORT, "SCHEDULED")
        create(site)
        heard = create(site, **label)
        assert hear(watcher) == (heard, ups.STATE_REPORT, "SCHEDULED")
    ledger = SubscriptionLedger(site.services.engine)
    wait_until(lambda: not ledger.due_events(["DOSE"], now=NOON), what="the mark behind what was heard")
    assert ask(site, "POST", f"{watch}/suspend").status_code == 200
    create(site, **label)
    assert move(site, missed, "IN PROGRESS").status_code == 200
    with channel(site, "DOSE") as watcher:
        # Told once, and no more of what is new.
        assert hear(watcher) == (missed, ups.STATE_REPORT, "IN PROGRESS")
    assert ask(site, "DELETE", watch).status_code == 200
    assert ask(site, "POST", f"{watch}/suspend").status_code == 404
    warning = ask(site, "POST", f"/workitems/{ups.GLOBAL}/subscribers/DOSE?deletionlock=true").headers["Warning"]
    assert warning == '299 radnode: "Deletion Lock not granted."'
    assert ask(site, "DELETE", f"/workitems/{ups.GLOBAL}/subscribers/DOSE").status_code == 200


def test_what_a_dicom_peer_creates_is_watched_over_http_and_a_job_is_performed_by_the_node(site: Website) -> None:
    engine, books = site.services.engine, Books(str(site.services.settings.ledger_url))
    known = Acquaintance(pipelines=frozenset(), subscribers=frozenset())
    surroundings = Surroundings(clock=lambda: NOON, record=lambda _: None, told=lambda: None)
    service = WorkitemService(WorkitemLedger(engine), SubscriptionLedger(engine), known, surroundings)
    assert ask(site, "POST", f"/workitems/{ups.GLOBAL}/subscribers/CROSS").status_code == 201
    ds = Dataset.from_json({**draft(), ups.TRANSACTION_UID: element("UI")})
    uid = f"1.2.7.{next(NAMES)}"
    with listening_for(service.services(), site.folder) as port, channel(site, "CROSS") as watcher:
        peer = AE(ae_title="PLANNER")
        for name in CLASSES:
            peer.add_requested_context(name)
        assoc = peer.associate("127.0.0.1", port, ae_title=AET)
        assert assoc.send_n_create(ds, ups.PUSH, uid)[0].Status == 0
        assoc.release()
        assert hear(watcher) == (uid, ups.STATE_REPORT, "SCHEDULED")
    job = books.add_job()
    books.close()
    refused = move(site, uid_of_job(job.job_id), "IN PROGRESS")
    assert (refused.status_code, refused.json()["code"]) == (403, "not-authorized")
    assert ask(site, "POST", f"/workitems/{uid_of_job(job.job_id)}/cancelrequest").status_code == 202
    assert state_of(site, uid_of_job(job.job_id)) == "CANCELED"
    ask(site, "DELETE", f"/workitems/{ups.GLOBAL}/subscribers/CROSS")


NEW = "1.2.7.0"
SCHEDULED: DataSet = draft()


@pytest.mark.parametrize(
    ("method", "path", "model", "status", "code"),
    [
        ("POST", f"/workitems?{NEW}", {**SCHEDULED, ups.PROCEDURE_STEP_STATE: element("CS", "COMPLETED")}, 400,
         "not-created-scheduled"),
        ("POST", f"/workitems?{NEW}", {ups.STEP_LABEL: element("LO", "x")}, 400, "attribute-missing"),
        ("POST", f"/workitems?{NEW}", {**SCHEDULED, ups.SOP_INSTANCE_UID: element("UI", "1.2")}, 400,
         "attribute-invalid"),
        ("POST", f"/workitems?{NEW}", {**SCHEDULED, ups.SOP_CLASS_UID: element("UI", "1.2")}, 400,
         "attribute-invalid"),
        ("POST", "/workitems?workitem=..", SCHEDULED, 400, "bad-identifier"),
        ("POST", f"/workitems/{NEW}", {ups.STEP_LABEL: element("LO", "x")}, 404, "workitem-unknown"),
        ("PUT", f"/workitems/{NEW}/state", {ups.PROCEDURE_STEP_STATE: element("CS", "CANCELED")}, 404,
         "workitem-unknown"),
        ("PUT", f"/workitems/{NEW}/state", {}, 400, "attribute-missing"),
        ("PUT", "/workitems/%2E%2E%2Fstudies/state", {}, 404, "not-found"),
        ("GET", "/workitems/..%5Cx", None, 400, "bad-identifier"),
        ("GET", f"/workitems/{NEW}", None, 404, "workitem-unknown"),
        ("GET", "/workitems?limit=many", None, 400, "request-malformed"),
        ("POST", f"/workitems/{NEW}/cancelrequest", None, 404, "workitem-unknown"),
        ("POST", f"/workitems/{NEW}/subscribers/WATCHER", None, 404, "workitem-unknown"),
        ("POST", f"/workitems/{ups.GLOBAL}/subscribers/{'A' * 17}", None, 400, "request-malformed"),
        ("POST", f"/workitems/{ups.GLOBAL}/subscribers/A?deletionlock=1", None, 400, "request-malformed"),
        ("POST", f"/workitems/{ups.FILTERED_GLOBAL}/subscribers/A", None, 400, "request-malformed"),
        ("POST", f"/workitems/{NEW}/subscribers/A/suspend", None, 400, "action-unfit"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_status(
    site: Website, method: str, path: str, model: DataSet | None, status: int, code: str
) -> None:
    answer = ask(site, method, path, model)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert ask(site, "GET", f"/workitems/{NEW}").status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", JSON, 400, "request-malformed"),
        (b"<!DOCTYPE x><NativeDicomModel/>", XML, 400, "request-malformed"),
        (b"{}", "text/html", 415, "media-type-not-supported"),
        (b"[" + b" " * (5 * 2**20), JSON, 413, "too-large"),
    ],
)
def test_a_body_that_is_no_data_set_is_refused(
    site: Website, content: bytes, kind: str, status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {site.token}", "Content-Type": kind}
    answer = requests.post(f"{site.url}/workitems?{NEW}", data=content, headers=headers, timeout=LIMIT_S)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_is_there_is_not_created_twice_and_one_without_a_uid_is_given_one(site: Website) -> None:
    assert ask(site, "POST", f"/workitems?{create(site)}", draft()).status_code == 409
    given = ask(site, "POST", "/workitems", draft()).headers["Location"].rpartition("/")[2]
    assert (given.startswith("2.25."), state_of(site, given)) == (True, "SCHEDULED")


@contextmanager
def token_for(site: Website, *rights: Right) -> Iterator[Mapping[str, str]]:
    name = f"test-{next(NAMES)}"
    secret = site.services.registry.add_token(TokenOrder(name=name, scopes=frozenset(rights)), by="test")
    yield {"Authorization": f"Bearer {secret}"}


def test_readers_look_and_listen_and_change_nothing(site: Website) -> None:
    uid = create(site)
    with token_for(site, Right.READ) as reader:
        assert ask(site, "GET", f"/workitems/{uid}", headers=reader).status_code == 200
        for method, path in (
            ("POST", f"/workitems?{NEW}"),
            ("POST", f"/workitems/{uid}"),
            ("PUT", f"/workitems/{uid}/state"),
            ("POST", f"/workitems/{uid}/cancelrequest"),
            ("POST", f"/workitems/{uid}/subscribers/A"),
            ("DELETE", f"/workitems/{uid}/subscribers/A"),
        ):
            assert ask(site, method, path, {}, headers=reader).status_code == 403, path
        with channel(site, "A", **reader):
            pass
    with token_for(site, Right.STORE) as writer:
        # It may be a Job.
        assert ask(site, "POST", f"/workitems/{uid}/cancelrequest", headers=writer).status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            channel(site, "A", **writer)
    assert refused.value.response.status_code == 403


def test_a_channel_is_opened_for_our_own_pages_only(site: Website, caplog: pytest.LogCaptureFixture) -> None:
    cookie, _ = site.log_in()
    with channel(site, "A", **cookie, Origin=f"http://127.0.0.1:{site.port}"):
        pass
    for headers, status in (
        ({**cookie, "Origin": "https://elsewhere.example"}, 403),
        ({**cookie, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Authorization": "Bearer no-such-token"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            channel(site, "A", **headers)
        assert refused.value.response.status_code == status, headers
    with pytest.raises(InvalidStatus) as refused:
        channel(site, "A" * 17)
    assert refused.value.response.status_code == 400
    with site.connect() as connection, pytest.raises(InvalidStatus) as refused:
        connect("ws://elsewhere.example/dicom-web/subscribers/A", sock=connection, open_timeout=LIMIT_S)
    assert refused.value.response.status_code == 421
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


def test_a_subscriber_that_takes_nothing_loses_its_connection_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with website(tmp_path, stalled_s=0.2, clock=lambda: NOON) as site, site.connect() as slow:
        caplog.set_level(logging.INFO)
        uid = create(site)
        assert ask(site, "POST", f"/workitems/{uid}/subscribers/SLOW").status_code == 201
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = (
            "GET /dicom-web/subscribers/SLOW HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        slow.sendall("\r\n".join((*lines, "", "")).encode())
        assert slow.recv(32).startswith(b"HTTP/1.1 101 ")
        progress = {ups.PROGRESS_INFORMATION: element("SQ", {ups.PROGRESS_DESCRIPTION: element("UT", "x" * 3_900_000)})}
        for _ in range(2):
            assert change(site, uid, "", **progress).status_code == 200
        wait_until(lambda: "subscriber left" in caplog.messages, what="the end of the channel")
        assert "connection stalled" in caplog.messages
        assert state_of(site, uid) == "SCHEDULED"


def test_who_looked_is_in_the_audit_trail_and_patients_are_not(site: Website) -> None:
    assert ask(site, "GET", "/workitems?PatientName=M%C3%BCller*").status_code in {200, 206}
    wait_until(lambda: any(ups.PATIENT_NAME in repr(record) for record in site.told), what="the record")
    record = next(one for one in site.told if ups.PATIENT_NAME in repr(one))
    assert record.kind == "workitems-searched"
    assert "ller" not in repr(record)
