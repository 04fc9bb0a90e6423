"""Objects reach real peers as their files are, and every way in which a peer fails ends as it should."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from socket import socket
from typing import ClassVar

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import StoragePresentationContexts

from node.delivery.transport import open_transport
from node.errors import DestinationDown, LedgerBusy, Misconfigured
from node.peers.association import echo
from node.peers.dicomweb import DicomwebService
from node.peers.parcel import Fate, Outcome, Parcel
from node.peers.peer import DestinationSpec, Peer
from node.peers.sender import SentFile, send_files
from node.peers.status import UNPROCESSED_TRIES
from tests.objects import SEG, SR, data_set_bytes, parcel_of, write_object
from tests.peers import Orthanc, Storescp, free_port, spec_of, wait_until
from tests.scripted_scp import CALLING_AET_NOT_RECOGNIZED, Odd, Scp

# Label Map Segmentation Storage, which pynetdicom's own list of contexts lacks.
LABEL_MAP_SEG = UID("1.2.840.10008.5.1.4.1.1.66.7")
LONG_NAME = "Müller-Lüdenscheidt^Żółć Ångström=漢字^片仮名=かんじ^かたかな"
SHORT_S = 1.0


def send(spec: DestinationSpec, *parcels: Parcel) -> list[Outcome]:
    """Return the outcome of each parcel, in the order in which they were reported."""
    outcomes: list[Outcome] = []
    open_transport(spec).send(parcels, lambda _, outcome: outcomes.append(outcome))
    return outcomes


def results_of_a_study(folder: Path) -> list[Path]:
    return [
        write_object(folder, "seg", sop_class_uid=SEG, patient_name=LONG_NAME),
        write_object(folder, "sr", sop_class_uid=SR, patient_name=LONG_NAME, pixel_bytes=0),
        write_object(folder, "labels", sop_class_uid=LABEL_MAP_SEG, patient_name=LONG_NAME),
    ]


@pytest.fixture
def parcels(tmp_path: Path) -> list[Parcel]:
    return [parcel_of(path, number) for number, path in enumerate(results_of_a_study(tmp_path / "in"))]


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    with Orthanc(settings={"DicomCheckCalledAet": True, "DicomScpTimeout": 30}) as running:
        yield running


def stow_spec(url: str) -> DestinationSpec:
    return DestinationSpec(name="web", transport="stow", url=url, timeout_s=30.0)


# C-STORE


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_storescp_receives_the_bytes_of_the_file(tmp_path: Path, syntax: UID) -> None:
    path = write_object(tmp_path / "in", "a", transfer_syntax_uid=syntax, patient_name=LONG_NAME, pixel_bytes=300_000)
    with Storescp(tmp_path, "+xa") as scp:
        spec = DestinationSpec(name="pacs", transport="cstore", aet=scp.aet, host="127.0.0.1", port=scp.port)
        assert send(spec, parcel_of(path)) == [Outcome.sent()]
        wait_until(scp.files, what="storescp has a file")
    (received,) = scp.files()
    assert data_set_bytes(received) == data_set_bytes(path)
    assert dcmread(received).file_meta.TransferSyntaxUID == syntax


def test_orthanc_keeps_seg_and_sr_in_the_right_study(orthanc: Orthanc, parcels: list[Parcel]) -> None:
    assert send(spec_of(orthanc), *parcels) == [Outcome.sent()] * 3
    study = str(dcmread(parcels[0].path).StudyInstanceUID)
    modalities = {series["MainDicomTags"]["Modality"] for series in orthanc.series(study).values()}
    assert {"SEG", "SR"} <= modalities
    for parcel in parcels:
        assert dcmread(parcel.path) == read_from(orthanc, parcel.sop_instance_uid)


def read_from(orthanc: Orthanc, sop_instance_uid: str) -> object:
    """Return an Instance as Orthanc gives it out."""
    return dcmread(BytesIO(orthanc.file(sop_instance_uid)))


def test_results_of_a_study_travel_on_one_association_that_is_released(parcels: list[Parcel]) -> None:
    with Scp().running() as scp:
        assert send(scp.spec(), *parcels) == [Outcome.sent()] * 3
        wait_until(lambda: scp.released, what="the Association is released")
    assert (scp.associations, scp.stored) == (1, [parcel.sop_instance_uid for parcel in parcels])


@pytest.mark.parametrize("max_pdu", [0, 16, 4096])
def test_peer_may_ask_for_any_pdu_length(tmp_path: Path, max_pdu: int) -> None:
    path = write_object(tmp_path, "a", pixel_bytes=3000)
    with Scp(max_pdu=max_pdu).running() as scp:
        assert send(scp.spec(), parcel_of(path)) == [Outcome.sent()]


def test_more_than_128_contexts_take_a_second_association(tmp_path: Path) -> None:
    classes = [UID(str(context.abstract_syntax)) for context in StoragePresentationContexts]
    paths = [
        write_object(tmp_path, f"{sop_class_uid}-{syntax}", sop_class_uid=sop_class_uid, transfer_syntax_uid=syntax)
        for sop_class_uid in classes[:70]
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    ]
    with Scp().running() as scp:
        assert send(scp.spec(), *map(parcel_of, paths)) == [Outcome.sent()] * 140
    assert scp.associations == 2


def test_busy_peer_takes_the_object_at_the_second_attempt(parcels: list[Parcel]) -> None:
    with Scp(lambda number, _: 0xA700 if number == 1 else 0).running() as scp:
        first = send(scp.spec(), *parcels)
        assert [outcome.fate for outcome in first] == [Fate.RETRY, Fate.SENT, Fate.SENT]
        assert first[0].code == "destination-busy"
        assert send(scp.spec(), parcels[0]) == [Outcome.sent()]


def test_warning_counts_as_sent_and_is_told(parcels: list[Parcel]) -> None:
    with Scp(lambda *_: 0xB000).running() as scp:
        (outcome,) = send(scp.spec(), parcels[0])
    assert (outcome.fate, outcome.text) == (Fate.SENT, "status B000H: coercion of data elements")


def test_refused_sop_class_does_not_keep_the_others(parcels: list[Parcel]) -> None:
    with Scp(refused=(SEG,)).running() as scp:
        outcomes = send(scp.spec(), *parcels)
    assert [outcome.fate for outcome in outcomes] == [Fate.REFUSED, Fate.SENT, Fate.SENT]
    assert outcomes[0].code == "sop-class-not-supported"
    assert SEG in (outcomes[0].text or "")


def test_peer_that_takes_nothing_at_all_refuses_each_object(parcels: list[Parcel]) -> None:
    with Scp(refused=(SEG, SR, LABEL_MAP_SEG)).running() as scp:
        outcomes = send(scp.spec(), *parcels)
    assert {outcome.fate for outcome in outcomes} == {Fate.REFUSED}


def test_refused_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = write_object(tmp_path / "in", "a", transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    with Storescp(tmp_path, "+x=") as scp:
        spec = DestinationSpec(name="pacs", transport="cstore", aet=scp.aet, host="127.0.0.1", port=scp.port)
        (outcome,) = send(spec, parcel_of(path))
    assert outcome.fate is Fate.REFUSED
    assert DeflatedExplicitVRLittleEndian in (outcome.text or "")


def test_response_without_status_is_a_failure_and_then_retried(parcels: list[Parcel]) -> None:
    with Scp(lambda number, _: Odd.NO_STATUS if number == 1 else 0).running() as scp:
        outcomes = send(scp.spec(), *parcels)
        assert [outcome.fate for outcome in outcomes] == [Fate.RETRY, Fate.SENT, Fate.SENT]
        assert outcomes[0].code == "destination-down"
        assert scp.associations == 2
        assert send(scp.spec(), parcels[0]) == [Outcome.sent()]


def test_object_that_breaks_the_peer_does_not_keep_the_others(parcels: list[Parcel]) -> None:
    with Scp(lambda _, uid: Odd.ABORT if uid == SEG else 0).running() as scp:
        outcomes = send(scp.spec(), *parcels)
    assert [outcome.fate for outcome in outcomes] == [Fate.RETRY, Fate.SENT, Fate.SENT]


def test_peer_that_aborts_every_association_is_down(parcels: list[Parcel]) -> None:
    outcomes: list[Outcome] = []
    with Scp(lambda number, _: Odd.ABORT if number > 1 else 0).running() as scp:
        transport = open_transport(scp.spec())
        with pytest.raises(DestinationDown):
            transport.send([*parcels, *parcels], lambda _, outcome: outcomes.append(outcome))
    assert [outcome.fate for outcome in outcomes] == [Fate.SENT, Fate.RETRY, Fate.RETRY]


def test_silent_peer_is_left_after_the_timeout(parcels: list[Parcel]) -> None:
    outcomes: list[Outcome] = []
    with Scp(lambda *_: Odd.SILENCE).running() as scp:
        transport = open_transport(replace(scp.spec(), timeout_s=SHORT_S))
        with pytest.raises(DestinationDown, match="no response within 1 s"):
            transport.send(parcels, lambda _, outcome: outcomes.append(outcome))
    assert [outcome.code for outcome in outcomes] == ["destination-down"] * 2


def test_port_on_which_nobody_speaks_dicom_is_down(parcels: list[Parcel]) -> None:
    with socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        spec = replace(Scp(port=mute.getsockname()[1]).spec(), timeout_s=SHORT_S)
        with pytest.raises(DestinationDown, match="not answered"):
            send(spec, *parcels)


def test_destination_that_is_down_takes_the_study_when_it_is_up(parcels: list[Parcel]) -> None:
    scp = Scp()
    with pytest.raises(DestinationDown, match="no connection"):
        send(scp.spec(), *parcels)
    with scp.running():
        assert send(scp.spec(), *parcels) == [Outcome.sent()] * 3


def test_peer_that_does_not_know_us_needs_a_person(parcels: list[Parcel]) -> None:
    with Scp(reject=CALLING_AET_NOT_RECOGNIZED).running() as scp, pytest.raises(Misconfigured, match="RADNODE"):
        send(scp.spec(), *parcels)


def test_error_of_the_ledger_ends_the_association_and_loses_nothing(parcels: list[Parcel]) -> None:
    def fail(parcel: Parcel, outcome: Outcome) -> None:
        raise LedgerBusy("locked")

    with Scp().running() as scp:
        with pytest.raises(LedgerBusy):
            open_transport(scp.spec()).send(parcels, fail)
        assert scp.stored == [parcels[0].sop_instance_uid]


def test_file_that_is_absent_or_another_is_reported_without_a_connection(tmp_path: Path) -> None:
    parcel = parcel_of(write_object(tmp_path, "a"))
    other = write_object(tmp_path, "b", study="other")
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    wrong = [replace(parcel, path=path) for path in (tmp_path / "absent.dcm", other, text)]
    outcomes = send(Scp().spec(), *wrong)
    assert [outcome.code for outcome in outcomes] == ["file-unreadable", "uid-mismatch", "not-dicom"]


@pytest.mark.parametrize("transport", ["cstore", "stow", "folder"])
def test_file_that_is_shorter_than_when_it_was_stored_does_not_leave(transport: str, tmp_path: Path) -> None:
    """Had a disk lost its end, the PACS would store half a Result."""
    whole = parcel_of(write_object(tmp_path / "in", "whole"), 1)
    other = parcel_of(write_object(tmp_path / "in", "cut"), 2)
    cut = replace(other, size_bytes=other.path.stat().st_size + 2)
    with Scp().running() as scp, web_server([200]) as (url, requests):
        urls = {"stow": url, "folder": str(tmp_path / "out")}
        outcomes = send(replace(scp.spec(), transport=transport, url=urls.get(transport, "")), cut, whole)
    assert [(outcome.fate, outcome.code) for outcome in outcomes] == [
        (Fate.REFUSED, "file-unreadable"),
        (Fate.SENT, None),
    ]
    assert cut.path.read_bytes() not in b"".join(requests)
    assert scp.stored == ([whole.sop_instance_uid] if transport == "cstore" else [])
    assert [path.name for path in (tmp_path / "out").rglob("*.dcm")] == (
        [f"{whole.sop_instance_uid}.dcm"] if transport == "folder" else []
    )


def test_no_response_is_lost_in_many_sends(tmp_path: Path) -> None:
    paths = [write_object(tmp_path / "in", str(number)) for number in range(20)]
    with Storescp(tmp_path) as scp:
        spec = DestinationSpec(name="pacs", transport="cstore", aet=scp.aet, host="127.0.0.1", port=scp.port)
        for _ in range(25):
            assert send(spec, *map(parcel_of, paths)) == [Outcome.sent()] * 20


# Without a ledger: `radnode send` and the simulated modality


def test_files_are_sent_on_several_associations(tmp_path: Path) -> None:
    paths = [write_object(tmp_path / "in", str(number)) for number in range(9)]
    text = tmp_path / "in" / "text.dcm"
    text.write_text("no DICOM")
    seen: list[SentFile] = []
    with Scp().running() as scp:
        peer = Peer(aet="SCP", host="127.0.0.1", port=scp.port)
        report = send_files([*paths, text], peer, associations=3, progress=seen.append)
    assert (report.sent, scp.associations, len(seen)) == (9, 3, 10)
    assert sorted(scp.stored) == sorted(parcel_of(path).sop_instance_uid for path in paths)
    assert [file.path for file in report.files] == [*paths, text]
    assert [(file.path, file.outcome.code) for file in report.failed] == [(text, "not-dicom")]
    assert report.sent_bytes == sum(path.stat().st_size for path in paths)


def test_file_that_is_named_twice_is_sent_and_reported_twice(tmp_path: Path) -> None:
    one, two = (write_object(tmp_path, key) for key in ("one", "two"))
    with Scp().running() as scp:
        report = send_files([one, two, one], Peer(aet="SCP", host="127.0.0.1", port=scp.port), associations=2)
    assert [file.path for file in report.files] == [one, two, one]
    assert (report.sent, scp.requests) == (3, 3)


def test_files_that_nobody_takes_are_reported_with_the_reason(tmp_path: Path) -> None:
    paths = [write_object(tmp_path, str(number)) for number in range(3)]
    report = send_files(paths, Peer(aet="SCP", host="127.0.0.1", port=free_port()))
    assert (report.sent, [file.outcome.code for file in report.failed]) == (0, ["destination-down"] * 3)


def test_echo_is_answered(orthanc: Orthanc) -> None:
    echo(Peer(aet=orthanc.aet, host="127.0.0.1", port=orthanc.dicom_port))


def test_echo_says_in_words_why_it_fails(orthanc: Orthanc) -> None:
    right = Peer(aet=orthanc.aet, host="127.0.0.1", port=orthanc.dicom_port, timeout_s=5.0)
    with pytest.raises(DestinationDown, match=r"Connection refused.*check host and port"):
        echo(replace(right, port=free_port()))
    with pytest.raises(DestinationDown, match="another AE title than WRONG"):
        echo(replace(right, aet="WRONG"))
    with pytest.raises(DestinationDown, match="cannot be resolved"):
        echo(replace(right, host="no-such-host.invalid"))
    with Scp(reject=CALLING_AET_NOT_RECOGNIZED).running() as scp, pytest.raises(DestinationDown, match="register"):
        echo(replace(right, aet="SCP", port=scp.port))
    with Scp(refused=(UID("1.2.840.10008.1.1"),)).running() as scp, pytest.raises(DestinationDown, match="C-ECHO"):
        echo(replace(right, aet="SCP", port=scp.port))


# STOW-RS


def test_orthanc_takes_results_by_stow_as_they_are(orthanc: Orthanc, tmp_path: Path) -> None:
    paths = [
        write_object(tmp_path, "seg", sop_class_uid=SEG, study="stow", patient_name=LONG_NAME, pixel_bytes=3_000_000),
        write_object(tmp_path, "sr", sop_class_uid=SR, study="stow", patient_name=LONG_NAME, pixel_bytes=0),
    ]
    assert send(stow_spec(orthanc.dicomweb_url), *map(parcel_of, paths)) == [Outcome.sent()] * 2
    for path in paths:
        assert orthanc.file(parcel_of(path).sop_instance_uid) == path.read_bytes()


def test_part_that_is_no_dicom_does_not_keep_the_other_from_orthanc(orthanc: Orthanc, tmp_path: Path) -> None:
    good = parcel_of(write_object(tmp_path, "good", study="stow-bad"), 1)
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    bad = replace(good, delivery_id=2, sop_instance_uid="1.2.3", path=text)
    outcomes = {}
    open_transport(stow_spec(orthanc.dicomweb_url)).send(
        [bad, good], lambda parcel, outcome: outcomes.update({parcel.delivery_id: outcome})
    )
    assert outcomes[1] == Outcome.sent()
    assert outcomes[2].fate is not Fate.SENT
    assert good.sop_instance_uid in orthanc.instances()


def test_absent_file_does_not_keep_the_others_from_stow(orthanc: Orthanc, tmp_path: Path) -> None:
    good = parcel_of(write_object(tmp_path, "good", study="stow-absent"))
    outcomes = send(stow_spec(orthanc.dicomweb_url), replace(good, path=tmp_path / "absent.dcm"), good)
    assert [outcome.fate for outcome in outcomes] == [Fate.RETRY, Fate.SENT]


def test_wrong_stow_url_needs_a_person(orthanc: Orthanc, parcels: list[Parcel]) -> None:
    with pytest.raises(Misconfigured, match="HTTP 404"):
        send(stow_spec(f"{orthanc.url}/nothing-here"), *parcels)


def test_stow_server_that_is_down_is_down(parcels: list[Parcel]) -> None:
    with pytest.raises(DestinationDown, match="no connection"):
        send(stow_spec(f"http://127.0.0.1:{free_port()}/dicom-web"), *parcels)


def test_stow_service_can_be_probed(orthanc: Orthanc) -> None:
    assert "HTTP 200" in DicomwebService(stow_spec(orthanc.dicomweb_url)).probe()
    with pytest.raises(Misconfigured, match="HTTP 404"):
        DicomwebService(stow_spec(f"{orthanc.url}/nothing-here")).probe()
    with pytest.raises(DestinationDown, match="no connection"):
        DicomwebService(stow_spec(f"http://127.0.0.1:{free_port()}/dicom-web")).probe()


class WebHandler(BaseHTTPRequestHandler):
    """Answers the n-th request with the n-th status of its server, the last one for ever."""

    statuses: ClassVar[list[int]] = []
    requests: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def web_server(statuses: Sequence[int]) -> Iterator[tuple[str, list[bytes]]]:
    """Serve these statuses; give the URL and the bodies received."""
    handler = type("Handler", (WebHandler,), {"statuses": list(statuses), "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web", handler.requests  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [429, 502, 503, 504, 507])
def test_stow_server_without_room_or_time_is_down(parcels: list[Parcel], status: int) -> None:
    with web_server([status]) as (url, requests), pytest.raises(DestinationDown, match=f"HTTP {status}"):
        send(stow_spec(url), *parcels)
    assert len(requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_stow_server_that_wants_something_else_needs_a_person(parcels: list[Parcel], status: int) -> None:
    with web_server([status]) as (url, _), pytest.raises(Misconfigured, match="destination"):
        send(stow_spec(url), *parcels)


@pytest.mark.parametrize(
    ("status", "fate", "tries"),
    [
        (413, Fate.REFUSED, None),
        (415, Fate.REFUSED, None),
        (409, Fate.RETRY, 5),
        (400, Fate.RETRY, 5),
        (500, Fate.RETRY, UNPROCESSED_TRIES),
    ],
)
def test_request_that_fails_as_a_whole_is_taken_apart(
    parcels: list[Parcel], status: int, fate: Fate, tries: int | None
) -> None:
    with web_server([status, 200, status, 200]) as (url, requests):
        outcomes = send(stow_spec(url), *parcels)
    assert [(outcome.fate, outcome.tries) for outcome in outcomes] == [
        (Fate.SENT, None),
        (fate, tries),
        (Fate.SENT, None),
    ]
    assert len(requests) == 4
    assert all(parcel.path.read_bytes() in requests[0] for parcel in parcels)


# What stands in the log


def test_no_patient_name_reaches_the_log(
    orthanc: Orthanc, parcels: list[Parcel], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        send(spec_of(orthanc), *parcels)
        send(stow_spec(orthanc.dicomweb_url), *parcels)
    assert caplog.records
    assert not [record for record in caplog.records if "SEND-1" in record.getMessage() or "ller" in record.getMessage()]
