"""Studies as wholes: shown, retrieved although a part is gone, deleted, and each of it in the audit trail."""

import json
import logging
import os
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import update

from node.audit.message import AuditEvent, encode_message
from node.domain.account import Right
from node.ledger.retention import RetentionLedger
from node.ledger.schema import studies
from tests.peers import wait_until
from tests.trails import NOON, SOURCE, judge
from tests.websites import STUDIES, Website, files_of, fresh_slice, multipart, part10, website

TOGETHER = 'multipart/related; type="image/png"'
WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PLAIN = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        yield running


def store(site: Website, *contents: bytes) -> None:
    body, headers = multipart(files_of(*contents))
    response, answer = site.ask("POST", STUDIES, body=body, headers=headers)
    assert response.status == 200, answer


def slices(count: int, *, study: str = "") -> Sequence[Dataset]:
    """Return CT Images of one Series."""
    study, series = study or generate_uid(), generate_uid()
    made = [fresh_slice(study=study, level=10 * number + 5) for number in range(count)]
    for number, ds in enumerate(made):
        ds.SeriesInstanceUID, ds.InstanceNumber = series, number + 1
    return made


def report(study: str) -> bytes:
    """Return an Instance without pixels."""
    ds = dcmread(Path(str(get_testdata_file("test-SR.dcm"))))
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, generate_uid(), generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    written = BytesIO()
    ds.save_as(written)
    return written.getvalue()


def get(site: Website, path: str, accept: str) -> tuple[int, Mapping[str, str], bytes]:
    response, content = site.ask("GET", path, headers={"Accept": accept})
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def parts_of(headers: Mapping[str, str], content: bytes) -> Sequence[tuple[str, bytes]]:
    """Return head and content of each part; the last boundary must be there."""
    boundary = headers["content-type"].rpartition("boundary=")[2].encode()
    pieces = content.split(b"--" + boundary)
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    return [(piece.partition(b"\r\n\r\n")[0].decode(), piece.partition(b"\r\n\r\n")[2][:-2]) for piece in pieces[1:-1]]


def path_of(ds: Dataset) -> str:
    return f"{STUDIES}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def file_of(site: Website, ds: Dataset) -> Path:
    (path,) = (one for one in site.files() if one.name.startswith(ds.SOPInstanceUID))
    return path


def told(site: Website, kind: str, study: str) -> Sequence[AuditEvent]:
    return [one for one in site.told if one.kind == kind and one.facts.get("study_instance_uid") == study]


def test_a_study_and_a_series_are_shown_picture_by_picture(site: Website) -> None:
    images = slices(3)
    study = images[0].StudyInstanceUID
    store(site, *map(part10, images), report(study))
    for place in (f"{STUDIES}/{study}", path_of(images[0]).rpartition("/instances")[0]):
        status, headers, content = get(site, f"{place}/rendered", TOGETHER)
        assert (status, headers.get("warning")) == (200, None)
        shown = parts_of(headers, content)
        assert len(shown) == len(images)
        for ds, (head, picture) in zip(images, shown, strict=True):
            assert "Content-Type: image/png" in head
            assert f"{path_of(ds)}/rendered" in head
            assert picture == get(site, f"{path_of(ds)}/rendered", "image/png")[2]


def test_parameters_of_a_picture_hold_for_all_of_a_study(site: Website) -> None:
    images = slices(2)
    store(site, *map(part10, images))
    place = f"{STUDIES}/{images[0].StudyInstanceUID}"
    _, headers, content = get(site, f"{place}/rendered?viewport=3,2&window=40,400&annotation=patient", "*/*")
    assert headers["warning"].startswith('299 radnode: "not supported: annotation')
    assert [Image.open(BytesIO(picture)).size for _, picture in parts_of(headers, content)] == [(3, 2)] * 2
    assert {Image.open(BytesIO(picture)).format for _, picture in parts_of(headers, content)} == {"JPEG"}
    assert get(site, f"{place}/rendered", "image/png")[0] == 406
    assert get(site, f"{place}/rendered?window=1", TOGETHER)[0] == 400
    assert get(site, f"{STUDIES}/1.2.3.4/rendered", TOGETHER)[0] == 404


