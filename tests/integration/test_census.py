"""Archives that we did not write say how much of a Study they hold, and others say half of it, or nothing."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from node.domain.completeness import Census, Evidence, Source, Terms
from node.domain.uids import SeriesUID, StudyUID
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.peer import DestinationSpec
from node.pulling.asker import Asker, Surroundings
from node.pulling.census import open_enquiry, way_to_ask
from tests.counting_archive import REFUSED, CountingArchive
from tests.ledgers import STUDY, Books, assemble, at, copy_ledger, make_facts
from tests.objects import CT, write_object
from tests.peers import Modality, Orthanc, free_port, spec_of, web_of

SERIES = SeriesUID(f"{STUDY}.1")
TERMS = Terms(
    heeded=frozenset(Evidence),
    after_association_s=3.0,
    while_open_s=60.0,
    max_age_s=600.0,
    sources={"MODALITY": Source(asked="pacs")},
)


def ask(spec: DestinationSpec, study: str = STUDY) -> Census:
    with open_enquiry(spec) as enquiry:
        return enquiry.count(StudyUID(study))


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    with Orthanc(modalities={"radnode": Modality(aet="RADNODE", port=free_port())}) as running:
        yield running


@pytest.mark.needs("Orthanc")
@pytest.mark.parametrize("find_spec", [spec_of, web_of], ids=["C-FIND", "QIDO-RS"])
def test_orthanc_says_what_it_holds(
    find_spec: Callable[[Orthanc], DestinationSpec], orthanc: Orthanc, tmp_path: Path
) -> None:
    kinds = (CT, CT, MRImageStorage)
    paths = [write_object(tmp_path, str(n), sop_class_uid=kind, study=tmp_path.name) for n, kind in enumerate(kinds)]
    ct, _, mr = (dcmread(path) for path in paths)
    study = str(ct.StudyInstanceUID)
    assert ask(find_spec(orthanc), study) == Census(total=0, by_series={})
    for path in paths:
        orthanc.upload(path)
    by_series = {SeriesUID(ct.SeriesInstanceUID): 2, SeriesUID(mr.SeriesInstanceUID): 1}
    assert ask(find_spec(orthanc), study) == Census(total=3, by_series=by_series)


def test_what_people_add_to_a_study_is_not_waited_for() -> None:
    with CountingArchive(series={SERIES: ("CT", 120), "1.5": ("PR", 2), "1.6": ("SR", 1)}) as archive:
        assert ask(archive.spec) == Census(total=120, by_series={SERIES: 120})


def test_half_of_a_list_is_no_list() -> None:
    with CountingArchive(series={SERIES: ("CT", 60)}, total=120) as archive:
        assert ask(archive.spec) == Census(total=120, by_series={SERIES: 60})


def test_an_archive_may_count_studies_only() -> None:
    with CountingArchive(series={SERIES: ("CT", 60)}, names_series=False) as archive:
        assert ask(archive.spec) == Census(total=60, by_series={})


def test_an_archive_that_counts_nothing_is_no_evidence() -> None:
    with CountingArchive(series={SERIES: ("CT", 60)}, counts=False) as archive, pytest.raises(DestinationBusy):
        ask(archive.spec)


def test_an_archive_that_refuses_the_question_is_no_evidence() -> None:
    with CountingArchive(status=REFUSED) as archive, pytest.raises(DestinationBusy, match="A700"):
        ask(archive.spec)


def test_an_archive_that_aborts_in_the_middle_is_no_evidence() -> None:
    with (
        CountingArchive(series={SERIES: ("CT", 60), "1.5": ("CT", 60)}, aborts_after=1) as archive,
        pytest.raises(DestinationDown),
    ):
        ask(archive.spec)


class Asking:
    """A ledger, the station that asks, and assembly, at times of the test's choice."""

    def __init__(self, folder: Path, spec: DestinationSpec, *, per_minute: int = 0) -> None:
        self.books = Books(copy_ledger(folder))
        self.now, self.answers = at(0), 0
        self.assembly = assemble(self.books, TERMS)
        self.asker = Asker(
            peer="pacs",
            ledger=self.books.expectations,
            terms=TERMS,
            surroundings=Surroundings(
                open_enquiry=partial(open_enquiry, spec),
                told=way_to_ask(spec),
                clock=lambda: self.now,
                chance=lambda: 0.0,
                answered=self._note_answer,
            ),
            per_minute=per_minute,
        )

    def _note_answer(self) -> None:
        self.answers += 1

    def come(self, *numbers: int, second: float, ends: bool = True, study: str = STUDY) -> None:
        association = f"a{second}"
        for number in numbers:
            facts = make_facts(number, study=study, association=association, received_at=at(second))
            self.books.instances.record_instance(facts)
        if ends:
            self.books.instances.end_association(association, at(second))

    def tick(self, second: float) -> float | None:
        """Ask and judge; return when to ask next, seconds after noon."""
        self.now = at(second)
        due = self.asker.tick(self.now)
        self.assembly.tick(self.now)
        return None if due is None else (due - at(0)).total_seconds()

    @property
    def told(self) -> tuple[str, str]:
        story = self.books.view.study_story(STUDY)
        return story.state, story.reason


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Callable[..., Asking]]:
    opened: list[Asking] = []

    def begin(spec: DestinationSpec, **options: int) -> Asking:
        opened.append(Asking(tmp_path, spec, **options))
        return opened[-1]

    yield begin
    for one in opened:
        one.books.close()


