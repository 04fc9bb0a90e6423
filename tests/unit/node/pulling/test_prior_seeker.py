"""Who has earlier Studies is asked for them, and what may be read is picked."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from node.domain.fetch import FoundSeries, FoundStudy
from node.domain.prior import PriorTerms, read_identity
from node.domain.uids import SeriesUID, StudyUID
from node.errors import DestinationBusy, DestinationDown
from node.ledger.priors import KnownStudy, Pick, Wanted
from node.pulling.prior_seeker import BUSY_PAUSE, COMING_PAUSE, PriorSeeker, Surroundings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHO = {"PatientID": "4711", "IssuerOfPatientID": "HIS", "PatientBirthDate": "19620331"}


def wanted(identity: Mapping[str, str] = WHO, study_date: str = "20250114", **terms: Any) -> Wanted:
    return Wanted(
        search_id=1,
        study_instance_uid=StudyUID("1.1"),
        terms=PriorTerms(source="pacs", **terms),
        identity=read_identity([identity]),
        study_date=study_date,
        study_time="120000",
    )


def found(number: int, **changes: Any) -> FoundStudy:
    says: dict[str, Any] = {
        "study_instance_uid": StudyUID(f"1.2.{number}"),
        "patient_id": "4711",
        "issuer": "HIS",
        "birth_date": "19620331",
        "study_date": f"2024010{number}",
    }
    return FoundStudy(**{**says, **changes})


class Peer:
    """What a peer answers."""

    def __init__(self, *studies: FoundStudy, body_parts: Mapping[str, str] | None = None) -> None:
        self.studies = studies
        self.body_parts = body_parts or {}
        self.queries: list[Mapping[str, str]] = []
        self.fault: Exception | None = None

    def find_studies(self, query: Mapping[str, str]) -> Sequence[FoundStudy]:
        self.queries.append(query)
        if self.fault is not None:
            raise self.fault
        return self.studies

    def find_series(self, study_instance_uid: StudyUID) -> Sequence[FoundSeries]:
        told = self.body_parts.get(study_instance_uid, "")
        return (FoundSeries(series_instance_uid=SeriesUID(f"{study_instance_uid}.1"), body_part=told),)


class Notebook:
    """A PriorLedger without a disk."""

    def __init__(self, *due: Wanted) -> None:
        self.due = due
        self.known: Sequence[KnownStudy] = ()
        self.recorded: list[tuple[list[tuple[str, bool]], str]] = []
        self.postponed: list[timedelta] = []

    def wanted_from(self, sources: Collection[str], *, now: datetime, limit: int) -> Sequence[Wanted]:
        return self.due

    def next_look(self, sources: Collection[str]) -> datetime | None:
        return None

    def known_studies(self, wanted: Wanted) -> Sequence[KnownStudy]:
        return self.known

    def record_found(self, wanted: Wanted, picks: Sequence[Pick], *, source: str, text: str, now: datetime) -> None:
        self.recorded.append(([(pick.found.study_instance_uid, pick.is_here) for pick in picks], text))

    def postpone(self, wanted: Wanted, until: datetime) -> None:
        self.postponed.append(until - NOW)


def seek(notebook: Notebook, peer: Peer) -> datetime | None:
    @contextmanager
    def open_search() -> Iterator[Peer]:
        yield peer

    around = Surroundings(open_search=open_search, committed=lambda: None, clock=lambda: NOW, chance=lambda: 0.5)
    return PriorSeeker(peer="pacs", sources=frozenset({"pacs"}), ledger=notebook, surroundings=around).tick(NOW)


def picked(want: Wanted, peer: Peer) -> tuple[list[str], str]:
    notebook = Notebook(want)
    seek(notebook, peer)
    ((picks, text),) = notebook.recorded
    return [uid for uid, _ in picks], text


def test_the_newest_are_picked_and_no_more_than_are_wanted() -> None:
    peer = Peer(found(1), found(3), found(2))
    assert picked(wanted(newest=2), peer) == (["1.2.3", "1.2.2"], "")
    assert peer.queries == [{"PatientID": "4711", "StudyDate": "-20250114"}]


def test_the_peer_is_asked_for_what_is_wanted_as_far_as_it_can_be() -> None:
    peer = Peer()
    picked(wanted(modalities=("CT", "PT"), max_age_days=365), peer)
    assert peer.queries == [
        {"PatientID": "4711", "StudyDate": "20240115-20250114", "ModalitiesInStudy": "CT\\PT"},
    ]


@pytest.mark.parametrize(
    "other",
    [
        found(1, study_instance_uid=StudyUID("1.1")),
        found(1, study_date="20250115"),
        found(1, study_date="20250114", study_time="120000"),
        found(1, study_date="20250114"),
        found(1, study_date=""),
        found(1, study_date="20190101"),
        found(1, modalities=("MR",)),
    ],
)
def test_what_is_no_earlier_study_of_the_kind_is_left_out(other: FoundStudy) -> None:
    want = wanted(modalities=("CT",), max_age_days=3 * 365)
    assert picked(want, Peer(other)) == ([], "none found at pacs")
    assert picked(want, Peer(other, found(2)))[0] == ["1.2.2"]


def test_an_earlier_study_of_the_same_day_is_one() -> None:
    assert picked(wanted(), Peer(found(1, study_date="20250114", study_time="0900")))[0] == ["1.2.1"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patient_id": "4712"}, "its Patient ID differs"),
        ({"birth_date": "19620401"}, "its birth date differs"),
        ({"issuer": "RIS"}, "its Issuer of Patient ID differs"),
    ],
)
def test_a_stranger_is_not_fetched_and_the_reason_is_told(changes: dict[str, str], words: str) -> None:
    assert picked(wanted(), Peer(found(1, **changes))) == ([], f"none found at pacs that may be read: {words}")
    assert picked(wanted(), Peer(found(3, **changes), found(1)))[0] == ["1.2.1"]


def test_what_a_peer_does_not_say_its_images_will() -> None:
    assert picked(wanted(), Peer(found(1, birth_date="", issuer="")))[0] == ["1.2.1"]


@pytest.mark.parametrize(
    ("want", "words"),
    [
        (wanted({**WHO, "PatientBirthDate": ""}), "the Study tells no birth date"),
        (wanted({**WHO, "PatientID": " "}), "the Study tells no Patient ID"),
        (wanted(study_date=""), "the Study tells no date"),
    ],
)
def test_nobody_is_asked_where_nobody_could_tell(want: Wanted, words: str) -> None:
    peer = Peer(found(1))
    picks, text = picked(want, peer)
    assert (picks, peer.queries) == ([], [])
    assert text == f"{words}, and nobody could tell what is earlier of the same patient"


def test_a_part_of_the_body_is_asked_where_the_peer_tells_it() -> None:
    want = wanted(body_parts=("CHEST",))
    peer = Peer(found(3), found(2), found(1), body_parts={"1.2.3": "ABDOMEN", "1.2.2": "THORAX"})
    assert picked(want, peer)[0] == ["1.2.2"]
    assert picked(want, Peer(found(1)))[0] == ["1.2.1"]


def test_what_is_here_is_not_fetched_and_what_is_coming_is_waited_for() -> None:
    notebook = Notebook(wanted())
    notebook.known = (KnownStudy(found=found(3), is_complete=True),)
    seek(notebook, Peer(found(2)))
    assert notebook.recorded == [([("1.2.3", True)], "")]
    notebook = Notebook(wanted())
    notebook.known = (KnownStudy(found=found(3), is_complete=False),)
    seek(notebook, Peer())
    assert (notebook.recorded, notebook.postponed) == ([], [COMING_PAUSE])


def test_a_peer_that_fails_is_asked_again() -> None:
    notebook, peer = Notebook(wanted()), Peer(found(1))
    peer.fault = DestinationBusy("C001H")
    seek(notebook, peer)
    assert (notebook.recorded, notebook.postponed) == ([], [BUSY_PAUSE])
    peer.fault = DestinationDown("away")
    again = seek(notebook, peer)
    assert again is not None
    assert again > NOW
    assert notebook.recorded == []
