"""What intake commits: Instances, the Series and Studies they open, the Associations that bring them."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.recording import Recording
from node.domain.study import SeriesState
from node.domain.uids import SeriesUID, StudyUID
from node.errors import IdentifierClash
from node.intake.adoption import Adoption
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.store.files import FileStore, Reserve
from tests.instances import MAX_INSTANCE_BYTES, arrival, ct_slice, encode
from tests.ledgers import NOON, STUDY, Books, at, make_facts, make_order

STORED = Reserve(reserve_bytes=0, reserve_percent=0.0)


def test_first_instance_opens_series_and_study(books: Books) -> None:
    assert books.instances.record_instance(make_facts()) is Recording.NEW
    story = books.view.study_story(STUDY)
    assert (story.state, [line.state for line in story.series]) == ("OPEN", ["OPEN"])
    assert books.kinds() == ["study-opened"]


def test_everything_about_an_instance_is_read_back(books: Books) -> None:
    facts = make_facts(ImagePositionPatient=[-1.5, 0.0, 3.25], SeriesDescription="Größe")
    books.instances.record_instance(facts)
    books.route(make_order())
    (read,) = books.jobs.input_instances(books.only_job())["ct"]
    assert read == facts


def test_the_same_instance_again_changes_nothing(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()
    assert books.instances.record_instance(make_facts(received_at=at(9), association="a2")) is Recording.SAME
    assert books.view.study_story(STUDY).state == "ROUTED"
    assert books.studies.open_series() == ()


def test_the_same_frames_again_tell_where_they_lie_if_an_older_version_did_not_read_it(books: Books) -> None:
    books.instances.record_instance(make_facts(StudyDescription="CT chest"))
    books.route()
    before = books.studies.study_facts(STUDY).revision
    places = [[0.0], [0.0], [1.0]]
    more = make_facts(received_at=at(9), association="a2", StudyDescription="CT recon", FramePlaces=places)
    assert books.instances.record_instance(more) is Recording.SAME
    study = books.studies.study_facts(STUDY)
    assert study.series[0].attributes["FramePlaces"] == places
    assert (study.state, study.revision) == (SeriesState.OPEN, before + 1)
    books.route()
    # An older version beside it, on the same ledger; and the same once more.
    for again in (make_facts(), more):
        assert books.instances.record_instance(again) is Recording.SAME
    study = books.studies.study_facts(STUDY)
    assert (study.state, study.revision) == (SeriesState.ROUTED, before + 1)
    assert study.series[0].attributes["FramePlaces"] == places


def test_a_single_frame_that_comes_again_reopens_nothing_whatever_is_read_of_it(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()
    more = make_facts(received_at=at(9), association="a2", BodyPartExamined="CHEST")
    assert books.instances.record_instance(more) is Recording.SAME
    assert books.studies.study_facts(STUDY).state is SeriesState.ROUTED


def test_other_content_under_a_known_uid_counts_and_reopens_the_study(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()
    assert books.instances.record_instance(make_facts(digest="other")) is Recording.CHANGED
    assert books.instances.known_digest(f"{STUDY}.1.1") == "other"
    assert books.view.study_story(STUDY).state == "OPEN"
    assert "instance-changed" in books.kinds()


def test_a_late_instance_reopens_series_and_study_and_grows_the_revision(books: Books) -> None:
    books.instances.record_instance(make_facts(1))
    books.route()
    before = books.studies.study_facts(STUDY).revision
    books.instances.record_instance(make_facts(2, association="a2"))
    study = books.studies.study_facts(STUDY)
    assert (study.state, study.revision) == (SeriesState.OPEN, before + 1)
    assert [one.state for one in study.series] == [SeriesState.OPEN]
    assert books.kinds()[-1] == "study-reopened"


def test_a_second_series_of_an_open_study_does_not_grow_the_revision(books: Books) -> None:
    books.instances.record_instance(make_facts(1, series=1))
    books.instances.record_instance(make_facts(1, series=2))
    assert books.studies.study_facts(STUDY).revision == 1


def test_a_late_series_reopens_the_study_and_leaves_the_others_alone(books: Books) -> None:
    books.instances.record_instance(make_facts(1, series=1))
    books.route()
    books.instances.record_instance(make_facts(1, series=2, association="a2"))
    states = {line.series_instance_uid: line.state for line in books.view.study_story(STUDY).series}
    assert states == {f"{STUDY}.1": "ROUTED", f"{STUDY}.2": "OPEN"}


def test_an_association_that_sends_again_after_its_end_is_open_again(books: Books) -> None:
    books.instances.record_instance(make_facts(1))
    books.instances.end_association("a1", at(1))
    books.instances.record_instance(make_facts(2, received_at=at(2)))
    (series,) = books.studies.open_series()
    assert series.open_associations == 1


def test_start_up_ends_every_association_of_an_earlier_life_and_none_of_another_node(books: Books) -> None:
    for number, association in enumerate(("a%b.1", "a%b.2", "of an older version"), 1):
        books.instances.record_instance(make_facts(number, association=association))
    books.instances.record_instance(make_facts(4, series=2, association="aXb.1"))
    books.instances.end_association("a%b.1", at(1))
    books.instances.end_associations_of("a%b", at(5))
    evidence = {one.series_instance_uid: one for one in books.studies.open_series()}
    own, other = evidence[SeriesUID(f"{STUDY}.1")], evidence[SeriesUID(f"{STUDY}.2")]
    assert (own.open_associations, own.last_association_end) == (0, at(5))
    assert (other.open_associations, other.last_association_end) == (1, None)


def test_same_content_under_another_path_takes_the_place_of_a_file_that_is_damaged(books: Books) -> None:
    books.instances.record_instance(make_facts())
    assert books.instances.record_instance(replace(make_facts(), path="instances/version.dcm")) is Recording.CHANGED
    assert set(books.instances.known_paths()) == {"instances/version.dcm"}


def test_unknown_instance_has_no_digest_and_no_path(books: Books) -> None:
    assert books.instances.known_digest("1.2") is None
    assert books.instances.known_paths() == {}
    books.instances.record_instance(make_facts())
    assert books.instances.known_paths() == {f"instances/{STUDY}.1.1.dcm": 1000}


def test_a_refusal_without_a_study_is_kept(books: Books) -> None:
    books.instances.record_event(at=at(0), kind="instance-refused", text="not-dicom from MODALITY")
    assert [event.kind for event in books.view.list_events(10)] == ["instance-refused"]


def test_a_uid_that_another_study_uses_is_refused_and_the_first_instance_stays(books: Books, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store", STORED)
    intake = Intake(
        store=store,
        ledger=books.instances,
        clock=lambda: at(0),
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    first = intake.store_instance(encode(ct_slice()), arrival())
    assert first is not None
    other = ct_slice()
    other.StudyInstanceUID, other.SeriesInstanceUID = "1.2.77", "1.2.77.1"
    with pytest.raises(IdentifierClash, match="of its own"):
        intake.store_instance(encode(other), arrival())
    Adoption(store=store, ledger=books.instances, clock=lambda: at(0)).scan()
    assert store.exists(first.path)
    assert tuple(store.list_paths("instances")) == (first.path,)
    assert books.instances.known_digest(first.sop_instance_uid) == first.digest
    assert "instance-refused" in [event.kind for event in books.view.list_events(5)]


def test_a_refusal_stands_in_the_time_line_of_its_study(books: Books) -> None:
    books.instances.record_instance(make_facts())
    with pytest.raises(IdentifierClash) as clash:
        books.instances.find_known(make_facts().place._replace(series_instance_uid=SeriesUID("1.9.1")))
    study = clash.value.study_instance_uid
    assert study == STUDY
    books.instances.record_refusal(
        at=NOON, kind="instance-refused", text="x", code="identifier-clash", count=1, study_instance_uid=StudyUID(study)
    )
    assert [event.kind for event in books.view.study_story(STUDY).events][-1] == "instance-refused"
