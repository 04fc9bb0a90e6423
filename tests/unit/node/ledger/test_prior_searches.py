"""Searches for priors: what the ledger keeps of them while Studies go, clocks are set, and priors are gone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from node.domain.fetch import Ending, Fetched, FetchReason, FetchState, FoundStudy
from node.domain.job import Job, JobOrder, digest_inputs
from node.domain.prior import PriorState, PriorTerms
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.ledger.fetches import FetchLedger
from node.ledger.leaps import LeapLedger
from node.ledger.priors import Pick, PriorLedger
from node.ledger.retention import RetentionLedger
from node.ledger.schema import prior_searches, priors, worklist
from tests.ledgers import STUDY, Books, at, make_facts, make_order

PRIOR = StudyUID("1.2.9")
TERMS = PriorTerms(source="pacs", wait_s=60.0)
PROOF = Proof(keep_until=KeepUntil.FINISHED, confirming=frozenset())
READS = "a Job of a later Study reads it as prior, or waits for it"
WHO: dict[str, Any] = {"PatientID": "4711", "PatientBirthDate": "19620331", "StudyDate": "20250114"}
FOUND = FoundStudy(study_instance_uid=PRIOR)


def wait(books: Books) -> Job:
    """Order a Job that waits for its prior."""
    books.instances.record_instance(make_facts(**WHO))
    books.route(replace(make_order(), awaits=TERMS))
    return books.only_job()


def find(books: Books, *, seconds: float = 1) -> None:
    """Commit what the source has: the one prior."""
    ledger = PriorLedger(books.engine)
    (wanted,) = ledger.wanted_from({"pacs"}, now=at(seconds), limit=9)
    picks = [Pick(found=FOUND, is_here=False)]
    ledger.record_found(wanted, picks, source="pacs", text="", now=at(seconds))


def fetch(books: Books) -> None:
    """Let the prior come, and end its fetch."""
    queue = FetchLedger(books.engine)
    begun = queue.claim("pacs", reasons=[FetchReason.PRIOR], now=at(2))
    assert begun is not None
    books.instances.record_instance(make_facts(study=PRIOR, received_at=at(2), association="f", **WHO))
    queue.end(begun, Ending(state=FetchState.COMPLETED, fetched=Fetched(done=1)), now=at(3))
    assert PriorLedger(books.engine).advance(at(3)) == 1


def with_prior() -> JobOrder:
    """Return the order as routing makes it when the prior is here."""
    own, prior = InstanceUID(f"{STUDY}.1.1"), InstanceUID(f"{PRIOR}.1.1")
    order = make_order()
    return replace(
        order,
        inputs={**order.inputs, "prior": SeriesUID(f"{PRIOR}.1")},
        content=digest_inputs({"ct": [own], "prior": [prior]}),
        prior_study_instance_uid=PRIOR,
    )


def states(books: Books) -> list[str]:
    with books.engine.connect() as connection:
        return list(connection.execute(select(prior_searches.c.state)).scalars())


def test_a_prior_stays_while_a_job_waits_for_it_or_reads_it(books: Books) -> None:
    wait(books)
    find(books)
    fetch(books)
    books.route(study=PRIOR, now=at(4))
    retention = RetentionLedger(books.engine)
    books.route(with_prior(), now=at(4))
    assert books.only_job().order.prior_study_instance_uid == PRIOR
    assert retention.obstacles(PRIOR, PROOF) == (READS,)
    books.interventions.cancel_job(books.only_job().job_id, ordered_by="reader", now=at(5))
    assert retention.obstacles(PRIOR, PROOF) == ()


def test_a_search_goes_with_its_study(books: Books) -> None:
    job = wait(books)
    find(books)
    books.interventions.cancel_job(job.job_id, ordered_by="reader", now=at(2))
    order = PurgeOrder(study_instance_uid=STUDY, with_results=True, ordered_by="reader", reason="", is_forced=True)
    RetentionLedger(books.engine).begin_purge(order, PROOF, now=at(3))
    with books.engine.connect() as connection:
        assert connection.execute(select(priors)).all() == []
    assert states(books) == []


def test_a_prior_that_is_gone_is_looked_for_again(books: Books) -> None:
    wait(books)
    find(books)
    fetch(books)
    books.route(study=PRIOR, now=at(4))
    assert states(books) == [PriorState.HERE.value]
    assert len(books.studies.study_facts(STUDY).priors[0].studies) == 1
    order = PurgeOrder(study_instance_uid=PRIOR, with_results=True, ordered_by="reader", reason="", is_forced=True)
    RetentionLedger(books.engine).begin_purge(order, PROOF, now=at(5))
    assert books.studies.study_facts(STUDY).priors[0].studies == ()
    books.route(replace(make_order(numbers=(1, 2)), awaits=TERMS), now=at(6))
    assert states(books) == [PriorState.SOUGHT.value]
    find(books, seconds=6)
    claimed = FetchLedger(books.engine).claim("pacs", reasons=[FetchReason.PRIOR], now=at(7))
    assert claimed is not None
    assert claimed.order.on_behalf == STUDY


def test_who_waits_does_not_notice_that_the_clock_is_set_back(books: Books) -> None:
    job = wait(books)
    LeapLedger(books.engine).follow_clock(-timedelta(hours=1), now=at(-3600), lease_s=60.0)
    assert books.find(job).not_before == at(60 - 3600)
    assert PriorLedger(books.engine).next_late() == at(60 - 3600)


def test_what_came_as_prior_is_not_unmatched_until_a_person_wants_it(books: Books) -> None:
    wait(books)
    find(books)
    fetch(books)
    books.route(study=PRIOR, now=at(4))
    unmatched = select(worklist.c.is_unmatched).where(worklist.c.study_instance_uid == PRIOR)
    assert books.studies.study_facts(PRIOR).is_prior
    with books.engine.connect() as connection:
        assert connection.execute(unmatched).scalar_one() is False
    books.interventions.reprocess(PRIOR, ordered_by="reader", now=at(5))
    assert not books.studies.study_facts(PRIOR).is_prior
    books.route(study=PRIOR, now=at(6))
    with books.engine.connect() as connection:
        assert connection.execute(unmatched).scalar_one() is True
