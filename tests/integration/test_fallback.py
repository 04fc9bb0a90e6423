"""The picture reaches real peers that take no SEG or SR, and the ledger learns what each of them takes."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from email import message_from_bytes
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from node.clock import utc_now
from node.delivery.courier import Courier, Surroundings
from node.delivery.lookout import Lookout
from node.delivery.probe import knock, probe_forms
from node.delivery.transport import open_transport
from node.domain.capability import LABEL_MAP, WRITTEN_FORMS, Capability
from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.domain.uids import InstanceUID
from node.ledger.capabilities import CapabilityLedger
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from tests.ledgers import NOON, Books, copy_ledger, make_outcome, make_result
from tests.objects import parcel_of, write_object
from tests.peers import Orthanc, Storescp, web_of
from tests.trails import Listener

ADDRESS = "where it was"
EVERYTHING = "takes SEG, SR, SC, KO, PR, PDF, LABELMAP"
ONLY_PICTURES = "takes SC; not SEG, SR, KO, PR, PDF, LABELMAP"
GOES_INSTEAD = "the summary picture goes instead"
SEG = WRITTEN_FORMS["SEG"]
# What an archive of images accepts, and nothing else.
IMAGES_ONLY = r"""
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Images]
PresentationContext1 = VerificationSOPClass\Uncompressed
PresentationContext2 = CTImageStorage\Uncompressed
PresentationContext3 = SecondaryCaptureImageStorage\Uncompressed
[[Profiles]]
[Images]
PresentationContexts = Images
"""


class Dispatch:
    """One Job with its Results, and the courier that takes them to one Destination."""

    def __init__(self, folder: Path, spec: DestinationSpec) -> None:
        self.folder = folder / "store"
        self.books = Books(copy_ledger(folder))
        self.capabilities = CapabilityLedger(self.books.engine)
        self.courier = Courier(
            destination="pacs",
            ledger=self.books.deliveries,
            transport=open_transport(spec),
            lookout=Lookout(
                destination="pacs",
                address=ADDRESS,
                probe=lambda: probe_forms(spec),
                ledger=self.capabilities,
                patience=Patience(),
                chance=lambda: 0.0,
            ),
            patience=Patience(),
            surroundings=Surroundings(
                locate=lambda path: self.folder / path,
                clock=utc_now,
                chance=lambda: 0.0,
                depart=Listener().depart,
                knock=partial(knock, spec),
            ),
        )

    def write(self, *words: str) -> None:
        """Finish a Job that wrote these objects; the picture only stands in."""
        job = self.books.claim(self.books.add_job())
        results: list[Result] = []
        for number, word in enumerate(words, start=1):
            sop_class_uid, transfer_syntax_uid = map(UID, WRITTEN_FORMS[word])
            path = write_object(
                self.folder, word, sop_class_uid=sop_class_uid, transfer_syntax_uid=transfer_syntax_uid, pixel_bytes=0
            )
            kind = ResultKind.SEG if word == "LABELMAP" else ResultKind(word)
            result = replace(
                make_result(job, kind=kind, number=number),
                sop_instance_uid=InstanceUID(parcel_of(path).sop_instance_uid),
                sop_class_uid=str(sop_class_uid),
                transfer_syntax_uid=str(transfer_syntax_uid),
                path=path.name,
                size_bytes=path.stat().st_size,
                is_substitute=word == "SC",
            )
            results.append(result)
        self.books.jobs.finish_job(job, make_outcome(*results), now=NOON)

    def run(self) -> dict[str, Delivery]:
        """Let the courier work until nothing is due; returns the Deliveries by the word for their kind."""
        for _ in range(10):
            self.courier.tick(utc_now())
            due_at = self.books.deliveries.next_delivery_at("pacs")
            if due_at is None or due_at > utc_now():
                break
        return {Path(d.path).stem: d for d in self.books.view.list_deliveries(destination=None, state=None, limit=99)}

    @property
    def known(self) -> Capability:
        found = self.capabilities.find_capability("pacs", ADDRESS)
        assert found is not None
        return found


@contextmanager
def dispatch_to(folder: Path, spec: DestinationSpec) -> Iterator[Dispatch]:
    dispatch = Dispatch(folder, spec)
    try:
        yield dispatch
    finally:
        dispatch.books.close()


def cstore(aet: str, port: int) -> DestinationSpec:
    return DestinationSpec(name="pacs", transport="cstore", aet=aet, host="127.0.0.1", port=port, timeout_s=10.0)


def states(deliveries: dict[str, Delivery]) -> dict[str, str]:
    return {word: delivery.state.value for word, delivery in deliveries.items()}


@contextmanager
def archive_of_images(folder: Path) -> Iterator[Storescp]:
    """Run dcmtk's storescp with a profile that knows images only."""
    configuration = folder / "images.cfg"
    configuration.write_text(IMAGES_ONLY)
    with Storescp(folder, "-xf", str(configuration), "Images") as scp:
        yield scp


