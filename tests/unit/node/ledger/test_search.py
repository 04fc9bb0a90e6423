"""Searching the catalogue: which Studies, Series and Instances are found, in which order, and what keeps it current."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from node.domain.result import Result, ResultKind
from node.domain.retention import KeepUntil, Proof, Purge, PurgeOrder
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.ledger.candidates import Search
from node.ledger.engine import migrate
from node.ledger.holdings import HoldingLedger
from node.ledger.matching import read_condition
from node.ledger.retention import RetentionLedger
from node.ledger.retractions import RetractionLedger
from node.ledger.schema import results, series_entries, study_entries
from node.ledger.search import Page, SearchLedger
from tests.ledgers import STUDY, Books, at, copy_ledger, make_facts, make_outcome, make_result

SERIES = ("Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber")
INSTANCES = ("SOPInstanceUID", "Rows")
# What migrations after the catalogue's have made.
UNDONE = (
    *(
        f"DROP TABLE {table}"
        for table in (
            "sessions", "links", "users", "tokens", "login_failures", "reviews", "worklist", "worklist_words",
            "switches", "expectations", "notices", "pauses", "workitems", "subscriptions", "workitem_events",
            "orders", "order_messages", "fetches", "pull_sources", "priors", "prior_searches",
        )
    ),
    "DROP INDEX ix_jobs_prior_study_instance_uid",
    "ALTER TABLE jobs DROP prior_study_instance_uid",
    "DROP INDEX ix_jobs_unheard",
    "ALTER TABLE jobs DROP heard_at",
    "ALTER TABLE jobs DROP outdated_at",
    "ALTER TABLE instances DROP says",
    "ALTER TABLE jobs DROP is_shadow",
    *(
        f"DROP INDEX ix_{index}"
        for index in (
            "decisions_outcome_decided_at", "jobs_accepted_at_job_id", "results_created_at_sop_instance_uid",
        )
    ),
)  # fmt: skip


def ask(
    *, modalities: Sequence[str] = (), is_fuzzy: bool = False, limit: int = 100, offset: int = 0, **asked: str
) -> Search:
    """Return a search for these values."""
    conditions = {keyword: read_condition(keyword, [value]) for keyword, value in asked.items()}
    found = {keyword: one for keyword, one in conditions.items() if one is not None}
    return Search(
        study={keyword: one for keyword, one in found.items() if keyword not in (*SERIES, *INSTANCES)},
        series={keyword: one for keyword, one in found.items() if keyword in SERIES},
        instance={keyword: one for keyword, one in found.items() if keyword in INSTANCES},
        modalities=tuple(modalities),
        is_fuzzy=is_fuzzy,
        limit=limit,
        offset=offset,
    )


def add(books: Books, number: int, **attributes: Any) -> None:
    """Take in a Study ``1.2.<number>`` of one Instance."""
    books.instances.record_instance(make_facts(study=f"1.2.{number}", **attributes))


def fill(books: Books) -> None:
    add(books, 1, PatientName="Smith^John", PatientID="P1", StudyDate="20240105", AccessionNumber="A-1", StudyID="7")
    add(books, 2, PatientName="SMITHERS^Ann", PatientID="P2", StudyDate="20240301", Modality="MR", StudyTime="101500")
    add(books, 3, PatientName="Grün^Käthe", PatientID="p1", StudyDate="20240110", Modality="MR")
    add(books, 4, PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PatientID="P[1]")
    add(books, 5, PatientName="Neill^Smith John", PatientID="P_5%", StudyDate="20240301")


def studies(books: Books, search: Search) -> list[int]:
    """Return the numbers of the Studies that are found."""
    page = SearchLedger(books.engine).find_studies(search)
    return [int(one.study_instance_uid.rpartition(".")[2]) for one in page.found]


def answer(books: Books, kind: ResultKind, *, study: str = STUDY, number: int = 1, **attributes: Any) -> Result:
    """Return the one Result of a Job on a Study."""
    job = books.claim(books.add_job(study=study))
    result = replace(make_result(job, kind=kind, number=number), attributes=attributes)
    books.jobs.finish_job(job, make_outcome(result), now=at(1))
    return result


def purge(books: Books, study: str, *, with_results: bool = False, seconds: float = 2) -> Purge:
    """Let a Study go."""
    order = PurgeOrder(
        study_instance_uid=StudyUID(study), with_results=with_results, ordered_by="x", reason="x", is_forced=True
    )
    return RetentionLedger(books.engine).begin_purge(order, Proof(keep_until=KeepUntil.FINISHED), now=at(seconds))


def retract(books: Books, result: Result) -> None:
    """Take a Result back."""
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    RetractionLedger(books.engine).order_retraction(result.sop_instance_uid, order, now=at(2))


ASKED: Sequence[tuple[dict[str, Any], list[int]]] = (
    ({}, [5, 2, 3, 1, 4]),
    ({"PatientName": "smith^john"}, [1]),
    ({"PatientName": "Smith"}, []),
    ({"PatientName": "Smith*"}, [2, 1]),
    ({"PatientName": "*john"}, [5, 1]),
    ({"PatientName": "GRUN^KATHE"}, [3]),
    ({"PatientName": "S?ith^*"}, [1]),
    ({"PatientName": "山田^太郎"}, [4]),
    ({"PatientName": "山田*"}, [4]),
    ({"PatientName": "Yamada^Tarou"}, [4]),
    ({"PatientID": "P1"}, [1]),
    ({"PatientID": "P[1]*"}, [4]),
    ({"PatientID": "P_5%"}, [5]),
    ({"PatientID": "P_*"}, [5]),
    ({"PatientID": "?1"}, [3, 1]),
    ({"AccessionNumber": "A-1"}, [1]),
    ({"StudyDate": "20240301"}, [5, 2]),
    ({"StudyDate": "20240105-20240110"}, [3, 1]),
    ({"StudyDate": "-20240105"}, [1]),
    ({"StudyDate": "20240201-"}, [5, 2]),
    ({"StudyTime": "1000-1030"}, [2]),
    ({"StudyID": "7"}, [1]),
    ({"StudyInstanceUID": "1.2.4,1.2.1"}, [1, 4]),
    ({"PatientName": "Smith*", "StudyDate": "20240301"}, [2]),
    ({"PatientName": "nobody"}, []),
)
SEARCHES: Sequence[tuple[Search, list[int]]] = (
    (ask(modalities=["MR"]), [2, 3]),
    (ask(modalities=["MR", "CT"]), [5, 2, 3, 1, 4]),
    (ask(modalities=["US"]), []),
    (ask(modalities=["MR"], StudyDate="20240301"), [2]),
    (ask(modalities=["MR"], PatientName="*ann"), [2]),
    (ask(is_fuzzy=True, PatientName="john smi"), [5, 1]),
    (ask(is_fuzzy=True, PatientName="ohn"), []),
    (ask(modalities=["MR", "CT"], limit=2, offset=1), [2, 3]),
    (ask(limit=2), [5, 2]),
    (ask(limit=2, offset=4), [4]),
    (ask(limit=2, offset=40), []),
    (ask(SeriesInstanceUID="1.2.3.1"), [3]),
    (ask(SOPInstanceUID="1.2.5.1.1"), [5]),
)


def test_studies_are_found_by_what_is_said_of_them(books: Books) -> None:
    fill(books)
    assert [studies(books, ask(**asked)) for asked, _ in ASKED] == [expected for _, expected in ASKED]


def test_modalities_words_and_pages(books: Books) -> None:
    fill(books)
    assert [studies(books, search) for search, _ in SEARCHES] == [expected for _, expected in SEARCHES]


def test_a_page_says_that_there_is_more(books: Books) -> None:
    fill(books)
    ledger = SearchLedger(books.engine)
    assert ledger.find_studies(ask(limit=4)).has_more
    assert not ledger.find_studies(ask(limit=5)).has_more
    assert ledger.find_studies(ask(limit=1, StudyTime="1000-1100")).has_more is False


def test_a_search_without_an_index_ends_and_says_so(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.ledger.search.MAX_PASSED_OVER", 3)
    fill(books)
    page = SearchLedger(books.engine).find_studies(ask(StudyID="nothing"))
    assert (page.found, page.is_bounded) == ((), True)


def test_what_is_told_of_a_study_counts_what_is_there(books: Books) -> None:
    for number in (1, 2):
        books.instances.record_instance(make_facts(number, PatientName="Doe^Jane"))
    books.instances.record_instance(make_facts(1, series=2, Modality="PT", AccessionNumber="late"))
    (found,) = SearchLedger(books.engine).find_studies(ask()).found
    assert (found.series, found.instances, found.modalities) == (2, 3, ("CT", "PT"))
    # What the first Instance did not say, a later Series may.
    assert (found.attributes["PatientName"], found.attributes["AccessionNumber"]) == ("Doe^Jane", "late")


def test_an_instance_that_comes_again_corrects_the_catalogue(books: Books) -> None:
    books.instances.record_instance(make_facts(PatientName="Wrong^Name", StudyDate="20240101", Modality="CT"))
    books.instances.record_instance(
        make_facts(digest="other", PatientName="Right^Name", StudyDate="20250101", Modality="MR")
    )
    assert studies(books, ask(PatientName="Wrong*")) == []
    assert studies(books, ask(PatientName="Right*", StudyDate="20250101")) == [3]
    assert studies(books, ask(modalities=["MR"], StudyDate="20250101")) == [3]
    assert studies(books, ask(modalities=["CT"])) == []


def test_series_and_instances_are_in_their_numbers_order(books: Books) -> None:
    for number in (10, 9, 1):
        books.instances.record_instance(make_facts(number, series=2, SeriesNumber=1.0, SeriesDescription="late"))
    books.instances.record_instance(make_facts(1, series=1, SeriesNumber=2.0, Rows=512))
    ledger = SearchLedger(books.engine)
    series = ledger.find_series(ask(StudyInstanceUID=STUDY)).found
    assert [(one.series_instance_uid, one.instances) for one in series] == [("1.2.3.2", 3), ("1.2.3.1", 1)]
    found = ledger.find_instances(ask(StudyInstanceUID=STUDY, SeriesInstanceUID="1.2.3.2")).found
    assert [one.attributes["InstanceNumber"] for one in found] == [1, 9, 10]
    assert [one.sop_instance_uid for one in ledger.find_instances(ask(Rows="512")).found] == ["1.2.3.1.1"]
    assert [one.series_instance_uid for one in ledger.find_series(ask(SeriesDescription="la*")).found] == ["1.2.3.2"]
    assert ledger.find_series(ask(Modality="MR")).found == ()


def test_our_own_results_are_found_beside_what_they_are_about(books: Books) -> None:
    job = books.claim(books.add_job())
    result = make_result(job, kind=ResultKind.SEG)
    books.jobs.finish_job(job, make_outcome(result), now=at(1))
    ledger = SearchLedger(books.engine)
    (study,) = ledger.find_studies(ask(modalities=["SEG"])).found
    assert (study.modalities, study.series, study.instances) == (("CT", "SEG"), 2, 2)
    (series,) = ledger.find_series(ask(Modality="SEG")).found
    assert series.series_instance_uid == result.series_instance_uid
    found = ledger.find_instances(ask(SOPInstanceUID=result.sop_instance_uid)).found
    assert [one.attributes["Modality"] for one in found] == ["SEG"]
    assert [one.path for one in HoldingLedger(books.engine).holdings(STUDY)] == ["instances/1.2.3.1.1.dcm", result.path]


def test_what_was_purged_is_found_no_more(books: Books) -> None:
    add(books, 3, PatientName="Doe^Jane")
    books.route(study=StudyUID("1.2.3"))
    order = PurgeOrder(
        study_instance_uid=StudyUID("1.2.3"), with_results=False, ordered_by="test", reason="test", is_forced=True
    )
    RetentionLedger(books.engine).begin_purge(order, Proof(keep_until=KeepUntil.FINISHED), now=at(1))
    assert studies(books, ask()) == []
    with books.engine.connect() as connection:
        left = [
            connection.execute(text(f"SELECT count(*) FROM {name}_entries")).scalar() for name in ("study", "series")
        ]
    assert left == [0, 0]
    with pytest.raises(NotFound, match="search"):
        HoldingLedger(books.engine).holdings("1.2.3")
    add(books, 3, PatientName="Doe^Jane")
    assert studies(books, ask()) == [3]


def test_a_ledger_of_an_earlier_version_is_searched_as_well(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    fill(books)
    books.instances.record_instance(make_facts(1, study="1.2.1", series=2, Modality="PT", StudyDescription="late"))
    answer(books, ResultKind.SEG)
    answer(books, ResultKind.SEG, study="1.2.6", number=2)
    purge(books, "1.2.6")
    retract(books, answer(books, ResultKind.SR, study="1.2.1", number=3))
    before = SearchLedger(books.engine).find_studies(ask())
    with books.engine.begin() as connection:
        for table in ("study_entries", "series_entries"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE results DROP attributes"))
        for statement in UNDONE:
            connection.execute(text(statement))
        connection.execute(text("UPDATE alembic_version SET version_num = '0008'"))
    migrate(books.engine)
    assert SearchLedger(books.engine).find_studies(ask()) == before
    assert studies(books, ask(modalities=["SEG"])) == [3, 6]
    assert studies(books, ask(modalities=["SR"])) == []
    assert studies(books, ask(modalities=["PT"])) == [1]
    books.close()


def test_a_purged_study_has_the_results_that_stay(books: Books) -> None:
    add(books, 3, PatientName="Doe^Jane")
    answer(books, ResultKind.SEG)
    going = purge(books, STUDY)
    RetentionLedger(books.engine).finish_purge(going, now=at(3))
    ledger = SearchLedger(books.engine)
    (study,) = ledger.find_studies(ask(PatientName="doe*")).found
    assert (study.modalities, study.series, study.instances) == (("SEG",), 1, 1)
    assert len(HoldingLedger(books.engine).holdings(STUDY)) == 1
    books.instances.record_instance(make_facts())
    (study,) = ledger.find_studies(ask(modalities=["SEG"])).found
    assert (study.modalities, study.instances) == (("CT", "SEG"), 2)
    books.route()
    purge(books, STUDY, with_results=True, seconds=4)
    assert ledger.find_studies(ask()).found == ()


def test_a_purge_that_is_undone_gives_the_results_back(books: Books) -> None:
    answer(books, ResultKind.SEG)
    under_way = purge(books, STUDY, with_results=True)
    books.instances.record_instance(make_facts())
    assert studies(books, ask(modalities=["SEG"])) == []
    RetentionLedger(books.engine).undo_purge(under_way, now=at(3))
    assert studies(books, ask(modalities=["SEG"])) == [3]


def test_what_was_taken_back_makes_no_study_match(books: Books) -> None:
    result = answer(books, ResultKind.SEG)
    asked = (
        ask(modalities=["SEG"]),
        ask(SeriesInstanceUID=result.series_instance_uid),
        ask(SOPInstanceUID=result.sop_instance_uid),
    )
    assert [studies(books, one) for one in asked] == [[3]] * 3
    retract(books, result)
    assert [studies(books, one) for one in asked] == [[]] * 3
    assert studies(books, ask()) == [3]


def test_results_are_searched_by_what_their_headers_say(books: Books) -> None:
    answer(books, ResultKind.SEG, SeriesDescription="Nodules", SeriesNumber=900.0, NumberOfFrames=7.0)
    ledger = SearchLedger(books.engine)
    (series,) = ledger.find_series(ask(SeriesDescription="Nod*", Modality="SEG")).found
    assert series.attributes["SeriesNumber"] == 900
    (found,) = ledger.find_instances(ask(SeriesNumber="900", Modality="SEG", StudyInstanceUID=STUDY)).found
    assert (found.attributes["NumberOfFrames"], found.attributes["SOPInstanceUID"]) == (7, "2.25.1")


def test_what_is_known_of_a_result_goes_with_it(books: Books) -> None:
    answer(books, ResultKind.SEG, SeriesDescription="Nodules")
    going = purge(books, STUDY, with_results=True)
    RetentionLedger(books.engine).finish_purge(going, now=at(3))
    with books.engine.connect() as connection:
        assert connection.execute(select(results.c.attributes)).scalar_one() == {}


def test_pages_go_on_behind_what_one_search_passes_over(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("MAX_PASSED_OVER", 3), ("WINDOW", 4), ("CHUNK", 2), ("FIRST_GROUP", 3)):
        monkeypatch.setattr(f"node.ledger.search.{name}", size)
    for number in range(1, 8):
        books.instances.record_instance(make_facts(number))
        add(books, number + 10, StudyID="7")
    ledger = SearchLedger(books.engine)

    def pages(find: Callable[[Search], Page[Any]], **asked: Any) -> list[int]:
        found = [find(ask(limit=3, offset=offset, **asked)) for offset in (0, 3, 6, 9)]
        assert not any(page.is_bounded for page in found)
        return [len(page.found) for page in found]

    assert pages(ledger.find_instances, StudyInstanceUID=STUDY) == [3, 3, 1, 0]
    assert pages(ledger.find_instances, SeriesInstanceUID="1.2.3.1", Modality="CT") == [3, 3, 1, 0]
    assert pages(ledger.find_series) == [3, 3, 2, 0]
    assert pages(ledger.find_studies, StudyID="7") == [3, 3, 1, 0]
    assert ledger.find_instances(ask(Rows="9")).is_bounded


def test_a_correction_takes_back_what_only_it_said(books: Books) -> None:
    said: dict[str, Any] = {
        "PatientName": "Canary^One",
        "AccessionNumber": "A1",
        "StudyDate": "20240101",
        "SeriesDescription": "x",
    }
    books.instances.record_instance(make_facts(1, **said))
    books.instances.record_instance(make_facts(1, series=2, StudyDescription="Thorax"))
    books.instances.record_instance(make_facts(1, digest="other"))
    (found,) = SearchLedger(books.engine).find_studies(ask(StudyDescription="Thorax")).found
    assert dict(found.attributes) == {"StudyInstanceUID": STUDY, "StudyDescription": "Thorax"}
    for gone in (ask(AccessionNumber="A1"), ask(PatientName="canary*"), ask(StudyDate="20240101")):
        assert studies(books, gone) == []
    with books.engine.connect() as connection:
        assert "Canary" not in str(connection.execute(select(study_entries)).all())
        assert {row.study_date for row in connection.execute(select(series_entries))} == {""}
        assert "SeriesDescription" not in str(connection.execute(select(series_entries)).all())


def test_a_result_that_comes_back_from_a_pacs_is_one_instance(books: Books) -> None:
    job = books.claim(books.add_job())
    result = make_result(job, kind=ResultKind.SEG)
    books.jobs.finish_job(job, make_outcome(result), now=at(1))
    back = replace(
        make_facts(Modality="SEG", SeriesDescription="Nodules"),
        series_instance_uid=result.series_instance_uid,
        sop_instance_uid=result.sop_instance_uid,
    )
    books.instances.record_instance(back)
    ledger = SearchLedger(books.engine)
    (series,) = ledger.find_series(ask(Modality="SEG")).found
    assert (series.attributes["SeriesDescription"], series.instances) == ("Nodules", 1)
    assert len(ledger.find_instances(ask(StudyInstanceUID=STUDY)).found) == 2
    (study,) = ledger.find_studies(ask()).found
    assert study.instances == 2
