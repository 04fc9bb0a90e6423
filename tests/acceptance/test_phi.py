"""A name that occurs nowhere else goes through the whole node, by DICOM and by HTTP, in data and in bad input.

It is in the Results, and in the answer to whoever asks for the Patient; it is in no log, broker, metric, trace,
problem, Event and alarm. The audit trail alone holds the Patient ID, as PS3.15 A.5.3 asks; the name is not even there.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import quote

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from redis import Redis
from typer.testing import CliRunner

from node.broker import socket_path
from node.cli.main import app
from node.ledger.spans import hash_uid
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.instances import ct_slice
from tests.node_process import QUICK, Launch, NodeProcess, destination_table
from tests.peers import free_port, wait_until
from tests.phantoms import small_chest_xray
from tests.trace_receiver import TraceReceiver, facts_of, serve_traces
from tests.websites import STUDIES, files_of, multipart, part10

CANARY = "Quetzalcoatlus"
PATIENT_ID = "PID-8815162342"
BIRTH_DATE = "18150618"
# As long as the name, and a UID.
STAND_IN = "12.34.56.78.91"
# Whoever, wherever, and what for (PS3.15 E.1.1); what rules ask of keeps its own words before it.
NAMES = (
    "PatientName", "OtherPatientNames", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "PatientMotherBirthName", "ResponsiblePerson",
)  # fmt: skip
TEXTS = (
    "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "PatientAddress", "PatientComments", "AdditionalPatientHistory", "StationName", "ImageComments", "Occupation",
    "StudyComments", "AdmittingDiagnosesDescription", "RequestedProcedureDescription", "MilitaryRank", "EthnicGroup",
    "PatientTelephoneNumbers", "CurrentPatientLocation", "DeviceSerialNumber", "ProtocolName", "IssuerOfPatientID",
)  # fmt: skip
DESCRIPTIONS = ("StudyDescription", "SeriesDescription")
# Every place of a request in which somebody may write a name by mistake; each is to be refused or to find nothing.
BAD_TARGETS = (
    f"/{CANARY}",
    f"/dicom-web/{CANARY}",
    f"{STUDIES}/{CANARY}",
    f"{STUDIES}/{CANARY}/series/1.2/instances/1.3/rendered",
    f"{STUDIES}/1.2/series/1.3/instances/1.4/frames/{CANARY}",
    f"{STUDIES}?limit={CANARY}",
    f"{STUDIES}?StudyDate={CANARY}",
    f"/studies/{CANARY}",
    f"/viewer/{CANARY}.js",
    f"/viewer/viewer?StudyInstanceUIDs={CANARY}",
    f"/api/v1/studies/{CANARY}",
    f"/api/v1/jobs/{CANARY}",
    f"/api/v1/studies?limit={CANARY}",
    f"/healthz/{CANARY}",
)
BAD_HEADERS: tuple[Mapping[str, str], ...] = (
    {CANARY: CANARY},
    {"Accept": f"{CANARY}/{CANARY}"},
    {"Accept": f'multipart/related; type="{CANARY}"'},
    {"Host": f"{CANARY}.example.org"},
    {"Authorization": f"Bearer {CANARY}"},
    {"Authorization": f"{CANARY} {CANARY}"},
    {"Cookie": f"radnode={CANARY}; {CANARY}={CANARY}"},
    {"If-None-Match": f'"{CANARY}"'},
    {"Range": f"{CANARY}=0-1"},
    {"Referer": f"http://localhost/?PatientName={CANARY}", "User-Agent": CANARY, "X-Forwarded-For": CANARY},
)


def mark(ds: Dataset) -> Dataset:
    """Return a copy that tells of a patient wherever one may be told of."""
    marked = copy.deepcopy(ds)
    for keyword in NAMES:
        setattr(marked, keyword, f"{CANARY}^Maria")
    for keyword in TEXTS:
        setattr(marked, keyword, CANARY)
    for keyword in DESCRIPTIONS:
        setattr(marked, keyword, f"{marked.get(keyword, '')} {CANARY}")
    marked.PatientID, marked.PatientBirthDate = PATIENT_ID, BIRTH_DATE
    return marked


def as_another_study(ds: Dataset) -> Dataset:
    other = copy.deepcopy(ds)
    other.StudyInstanceUID, other.SeriesInstanceUID, other.SOPInstanceUID = (generate_uid() for _ in range(3))
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    return other


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A node through which the patient went, and all who hear of it.

    Attributes
    ----------
    token
        Of somebody who may do everything.
    study
        Study Instance UID of the Study that came by DICOM.
    """

    node: NodeProcess
    pacs: SimulatedPacs
    traces: TraceReceiver
    port: int
    token: str
    study: str

    def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        """Return the answer to one request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            shown = {"Authorization": f"Bearer {self.token}", **(headers or {})}
            connection.request(method, quote(path, safe="/?=&%"), body=body, headers=shown)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def command(self, *words: str) -> str:
        """Return what a command says of the node."""
        return CliRunner().invoke(app, [*words, "--settings", str(self.node.file)]).output


@pytest.fixture(scope="module")
def passage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passage]:
    folder, port, film = tmp_path_factory.mktemp("phi"), free_port(), small_chest_xray(with_opacity=True).dataset
    (folder / "node").mkdir()
    traces = TraceReceiver()
    server = serve_traces(traces)
    tables = f'[log]\nlevel = "DEBUG"\n\n[web]\nport = {port}\n\n[tracing]\nendpoint = "{traces.endpoint}"\n{QUICK}'
    launch = Launch(environment={"NO_PROXY": "127.0.0.1"})
    with (
        SimulatedPacs(folder / "pacs") as pacs,
        NodeProcess(folder / "node", tables + destination_table(pacs.peer), launch=launch) as node,
    ):
        by_dicom = mark(film)
        uid = str(by_dicom.StudyInstanceUID)
        passage = Passage(node=node, pacs=pacs, traces=traces, port=port, token=node.token(), study=uid)
        send([by_dicom], node.peer)
        by_http = mark(as_another_study(film))
        body, headers = multipart(files_of(part10(by_http)))
        response, said = passage.ask("POST", STUDIES, body=body, headers=headers)
        assert response.status == 200, said
        for one in (by_dicom, by_http):
            node.wait_for_study(str(one.StudyInstanceUID), lambda story: story.jobs and story.is_finished)
        yield passage
    server.shutdown()
    server.server_close()


def assert_silent(told: Mapping[str, str]) -> None:
    """Assert that nothing of the patient is in any of the texts."""
    for place, text in told.items():
        for word in (CANARY, PATIENT_ID, BIRTH_DATE):
            assert word.lower() not in text.lower(), f"{word} in {place}"


def test_whoever_may_know_the_patient_does(passage: Passage) -> None:
    delivered = [dcmread(instance.path) for instance in passage.pacs.record.received]
    assert {str(result.PatientID) for result in delivered} == {PATIENT_ID}
    response, found = passage.ask("GET", f"{STUDIES}?PatientName={CANARY}*&includefield=InstitutionName")
    assert response.status == 200
    assert found.count(CANARY.encode()) >= 2
    for unknown in (f"{CANARY}=1", f"includefield={CANARY}"):
        # An attribute that is not known is named in a header, to whoever asked by it, and all that matches is found.
        assert passage.ask("GET", f"{STUDIES}?{unknown}")[0].status == 200
    response, metadata = passage.ask("GET", f"{STUDIES}/{passage.study}/metadata")
    assert (response.status, CANARY.encode() in metadata) == (200, True)


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_no_refusal_repeats_the_name_in_a_url(passage: Passage, target: str) -> None:
    response, body = passage.ask("GET", target)
    assert response.status < 500
    assert_silent({target: body.decode(), "headers": str(response.headers)})


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=lambda headers: next(iter(headers)))
def test_no_refusal_repeats_the_name_in_a_header(passage: Passage, headers: Mapping[str, str]) -> None:
    response, body = passage.ask("GET", f"{STUDIES}/1.2.3/metadata", headers=headers)
    assert 400 <= response.status < 500
    assert_silent({str(headers): body.decode(), "headers": str(response.headers)})


def test_no_refusal_repeats_the_name_in_a_body(passage: Passage) -> None:
    bad = mark(ct_slice())
    bad.SOPInstanceUID = STAND_IN
    metadata = {"00080018": {"vr": "UI", "Value": [CANARY]}, CANARY: {"vr": "PN", "Value": [{"Alphabetic": CANARY}]}}
    told = {}
    for number, (content, kind) in enumerate(
        [
            (CANARY.encode() * 50, "application/dicom"),
            (part10(bad).replace(STAND_IN.encode(), CANARY.encode()), "application/dicom"),
            (json.dumps([metadata]).encode(), "application/dicom+json"),
            (CANARY.encode(), f"application/{CANARY}"),
        ]
    ):
        body, headers = multipart([({"Content-Type": kind}, content)], kind=kind)
        response, said = passage.ask("POST", STUDIES, body=body, headers=headers)
        assert 400 <= response.status < 500
        # Which object was refused is said by the UID that it came with (PS3.18 I.2.2), whatever that is.
        told[f"body {number}"] = said.decode().replace(f'"Value":["{CANARY}"]', "")
    for path in ("/login", f"{STUDIES}/{passage.study}", "/api/v1/jobs"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        response, said = passage.ask("POST", path, body=f"name={CANARY}&password={CANARY}".encode(), headers=form)
        assert 400 <= response.status < 500
        told[path] = said.decode() if path != "/login" else ""
    assert_silent(told)


def test_nothing_that_is_watched_names_the_patient(passage: Passage) -> None:
    """Of all that went before: it stands last in this file."""
    response, metrics = passage.ask("GET", "/metrics")
    assert response.status == 200
    assert b'radnode_studies{state="ROUTED"} 2.0' in metrics
    for process in ("node", "receiver", "web", "worker", "broker"):
        assert f'radnode_memory_bytes{{process="{process}"}}'.encode() in metrics, process
    data = passage.node.folder / "data"
    broker = Redis(unix_socket_path=str(socket_path(data / "broker")))
    logs = {path.name: path.read_text(errors="replace") for path in (data / "broker").rglob("*.log")}
    for name in ("node.log", "output.txt"):
        logs[name] = (passage.node.folder / name).read_text()
    assert '"route": "/dicom-web/studies"' in logs["node.log"]
    events = passage.command("events", "--json", "--limit", "1000")
    assert "instance-refused" in events
    assert_silent(
        {
            **logs,
            "broker": repr([(key, broker.dump(key)) for key in broker.scan_iter()]),
            "/metrics": metrics.decode(),
            "radnode metrics": passage.command("metrics"),
            "events": events,
            "alarms": passage.command("alarms", "--all"),
            "jobs": passage.command("jobs", "list", "--json"),
            "deliveries": passage.command("deliveries", "list", "--json"),
        }
    )
    trail = "".join(path.read_text() for path in (data / "audit").iterdir())
    assert PATIENT_ID in trail
    assert CANARY not in trail


def test_traces_tell_of_both_studies_and_of_no_patient(passage: Passage) -> None:
    def sent() -> set[str]:
        return {str(facts_of(span)["radnode.study"]) for span in passage.traces.spans if span.name == "study"}

    def named() -> set[str]:
        return {span.name for span in passage.traces.spans}

    wait_until(lambda: len(sent()) == 2 and {"queue", "infer"} <= named(), what="the traces of two Studies")
    assert hash_uid(passage.study) in sent()
    body = b"".join(passage.traces.bodies).decode(errors="replace")
    assert_silent({"traces": body})
    assert passage.study not in body
