"""STOW-RS over a real socket: what is stored, what is not and why, and what a client that lies gets."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from blake3 import blake3
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import generate_uid

from node.domain.result import OWN_MANUFACTURER
from node.ledger.instances import InstanceLedger
from node.ledger.tallies import Tally, TallyLedger
from node.web.native import NAMESPACE, from_xml, to_xml
from tests.instances import BIG_ENDIAN, DEFLATED, IMPLICIT, JPEG_2000, encode
from tests.peers import wait_until
from tests.websites import (
    BOUNDARY,
    DICOM,
    STUDIES,
    Website,
    files_of,
    fresh_slice,
    multipart,
    part10,
    part_of,
    website,
)

JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
FAILED, STORED, OTHERS = "00081198", "00081199", "0008119A"
SMALL_LIMIT = 2_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    limits = {"RADNODE__STORE__MAX_INSTANCE_BYTES": str(SMALL_LIMIT)}
    with website(tmp_path_factory.mktemp("site"), limits) as running:
        yield running


def post(
    site: Website, parts: Sequence[tuple[Mapping[str, str], bytes]], *, study: str = "", kind: str = DICOM
) -> tuple[int, Mapping[str, Any]]:
    """Return status and answer of one request."""
    body, headers = multipart(parts, kind=kind)
    response, content = site.ask("POST", f"{STUDIES}{study and f'/{study}'}", body=body, headers=headers)
    return response.status, json.loads(content)


def uids(answer: Mapping[str, Any], sequence: str) -> list[str]:
    """Return the SOP Instance UIDs of a sequence of the answer."""
    return [item["00081155"]["Value"][0] for item in answer.get(sequence, {"Value": []})["Value"]]


def reasons(answer: Mapping[str, Any], sequence: str = FAILED) -> list[int]:
    """Return the Failure Reasons (0008,1197) of a sequence of the answer."""
    return [item["00081197"]["Value"][0] for item in answer[sequence]["Value"]]


def stored_file(site: Website, sop_instance_uid: str) -> Path | None:
    """Return where an Instance lies whole; None when the store does not have it."""
    found = [path for path in site.files() if path.name.startswith(sop_instance_uid) and ".incoming" not in path.parts]
    return found[0] if found else None


def is_recorded(site: Website, sop_instance_uid: str) -> bool:
    return InstanceLedger(site.services.engine).known(sop_instance_uid) is not None


def unfinished(site: Website) -> list[Path]:
    return [path for path in site.files() if path.parent.name == ".incoming"]


def test_a_client_stores_what_it_has_and_hears_where_it_is(site: Website) -> None:
    first = fresh_slice()
    second = fresh_slice(study=first.StudyInstanceUID)
    files = [dcmread(BytesIO(part10(ds))) for ds in (first, second)]
    answer = DICOMwebClient(site.url).store_instances(files, study_instance_uid=first.StudyInstanceUID)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
        first.SOPInstanceUID,
        second.SOPInstanceUID,
    ]
    assert answer.RetrieveURL.endswith(f"/dicom-web/studies/{first.StudyInstanceUID}")
    assert "FailedSOPSequence" not in answer


@pytest.mark.parametrize("syntax", [IMPLICIT, DEFLATED, BIG_ENDIAN, JPEG_2000])
def test_an_instance_is_kept_in_the_encoding_in_which_it_came(site: Website, syntax: str) -> None:
    ds = fresh_slice()
    status, answer = post(site, files_of(part10(ds, syntax)))
    assert (status, uids(answer, STORED)) == (200, [ds.SOPInstanceUID])
    path = stored_file(site, ds.SOPInstanceUID)
    assert path is not None
    assert path.read_bytes().endswith(encode(ds, syntax))
    wait_until(lambda: is_recorded(site, ds.SOPInstanceUID), what="its row")


def test_one_file_alone_needs_no_multipart(site: Website) -> None:
    ds = fresh_slice()
    response, content = site.ask("POST", STUDIES, body=part10(ds), headers={"Content-Type": DICOM})
    assert (response.status, uids(json.loads(content), STORED)) == (200, [ds.SOPInstanceUID])


def test_the_same_again_is_stored_again_without_a_second_file(site: Website) -> None:
    ds = fresh_slice()
    assert post(site, files_of(part10(ds)))[0] == 200
    before = site.files()
    assert post(site, files_of(part10(ds)))[0] == 200
    assert site.files() == before


def test_each_instance_has_its_own_answer(site: Website) -> None:
    good, cut, stranger = fresh_slice(), fresh_slice(), fresh_slice()
    clash = fresh_slice()
    assert post(site, files_of(part10(clash)))[0] == 200
    clash.SeriesInstanceUID = generate_uid()
    uid = stranger.SOPInstanceUID
    announced = uid[:-1] + ("1" if uid[-1] != "1" else "2")
    mismatch = part10(stranger).replace(uid.encode(), announced.encode(), 1)
    parts = files_of(part10(cut)[:-20], part10(good), b"no DICOM at all", part10(clash), mismatch)
    status, answer = post(site, parts)
    assert status == 202
    assert uids(answer, STORED) == [good.SOPInstanceUID]
    assert uids(answer, FAILED) == [cut.SOPInstanceUID, clash.SOPInstanceUID, announced]
    assert reasons(answer) == [0xC000, 0x0111, 0xA900]
    assert reasons(answer, OTHERS) == [0xC000]
    assert stored_file(site, cut.SOPInstanceUID) is None


def test_an_instance_of_another_study_than_the_url_says_is_refused(site: Website) -> None:
    ds = fresh_slice()
    status, answer = post(site, files_of(part10(ds)), study=generate_uid())
    assert (status, uids(answer, FAILED), reasons(answer)) == (409, [ds.SOPInstanceUID], [0xA900])
    assert stored_file(site, ds.SOPInstanceUID) is None
    assert post(site, files_of(part10(ds)), study=ds.StudyInstanceUID)[0] == 200


def test_what_is_larger_than_settings_allow_is_refused_and_the_rest_stored(site: Website) -> None:
    large, good = fresh_slice(), fresh_slice()
    large.PixelData = bytes(SMALL_LIMIT + 2)
    status, answer = post(site, files_of(part10(large), part10(good)))
    assert (status, uids(answer, FAILED), uids(answer, STORED)) == (202, [large.SOPInstanceUID], [good.SOPInstanceUID])
    status, answer = post(site, files_of(part10(large)))
    assert (status, reasons(answer)) == (413, [0xC000])


def test_a_part_without_an_end_is_given_up(site: Website) -> None:
    endless = part10(fresh_slice()) + bytes(2 * SMALL_LIMIT)
    body, headers = multipart(files_of(endless))
    response, content = site.ask("POST", STUDIES, body=body, headers=headers)
    assert (response.status, json.loads(content)["code"]) == (413, "too-large")
    assert not unfinished(site)


def test_a_part_of_another_kind_is_passed_over(site: Website) -> None:
    ds = fresh_slice()
    parts = [*files_of(part10(ds)), ({"Content-Type": "text/plain"}, b"hello")]
    status, answer = post(site, parts)
    assert (status, uids(answer, STORED), reasons(answer, OTHERS)) == (202, [ds.SOPInstanceUID], [0xC000])
    assert post(site, parts[1:])[0] == 415


def test_the_answer_comes_in_xml_to_whoever_prefers_it(site: Website) -> None:
    ds = fresh_slice()
    body, headers = multipart(files_of(part10(ds), b"no DICOM"))
    accept = f"application/json;q=0.1, {XML}"
    response, content = site.ask("POST", STUDIES, body=body, headers={**headers, "Accept": accept})
    assert (response.status, response.headers["Content-Type"]) == (202, XML)
    root = ET.fromstring(content)
    assert root.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    assert uids(from_xml(content), STORED) == [ds.SOPInstanceUID]
    assert from_xml(content)[OTHERS]["Value"][0]["00081197"]["Value"] == [0xC000]


def test_the_answer_to_an_accept_that_nothing_fits_is_406(site: Website) -> None:
    ds = fresh_slice()
    body, headers = multipart(files_of(part10(ds)))
    response, content = site.ask("POST", STUDIES, body=body, headers={**headers, "Accept": "image/png"})
    assert (response.status, json.loads(content)["code"]) == (406, "not-acceptable")
    assert stored_file(site, ds.SOPInstanceUID) is None


GOOD_TYPE = f'multipart/related; type="{DICOM}"; boundary={BOUNDARY}'
EMPTY = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({"Content-Type": f'multipart/related; type="{DICOM}"'}, b"x", 400, id="no boundary"),
        pytest.param({"Content-Type": f"{GOOD_TYPE}{'x' * 80}"}, EMPTY, 400, id="boundary too long"),
        pytest.param(
            {"Content-Type": 'multipart/related; boundary="a\tb"'}, b"x", 400, id="boundary of other characters"
        ),
        pytest.param({"Content-Type": GOOD_TYPE}, part_of({}, b"x", "other"), 400, id="another boundary"),
        pytest.param({"Content-Type": GOOD_TYPE}, EMPTY, 400, id="no part"),
        pytest.param({"Content-Type": GOOD_TYPE}, b"", 400, id="no body"),
        pytest.param({"Content-Type": GOOD_TYPE}, part_of({}, b"x"), 400, id="no last boundary"),
        pytest.param({"Content-Type": GOOD_TYPE}, f"--{BOUNDARY}\r\nDICM no header".encode(), 400, id="cut in headers"),
        pytest.param(
            {"Content-Type": GOOD_TYPE}, f"--{BOUNDARY}\r\nno colon\r\n\r\nx\r\n".encode() + EMPTY, 400, id="odd header"
        ),
        pytest.param({"Content-Type": GOOD_TYPE}, part_of({"A": "b" * 20_000}, b"x") + EMPTY, 400, id="huge header"),
        pytest.param({"Content-Type": GOOD_TYPE}, b"x" * 100_000 + b"\r\n" + EMPTY, 400, id="huge preamble"),
        pytest.param({"Content-Type": "text/plain"}, b"x", 415, id="text"),
        pytest.param({"Content-Type": 'multipart/related; type="image/png"; boundary=x'}, b"x", 415, id="images"),
        pytest.param({"Content-Type": "///"}, b"x", 400, id="no media type"),
        pytest.param({}, b"x", 415, id="no Content-Type"),
        pytest.param({"Content-Type": GOOD_TYPE, "Content-Encoding": "gzip"}, b"x", 415, id="gzip"),
        pytest.param({"Content-Type": GOOD_TYPE, "Accept": "/"}, b"x", 400, id="odd Accept"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_as_a_whole(
    site: Website, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    response, content = site.ask("POST", STUDIES, body=body, headers=headers)
    problem = json.loads(content)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status, problem["status"]) == (status, status)
    assert {"type", "title", "detail", "code"} < problem.keys()
    assert not unfinished(site)


@pytest.mark.parametrize("study", ["..", "%2e%2e", "1.2.3%2F..%2F..", "1.2." + "3" * 70, "abc", "1.2.%00"])
def test_a_study_that_is_no_uid_never_becomes_a_path(site: Website, study: str) -> None:
    before = site.files()
    with site.connect() as connection:
        body = part10(fresh_slice())
        head = f"POST {STUDIES}/{study} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {DICOM}\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = read_all(connection).split(b" ")[1]
    assert status in (b"400", b"404", b"405")
    assert site.files() == before


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def head_of(length: str) -> bytes:
    return f"POST {STUDIES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {GOOD_TYPE}\r\n{length}\r\n\r\n".encode()


def test_of_a_client_that_goes_only_whole_instances_are_kept(site: Website) -> None:
    whole, half = fresh_slice(), fresh_slice()
    body = part_of({"Content-Type": DICOM}, part10(whole)) + part_of({"Content-Type": DICOM}, part10(half)[:-10])
    with site.connect() as connection:
        connection.sendall(head_of("Content-Length: 1000000") + body)
        wait_until(lambda: stored_file(site, whole.SOPInstanceUID), what="the whole one")
    wait_until(lambda: not unfinished(site), what="nothing half is left")
    assert stored_file(site, half.SOPInstanceUID) is None
    wait_until(lambda: is_recorded(site, whole.SOPInstanceUID), what="its row")


def test_a_chunked_body_that_breaks_off_leaves_nothing(site: Website) -> None:
    ds = fresh_slice()
    ds.Rows = ds.Columns = 512
    ds.PixelData = bytes(2 * 512 * 512)
    piece = part_of({"Content-Type": DICOM}, part10(ds))[:-10]
    with site.connect() as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wait_until(lambda: unfinished(site) or None, what="it has begun")
        connection.sendall(b"no chunk\r\n\r\n")
        assert b"400" in read_all(connection).split(b"\r\n")[0]
    wait_until(lambda: not unfinished(site), what="nothing half is left")
    assert stored_file(site, ds.SOPInstanceUID) is None


def test_a_body_in_chunks_is_stored(site: Website) -> None:
    ds = fresh_slice()
    body, _ = multipart(files_of(part10(ds)))
    chunks = (
        b"".join(f"{len(c):x}\r\n".encode() + c + b"\r\n" for c in (body[:7], body[7:500], body[500:])) + b"0\r\n\r\n"
    )
    with site.connect() as connection:
        connection.sendall(head_of("Connection: close\r\nTransfer-Encoding: chunked") + chunks)
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert stored_file(site, ds.SOPInstanceUID) is not None


@pytest.mark.parametrize("length", ["Content-Length: -1", "Content-Length: 1, 2", "Content-Length: x"])
def test_a_length_that_is_none_is_no_request(site: Website, length: str) -> None:
    with site.connect() as connection:
        connection.sendall(head_of(length))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request-malformed"


def test_headers_without_an_end_are_no_request(site: Website) -> None:
    with site.connect() as connection:
        # More than the server reads of them; a second send meets a connection that is closed already.
        connection.sendall(head_of("X-Long: " + "y" * 70_000)[:-4])
        assert read_all(connection).startswith(b"HTTP/1.1 400")


def test_a_body_whose_length_says_too_little_is_no_whole_one(site: Website) -> None:
    ds = fresh_slice()
    body, _ = multipart(files_of(part10(ds)))
    with site.connect() as connection:
        connection.sendall(head_of(f"Content-Length: {len(body) - 50}\r\nConnection: close") + body)
        assert read_all(connection).startswith(b"HTTP/1.1 400")
    assert stored_file(site, ds.SOPInstanceUID) is None
    assert not unfinished(site)


def test_metadata_in_json_with_pixels_apart_make_an_instance(site: Website) -> None:
    ds = fresh_slice()
    status, answer = post(site, apart(ds, "pixels"), kind=JSON)
    assert (status, uids(answer, STORED)) == (200, [ds.SOPInstanceUID])
    path = stored_file(site, ds.SOPInstanceUID)
    assert path is not None
    kept = dcmread(path)
    assert kept.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert kept.SpecificCharacterSet == "ISO_IR 192"
    assert (kept.PatientName, kept.PixelData) == (ds.PatientName, ds.PixelData)
    assert kept.ReferencedImageSequence[0] == ds.ReferencedImageSequence[0]


def apart(ds: Dataset, location: str, syntax: str = "", content: bytes = b"") -> list[tuple[Mapping[str, str], bytes]]:
    """Return metadata in JSON and the part of their Pixel Data."""
    model = ds.to_json_dict()
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": location}
    kind = f"image/jp2; transfer-syntax={syntax}" if syntax else OCTETS
    pixels = ({"Content-Type": kind, "Content-Location": location}, content or ds.PixelData)
    return [({"Content-Type": JSON}, json.dumps([model]).encode()), pixels]


def test_metadata_in_xml_with_pixels_apart_make_an_instance(site: Website) -> None:
    ds = fresh_slice()
    model = json.loads(apart(ds, "pixels")[0][1])[0]
    parts = [({"Content-Type": XML}, to_xml(model)), *apart(ds, "pixels")[1:]]
    status, answer = post(site, parts, kind=XML)
    assert (status, uids(answer, STORED)) == (200, [ds.SOPInstanceUID])
    path = stored_file(site, ds.SOPInstanceUID)
    assert path is not None
    kept = dcmread(path)
    assert (kept.PatientName, kept.PixelData, kept.SliceThickness) == (ds.PatientName, ds.PixelData, ds.SliceThickness)
    assert kept.ImagePositionPatient == ds.ImagePositionPatient


def test_frames_that_are_compressed_are_encapsulated(site: Website) -> None:
    ds = fresh_slice()
    ds.NumberOfFrames = 2
    parts = [*apart(ds, "frames", JPEG_2000, b"first"), *apart(ds, "frames", JPEG_2000, b"second")[1:]]
    status, answer = post(site, parts, kind=JSON)
    assert (status, uids(answer, STORED)) == (200, [ds.SOPInstanceUID])
    path = stored_file(site, ds.SOPInstanceUID)
    assert path is not None
    kept = dcmread(path)
    assert kept.file_meta.TransferSyntaxUID == JPEG_2000
    assert list(generate_frames(kept.PixelData, number_of_frames=2)) == [b"first\0", b"second"]


def test_bulk_data_that_did_not_come_fail_their_instance_alone(site: Website) -> None:
    good, bad = fresh_slice(), fresh_slice()
    parts = [*apart(good, "here"), apart(bad, "nowhere")[0]]
    status, answer = post(site, parts, kind=JSON)
    assert (status, uids(answer, STORED), reasons(answer, OTHERS)) == (202, [good.SOPInstanceUID], [0xC000])
    assert stored_file(site, bad.SOPInstanceUID) is None
    assert not unfinished(site)


BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>"""
DEEP = b'[{"00081140":' * 3000


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        pytest.param(JSON, b"no json", 400, id="no JSON"),
        pytest.param(JSON, DEEP, 400, id="deep JSON"),
        pytest.param(JSON, b"[]", 400, id="no Instance"),
        pytest.param(JSON, b"[[1]]", 400, id="no data set"),
        pytest.param(JSON, b'[{"00080018": 3}]', 400, id="no element"),
        pytest.param(JSON, b'[{"zz": {"vr": "UI"}}]', 400, id="no tag"),
        pytest.param(JSON, b'[{"00280010": {"vr": "US", "Value": ["x"]}}]', 400, id="no number"),
        pytest.param(JSON, b'[{"00080018": {"vr": "ZZ", "Value": ["x"]}}]', 400, id="no VR"),
        pytest.param(JSON, b'[{"00080018": {"Value": ["1.2"]}}]', 400, id="VR absent"),
        pytest.param(XML, b"no xml", 400, id="no XML"),
        pytest.param(XML, BOMB, 400, id="entities"),
        pytest.param(XML, b"<Other/>", 400, id="another root"),
        pytest.param(XML, b"<NativeDicomModel><X/></NativeDicomModel>", 400, id="another element"),
        pytest.param(
            XML,
            b"<NativeDicomModel>" + b'<DicomAttribute tag="00081140" vr="SQ"><Item>' * 500
            + b"</Item></DicomAttribute>" * 500 + b"</NativeDicomModel>",
            400,
            id="deep XML",
        ),
    ],
)  # fmt: skip
def test_metadata_that_are_none_are_refused(site: Website, kind: str, content: bytes, status: int) -> None:
    assert post(site, [({"Content-Type": kind}, content)], kind=kind)[0] == status
    assert not unfinished(site)


