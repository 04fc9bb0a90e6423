"""Encoded Results are put into the store, ready for the ledger."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from node.domain.job import Job
from node.domain.result import Result
from node.domain.retraction import Retraction
from node.header.scan import scan_file
from node.ledger.cards import job_card, retraction_card
from node.ledger.catalogue import RESULT_KEYWORDS
from node.ledger.jobs import JobOutcome
from node.store.paths import card_path, result_path
from node.store.port import Store
from workers.encoding.encoder import EncodedResult


def shelve_result(store: Store, job: Job, encoded: EncodedResult) -> Result:
    """Return the Result after its bytes are durable; its path carries the Job's fence.

    Raises
    ------
    StoreFull
        If the store does not take it.
    """
    uids = (encoded.study_instance_uid, encoded.series_instance_uid, encoded.sop_instance_uid)
    path = result_path(*uids, fence=job.fence)
    attributes = scan_file(encoded.content).attributes
    store.put(path, encoded.content)
    return Result(
        job_id=job.job_id,
        kind=encoded.kind,
        study_instance_uid=encoded.study_instance_uid,
        series_instance_uid=encoded.series_instance_uid,
        sop_instance_uid=encoded.sop_instance_uid,
        sop_class_uid=encoded.sop_class_uid,
        transfer_syntax_uid=encoded.transfer_syntax_uid,
        path=path,
        size_bytes=len(encoded.content),
        sha256=hashlib.sha256(encoded.content).hexdigest(),
        is_substitute=encoded.is_substitute,
        attributes={keyword: attributes[keyword] for keyword in RESULT_KEYWORDS if keyword in attributes},
    )


def shelve_card(store: Store, job: Job, outcome: JobOutcome, *, now: datetime) -> None:
    """Return after what the ledger is about to be told of the Job lies beside its Results, should the ledger be lost.

    Raises
    ------
    StoreFull
        If the store does not take it.
    """
    path = card_path(job.order.study_instance_uid, job.job_id, name=str(job.fence))
    store.put(path, job_card(job, outcome, now=now))


def shelve_retraction(
    store: Store, job: Job, retraction: Retraction, written: Sequence[Result], *, now: datetime
) -> None:
    """Return after what the ledger is about to be told of a retraction lies beside what it wrote.

    Raises
    ------
    StoreFull
        If the store does not take it.
    """
    path = card_path(job.order.study_instance_uid, job.job_id, name=retraction.retraction_id)
    store.put(path, retraction_card(retraction, written, now=now))
