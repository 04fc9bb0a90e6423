"""QIDO-RS over a real socket: what a client finds, what it is told of it, and what it may not ask."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from node.ledger.instances import InstanceLedger
from node.web.native import from_xml
from tests.analyses import make_slices
from tests.enhanced import enhance
from tests.peers import Orthanc, wait_until
from tests.websites import DICOM, STUDIES, Website, fresh_slice, part10, website

CANARY = "Canary^Patient"
# What stands in answers of both, and is about what was sent.
COMPARED = (
    "StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
    "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip


def study(**changes: Any) -> list[Dataset]:
    """Return the three Instances of a Study with two Series, with these values."""
    uid, series = generate_uid(), generate_uid()
    made = []
    for number, modality in ((1, "CT"), (2, "CT"), (3, "PT")):
        ds = fresh_slice(study=uid)
        ds.InstanceNumber, ds.Modality, ds.SeriesNumber = number, modality, 7 if modality == "CT" else 8
        if modality == "CT":
            ds.SeriesInstanceUID = series
        ds.StudyTime, ds.StudyID, ds.AccessionNumber, ds.SeriesDescription = "101500", "S1", "", f"{modality} axial"
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        made.append(ds)
    return made


SENT: Mapping[str, Sequence[Dataset]] = {
    "doe": study(PatientName=CANARY, PatientID="P1", StudyDate="20240301", AccessionNumber="A-1"),
    "müller": study(PatientName="Müller^Jörg", PatientID="P2", StudyDate="20240201", StudyDescription="Thorax & <b>"),
    "yamada": study(
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientID="P3",
        StudyDate="20240101",
        SpecificCharacterSet="ISO_IR 192",
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        ledger = InstanceLedger(running.services.engine)
        for ds in (one for found in SENT.values() for one in found):
            response, content = running.ask("POST", STUDIES, body=part10(ds), headers={"Content-Type": DICOM})
            assert response.status == 200, content
            wait_until(partial(ledger.known, ds.SOPInstanceUID), what="its row")
        yield running


def ask(site: Website, path: str, accept: str = "application/dicom+json") -> tuple[int, Mapping[str, str], bytes]:
    response, content = site.ask("GET", f"/dicom-web{path}", headers={"Accept": accept})
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def found(site: Website, path: str) -> tuple[list[str], str]:
    """Return the names of the Studies that are found, and the Warning."""
    status, headers, content = ask(site, path)
    assert status == 200, content
    names = {made[0].StudyInstanceUID: name for name, made in SENT.items()}
    return [names[value(model, "StudyInstanceUID")] for model in json.loads(content)], headers.get("warning", "")


def value(model: Mapping[str, Any], keyword: str) -> Any:
    """Return the first value of an attribute; None where it has none."""
    values = model[f"{tag_for_keyword(keyword):08X}"].get("Value")
    return values[0] if values else None


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["doe", "müller", "yamada"]),
        ("?PatientName=canary*", ["doe"]),
        ("?00100010=canary*", ["doe"]),
        ("?PatientName=muller^jorg", ["müller"]),
        ("?PatientName=%E5%B1%B1%E7%94%B0*", ["yamada"]),
        ("?PatientName=pat%20can&fuzzymatching=true", ["doe"]),
        ("?PatientName=pat%20can&fuzzymatching=false", []),
        ("?PatientID=P2", ["müller"]),
        ("?PatientID=", ["doe", "müller", "yamada"]),
        ("?StudyDate=20240115-20240229", ["müller"]),
        ("?StudyDescription=Thorax%20%26*", ["müller"]),
        ("?StudyTime=1000-1100&AccessionNumber=A-1", ["doe"]),
        ("?ModalitiesInStudy=PT", ["doe", "müller", "yamada"]),
        ("?ModalitiesInStudy=US", []),
        ("?limit=1&offset=1", ["müller"]),
        ("?limit=0", []),
    ],
)
def test_studies_are_found(site: Website, query: str, names: list[str]) -> None:
    assert found(site, f"/studies{query}")[0] == names


def test_what_is_told_of_a_study(site: Website) -> None:
    (model,) = json.loads(ask(site, "/studies?PatientID=P3")[2])
    ds = SENT["yamada"][0]
    assert value(model, "PatientName") == {
        "Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"
    }  # fmt: skip
    assert model["00080061"] == {"vr": "CS", "Value": ["CT", "PT"]}
    assert (value(model, "NumberOfStudyRelatedSeries"), value(model, "NumberOfStudyRelatedInstances")) == (2, 3)
    assert value(model, "RetrieveURL") == f"{site.url}/studies/{ds.StudyInstanceUID}"
    assert (value(model, "SpecificCharacterSet"), value(model, "InstanceAvailability")) == ("ISO_IR 192", "ONLINE")
    # What nobody sent is there, and empty.
    assert model["00080090"] == {"vr": "PN"}
    assert list(model) == sorted(model)


def test_what_is_told_of_series_and_instances(site: Website) -> None:
    uid = SENT["doe"][0].StudyInstanceUID
    series = json.loads(ask(site, f"/studies/{uid}/series")[2])
    assert [(value(one, "Modality"), value(one, "SeriesNumber")) for one in series] == [("CT", 7), ("PT", 8)]
    assert [value(one, "NumberOfSeriesRelatedInstances") for one in series] == [2, 1]
    assert "00100010" not in series[0]
    assert (
        value(json.loads(ask(site, f"/studies/{uid}/series?includefield=PatientName")[2])[0], "PatientName") is not None
    )
    assert value(json.loads(ask(site, "/series?PatientID=P1&Modality=PT")[2])[0], "PatientID") == "P1"
    place = value(series[0], "RetrieveURL").removeprefix(site.url)
    instances = json.loads(ask(site, f"{place}/instances")[2])
    assert [value(one, "InstanceNumber") for one in instances] == [1, 2]
    assert (value(instances[0], "Rows"), value(instances[0], "BitsAllocated")) == (4, 16)
    assert "00180050" not in instances[0]
    (one,) = json.loads(ask(site, f"{place}/instances?InstanceNumber=2&includefield=00180050,ImagePositionPatient")[2])
    assert (value(one, "SliceThickness"), one["00200032"]["Value"]) == (2.5, [-10.5, 20, 30.25])
    assert value(one, "RetrieveURL").endswith(SENT["doe"][1].SOPInstanceUID)
    everything = json.loads(ask(site, f"{place}/instances?includefield=all&limit=1")[2])[0]
    assert {"00100010", "0008103E", "00180050"} <= set(everything)
    assert len(json.loads(ask(site, f"/studies/{uid}/instances")[2])) == 3
    assert len(json.loads(ask(site, f"/instances?SOPInstanceUID={SENT['doe'][2].SOPInstanceUID}")[2])) == 1


def test_a_client_finds_page_by_page(site: Website) -> None:
    client = DICOMwebClient(site.url)
    filters = {"PatientName": "*"}
    names = [value(one, "PatientID") for one in client.search_for_studies(search_filters=filters, limit=2)]
    assert names == ["P1", "P2"]
    assert len(client.search_for_studies(limit=2, get_remaining=True)) == 3
    assert len(client.search_for_series(search_filters={"Modality": "CT"})) == 3
    uid = SENT["doe"][0].StudyInstanceUID
    assert len(client.search_for_instances(uid, fields=["SliceThickness"])) == 3
    assert [
        value(one, "PatientID")
        for one in client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "jorg"})
    ] == ["P2"]


@pytest.mark.needs("Orthanc")
def test_orthanc_tells_the_same_of_the_same_studies(site: Website) -> None:
    with Orthanc() as orthanc:
        for ds in (one for made in SENT.values() for one in made):
            orthanc.request("POST", "/instances", part10(ds))
        answers = [
            {value(one, "PatientID"): one for one in DICOMwebClient(url).search_for_studies(fields=COMPARED)}
            for url in (site.url, orthanc.dicomweb_url)
        ]
    ours, theirs = answers
    assert set(ours) == set(theirs) == {"P1", "P2", "P3"}
    for patient_id, keyword in ((one, keyword) for one in ours for keyword in COMPARED):
        if (patient_id, keyword) == ("P3", "PatientName"):
            # Orthanc answers in Latin-1, in which nobody writes this name.
            continue
        tag = f"{tag_for_keyword(keyword):08X}"
        told = [sorted(map(str, one[patient_id].get(tag, {}).get("Value", []))) for one in (ours, theirs)]
        assert told[0] == told[1], keyword


def test_xml_tells_the_same(site: Website) -> None:
    models = json.loads(ask(site, "/studies")[2])
    status, headers, content = ask(site, "/studies", 'multipart/related; type="application/dicom+xml"')
    assert status == 200
    boundary = headers["content-type"].rpartition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n")[2][:-2] for part in content.split(b"--" + boundary)[1:-1]]
    for model, part in zip(models, parts, strict=True):
        told = from_xml(part)
        assert told["00100010"] == model["00100010"]
        assert set(told) == set(model)


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ("/studies?limit=1", "there are more"),
        ("/studies?limit=1000000", "a page holds at most 1000"),
        ("/studies?NoSuchThing=1", "does not know them here: NoSuchThing"),
        ("/studies?SliceThickness=1", "does not know them here: SliceThickness"),
        ("/studies?ffffffff=1", "does not know them here: ffffffff"),
        ("/studies?includefield=Nothing,PixelData", "does not keep them: Nothing, PixelData"),
        ("/studies?a%0d%0aSet-Cookie:x=1", "does not know them here: aSetCookiex"),
    ],
)
def test_what_is_not_done_as_asked_is_told(site: Website, query: str, warning: str) -> None:
    status, headers, _ = ask(site, query)
    assert status == 200
    assert headers["warning"].startswith('299 radnode: "')
    assert warning in headers["warning"]
    assert "set-cookie" not in headers


def test_a_search_that_finds_nothing_is_no_error(site: Website) -> None:
    status, headers, content = ask(site, "/studies?PatientID=nobody")
    assert (status, content, headers["content-type"]) == (200, b"[]", "application/dicom+json")
    assert ask(site, f"/studies/{generate_uid()}/series")[2] == b"[]"
    assert ask(site, "/studies", "application/json")[1]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("/studies?limit=-1", 400),
        ("/studies?limit=many", 400),
        ("/studies?limit=99999999999999999999", 400),
        ("/studies?offset=x", 400),
        ("/studies?StudyDate=yesterday", 400),
        ("/studies?PatientID=%00", 400),
        ("/studies?fuzzymatching=perhaps", 400),
        ("/studies?PatientName=" + "*a" * 20, 400),
        ("/studies?ModalitiesInStudy=" + ",".join(f"M{number}" for number in range(40)), 400),
        ("/studies/../series", 400),
        ("/studies/1.2.x/series", 400),
        ("/studies/1.2/series/x/instances", 400),
    ],
)
def test_what_cannot_be_asked_is_refused(site: Website, query: str, status: int) -> None:
    found_status, headers, content = ask(site, query)
    assert (found_status, headers["content-type"]) == (status, "application/problem+json"), content


def test_only_what_is_accepted_is_sent(site: Website) -> None:
    status, _, content = ask(site, "/studies", "text/csv")
    assert status == 406
    assert "application/dicom+json" in json.loads(content)["detail"]


def test_no_value_of_a_search_is_logged(site: Website, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        ask(site, f"/studies?PatientName={CANARY}")
        ask(site, f"/studies?StudyDate={CANARY}")
    assert caplog.records
    assert all("Canary" not in str(record.__dict__) for record in caplog.records if record.name.startswith("node"))


def test_what_was_found_can_be_retrieved(site: Website) -> None:
    for model in json.loads(ask(site, "/instances")[2]):
        _, _, content = ask(site, value(model, "RetrieveURL").removeprefix(site.url), DICOM)
        assert dcmread(BytesIO(content)).SOPInstanceUID == value(model, "SOPInstanceUID")


def test_what_is_kept_of_frames_for_rules_is_no_answer(site: Website) -> None:
    """Last, for it is one Study more."""
    ds = enhance(make_slices())
    response, content = site.ask("POST", STUDIES, body=part10(ds), headers={"Content-Type": DICOM})
    assert response.status == 200, content
    wait_until(partial(InstanceLedger(site.services.engine).known, ds.SOPInstanceUID), what="its row")
    status, _, content = ask(site, f"/studies/{ds.StudyInstanceUID}/instances?includefield=all")
    assert status == 200, content
    assert value(json.loads(content)[0], "NumberOfFrames") == ds.NumberOfFrames