def test_bulk_data_without_a_name_are_refused(site: Website) -> None:
    ds = fresh_slice()
    parts = [apart(ds, "pixels")[0], ({"Content-Type": OCTETS}, ds.PixelData)]
    assert post(site, parts, kind=JSON)[0] == 400


def test_a_body_that_stops_is_given_up_and_what_came_whole_is_told(tmp_path: Path) -> None:
    whole, half = fresh_slice(), fresh_slice()
    body = part_of({"Content-Type": DICOM}, part10(whole)) + part_of({"Content-Type": DICOM}, part10(half)[:-10])
    with website(tmp_path, {"RADNODE__NODE__DIMSE_TIMEOUT_S": "0.5"}) as site:
        with site.connect() as connection:
            # Sent at once, so that no slow machine lets it stall before the first part is whole.
            connection.sendall(head_of("Content-Length: 1000000") + body)
            answer = read_all(connection)
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202")
        assert uids(json.loads(content), STORED) == [whole.SOPInstanceUID]
        assert reasons(json.loads(content), OTHERS) == [0xA700]
        assert not unfinished(site)


def test_a_store_below_its_reserve_takes_nothing_and_asks_to_come_again(tmp_path: Path) -> None:
    full = {"RADNODE__STORE__RESERVE_BYTES": str(2**60), "RADNODE__STORE__RESERVE_PERCENT": "90"}
    with website(tmp_path, full) as site:
        body, headers = multipart(files_of(part10(fresh_slice())))
        response, content = site.ask("POST", STUDIES, body=body, headers=headers)
        assert (response.status, json.loads(content)["code"]) == (507, "store-full")
        assert int(response.headers["Retry-After"]) > 0
        response, content = site.ask("GET", "/readyz")
        assert (response.status, json.loads(content)["checks"]["store"]) == (503, "store-full")
        assert site.ask("GET", "/healthz")[0].status == 200