@pytest.mark.needs("storescp")
def test_archive_of_images_gets_the_picture_and_is_known_for_it(tmp_path: Path) -> None:
    with (
        archive_of_images(tmp_path) as scp,
        dispatch_to(tmp_path, cstore(scp.aet, scp.port)) as dispatch,
    ):
        dispatch.write("SEG", "SR", "SC")
        found = dispatch.run()
        assert states(found) == {"SEG": "REFUSED", "SR": "REFUSED", "SC": "SENT"}
        assert [dcmread(path).SOPClassUID for path in scp.files()] == [WRITTEN_FORMS["SC"][0]]
        for word in ("SEG", "SR"):
            assert found[word].reason_code == "sop-class-not-supported"
            assert f"does not take {word}" in (found[word].reason_text or "")
            assert (found[word].reason_text or "").endswith(GOES_INSTEAD)
        assert dispatch.known.describe() == ONLY_PICTURES


@pytest.mark.needs("storescp")
def test_optional_results_that_are_refused_leave_seg_and_sr_alone(tmp_path: Path) -> None:
    with (
        Storescp(tmp_path) as scp,
        dispatch_to(tmp_path, cstore(scp.aet, scp.port)) as dispatch,
    ):
        dispatch.write("LABELMAP", "SR", "SC")
        assert states(dispatch.run()) == {"LABELMAP": "REFUSED", "SR": "SENT", "SC": "SENT"}
        assert dispatch.known.takes(LABEL_MAP) is False


def test_seg_refused_and_sr_taken_sends_sr_and_picture(tmp_path: Path) -> None:
    behavior = Misbehavior(refused_sop_classes=frozenset({SEG[0]}))
    with (
        SimulatedPacs(tmp_path / "pacs", misbehavior=behavior) as pacs,
        dispatch_to(tmp_path, cstore(pacs.peer.aet, pacs.peer.port)) as dispatch,
    ):
        dispatch.write("SEG", "SR", "SC")
        assert states(dispatch.run()) == {"SEG": "REFUSED", "SR": "SENT", "SC": "SENT"}
        received = [instance.sop_class_uid for instance in pacs.record.received]
        assert received == [WRITTEN_FORMS["SR"][0], WRITTEN_FORMS["SC"][0]]
        assert dispatch.known.takes(SEG) is False


def test_peer_that_agrees_on_everything_and_refuses_each_object_is_learned_from(tmp_path: Path) -> None:
    """An SCP that accepts every Presentation Context and then answers 0122H."""
    with (
        SimulatedPacs(tmp_path / "pacs", misbehavior=Misbehavior(status=0x0122, status_count=1)) as pacs,
        dispatch_to(tmp_path, cstore(pacs.peer.aet, pacs.peer.port)) as dispatch,
    ):
        dispatch.write("SEG", "SR", "SC")
        found = dispatch.run()
        assert states(found) == {"SEG": "REFUSED", "SR": "SENT", "SC": "SENT"}
        assert found["SEG"].reason_text == f"status 0122H: SOP Class not supported; {GOES_INSTEAD}"
        # The probe that followed was accepted, and did not make the refusal forgotten.
        assert dispatch.known.describe() == "takes SR, SC, KO, PR, PDF, LABELMAP; not SEG"


def test_peer_that_refuses_the_picture_as_well_calls_a_person(tmp_path: Path) -> None:
    behavior = Misbehavior(refused_sop_classes=frozenset(sop_class_uid for sop_class_uid, _ in WRITTEN_FORMS.values()))
    with (
        SimulatedPacs(tmp_path / "pacs", misbehavior=behavior) as pacs,
        dispatch_to(tmp_path, cstore(pacs.peer.aet, pacs.peer.port)) as dispatch,
    ):
        dispatch.write("SEG", "SR", "SC")
        assert set(states(dispatch.run()).values()) == {"REFUSED"}
        alarms = [event for event in dispatch.books.view.list_events(99) if event.is_alarm]
        assert [event.text.split()[0] for event in alarms] == ["SC"]


def test_seg_goes_by_hand_once_the_peer_has_learned_it(tmp_path: Path) -> None:
    behavior = Misbehavior(refused_sop_classes=frozenset({SEG[0]}))
    with (
        SimulatedPacs(tmp_path / "pacs", misbehavior=behavior) as pacs,
        dispatch_to(tmp_path, cstore(pacs.peer.aet, pacs.peer.port)) as dispatch,
    ):
        dispatch.write("SEG", "SR", "SC")
        dispatch.run()
        pacs.change(Misbehavior())
        assert dispatch.books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=utc_now()) == 1
        assert states(dispatch.run()) == {"SEG": "SENT", "SR": "SENT", "SC": "SENT"}
        received = [instance.sop_class_uid for instance in pacs.record.received]
        assert received == [WRITTEN_FORMS[word][0] for word in ("SR", "SC", "SEG")]
        assert dispatch.known.takes(SEG) is True


