"""WADO-RS over a real socket, of files in many Transfer Syntaxes: the same bytes as came, and as Orthanc serves."""

import json
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, generate_uid

from node.domain.result import Result, ResultKind
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.header.part10 import read_part10
from node.header.scan import scan_file
from node.ledger.holdings import HoldingLedger
from node.ledger.instances import InstanceLedger
from node.web.native import from_xml
from tests.instances import IMPLICIT
from tests.ledgers import SEG_STORAGE, Books, at, copy_ledger, make_order, make_outcome
from tests.peers import Orthanc, wait_until
from tests.websites import DICOM, STUDIES, Website, fresh_slice, part10, website

EXPLICIT = "1.2.840.10008.1.2.1"
OCTETS = "application/octet-stream"
JSON, XML = "application/dicom+json", "application/dicom+xml"
# One of each encoding and kind of pixels; the wheel of pydicom has them all.
NAMES = (
    "CT_small.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm", "SC_rgb_rle_2frame.dcm",
    "examples_palette.dcm", "SC_ybr_full_422_uncompressed.dcm", "MR_small_jp2klossless.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "examples_ybr_color.dcm", "liver_1frame.dcm", "693_J2KI.dcm",
)  # fmt: skip
WITHOUT_PIXELS = "test-SR.dcm"
# Without UIDs of their own.
NOT_UNIQUE = ("JPEGLSNearLossless_16.dcm", "SC_rgb_jpeg_gdcm.dcm")
# Pixels as the reader of this very file would decode them; of a compressed color image only within rounding.
DECODED = ("CT_small.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm", "MR_small_jp2klossless.dcm",
           "SC_rgb_rle_2frame.dcm", "SC_rgb_jpeg_gdcm.dcm", "693_J2KI.dcm", "JPEGLSNearLossless_16.dcm",
           "SC_rgb_jpeg_dcmtk.dcm", "examples_ybr_color.dcm")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One file that the node was given."""

    name: str
    content: bytes
    ds: Dataset

    @property
    def uids(self) -> tuple[str, str, str]:
        """Study, Series and Instance."""
        return self.ds.StudyInstanceUID, self.ds.SeriesInstanceUID, self.ds.SOPInstanceUID

    @property
    def path(self) -> str:
        """Path of the Instance."""
        study, series, instance = self.uids
        return f"{STUDIES}/{study}/series/{series}/instances/{instance}"

    @property
    def syntax(self) -> UID:
        """Transfer Syntax."""
        return UID(self.ds.file_meta.TransferSyntaxUID)

    @property
    def frames(self) -> int:
        """Number of Frames."""
        return int(self.ds.get("NumberOfFrames") or 1)

    @property
    def data_set(self) -> bytes:
        """What follows File Meta Information."""
        return data_set_of(self.content)


def data_set_of(content: bytes) -> bytes:
    """Return what follows File Meta Information."""
    return content[read_part10(content).data_set_offset :]


def read(name: str) -> Sent:
    content = Path(str(get_testdata_file(name))).read_bytes()
    ds = dcmread(BytesIO(content))
    if name in NOT_UNIQUE:
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        written = BytesIO()
        ds.save_as(written)
        content = written.getvalue()
    return Sent(name=name, content=content, ds=dcmread(BytesIO(content)))


def make(name: str) -> Sent:
    """Return three Frames of other values in Implicit VR."""
    ds = fresh_slice()
    ds.NumberOfFrames, ds.PixelData = "3", np.arange(3 * 4 * 6, dtype="<u2").tobytes()
    content = part10(ds, IMPLICIT)
    return Sent(name=name, content=content, ds=dcmread(BytesIO(content)))


FILES: Mapping[str, Sent] = {"implicit": make("implicit"), **{name: read(name) for name in (*NAMES, WITHOUT_PIXELS)}}
IMAGES = [FILES[name] for name in ("implicit", *NAMES)]


def store(site: Website, content: bytes) -> None:
    """Return when the node holds an Instance and says so."""
    response, answer = site.ask("POST", STUDIES, body=content, headers={"Content-Type": DICOM})
    assert response.status == 200, answer
    uid = dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID
    ledger = InstanceLedger(site.services.engine)
    wait_until(lambda: ledger.known(uid) is not None, what="its row")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        for sent in FILES.values():
            store(running, sent.content)
        yield running


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    with Orthanc() as running:
        for sent in FILES.values():
            running.request("POST", "/instances", sent.content)
        yield running


def get(site: Website, path: str, accept: str = "*/*", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers in small letters, and body."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    response, content = site.ask("GET", path, headers={"Accept": accept, **told})
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def parts_of(headers: Mapping[str, str], content: bytes) -> Sequence[tuple[str, bytes]]:
    """Return media type and content of each part of a response."""
    boundary = headers["content-type"].rpartition("boundary=")[2].encode()
    pieces = content.split(b"--" + boundary)
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    found = []
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().strip().split("\r\n"))
        found.append((lines["Content-Type"], body[:-2]))
    return found


def plain_pixels(sent: Sent) -> bytes:
    """Return the pixels as pydicom decodes them, in Little Endian."""
    if not sent.syntax.is_encapsulated and sent.ds.BitsAllocated == 8:
        # Planes stay planes, as the header says.
        return bytes(sent.ds.PixelData)
    pixels = sent.ds.pixel_array
    return pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def test_an_instance_is_served_as_it_came(site: Website) -> None:
    for sent in FILES.values():
        status, headers, content = get(site, sent.path, DICOM)
        assert (status, data_set_of(content)) == (200, sent.data_set), sent.name
        assert headers["content-type"] == f"{DICOM}; transfer-syntax={sent.syntax}"
        assert int(headers["content-length"]) == len(content)
        status, headers, content = get(site, sent.path, f'multipart/related; type="{DICOM}"; transfer-syntax=*')
        assert [data_set_of(part) for _, part in parts_of(headers, content)] == [sent.data_set]


@pytest.mark.needs("Orthanc")
def test_orthanc_serves_the_same_bytes(site: Website, orthanc: Orthanc) -> None:
    accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
    for sent in FILES.values():
        theirs = orthanc.file(sent.uids[2])
        _, headers, content = get(site, sent.path, accept)
        ((_, ours),) = parts_of(headers, content)
        assert data_set_of(ours) == data_set_of(theirs), sent.name


@pytest.mark.needs("Orthanc")
def test_orthanc_serves_the_same_frames(site: Website, orthanc: Orthanc) -> None:
    frames = ("application/octet-stream", "*")
    ours, theirs = DICOMwebClient(site.url), DICOMwebClient(orthanc.dicomweb_url)
    compared = 0
    for sent in IMAGES:
        if not sent.syntax.is_encapsulated:
            continue
        numbers = list(range(1, sent.frames + 1))
        expected = theirs.retrieve_instance_frames(*sent.uids, numbers, media_types=(frames,))
        # An odd code stream is padded in its fragment; some readers keep the byte.
        found = ours.retrieve_instance_frames(*sent.uids, numbers, media_types=(frames,))
        assert [one.rstrip(b"\0") for one in found] == [one.rstrip(b"\0") for one in expected], sent.name
        compared += len(found)
    assert compared > len(NAMES) // 2


def test_frames_are_served_as_they_are_stored(site: Website) -> None:
    for sent in IMAGES:
        numbers = ",".join(map(str, range(1, sent.frames + 1)))
        status, headers, content = get(site, f"{sent.path}/frames/{numbers}")
        assert status == 200, (sent.name, content)
        found = [part for _, part in parts_of(headers, content)]
        if sent.syntax.is_encapsulated:
            expected = list(generate_frames(sent.ds.PixelData, number_of_frames=sent.frames))
            assert found == expected, sent.name
            assert f"transfer-syntax={sent.syntax}" in parts_of(headers, content)[0][0]
        else:
            whole = sent.ds.PixelData if sent.syntax.is_little_endian else plain_pixels(sent)
            assert b"".join(found) == whole[: sum(map(len, found))], sent.name
            assert len(found) == sent.frames


def test_frames_are_decoded_where_octets_are_asked_for(site: Website) -> None:
    for name in ("implicit", *DECODED):
        sent = FILES[name]
        numbers = ",".join(map(str, range(1, sent.frames + 1)))
        for accept in (OCTETS, f"{OCTETS}; transfer-syntax={EXPLICIT}"):
            kind, _, syntax = accept.partition(";")
            asked = f'multipart/related; type="{kind}"' + (f";{syntax}" if syntax else "")
            status, headers, content = get(site, f"{sent.path}/frames/{numbers}", asked)
            assert status == 200, (name, content)
            found = b"".join(part for _, part in parts_of(headers, content))
            assert found == plain_pixels(sent)[: len(found)], name
            assert parts_of(headers, content)[0][0] == f"{OCTETS}; transfer-syntax={EXPLICIT}"


def test_an_instance_is_transcoded_where_that_is_asked_for(site: Website) -> None:
    for sent in IMAGES:
        status, headers, content = get(site, sent.path, f"{DICOM}; transfer-syntax={EXPLICIT}")
        assert (status, headers["content-type"]) == (200, f"{DICOM}; transfer-syntax={EXPLICIT}"), (sent.name, content)
        again = dcmread(BytesIO(content))
        assert (again.file_meta.TransferSyntaxUID, again.SOPInstanceUID) == (EXPLICIT, sent.uids[2])
        assert np.array_equal(again.pixel_array, sent.ds.pixel_array), sent.name


def test_metadata_tell_everything_and_say_where_the_rest_is(site: Website) -> None:
    for sent in FILES.values():
        status, _, content = get(site, f"{sent.path}/metadata", JSON)
        (model,) = json.loads(content)
        assert status == 200
        header = {f"{tag:08X}" for tag in list(sent.ds.keys()) if tag.element and tag.group != 0xFFFC}
        assert set(model) == header, sent.name
        for keyword in ("PatientID", "StudyTime", "Rows", "SOPInstanceUID", "Modality"):
            found = model.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value", [""])[0]
            assert found == sent.ds.get(keyword, ""), (sent.name, keyword)
        _, headers, content = get(site, f"{sent.path}/metadata", f'multipart/related; type="{XML}"')
        ((kind, body),) = parts_of(headers, content)
        assert (kind, set(from_xml(body))) == (XML, set(model))


def test_bulk_data_are_where_metadata_say(site: Website) -> None:
    for sent in FILES.values():
        (model,) = json.loads(get(site, f"{sent.path}/metadata", JSON)[2])
        for tag, element in model.items():
            if "BulkDataURI" not in element:
                continue
            path = element["BulkDataURI"].partition(str(site.port))[2]
            status, headers, content = get(site, path)
            assert status == 200, (sent.name, tag, content)
            found = [part for _, part in parts_of(headers, content)]
            value = sent.ds[int(tag, 16)].value
            if tag != "7FE00010":
                assert found == [value], (sent.name, tag)
            elif sent.syntax.is_encapsulated:
                assert found == list(generate_frames(value, number_of_frames=sent.frames)), sent.name
            else:
                expected = value if sent.syntax.is_little_endian else plain_pixels(sent)
                assert found[0] == expected[: len(found[0])], sent.name
                assert len(expected) - len(found[0]) <= 1


def test_bulk_data_inside_of_sequences_have_an_address(site: Website) -> None:
    ds = fresh_slice()
    item = Dataset()
    item.add_new(0x00420011, "OB", bytes(range(256)) * 8)
    ds.add_new(0x00081140, "SQ", [Dataset(), item])
    store(site, part10(ds))
    path = f"{STUDIES}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    (model,) = json.loads(get(site, f"{path}/metadata", JSON)[2])
    address = model["00081140"]["Value"][1]["00420011"]["BulkDataURI"]
    assert address.endswith("/bulkdata/00081140/1/00420011")
    assert get(site, address.partition(str(site.port))[2], OCTETS)[2] == bytes(range(256)) * 8


def test_a_client_retrieves_a_whole_study(site: Website) -> None:
    client = DICOMwebClient(site.url)
    study = generate_uid()
    slices = [fresh_slice(study=study, level=level) for level in (1, 2, 3)]
    for ds in slices:
        store(site, part10(ds))
    expected = {ds.SOPInstanceUID: ds.PixelData for ds in slices}
    assert {ds.SOPInstanceUID: ds.PixelData for ds in client.retrieve_study(study)} == expected
    assert {ds.SOPInstanceUID for ds in client.iter_study(study)} == set(expected)
    series = client.retrieve_series(study, slices[0].SeriesInstanceUID)
    assert [ds.SOPInstanceUID for ds in series] == [slices[0].SOPInstanceUID]
    metadata = [Dataset.from_json(model, lambda *_: b"") for model in client.retrieve_study_metadata(study)]
    assert {ds.SOPInstanceUID for ds in metadata} == set(expected)
    place = study, slices[0].SeriesInstanceUID, slices[0].SOPInstanceUID
    assert client.retrieve_instance(*place).PixelData == slices[0].PixelData
    assert client.retrieve_instance_frames(*place, [1]) == [slices[0].PixelData]
    (model,) = client.retrieve_series_metadata(study, slices[0].SeriesInstanceUID)
    # The client names no port where it says to whom it speaks (RFC 9110 7.2), so no URL can.
    address = model["7FE00010"]["BulkDataURI"].replace("//127.0.0.1/", f"//127.0.0.1:{site.port}/")
    assert client.retrieve_bulkdata(address) == [slices[0].PixelData]
    for media_type, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        picture = Image.open(BytesIO(client.retrieve_instance_rendered(*place, media_types=(media_type,))))
        assert (picture.format, picture.size) == (kind, (6, 4))
        frame = client.retrieve_instance_frames_rendered(*place, [1], media_types=(media_type,))
        assert Image.open(BytesIO(frame)).format == kind


def test_every_image_is_shown_as_a_picture(site: Website) -> None:
    for sent in IMAGES:
        status, headers, content = get(site, f"{sent.path}/rendered", "image/png")
        assert (status, headers["content-type"]) == (200, "image/png"), (sent.name, content)
        assert Image.open(BytesIO(content)).size == (sent.ds.Columns, sent.ds.Rows)
    sent = FILES["CT_small.dcm"]
    for path in (
        sent.path,
        f"{sent.path}/frames/1",
        *(sent.path.partition(word)[0] for word in ("/series", "/instances")),
    ):
        status, headers, content = get(site, f"{path}/thumbnail")
        assert (status, Image.open(BytesIO(content)).size) == (200, (200, 200)), content
        assert headers["content-type"] == "image/jpeg"


def test_parameters_of_a_picture_are_followed(site: Website) -> None:
    path = f"{FILES['CT_small.dcm'].path}/rendered"
    plain = Image.open(BytesIO(get(site, path, "image/png")[2]))
    dark = Image.open(BytesIO(get(site, f"{path}?window=100000,10,linear", "image/png")[2]))
    small = Image.open(BytesIO(get(site, f"{path}?viewport=32,64&accept=image/png", "text/html")[2]))
    assert np.asarray(dark).max() == 0 < np.asarray(plain).max()
    assert small.size == (32, 32)
    assert len(get(site, f"{path}?quality=5")[2]) < len(get(site, f"{path}?quality=100")[2])
    status, headers, _ = get(site, f"{path}?annotation=patient")
    assert (status, headers["warning"]) == (200, '299 radnode: "not supported: annotation"')


def test_what_a_client_has_is_not_sent_again(site: Website) -> None:
    path = FILES["CT_small.dcm"].path
    for place, accept in (
        (path, DICOM), (path, "*/*"), (path, f"{DICOM}; transfer-syntax=*"), (f"{path}/frames/1", OCTETS),
        (f"{path}/frames/1", "*/*"), (f"{path}/rendered", "image/png"), (f"{path}/bulkdata/7FE00010", OCTETS),
    ):  # fmt: skip
        status, headers, content = get(site, place, accept)
        assert (status, len(content) > 0) == (200, True)
        status, again, content = get(site, place, accept, If_None_Match=f'"other", W/{headers["etag"]}')
        assert (status, again["etag"], content) == (304, headers["etag"], b"")
    tags = {get(site, place, accept)[1]["etag"] for place, accept in ((path, DICOM), (f"{path}/frames/1", OCTETS))}
    assert len(tags) == 2


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-999999", 5, None)],
)
def test_a_range_of_the_bytes_is_served(site: Website, asked: str, begin: int, end: int | None) -> None:
    path = FILES["CT_small.dcm"].path
    for place, accept in ((path, DICOM), (f"{path}/frames/1", OCTETS), (f"{path}/bulkdata/7FE00010", OCTETS)):
        whole = get(site, place, accept)[2]
        status, headers, content = get(site, place, accept, Range=asked)
        assert (status, content) == (206, whole[begin:end])
        first = len(whole) + begin if begin < 0 else begin
        assert headers["content-range"] == f"bytes {first}-{first + len(content) - 1}/{len(whole)}"


def test_a_range_that_is_not_there_or_not_understood(site: Website) -> None:
    path = FILES["CT_small.dcm"].path
    status, headers, _ = get(site, path, DICOM, Range="bytes=999999-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(get(site, path, DICOM)[2])}")
    for asked in ("bytes=0-1,5-6", "lines=1-2", "bytes=x-"):
        assert get(site, path, DICOM, Range=asked)[0] == 200
    assert get(site, path, DICOM, Range="bytes=0-9", If_Range='"other"')[0] == 200


@pytest.mark.parametrize(
    ("tail", "accept", "status"),
    [
        ("", "text/html", 406),
        ("", f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.50", 406),
        ("", "image/png;q=0", 406),
        ("", "no media type", 400),
        ("/metadata", "application/pdf", 406),
        ("/frames/1", "image/jls", 406),
        ("/rendered", "image/gif", 406),
        ("/frames/0", "*/*", 400),
        ("/frames/one", "*/*", 400),
        ("/frames/1,,2", "*/*", 400),
        ("/frames/-1", "*/*", 400),
        ("/frames/99999999999", "*/*", 400),
        ("/frames/2", "*/*", 404),
        ("/frames/2", OCTETS, 404),
        ("/frames/1,2", "*/*", 404),
        ("/frames/1,1/rendered", "*/*", 400),
        ("/frames/2/rendered", "*/*", 404),
        ("/rendered?window=wide", "*/*", 400),
        ("/bulkdata/PixelData", "*/*", 400),
        ("/bulkdata/00081140/0", "*/*", 400),
        ("/bulkdata/00100010", "*/*", 404),
        ("/bulkdata/7FE00008/x/7FE00010", "*/*", 400),
        ("/bulkdata/../../secret", "*/*", 400),
        ("/nothing", "*/*", 404),
    ],
)
def test_a_request_that_cannot_be_met_says_why(site: Website, tail: str, accept: str, status: int) -> None:
    found, headers, content = get(site, f"{FILES['CT_small.dcm'].path}{tail}", accept)
    assert (found, headers["content-type"]) == (status, "application/problem+json"), content
    problem = json.loads(content)
    assert problem["status"] == status
    assert "CompressedSamples" not in problem["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/1.2.3.4", 404),
        ("/1.2.3.4/series/1.2", 404),
        ("/1.2.3.4/metadata", 404),
        ("/..", 400),
        ("/..%2F..%2Fetc", 404),
        ("/1.2/series/..", 400),
        ("/1.2/series/1/instances/%3Cscript%3E", 400),
        ("/" + "1." * 40 + "1", 400),
    ],
)
def test_a_name_of_nothing_is_refused(site: Website, path: str, status: int) -> None:
    found, headers, content = get(site, f"{STUDIES}{path}")
    assert (found, headers["content-type"]) == (status, "application/problem+json"), content


@pytest.mark.parametrize(
    ("depth", "status", "code"),
    [(2, 403, "not-authorized"), (4, 405, "method-not-allowed"), (6, 405, "method-not-allowed")],
)
def test_nobody_deletes_without_the_right_and_nothing_but_studies(
    site: Website, depth: int, status: int, code: str
) -> None:
    path = "/".join(FILES["CT_small.dcm"].path.split("/")[: depth + 2])
    response, content = site.ask("DELETE", path)
    assert (response.status, json.loads(content)["code"]) == (status, code)
    assert get(site, FILES["CT_small.dcm"].path)[0] == 200


def test_a_structured_report_has_no_frames(site: Website) -> None:
    path = FILES[WITHOUT_PIXELS].path
    for tail in ("/frames/1", "/rendered", "/thumbnail", "/bulkdata/7FE00010"):
        status, _, content = get(site, f"{path}{tail}")
        assert (status, json.loads(content)["code"]) == (404, "not-found")


def test_a_file_that_is_gone_is_told_to_the_operator_without_a_name(
    site: Website, caplog: pytest.LogCaptureFixture
) -> None:
    ds = fresh_slice()
    store(site, part10(ds))
    path = f"{STUDIES}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    (holding,) = HoldingLedger(site.services.engine).holdings(ds.StudyInstanceUID)
    site.services.store.path(holding.path).unlink()
    for tail, accept in (
        ("", DICOM),
        ("", "*/*"),
        ("/metadata", JSON),
        ("/frames/1", "*/*"),
        ("/rendered", "image/png"),
    ):
        status, _, content = get(site, f"{path}{tail}", accept)
        problem = json.loads(content)
        assert (status, problem["code"]) == (500, "file-unreadable")
        assert ds.SOPInstanceUID in problem["detail"]
        assert "Käthe" not in problem["detail"]
    told = [record for record in caplog.records if record.message == "instance not read"]
    assert {vars(record)["instance_uid"] for record in told} == {ds.SOPInstanceUID}


def test_pixels_that_kill_their_decoder_cost_one_request(site: Website) -> None:
    ds = dcmread(BytesIO(FILES["MR_small_jp2klossless.dcm"].content))
    ds.StudyInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    at_size = ds.PixelData.index(b"\xff\x51") + 6
    # The code stream claims 60000 x 60000 pixels, the header 64 x 64.
    ds.PixelData = ds.PixelData[:at_size] + (60000).to_bytes(4, "big") * 2 + ds.PixelData[at_size + 8 :]
    written = BytesIO()
    ds.save_as(written)
    store(site, written.getvalue())
    path = f"{STUDIES}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    status, _, content = get(site, f"{path}/rendered", "image/png")
    assert (status, json.loads(content)["code"]) in ((422, "pixels-undecodable"), (500, "decoder-died"))
    assert get(site, f"{path}/frames/1")[0] == 200
    assert get(site, f"{FILES['CT_small.dcm'].path}/rendered", "image/png")[0] == 200


def test_our_own_result_is_served_beside_what_it_is_about(site: Website) -> None:
    ds, own = fresh_slice(), fresh_slice()
    store(site, part10(ds))
    study = StudyUID(str(ds.StudyInstanceUID))
    own.StudyInstanceUID, own.Modality, own.SeriesDescription, own.SeriesNumber = study, "SEG", "Nodules", "900"
    content = part10(own)
    books = Books(copy_ledger(site.folder))
    books.route(make_order(study=study), study=study)
    job = books.claim(books.only_job(study=study))
    result = Result(
        job_id=job.job_id,
        kind=ResultKind.SEG,
        study_instance_uid=study,
        series_instance_uid=SeriesUID(str(own.SeriesInstanceUID)),
        sop_instance_uid=InstanceUID(str(own.SOPInstanceUID)),
        sop_class_uid=SEG_STORAGE,
        transfer_syntax_uid=EXPLICIT,
        path=f"results/{own.SOPInstanceUID}.dcm",
        size_bytes=len(content),
        sha256="a digest",
        attributes=scan_file(content).attributes,
    )
    site.services.store.put(result.path, content)
    books.jobs.finish_job(job, make_outcome(result), now=at(1))
    books.close()
    client = DICOMwebClient(site.url)
    assert len(client.retrieve_study(study)) == 2
    assert client.retrieve_series(study, result.series_instance_uid)[0].PixelData == own.PixelData
    series = {one["00080060"]["Value"][0]: one for one in client.search_for_series(study)}
    assert (series["SEG"]["0008103E"]["Value"], series["SEG"]["00200011"]["Value"]) == (["Nodules"], [900])
    assert get(site, f"{STUDIES}/{study}/series/{result.series_instance_uid}/thumbnail")[0] == 200


def test_a_large_study_is_served_in_pieces(site: Website) -> None:
    """Of three Instances of 16 MiB, the process (the test's own) never holds as much as one."""
    study, size_bytes = generate_uid(), 2 * 2048 * 4096
    for level in (1, 2, 3):
        ds = fresh_slice(study=study, level=level)
        ds.Rows, ds.Columns, ds.PixelData = 2048, 4096, bytes((level,)) * size_bytes
        store(site, part10(ds))
    tracemalloc.start()
    try:
        with site.connect() as connection:
            connection.sendall(
                f"GET {STUDIES}/{study} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            received = 0
            while chunk := connection.recv(1 << 16):
                received += len(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received > 3 * size_bytes
    assert peak_bytes < size_bytes / 2
