"""A worklist with Studies in every state, and what a browser does with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser, Page, sync_playwright

from node.domain.decision import Outcome
from node.domain.job import Priority
from node.domain.result import DeliveryState
from node.domain.uids import StudyUID
from node.ledger.jobs import JobOutcome
from tests.ledgers import Books, make_decision, make_facts, make_order, make_result
from tests.peers import require_browser
from tests.websites import Website

ROOT = "1.2.840.113619"
HOSTILE = "<script>alert(1)</script>^{{7*7}}"
SEEN = {"label": "Nodule 1", "presence": "present", "measurements": {"long_axis_mm": 8.4}, "site": None}
SECOND = {**SEEN, "label": "Nodule 2", "measurements": {"long_axis_mm": 6.1}}


def uid_of(number: int) -> StudyUID:
    """Return the UID of a Study."""
    return StudyUID(f"{ROOT}.{number}")


def arrive(books: Books, number: int, name: str, *, minutes: float = 0.0, modality: str = "CT") -> StudyUID:
    """Let the first Instance of a Study come, so many minutes ago."""
    uid = uid_of(number)
    books.instances.record_instance(
        make_facts(
            study=uid,
            received_at=datetime.now(UTC) - timedelta(minutes=minutes),
            Modality=modality,
            PatientName=name,
            PatientID=f"PH-{number:04d}",
            PatientSex="F",
            PatientAge="068Y",
            AccessionNumber=f"A-{number}",
            StudyDescription="Chest with contrast",
        )
    )
    return uid


def decide(books: Books, uid: StudyUID, outcome: Outcome, *priorities: Priority) -> None:
    """Settle and route a Study; a Job for each Priority."""
    now = books.view.study_story(uid).first_instance_at
    books.settle(study=uid, now=now)
    decision = replace(make_decision(outcome=outcome), study_instance_uid=uid, reason="Slice thickness is absent.")
    orders = [make_order(study=uid, priority=priority) for priority in priorities]
    facts = books.studies.study_facts(uid)
    books.studies.record_routing(facts, decisions=[decision], orders=orders, forwards=(), now=now)


def answer(books: Books, uid: StudyUID, number: int, *findings: Mapping[str, object]) -> None:
    """Let a worker answer the Job of a Study 8.9 s after it was ordered, and send the Result."""
    now = books.only_job(study=uid).accepted_at
    job = books.claim(books.only_job(study=uid), now=now)
    outcome = JobOutcome(
        findings=list(findings),
        seconds={},
        model_sha256="weights",
        results=[make_result(job, number=number)],
    )
    books.jobs.finish_job(job, outcome, now=now + timedelta(seconds=8.9))
    for delivery in books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=10):
        books.deliveries.record_sent(delivery, now=now + timedelta(seconds=9), reason_code=None, reason_text=None)


def fill(books: Books) -> None:
    """Let a Study come for each thing that a row can say."""
    decide(books, arrive(books, 1, "Phantom^Anna", minutes=4), Outcome.MATCH, Priority.STAT)
    answer(books, uid_of(1), 1, SEEN, SECOND)
    decide(books, arrive(books, 2, "Testcase^Bruno", minutes=7), Outcome.MATCH, Priority.ROUTINE)
    answer(books, uid_of(2), 2)
    decide(books, arrive(books, 3, HOSTILE, minutes=9), Outcome.MATCH, Priority.HIGH)
    failed = books.claim(books.only_job(study=uid_of(3)), now=datetime.now(UTC))
    text = "2 gaps of 5.0 mm; a slice is missing"
    books.jobs.refuse_job(failed, reason_code="slice-missing", reason_text=text, now=datetime.now(UTC))
    decide(books, arrive(books, 4, "Phantom^Igor", minutes=16, modality="MR"), Outcome.NO_MATCH)
    decide(books, arrive(books, 5, "", minutes=31), Outcome.UNDETERMINED)
    arrive(books, 6, "Phantom^Gustav", minutes=1)
    decide(books, arrive(books, 7, "Dummy^Frida", minutes=22), Outcome.MATCH, Priority.HIGH)
    arrive(books, 8, "Older^Otto", minutes=3 * 24 * 60)


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=require_browser())
        try:
            yield running
        finally:
            running.close()


@contextmanager
def looking(running: Browser, site: Website, path: str = "/", *, width: int = 1280) -> Iterator[Page]:
    """Open a page in a window of its own; fails at its end if a script or the policy complained."""
    complaints: list[str] = []
    context = running.new_context(viewport={"width": width, "height": 900})
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"http://127.0.0.1:{site.port}{path}")
        yield page
        assert not complaints, complaints
    finally:
        context.close()


def names(page: Page) -> Sequence[str]:
    """Return the patients of the rows, in order."""
    return page.locator("#list tr.row a").all_inner_texts()
