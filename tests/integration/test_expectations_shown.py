"""What is known of how much of a Study there is, as people and programs see it: page, API, command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.main import app
from node.domain.completeness import Census, Evidence, Source, Terms, Told
from node.domain.uids import SeriesUID, StudyUID
from tests.ledgers import STUDY, Books, assemble, at, copy_ledger, make_facts
from tests.websites import Website, website

LACKING, REFUSED = StudyUID(STUDY), StudyUID("1.2.4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a node with a Study that waits, and one that was refused."""
    path = tmp_path_factory.mktemp("node")
    books = Books(copy_ledger(path))
    terms = Terms(
        heeded=frozenset(Evidence),
        after_association_s=3.0,
        while_open_s=60.0,
        max_age_s=600.0,
        refuses=True,
        sources={"*": Source(asked="pacs")},
    )
    for study, second in ((REFUSED, 0), (LACKING, 600)):
        books.instances.record_instance(make_facts(study=study, association=study, received_at=at(second)))
        books.instances.end_association(study, at(second))
        census = Census(total=7, by_series={SeriesUID(f"{study}.1"): 7})
        books.expectations.record_census(study, census, told=Told.FIND, source="pacs", now=at(second + 1))
    books.expectations.record_failure(REFUSED, told=Told.FIND, source="pacs", failure="destination-down", now=at(9))
    assemble(books, terms).tick(at(601))
    books.close()
    return path


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Website]:
    with website(folder) as opened:
        yield opened


def test_the_page_of_a_study_says_who_said_how_much(site: Website) -> None:
    headers, _ = site.log_in()
    response, body = site.ask("GET", f"/studies/{LACKING}", headers=headers)
    page = body.decode()
    assert response.status == 200
    assert "Instances may still come: held 1 of 7 by C-FIND at pacs." in page
    assert "How much there should be: by C-FIND at pacs" in page
    assert '<td class="n" data-l="Expected">7</td>' in page
    _, body = site.ask("GET", f"/studies/{REFUSED}", headers=headers)
    assert "Refused: held 1 of 7 by C-FIND at pacs, at the maximum age of 10 min." in body.decode()
    assert "no answer (destination-down)" in body.decode()


def test_programs_are_told_the_same(site: Website) -> None:
    _, body = site.ask("GET", f"/api/v1/studies/{LACKING}")
    told = json.loads(body)
    assert (told["state"], told["reason"], told["refusal"]) == ("OPEN", "held 1 of 7 by C-FIND at pacs", None)
    assert [(one["series_instance_uid"], one["expected"], one["held"]) for one in told["expectations"]] == [
        ("", 7, 1),
        (f"{LACKING}.1", 7, 1),
    ]
    assert {one["told"] for one in told["expectations"]} == {"C-FIND"}
    _, body = site.ask("GET", f"/api/v1/studies/{REFUSED}")
    refusal = json.loads(body)["refusal"]
    assert refusal["code"] == "study-incomplete"
    assert refusal["text"] == "held 1 of 7 by C-FIND at pacs, at the maximum age of 10 min"


def test_the_command_line_tells_it(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "site.toml"
    settings.write_text(f'[node]\ndata_dir = "{folder}"\n[ledger]\nurl = "{copy_ledger(folder)}"\n')
    found = CliRunner().invoke(app, ["studies", "show", LACKING, "--settings", str(settings)], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    assert "How much there should be" in found.output
    assert "the whole Study" in found.output
    found = CliRunner().invoke(app, ["studies", "show", LACKING, "--json", "--settings", str(settings)])
    assert json.loads(found.output)["statements"][0]["expected"] == 7
