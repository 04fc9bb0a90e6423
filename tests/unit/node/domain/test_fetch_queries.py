"""What a person asks a PACS for, and when something is fetched."""

from datetime import datetime, time, timedelta

import pytest

from node.domain.fetch import FoundStudy, fits, read_query
from node.domain.fetch_terms import Hours, read_hours, read_span
from node.domain.uids import StudyUID
from node.errors import QueryRefused


def test_a_query_is_read_by_its_keywords() -> None:
    assert read_query(r"PatientID=4711, StudyDate=20260101-,ModalitiesInStudy=CT\MR") == {
        "PatientID": "4711",
        "StudyDate": "20260101-",
        "ModalitiesInStudy": r"CT\MR",
    }
    # A comma belongs to a value, unless a keyword follows.
    assert read_query("StudyDescription=Thorax, nativ,PatientID=1")["StudyDescription"] == "Thorax, nativ"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "KEYWORD=VALUE"),
        ("4711", "KEYWORD=VALUE"),
        ("and PatientID=1", "KEYWORD=VALUE"),
        ("PatientId=1", "did you mean PatientID"),
        ("PixelData=1", "known are"),
        ("PatientID=*", "everything would come"),
        ("PatientID=,StudyDate=", "everything would come"),
        ("PatientID=1,PatientID=2", "twice"),
        ("PatientID=" + "1" * 300, "longer than 256"),
        ("PatientID=1\n2", "control"),
    ],
)
def test_a_query_that_is_none_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(QueryRefused, match=words):
        read_query(text)


@pytest.mark.parametrize(
    ("query", "is_one"),
    [
        ("PatientID=4711", True),
        ("PatientID=47*", True),
        ("PatientID=4712", False),
        ("StudyDate=20250114", True),
        ("StudyDate=20250101-20250113", False),
        ("StudyDate=20250101-", True),
        ("StudyDate=-20250113", False),
        ("ModalitiesInStudy=MR", False),
        (r"ModalitiesInStudy=MR\CT", True),
        ("StudyDescription=anything", True),
    ],
)
def test_a_peer_that_does_not_know_a_key_brings_nothing_that_was_not_asked_for(query: str, is_one: bool) -> None:
    study = FoundStudy(
        study_instance_uid=StudyUID("1.2"), patient_id="4711", study_date="20250114", modalities=("CT", "SR")
    )
    assert fits(study, read_query(query)) is is_one
    # What it does not say is believed.
    assert fits(FoundStudy(study_instance_uid=StudyUID("1.2")), read_query(query))


def local(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 2, hour, minute).astimezone()


def test_a_night_goes_over_midnight() -> None:
    night = read_hours("19:00..06:00")
    assert night == Hours(begin=time(19), end=time(6))
    assert [night.is_open(local(hour)) for hour in (0, 5, 6, 12, 19, 23)] == [True, True, False, False, True, True]
    assert night.opens_at(local(12)) == local(19)
    assert night.opens_at(local(20)) == local(20)


def test_a_part_of_a_day_opens_again_on_the_next_one() -> None:
    noon = read_hours("12:00..13:30")
    assert noon is not None
    assert [noon.is_open(local(*at)) for at in ((11, 59), (12, 0), (13, 29), (13, 30))] == [False, True, True, False]
    assert noon.opens_at(local(14)) - local(14) == timedelta(hours=22)
    assert read_hours("") is None


def test_a_span_has_a_unit() -> None:
    assert [read_span(text) for text in ("30m", "2h", "7d")] == [
        timedelta(minutes=30), timedelta(hours=2), timedelta(days=7),
    ]  # fmt: skip
