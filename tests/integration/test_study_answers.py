"""Whose answers the page of a Study shows, which of them speak for it, and what an open page does when they change."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from node.domain.codes import NODULE
from node.domain.finding import Finding
from node.domain.job import Job, Priority
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID, StudyUID
from node.ledger.jobs import JobOutcome
from node.ledger.retractions import RetractionLedger
from tests.ledgers import Books, make_facts, make_order, make_result
from tests.peers import require_browser
from tests.websites import Website, website
from tests.worklists import arrive, browser, uid_of

LIMIT_MS = 60_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def books(site: Website) -> Iterator[Books]:
    opened = Books(site.services.settings.ledger_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    require_browser()
    with browser() as running:
        yield running


def order(books: Books, uid: StudyUID, pipeline: str, *, in_shadow: bool = False) -> None:
    """Let the rules order a Job, as on a Study that came anew."""
    now = datetime.now(UTC)
    if books.view.study_story(uid).state == "ROUTED":
        books.interventions.reprocess(uid, ordered_by="test", now=now)
    else:
        books.settle(study=uid, now=now)
    wanted = make_order(study=uid, pipeline=pipeline, version=f"1.0.{len(books.view.study_story(uid).jobs)}")
    wanted = replace(wanted, is_shadow=in_shadow, priority=Priority.STAT if in_shadow else Priority.ROUTINE)
    facts = books.studies.study_facts(uid)
    books.studies.record_routing(facts, decisions=(), orders=(wanted,), forwards=(), now=now)


def answer(books: Books, uid: StudyUID, number: int, *sizes_mm: float) -> Job:
    """Let a worker answer the last Job of a Study with a Result of this number."""
    job = books.claim(books.view.study_story(uid).jobs[-1], now=datetime.now(UTC))
    findings = [
        Finding(label=f"Nodule {at}", code=NODULE, measurements={"long_axis_mm": size}).as_json()
        for at, size in enumerate(sizes_mm, start=1)
    ]
    results = [make_result(job, number=number)]
    outcome = JobOutcome(findings=findings, seconds={}, model_sha256="weights", results=results)
    books.jobs.finish_job(job, outcome, now=datetime.now(UTC))
    return job


def retract(books: Books, number: int) -> None:
    """Let a person at another machine take an answer back."""
    wanted = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="somebody")
    uid = InstanceUID(f"2.25.{number}")
    RetractionLedger(books.engine).order_retraction(uid, wanted, now=datetime.now(UTC))


def read(site: Website, uid: str) -> str:
    response, body = site.ask("GET", f"/studies/{uid}")
    assert response.status == 200
    return body.decode()


def head_of(html: str) -> str:
    return html[html.index("<h1>") : html.index("</h1>")]


def test_a_job_in_shadow_speaks_for_no_study(site: Website, books: Books) -> None:
    uid = arrive(books, 41, "Phantom^Anna")
    order(books, uid, "lung_nodules", in_shadow=True)
    html = read(site, uid)
    assert "Only in shadow: lung_nodules." in html
    assert "Run in shadow only" in html
    assert "Stat" not in head_of(html)
    answer(books, uid, 41, 8.4)
    html = read(site, uid)
    assert "Only in shadow: lung_nodules." in html
    assert 'aria-label="lung_nodules, in shadow"' in html
    assert "Nodule 8.4 mm" in html
    assert "Retract" not in html


def test_an_answer_in_shadow_takes_the_place_of_none(site: Website, books: Books) -> None:
    uid = arrive(books, 42, "Phantom^Bruno")
    order(books, uid, "lung_nodules")
    first = answer(books, uid, 42, 5.0)
    order(books, uid, "lung_nodules", in_shadow=True)
    assert "No result yet" not in read(site, uid)
    second = answer(books, uid, 43, 7.0, 9.1)
    html = read(site, uid)
    sections = re.findall(r'<section class="panel answer" id="answer-([^"]+)" aria-label="([^"]+)"', html)
    assert sections == [(first.job_id, "lung_nodules"), (second.job_id, "lung_nodules, in shadow")]
    assert html.index("Nodule 5.0 mm") < html.index("2 nodules, largest 9.1 mm")
    order(books, uid, "lung_nodules")
    third = answer(books, uid, 44)
    sections = re.findall(r'<section class="panel answer" id="answer-([^"]+)"', read(site, uid))
    assert sections == [third.job_id, second.job_id]


def test_an_answer_that_was_given_up_is_not_told_as_no_findings(site: Website, books: Books) -> None:
    uid = arrive(books, 49, "Phantom^Erna")
    order(books, uid, "lung_nodules")
    answer(books, uid, 49, 17.5)
    books.give_up(study=uid, now=datetime.now(UTC))
    arrive(books, 49, "Phantom^Erna")
    books.settle(study=uid, now=datetime.now(UTC))
    facts = books.studies.study_facts(uid)
    again = make_order(study=uid, version="1.0.0")
    books.studies.record_routing(facts, decisions=(), orders=(again,), forwards=(), now=datetime.now(UTC))
    html = read(site, uid)
    assert "its findings were given up here, see the PACS" in html[html.index('class="findings"') :]
    assert "No findings" not in html
    _, body = site.ask("GET", "/")
    row = body.decode()[body.decode().index(f'id="s-{uid}"') :]
    assert "Answered before; its findings were given up here, see the PACS" in row[: row.index("</tr>")]


def test_an_answer_of_an_earlier_version_says_so(site: Website, books: Books) -> None:
    uid = arrive(books, 53, "Phantom^Fritz")
    order(books, uid, "lung_nodules")
    answer(books, uid, 53, 17.5)
    books.instances.record_instance(make_facts(study=uid, digest="second", received_at=datetime.now(UTC)))
    books.settle(study=uid, now=datetime.now(UTC))
    facts = books.studies.study_facts(uid)
    again = make_order(study=uid, version="1.0.0")
    books.studies.record_routing(facts, decisions=(), orders=(again,), forwards=(), now=datetime.now(UTC))
    html = read(site, uid)
    assert "Of an earlier version" in html
    assert "An Instance that it was made from came again with other content on" in html
    _, body = site.ask("GET", "/")
    row = body.decode()[body.decode().index(f'id="s-{uid}"') :]
    assert "lung_nodules: of an earlier version of the images" in row[: row.index("</tr>")]


def test_an_age_that_is_none_breaks_no_page(site: Website, books: Books) -> None:
    uid = uid_of(48)
    books.instances.record_instance(
        make_facts(study=uid, received_at=datetime.now(UTC), PatientAge="²²²Y", PatientBirthDate="20000102")
    )
    assert "²" not in read(site, uid)
    response, body = site.ask("GET", "/")
    assert response.status == 200
    assert f'id="s-{uid}"' in body.decode()


def test_what_is_no_uid_and_no_job_id_is_asked_of_no_ledger(site: Website, books: Books) -> None:
    uid = arrive(books, 45, "Phantom^Clara")
    headers, csrf = site.log_in()
    headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/studies/%00", f"/studies/{uid}/outlines/1%00", "/studies/%00/outlines/1.2"):
        assert site.ask("GET", path)[0].status == 400, path
    # Nobody has looked at what is not there.
    assert site.ask("GET", f"/studies/{uid}/outlines/1.2")[0].status == 404
    assert [event for event in site.told if uid in event.text] == []
    for path in ("jobs/%00/retry", "jobs/1%0a/cancel", "jobs/x%00/retract", "jobs/%00/findings/1/review"):
        assert (
            site.ask("POST", f"/studies/{uid}/{path}", body=f"csrf={csrf}".encode(), headers=headers)[0].status == 400
        )


def test_an_open_page_offers_another_answer_and_takes_nothing_away(
    chromium: Browser, site: Website, books: Books
) -> None:
    uid = arrive(books, 46, "Phantom^Dora")
    order(books, uid, "lung_nodules")
    job = answer(books, uid, 46, 5.0)
    headers, _ = site.log_in()
    name, _, secret = headers["Cookie"].partition("=")
    context = chromium.new_context(base_url=f"http://127.0.0.1:{site.port}")
    context.add_cookies([{"name": name, "value": secret, "url": f"http://127.0.0.1:{site.port}"}])
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    expect.set_options(timeout=LIMIT_MS)
    try:
        page.goto(f"/studies/{uid}")
        retractions = page.locator("#actions").get_by_role("link", name="Retract")
        expect(retractions).to_have_count(1)
        _type(page, job, "reader's words")
        bar = page.locator("#changed button")
        expect(bar).to_be_hidden()
        order(books, uid, "chest_xray")
        answer(books, uid, 47)
        expect(bar).to_be_visible()
        expect(retractions).to_have_count(2)
        assert page.locator(f"#finding-{job.job_id}-1 [name=comment]").input_value() == "reader's words"
        bar.click()
        expect(page.locator("section.answer")).to_have_count(2)
        expect(bar).to_be_hidden()
        retract(books, 46)
        expect(bar).to_be_visible()
        expect(retractions).to_have_count(1)
        bar.click()
        expect(page.locator(f"#answer-{job.job_id}")).to_contain_text("Taken back")
        _refuse_when_the_node_is_away(page, job)
    finally:
        context.close()


def _type(page: Page, job: Job, words: str) -> None:
    finding = page.locator(f"#finding-{job.job_id}-1")
    finding.get_by_text("Correct…").click()
    finding.locator("[name=comment]").fill(words)
    # Elsewhere by now: what is typed stays, focused or not.
    page.locator("h1").click()


def _refuse_when_the_node_is_away(page: Page, job: Job) -> None:
    """Assert that a verdict which nobody took is said to be lost."""
    finding = page.locator(f"#finding-{job.job_id}-1")
    page.route("**/review", lambda route: route.abort())
    finding.get_by_role("button", name="Reject").click()
    expect(finding.get_by_role("status")).to_contain_text("Not kept: the node did not answer")
    page.unroute("**/review")
    page.context.clear_cookies()
    finding.get_by_role("button", name="Reject").click()
    expect(finding.get_by_role("status")).to_contain_text("Not kept: ")
    expect(finding.get_by_role("button", name="Reject")).to_have_attribute("aria-pressed", "false")