@pytest.mark.needs("Orthanc")
def test_orthanc_takes_label_maps_and_is_known_for_it(tmp_path: Path) -> None:
    with (
        Orthanc() as orthanc,
        dispatch_to(tmp_path, cstore(orthanc.aet, orthanc.dicom_port)) as dispatch,
    ):
        dispatch.write("LABELMAP", "SR", "SC")
        found = dispatch.run()
        assert states(found) == {"LABELMAP": "SENT", "SR": "SENT"}
        assert dispatch.known.describe() == EVERYTHING
        ds = dcmread(BytesIO(orthanc.file(found["LABELMAP"].sop_instance_uid)))
        assert (ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) == LABEL_MAP


@pytest.mark.needs("Orthanc")
def test_orthanc_that_accepts_known_classes_only_gets_the_picture_instead_of_a_label_map(tmp_path: Path) -> None:
    with (
        Orthanc(settings={"UnknownSopClassAccepted": False}) as orthanc,
        dispatch_to(tmp_path, cstore(orthanc.aet, orthanc.dicom_port)) as dispatch,
    ):
        dispatch.write("LABELMAP", "SR", "SC")
        assert states(dispatch.run()) == {"LABELMAP": "REFUSED", "SR": "SENT", "SC": "SENT"}
        assert dispatch.known.describe() == "takes SEG, SR, SC, KO, PR, PDF; not LABELMAP"


# STOW-RS has no question before the answer


@pytest.mark.needs("Orthanc")
def test_stow_service_is_known_by_what_it_took(tmp_path: Path) -> None:
    with Orthanc() as orthanc:
        spec = web_of(orthanc)
        with dispatch_to(tmp_path, spec) as dispatch:
            dispatch.write("LABELMAP", "SR", "SC")
            assert states(dispatch.run()) == {"LABELMAP": "SENT", "SR": "SENT"}
            assert dispatch.known.describe() == "takes SR, LABELMAP; not known: SEG, SC, KO, PR, PDF"


class StowHandler(BaseHTTPRequestHandler):
    """A STOW-RS service that stores what is of no refused SOP Class and answers with a Store Instances Response."""

    refused: frozenset[str]
    reason: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        stored: list[dict[str, object]] = []
        failed: list[dict[str, object]] = []
        for part in message_from_bytes(head + body).walk():
            if not part.is_multipart():
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                ds = dcmread(BytesIO(content))
                (failed if ds.SOPClassUID in self.refused else stored).append(self.describe(ds.SOPInstanceUID))
        for entry in failed:
            entry["00081197"] = {"vr": "US", "Value": [self.reason]}
        answer = {"00081199": {"vr": "SQ", "Value": stored}, "00081198": {"vr": "SQ", "Value": failed}}
        self.answer(200 if not failed else 202 if stored else 409, answer)

    @staticmethod
    def describe(sop_instance_uid: str) -> dict[str, object]:
        return {"00081155": {"vr": "UI", "Value": [sop_instance_uid]}}

    def answer(self, status: int, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def stow_service(refused: Sequence[str], reason: int) -> Iterator[str]:
    """Serve, and give the URL."""
    handler = type("Handler", (StowHandler,), {"refused": frozenset(refused), "reason": reason})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("reason", [0x0122, 0xC122])
def test_stow_service_that_takes_no_seg_gets_sr_and_picture(tmp_path: Path, reason: int) -> None:
    with stow_service([SEG[0]], reason) as url:
        spec = DestinationSpec(name="pacs", transport="stow", url=url)
        with dispatch_to(tmp_path, spec) as dispatch:
            dispatch.write("SEG", "SR", "SC")
            found = dispatch.run()
            assert states(found) == {"SEG": "REFUSED", "SR": "SENT", "SC": "SENT"}
            assert f"{reason:04X}H" in (found["SEG"].reason_text or "")
            assert (found["SEG"].reason_text or "").endswith(GOES_INSTEAD)
            assert dispatch.known.describe() == "takes SR, SC; not SEG; not known: KO, PR, PDF, LABELMAP"


def test_folder_takes_everything(tmp_path: Path) -> None:
    spec = DestinationSpec(name="pacs", transport="folder", url=str(tmp_path / "out"))
    with dispatch_to(tmp_path, spec) as dispatch:
        dispatch.write("SEG", "SR", "SC")
        found = dispatch.run()
        assert {delivery.state for delivery in found.values()} == {DeliveryState.SENT}
        assert dispatch.known.describe() == EVERYTHING
