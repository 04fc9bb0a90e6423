"""dicomweb-client's command line against the node and Orthanc: the same commands, and the same bytes come back."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient, cli
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import dcmread
from pydicom.data import get_testdata_file

from node.header.part10 import read_part10
from tests.peers import Orthanc
from tests.websites import website

pytestmark = pytest.mark.needs("Orthanc")

# Uncompressed; JPEG 2000; RLE with two Frames.
NAMES = ("CT_small.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm")
AS_STORED = (("application/dicom", "*"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A DICOMweb service, and clients for it."""

    url: str
    login: tuple[str, ...]
    client: DICOMwebClient

    def run(self, *words: str) -> str:
        """Return what a command line prints; in this process, for it takes seconds to be loaded."""
        printed = StringIO()
        parser: ArgumentParser = cli._get_parser()  # type: ignore[no-untyped-call]  # theirs
        arguments = parser.parse_args(["--url", self.url, *self.login, *words])
        with redirect_stdout(printed), pytest.raises(SystemExit, match=r"\A0\Z"):
            cli.main(arguments)  # type: ignore[no-untyped-call]  # theirs
        return printed.getvalue()


def path_of(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def uids_of(name: str) -> tuple[str, str, str]:
    ds = dcmread(path_of(name), stop_before_pixels=True)
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def options_of(name: str) -> tuple[str, ...]:
    study, series, instance = uids_of(name)
    return "--study", study, "--series", series, "--instance", instance


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with website(tmp_path_factory.mktemp("site")) as site:
        # The command line knows Basic; there the token is the password.
        session = create_session_from_user_pass("anybody", site.token)
        login = ("--user", "anybody", "--password", site.token)
        yield Service(url=site.url, login=login, client=DICOMwebClient(site.url, session=session))


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Service]:
    with Orthanc() as running:
        yield Service(url=running.dicomweb_url, login=(), client=DICOMwebClient(running.dicomweb_url))


@pytest.fixture(scope="module")
def services(node: Service, orthanc: Service) -> Sequence[Service]:
    for service in (node, orthanc):
        service.run("store", "instances", *(str(path_of(name)) for name in NAMES))
    return node, orthanc


def test_what_was_stored_is_found(services: Sequence[Service]) -> None:
    for service in services:
        found = json.loads(service.run("search", "studies"))
        assert {one["0020000D"]["Value"][0] for one in found} == {uids_of(name)[0] for name in NAMES}
        study, series, instance = uids_of("CT_small.dcm")
        (one,) = service.client.search_for_series(study)
        assert one["0020000E"]["Value"] == [series]
        (one,) = service.client.search_for_instances(study)
        assert one["00080018"]["Value"] == [instance]


def test_a_whole_instance_is_saved_the_same_from_both(services: Sequence[Service], tmp_path: Path) -> None:
    name = "CT_small.dcm"
    kept = []
    for number, service in enumerate(services):
        folder = tmp_path / str(number)
        folder.mkdir()
        service.run("retrieve", "studies", *options_of(name)[:2], "full", "--save", "--output-dir", str(folder))
        kept.append((folder / f"{uids_of(name)[2]}.dcm").read_bytes())
    assert dcmread(tmp_path / "0" / f"{uids_of(name)[2]}.dcm") == dcmread(path_of(name))
    assert data_set_of(kept[0]) == data_set_of(kept[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_instance_is_retrieved_the_same_from_both(services: Sequence[Service], name: str) -> None:
    study, series, instance = uids_of(name)
    ours, theirs = (
        service.client.retrieve_instance(study, series, instance, media_types=AS_STORED) for service in services
    )
    assert ours == theirs == dcmread(path_of(name))
    assert ours.file_meta.TransferSyntaxUID == dcmread(path_of(name)).file_meta.TransferSyntaxUID


def data_set_of(content: bytes) -> bytes:
    return content[read_part10(content).data_set_offset :]


def test_frames_are_saved_as_they_are_in_the_file(services: Sequence[Service], tmp_path: Path) -> None:
    # Orthanc wants another Accept than the command line sends; test_wado compares Frames with its own.
    wanted = ("frames", "--numbers", "1", "--save", "--output-dir", str(tmp_path))
    services[0].run("retrieve", "instances", *options_of("CT_small.dcm"), *wanted)
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == dcmread(path_of("CT_small.dcm")).PixelData


def test_headers_are_told_the_same_by_both(services: Sequence[Service]) -> None:
    study, series, instance = uids_of("CT_small.dcm")
    models = [service.client.retrieve_instance_metadata(study, series, instance) for service in services]
    for tag in ("00080018", "00100010", "00280010", "00200032"):
        assert models[0][tag] == models[1][tag]


def test_a_frame_is_shown_and_bulk_data_are_those_of_the_file(services: Sequence[Service]) -> None:
    study, series, instance = uids_of("CT_small.dcm")
    for service in services:
        picture = service.client.retrieve_instance_rendered(study, series, instance, media_types=("image/png",))
        assert picture.startswith(b"\x89PNG")
    # The client sends a Host without the port, from which the URLs of metadata are made.
    place = f"{services[0].url}/studies/{study}/series/{series}/instances/{instance}/bulkdata/7FE00010"
    assert services[0].client.retrieve_bulkdata(place) == [dcmread(path_of("CT_small.dcm")).PixelData]
