"""When a Series counts as complete, and why."""

from dataclasses import replace
from typing import Any

from node.domain.completeness import Census, Evidence, Source, Terms, Told
from node.domain.uids import SeriesUID
from node.ledger.fates import tell_study
from node.ledger.pauses import ENOUGH
from tests.ledgers import STUDY, Books, assemble, at, make_facts

QUIET = Terms(
    heeded=frozenset({Evidence.ASSOCIATION_END, Evidence.QUIET_TIME}), after_association_s=3.0, while_open_s=60.0
)
EVERYTHING = Terms(
    heeded=frozenset(Evidence),
    after_association_s=3.0,
    while_open_s=60.0,
    max_age_s=600.0,
    sources={"MODALITY": Source(asked="pacs")},
)
QUIET_FOR_TEN_MINUTES = replace(QUIET, max_age_s=600.0)
SERIES = SeriesUID(f"{STUDY}.1")


def test_a_series_settles_only_when_the_last_of_its_associations_has_ended(books: Books) -> None:
    assembly = assemble(books, QUIET)
    books.instances.record_instance(make_facts(1, association="a1"))
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(1)))
    books.instances.end_association("a1", at(2))
    assert assembly.tick(at(30)) == at(61)
    books.instances.end_association("a2", at(31))
    assert assembly.tick(at(33.9)) == at(34)
    assert books.view.study_story(STUDY).state == "OPEN"
    assert assembly.tick(at(34)) is None
    assert books.view.study_story(STUDY).state == "SETTLED"


def test_a_sender_that_never_ends_settles_after_the_idle_time(books: Books) -> None:
    assembly = assemble(books, QUIET)
    books.instances.record_instance(make_facts())
    assert assembly.tick(at(59)) == at(60)
    assert assembly.tick(at(60)) is None
    story = books.view.study_story(STUDY)
    assert story.state == "SETTLED"
    assert story.reason == "quiet for 60 s while 1 Associations were open"


def test_the_next_look_is_at_the_series_that_is_due_first(books: Books) -> None:
    for series, second in ((1, 9), (2, 4)):
        books.instances.record_instance(make_facts(series=series, association=f"a{series}", received_at=at(second)))
        books.instances.end_association(f"a{series}", at(second))
    assert assemble(books, QUIET).tick(at(5)) == at(7)


def test_a_late_instance_reopens_and_settles_again(books: Books) -> None:
    assembly = assemble(books, QUIET)
    books.instances.record_instance(make_facts(1))
    books.instances.end_association("a1", at(1))
    assembly.tick(at(4))
    books.route()
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(100)))
    assert assembly.tick(at(101)) == at(160)
    books.instances.end_association("a2", at(102))
    assembly.tick(at(105))
    assert books.view.study_story(STUDY).state == "SETTLED"


def test_nothing_open_is_nothing_to_do(books: Books) -> None:
    assert assemble(books, QUIET).tick(at(0)) is None


def come(books: Books, *numbers: int, second: float = 0.0, association: str = "a1", **attributes: Any) -> None:
    """Let these Instances come over an Association that ends at once."""
    for number in numbers:
        facts = make_facts(number, association=association, received_at=at(second), **attributes)
        books.instances.record_instance(facts)
    books.instances.end_association(association, at(second))


def answer(books: Books, count: int, *, second: float) -> None:
    """Let the PACS say that it holds so many Instances of the one Series."""
    census = Census(total=count, by_series={SERIES: count})
    books.expectations.record_census(STUDY, census, told=Told.FIND, source="pacs", now=at(second))


def test_a_study_of_which_the_pacs_holds_just_that_is_complete_at_once(books: Books) -> None:
    assembly = assemble(books, EVERYTHING)
    come(books, 1, 2, 3, 4)
    answer(books, 4, second=0.1)
    assert assembly.tick(at(0.2)) == at(120)
    assert "asked once more" in books.view.study_story(STUDY).reason
    answer(books, 4, second=0.6)
    assert assembly.tick(at(0.7)) is None
    story = books.view.study_story(STUDY)
    assert (story.state, story.reason) == ("SETTLED", "held 4 of 4 by C-FIND at pacs")
    (whole, series) = story.statements
    assert (whole.expected, whole.held, whole.seen_at, series.expected) == (4, 4, at(0.6), 4)
    assert "held 4 of 4 by C-FIND at pacs" in [event.text for event in story.events if event.kind == "expectation"]


