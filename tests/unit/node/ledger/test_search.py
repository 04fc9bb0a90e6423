"""Searching the catalogue: which Studies, Series and Instances are found, in which order, and what keeps it current."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from node.domain.result import ResultKind
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.ledger.candidates import Search
from node.ledger.engine import migrate
from node.ledger.holdings import HoldingLedger
from node.ledger.matching import read_condition
from node.ledger.retention import RetentionLedger
from node.ledger.search import SearchLedger
from tests.ledgers import STUDY, Books, at, copy_ledger, make_facts, make_outcome, make_result

SERIES = ("Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber")
INSTANCES = ("SOPInstanceUID", "Rows")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(copy_ledger(tmp_path))
    yield opened
    opened.close()


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
    monkeypatch.setattr("node.ledger.search.MAX_LOOKED_AT", 3)
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
    assert (series.series_instance_uid, series.result_path) == (result.series_instance_uid, result.path)
    found = ledger.find_instances(ask(SOPInstanceUID=result.sop_instance_uid)).found
    assert [one.result_path for one in found] == [result.path]
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
    before = SearchLedger(books.engine).find_studies(ask())
    with books.engine.begin() as connection:
        for table in ("study_entries", "series_entries"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0008'"))
    migrate(books.engine)
    assert SearchLedger(books.engine).find_studies(ask()) == before
    assert studies(books, ask(modalities=["PT"])) == [1]
    books.close()


def test_a_purged_study_that_comes_again_has_its_results(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job, kind=ResultKind.SEG)), now=at(1))
    order = PurgeOrder(study_instance_uid=STUDY, with_results=False, ordered_by="test", reason="test", is_forced=True)
    RetentionLedger(books.engine).begin_purge(order, Proof(keep_until=KeepUntil.FINISHED), now=at(2))
    books.instances.record_instance(make_facts())
    (study,) = SearchLedger(books.engine).find_studies(ask(modalities=["SEG"])).found
    assert (study.modalities, study.instances) == (("CT", "SEG"), 2)


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
    assert (series.attributes["SeriesDescription"], series.instances, series.result_path) == ("Nodules", 1, None)
    assert len(ledger.find_instances(ask(StudyInstanceUID=STUDY)).found) == 2
    (study,) = ledger.find_studies(ask()).found
    assert study.instances == 2
