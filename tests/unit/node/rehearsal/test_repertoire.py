"""Each take of a phantom is a Study that nobody has seen, whole in itself; and what must be refused is really wrong."""

from io import BytesIO

import pytest
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from node.errors import NotFound
from node.rehearsal.repertoire import Piece, Repertoire, pieces
from node.rehearsal.script import write_script
from node.rehearsal.wrongs import CUT_BYTES, Offer, whole, wrongs
from tests.phantoms import small_brain_mr, small_chest_xray

HEAD = Piece(name="head", words="a head", is_series=True, draw=lambda: small_brain_mr().datasets)
FILM = Piece(name="film", words="a film", is_series=False, draw=lambda: [small_chest_xray(with_opacity=False).dataset])


def test_two_takes_share_no_uid_and_the_phantom_keeps_its_own() -> None:
    before = [str(ds.SOPInstanceUID) for ds in small_brain_mr().datasets]
    repertoire = Repertoire("run", (HEAD,))
    first, second = repertoire.take("head"), repertoire.take("head")
    uids = [
        {str(ds[keyword].value) for ds in take.datasets for keyword in ("StudyInstanceUID", "SOPInstanceUID")}
        for take in (first, second)
    ]
    assert not uids[0] & uids[1]
    assert not set(before) & (uids[0] | uids[1])
    assert [str(ds.SOPInstanceUID) for ds in small_brain_mr().datasets] == before


def test_a_take_is_one_study_with_the_series_and_the_frame_of_reference_of_the_phantom() -> None:
    take = Repertoire("run", (HEAD,)).take("head")
    assert {str(ds.StudyInstanceUID) for ds in take.datasets} == {take.study_instance_uid}
    assert len({ds.SeriesInstanceUID for ds in take.datasets}) == 3
    assert len({ds.FrameOfReferenceUID for ds in take.datasets}) == 1
    assert {ds.PatientID for ds in take.datasets} == {"REHEARSAL-run"}
    assert [take.places[str(ds.file_meta.MediaStorageSOPInstanceUID)] for ds in take.datasets] == list(
        range(len(take.datasets))
    )


def test_another_run_sends_other_studies_and_the_same_run_the_same() -> None:
    uids = [Repertoire(run, (FILM,)).take("film").study_instance_uid for run in ("one", "other", "one")]
    assert uids[0] == uids[2] != uids[1]


def test_the_phantoms_are_those_of_the_shipped_pipelines() -> None:
    assert [piece.name for piece in pieces()] == ["chest-xray", "mr-brain", "ct-chest"]


def test_a_script_leaves_out_what_a_single_instance_cannot_show() -> None:
    alone = {scenario.name for scenario in write_script((FILM,), with_faults=True)}
    both = {scenario.name for scenario in write_script((FILM, HEAD), with_faults=True)}
    assert both - alone == {"head", "doubled", "shuffled", "paused", "late", "cut"}
    assert [scenario.name for scenario in write_script((FILM,), with_faults=False)] == ["echo", "film", "at-the-end"]
    with pytest.raises(NotFound, match="pacs-down"):
        write_script((FILM,), with_faults=True, only=("pacs-dow",))


def parsed(offer: Offer) -> Dataset:
    return dcmread(BytesIO(bytes(128) + b"DICM" + offer.data_set), force=True)


def test_an_instance_that_is_sent_whole_is_what_it_was() -> None:
    ds = Repertoire("run", (FILM,)).take("film").datasets[0]
    sent = whole(ds)
    assert sent.command_uid == ds.SOPInstanceUID
    assert ds.PixelData in sent.data_set


def test_each_wrong_object_is_wrong_in_the_way_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    ds = Repertoire("run", (FILM,)).take("film").datasets[0]
    found = {wrong.words: wrong for wrong in wrongs(ds)}
    assert len(found) == 8
    for words, uid in (("climbs", "../../../../../../tmp/radnode"), ("shell", "1.2.3;touch /tmp/radnode")):
        wrong = next(one for name, one in found.items() if words in name and "SOP" in name)
        assert wrong.command_uid == parsed(wrong).SOPInstanceUID == uid
    long = found["a SOP Instance UID of 80 characters"]
    assert len(str(parsed(long).SOPInstanceUID)) == 80
    assert not parsed(found["an empty SOP Instance UID"]).SOPInstanceUID
    other = found["a command that names another Instance than its data set"]
    assert other.command_uid != parsed(other).SOPInstanceUID == ds.SOPInstanceUID
    cut = found[f"Pixel Data {CUT_BYTES} bytes shorter than they say"]
    assert len(cut.data_set) == len(whole(ds).data_set) - CUT_BYTES