def test_a_pause_of_ninety_seconds_is_no_end_while_the_pacs_holds_more(books: Books) -> None:
    assembly = assemble(books, EVERYTHING)
    come(books, 1, 2)
    for second in (0.1, 1, 2, 5, 10, 30, 89):
        answer(books, 4, second=second)
        assembly.tick(at(second))
    assert assembly.tick(at(90)) == at(600)
    story = books.view.study_story(STUDY)
    assert (story.state, story.reason) == ("OPEN", "held 2 of 4 by C-FIND at pacs")
    come(books, 3, 4, second=90, association="a2")
    answer(books, 4, second=90.1)
    assert assembly.tick(at(90.2)) is None
    assert books.view.study_story(STUDY).reason == "held 4 of 4 by C-FIND at pacs"


def test_a_count_that_never_comes_true_ends_at_the_maximum_age_with_its_figures(books: Books) -> None:
    assembly = assemble(books, EVERYTHING)
    come(books, 1, 2)
    answer(books, 9, second=1)
    assert assembly.tick(at(599)) == at(600)
    assert assembly.tick(at(600)) is None
    story = books.view.study_story(STUDY)
    assert story.state == "SETTLED"
    assert story.reason == "held 2 of 9 by C-FIND at pacs, at the maximum age of 10 min"


def test_a_site_may_have_such_a_study_refused_and_a_late_instance_opens_it_again(books: Books) -> None:
    assembly = assemble(books, replace(EVERYTHING, refuses=True))
    come(books, 1, 2)
    answer(books, 9, second=1)
    assembly.tick(at(600))
    story = books.view.study_story(STUDY)
    assert story.state == "ROUTED"
    assert tell_study(story) == "refused: held 2 of 9 by C-FIND at pacs, at the maximum age of 10 min"
    assert [(event.kind, event.is_alarm) for event in story.events][-1] == ("study-refused", True)
    come(books, 3, second=700, association="a2")
    assert books.view.study_story(STUDY).state == "OPEN"


def test_a_source_that_resends_other_bytes_for_ever_does_not_starve(books: Books) -> None:
    assembly = assemble(books, QUIET_FOR_TEN_MINUTES)
    for second in range(0, 601, 2):
        facts = make_facts(1, digest=f"digest {second}", received_at=at(second))
        books.instances.record_instance(facts)
        assembly.tick(at(second))
    story = books.view.study_story(STUDY)
    assert story.state == "SETTLED"
    assert story.reason == "Instances still came, at the maximum age of 10 min"


def test_images_that_name_more_of_their_acquisition_are_waited_for(books: Books) -> None:
    assembly = assemble(books, replace(EVERYTHING, sources={}))
    come(books, 1, 2, AcquisitionNumber=1.0, ImagesInAcquisition=4.0)
    assert assembly.tick(at(91)) == at(120)
    assert books.view.study_story(STUDY).reason == "held 2 of 4 Images in Acquisition (0020,1002)"
    come(books, 3, 4, second=92, association="a2", AcquisitionNumber=1.0, ImagesInAcquisition=4.0)
    assembly.tick(at(95))
    assert books.view.study_story(STUDY).state == "SETTLED"


def test_a_hole_between_slices_is_waited_for_where_the_site_wants_it(books: Books) -> None:
    def places(number: int) -> dict[str, Any]:
        return {"ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0], "ImagePositionPatient": [0.0, 0, 2.5 * number]}

    for number in (1, 2, 3, 5, 6, 7):
        come(books, number, association=f"a{number}", **places(number))
    assembly = assemble(books, replace(EVERYTHING, sources={}))
    assert assembly.tick(at(91)) == at(120)
    assert books.view.study_story(STUDY).reason == "1 hole of 5 mm among slices 2.5 mm apart"
    heeded = EVERYTHING.heeded - {Evidence.SLICE_GAPS}
    assert assemble(books, replace(EVERYTHING, sources={}, heeded=heeded)).tick(at(91)) is None


def test_a_sender_that_pauses_is_given_the_time_that_it_needs(books: Books) -> None:
    for series in range(ENOUGH):
        for number, second in ((1, 0), (2, 8)):
            facts = make_facts(number, series=series, association=f"a{series}.{number}", received_at=at(second))
            books.instances.record_instance(facts)
            books.instances.end_association(facts.association_id, at(second))
    terms = replace(EVERYTHING, sources={}, max_age_s=10_000.0)
    assemble(books, terms).tick(at(11))
    come(books, 1, second=1000, association="b", study=f"{STUDY}.9")
    # 1.5 times the 8 s that it pauses.
    assert assemble(books, terms).tick(at(1004)) == at(1012)