def test_a_study_without_pixels_has_nothing_to_show(site: Website) -> None:
    study = generate_uid()
    store(site, report(study))
    assert get(site, f"{STUDIES}/{study}/rendered", TOGETHER)[0] == 404


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_an_instance_that_cannot_be_read_is_left_out_and_told(
    site: Website, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = slices(3)
    study, lost = images[0].StudyInstanceUID, images[1]
    store(site, *map(part10, images))
    path = file_of(site, lost)
    if harm == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    with caplog.at_level(logging.ERROR):
        status, headers, content = get(site, f"{STUDIES}/{study}", WHOLE)
    assert (status, headers["warning"]) == (206, '299 radnode: "1 of 3 Instances cannot be read and are left out"')
    kept = [dcmread(BytesIO(part)).SOPInstanceUID for _, part in parts_of(headers, content)]
    assert kept == [images[0].SOPInstanceUID, images[2].SOPInstanceUID]
    (line,) = (record for record in caplog.records if record.message == "instance not read")
    assert vars(line)["instance_uid"] == lost.SOPInstanceUID
    (event,) = wait_for(site, "instance-left-out", study)
    assert lost.SOPInstanceUID in event.text
    judge(encode_message(event, source=SOURCE, at=NOON))
    assert get(site, path_of(lost), "*/*")[0] == 500


def wait_for(site: Website, kind: str, study: str) -> Sequence[AuditEvent]:
    wait_until(lambda: told(site, kind, study), what=f"the record {kind}")
    return told(site, kind, study)


def test_what_fails_when_the_answer_is_under_way_is_missing_in_it(site: Website) -> None:
    whole = slices(1)[0]
    study, whole.SeriesInstanceUID = whole.StudyInstanceUID, "1.2.3.1"
    ds = dcmread(Path(str(get_testdata_file("MR_small_jp2klossless.dcm"))))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, "1.2.3.2"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    written = BytesIO()
    ds.save_as(written)
    # A code stream without its beginning (ISO/IEC 15444-1 A.4.1).
    store(site, part10(whole), written.getvalue().replace(b"\xff\x4f\xff\x51", bytes(4)))
    status, headers, content = get(site, f"{STUDIES}/{study}", PLAIN)
    found = [dcmread(BytesIO(part)).SOPInstanceUID for _, part in parts_of(headers, content)]
    assert (status, found) == (200, [whole.SOPInstanceUID])


def test_a_study_of_which_nothing_can_be_read_is_an_error(site: Website) -> None:
    images = slices(2)
    store(site, *map(part10, images))
    for ds in images:
        file_of(site, ds).unlink()
    status, _, content = get(site, f"{STUDIES}/{images[0].StudyInstanceUID}", WHOLE)
    assert (status, json.loads(content)["code"]) == (500, "file-unreadable")


def test_whoever_looks_and_whoever_takes_away_is_in_the_audit_trail_once(site: Website) -> None:
    images = slices(4)
    study = images[0].StudyInstanceUID
    store(site, *map(part10, images))
    for ds in images:
        for tail in ("/rendered", "/thumbnail", "/metadata", "/frames/1/rendered"):
            assert get(site, f"{path_of(ds)}{tail}", "*/*")[0] == 200
    assert not told(site, "study-retrieved", study)
    for ds in images:
        for tail in ("", "/frames/1", "/bulkdata/7FE00010"):
            assert get(site, f"{path_of(ds)}{tail}", "*/*")[0] == 200
    (taken,) = wait_for(site, "study-retrieved", study)
    (viewed,) = wait_for(site, "study-viewed", study)
    for event in (viewed, taken):
        message = encode_message(event, source=SOURCE, at=NOON)
        judge(message)
        assert f'ParticipantObjectID="{images[0].PatientID}"' in message
        assert str(images[0].PatientName) not in message


def test_a_search_is_in_the_audit_trail_without_its_values(site: Website) -> None:
    for name in ("Quetzalcoatlus", "Hatzegopteryx"):
        assert get(site, f"{STUDIES}?PatientName={name}&limit=3", "*/*")[0] == 200
    wait_until(lambda: any(one.kind == "studies-searched" for one in site.told), what="the record")
    (event,) = (one for one in site.told if one.kind == "studies-searched")
    message = encode_message(event, source=SOURCE, at=NOON)
    assert "PatientName" in event.text
    assert "Quetzal" not in message + event.text
    assert b64decode(event.objects[0].query.encode() + b"==") is not None


def test_a_study_is_deleted_by_those_who_may_and_as_carefully_as_by_the_command(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset(Right)) as site:
        images = slices(2)
        study = images[0].StudyInstanceUID
        store(site, *map(part10, images))
        response, content = site.ask("DELETE", f"{STUDIES}/{study}")
        problem = json.loads(content)
        assert (response.status, problem["code"]) == (409, "wrong-state")
        assert "less than 10 minutes ago" in problem["detail"]
        let_rest(site, study, images)
        response, content = site.ask("DELETE", f"{STUDIES}/{study}")
        assert (response.status, content) == (204, b"")
        assert get(site, f"{STUDIES}/{study}", WHOLE)[0] == 404
        (purge,) = RetentionLedger(site.services.engine).pending_purges()
        assert (purge.study_instance_uid, purge.reason) == (study, "deleted by DICOMweb")
        assert purge.ordered_by.startswith("token ")
        assert site.ask("DELETE", f"{STUDIES}/1.2.3.4")[0].status == 404
        assert site.ask("DELETE", f"{STUDIES}/1.2..4")[0].status == 400


def let_rest(site: Website, study: str, images: Sequence[Dataset]) -> None:
    """Let the Study look as if it had been looked at long ago, and nobody needed it any more."""
    long_ago = time.time() - 3600
    for ds in images:
        os.utime(file_of(site, ds), (long_ago, long_ago))
    with site.services.engine.begin() as connection:
        connection.execute(update(studies).where(studies.c.study_instance_uid == study).values(state="ROUTED"))