def test_whoever_is_not_in_an_allowed_network_is_not_heard(tmp_path: Path) -> None:
    with (
        website(tmp_path, {"RADNODE__SECURITY__ALLOWED_NETWORKS": '["10.1.0.0/16"]'}) as site,
        site.connect() as connection,
    ):
        assert read_all(connection) == b""
        wait_until(lambda: refusals(site), what="a line for a person")


def refusals(site: Website) -> Mapping[str, Tally]:
    return TallyLedger(site.services.engine).read_tallies("connection-refused")


def test_a_node_that_can_work_says_that_it_is_ready(site: Website) -> None:
    response, content = site.ask("GET", "/readyz")
    checks = {"ledger": "ok", "store": "ok", "receivers": "ok"}
    assert (response.status, json.loads(content)) == (200, {"status": "ready", "checks": checks})


def test_what_is_not_there_is_told_as_a_problem(site: Website) -> None:
    response, content = site.ask("GET", "/dicom-web/nothing")
    assert (response.status, json.loads(content)["code"]) == (404, "not-found")
    response, content = site.ask("DELETE", STUDIES)
    assert (response.status, json.loads(content)["code"]) == (405, "method-not-allowed")


def test_a_request_waits_for_the_words_of_its_client(site: Website) -> None:
    ds = fresh_slice()
    body, _ = multipart(files_of(part10(ds)))
    with site.connect() as connection:
        connection.sendall(head_of(f"Content-Length: {len(body)}\r\nConnection: close\r\nExpect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_connection_that_asks_for_nothing_is_closed(tmp_path: Path) -> None:
    with website(tmp_path, headers_s=0.2) as site, site.connect() as silent, site.connect() as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert read_all(silent) == b""
        assert read_all(slow) == b""


@pytest.mark.parametrize("host", ["[::1", "a b", "[x]:y"])
def test_a_host_that_is_none_stores_nothing(site: Website, host: str) -> None:
    ds = fresh_slice()
    body, _ = multipart(files_of(part10(ds)))
    head = head_of(f"Content-Length: {len(body)}\r\nConnection: close").replace(
        b"Host: localhost", f"Host: {host}".encode()
    )
    with site.connect() as connection:
        connection.sendall(head + body)
        status = read_all(connection).split(b" ")[1]
    # What an URL can hold is told back, in the Retrieve URL of whoever sent it.
    assert (status, stored_file(site, ds.SOPInstanceUID) is None) in ((b"400", True), (b"200", False))


def test_a_fault_of_ours_is_told_without_its_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def break_down() -> str:
        raise ZeroDivisionError("a patient's name")

    with website(tmp_path, name_association=break_down) as site:
        body, headers = multipart(files_of(part10(fresh_slice())))
        response, content = site.ask("POST", STUDIES, body=body, headers=headers)
        problem = json.loads(content)
        assert (response.status, problem["code"]) == (500, "broken")
        assert "patient" not in content.decode()
    assert any(record.exc_info for record in caplog.records)


def test_our_own_result_that_is_dropped_is_answered_as_stored(tmp_path: Path) -> None:
    ds = fresh_slice()
    ds.Manufacturer = OWN_MANUFACTURER
    with website(tmp_path, {"RADNODE__SECURITY__OWN_RESULTS": "drop"}) as site:
        status, answer = post(site, files_of(part10(ds)))
        assert (status, uids(answer, STORED)) == (200, [ds.SOPInstanceUID])
        assert stored_file(site, ds.SOPInstanceUID) is None


def test_two_versions_in_one_request_count_in_their_order(site: Website) -> None:
    first, last = fresh_slice(level=1), fresh_slice(level=2)
    last.SOPInstanceUID, last.SeriesInstanceUID = first.SOPInstanceUID, first.SeriesInstanceUID
    last.StudyInstanceUID = first.StudyInstanceUID
    for versions in ((first, last), (last, first)):
        status, answer = post(site, files_of(*(part10(ds) for ds in versions)))
        assert (status, uids(answer, STORED)) == (200, [first.SOPInstanceUID] * 2)
    rows = InstanceLedger(site.services.engine)
    expected = blake3(encode(first)).hexdigest()
    wait_until(lambda: rows.known_digest(first.SOPInstanceUID) == expected, what="the last one counts")