def test_a_study_goes_on_at_the_end_of_its_association_where_the_number_is_known(
    asking: Callable[..., Asking],
) -> None:
    with CountingArchive(series={SERIES: ("CT", 3)}) as archive:
        one = asking(archive.spec)
        one.come(1, second=0, ends=False)
        # Asked at the begin, and not again while more comes.
        assert one.tick(0.1) == pytest.approx(0.6)
        one.come(2, 3, second=1.0)
        one.books.instances.end_association("a0", at(1.0))
        one.tick(1.1)
    assert one.told == ("SETTLED", "held 3 of 3 by C-FIND at pacs")
    assert archive.levels == ["SERIES", "STUDY"] * 2


def test_a_pause_mid_series_is_waited_out_and_asked_about_less_and_less(asking: Callable[..., Asking]) -> None:
    with CountingArchive(series={SERIES: ("CT", 4)}) as archive:
        one = asking(archive.spec)
        one.come(1, 2, second=0)
        second: float | None = 0.0
        asked_at = []
        while second is not None and second < 90:
            asked_at.append(second)
            second = one.tick(second)
        assert one.told == ("OPEN", "held 2 of 4 by C-FIND at pacs")
        pauses = [after - before for before, after in pairwise(asked_at)]
        assert pauses == sorted(pauses)
        assert len(asked_at) < 12
        one.come(3, 4, second=90)
        one.tick(90.1)
    assert one.told == ("SETTLED", "held 4 of 4 by C-FIND at pacs")


def test_an_archive_that_still_receives_is_not_believed_at_once(asking: Callable[..., Asking]) -> None:
    with CountingArchive(series={SERIES: ("CT", 2)}) as archive:
        one = asking(archive.spec)
        one.come(1, 2, second=0)
        one.tick(0.1)
        assert one.told[0] == "OPEN"
        archive.series[SERIES] = ("CT", 4)
        one.tick(0.7)
        assert one.told[0] == "OPEN"
        one.come(3, 4, second=2)
        one.tick(2.1)
        # It grew before, and may grow again: it rests as long as a sender would.
        one.tick(3.0)
        assert one.told[0] == "OPEN"
        one.tick(3.8)
    assert one.told == ("SETTLED", "held 4 of 4 by C-FIND at pacs")


def test_an_archive_that_answers_half_and_aborts_holds_nothing_up_for_ever(asking: Callable[..., Asking]) -> None:
    with CountingArchive(series={SERIES: ("CT", 1), "1.5": ("CT", 1)}, aborts_after=1) as archive:
        one = asking(archive.spec)
        one.come(1, second=0)
        next_at = one.tick(0.1)
        assert next_at is not None
        # It is left alone for a while.
        assert next_at > 2.0
        assert len(archive.levels) == 1
        one.tick(119.9)
        assert one.told == ("OPEN", "pacs gave no answer (destination-down)")
        one.tick(120.1)
    assert one.told == ("SETTLED", "pacs gave no answer (destination-down); then quiet for 120 s")


def test_an_archive_that_is_not_there_is_told_and_holds_nothing_up_for_ever(asking: Callable[..., Asking]) -> None:
    spec = DestinationSpec(name="pacs", transport="cstore", aet="PACS", host="127.0.0.1", port=free_port())
    one = asking(spec)
    one.come(1, second=0)
    one.tick(0.1)
    (whole,) = one.books.view.study_story(STUDY).statements
    assert (whole.failure, whole.expected) == ("destination-down", None)
    one.tick(121)
    assert one.told == ("SETTLED", "pacs gave no answer (destination-down); then quiet for 120 s")


def test_questions_are_throttled(asking: Callable[..., Asking]) -> None:
    with CountingArchive() as archive:
        one = asking(archive.spec, per_minute=30)
        for number in range(9):
            one.come(1, second=0, study=f"{STUDY}.{number}")
        one.tick(0.1)
        # A sixth of what a minute may have.
        assert one.answers == 5
        one.tick(0.2)
        assert one.answers == 5
        one.tick(4.3)
        assert one.answers == 7


def test_a_peer_that_offers_no_query_is_a_thing_for_a_person() -> None:
    with CountingArchive(offered="1.2.840.10008.1.1") as archive, pytest.raises(Misconfigured, match="no C-FIND"):
        ask(archive.spec)
