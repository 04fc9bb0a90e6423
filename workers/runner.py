"""One Job from claim to finish: fetch, read, analyze, encode, check, store, commit."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from pydicom import Dataset, dcmread

from node.clock import Clock
from node.domain.job import Job, JobID, JobOrder
from node.domain.model_version import ModelVersion
from node.domain.result import Result, ResultKind, ResultWishes
from node.domain.work import sum_stages
from node.errors import Broken, DeviceFailed, LeaseLost, LedgerBusy, ModelChanged, NodeError, OutOfMemory, Rejected
from node.ledger.jobs import JobLedger, JobOutcome
from node.logs import log_context
from node.models import ModelCard
from node.store.port import Store
from workers.decoding.pool import DecoderPool
from workers.encoding.encoder import encode
from workers.fetch import fetch_inputs
from workers.heartbeat import Heartbeat, LeaseTerms
from workers.inference.faults import named_faults
from workers.inference.turn import Turns
from workers.memory import SpareMemory
from workers.moment import newest_moment
from workers.pipelines.base import Pipeline
from workers.provenance import Provenance
from workers.proving.check import check_results
from workers.shelving import shelve_card, shelve_result
from workers.stopwatch import Stopwatch, stage

logger = logging.getLogger(__name__)

# Before a Job that this worker's model must not answer is offered again: to another worker, or asked of another model.
MODEL_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPipeline:
    """A Pipeline whose weights are loaded, with the card of its model.

    Attributes
    ----------
    layout
        How its networks are laid out, in words; empty where nothing was calibrated.
    notes
        What the report says of that.
    """

    pipeline: Pipeline[Any]
    card: ModelCard
    layout: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a worker works with.

    Attributes
    ----------
    warm
        Name of a Pipeline to the loaded Pipeline; PipelineUnknown or ModelInvalid if it cannot be loaded.
    time_limit_s
        Name of a Pipeline to how long one Job of it may take; PipelineUnknown if settings have none of that name.
    wishes
        The Results that a Job is to write.
    owner
        Name of this worker in leases.
    rejects_superseded
        Whether the Results that newer ones replace are taken back where they were delivered.
    dates_by_inputs
        Whether time stamps follow from the inputs: where no ledger remembers when a question was asked, the same
        question must still have the same answer, byte for byte.
    turns
        On a device that other processes use as well; None where there is none.
    decoders
        For slices that are compressed.
    """

    ledger: JobLedger
    store: Store
    warm: Callable[[str], WarmPipeline]
    time_limit_s: Callable[[str], float]
    wishes: Callable[[JobOrder], ResultWishes]
    terms: LeaseTerms
    owner: str
    node_aet: str
    software_version: str
    rejects_superseded: bool
    dates_by_inputs: bool
    clock: Clock
    turns: Turns | None = None
    decoders: DecoderPool = field(default_factory=DecoderPool)


class JobRunner:
    """Runs Jobs one at a time; whatever happens, the ledger says what became of each."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._is_spent = False
        self._spare = SpareMemory()

    @property
    def is_spent(self) -> bool:
        """True when this process can do no more Jobs: its device failed, or its memory did not suffice."""
        return self._is_spent

    def run_job(self, job_id: JobID) -> bool:
        """Run one Job to its end; False when it was not to be had (done, taken, not due).

        Raises
        ------
        LedgerBusy
            If the ledger takes neither an answer nor the failure of the attempt; the Job is begun again when its lease
            has run out.
        """
        shop = self._shop
        job = shop.ledger.claim_job(job_id, owner=shop.owner, lease_s=shop.terms.lease_s, now=shop.clock())
        if job is None:
            logger.info("job not to be had", extra={"job_id": job_id})
            return False
        watch = Stopwatch()
        with log_context(job_id=job.job_id, study_uid=job.order.study_instance_uid, pipeline=job.order.pipeline):
            with watch, self._spare.in_use():
                outcome = self._run_claimed(job, watch)
            logger.info(
                "job ended", extra={"outcome": outcome, "attempts": job.attempts, "seconds": sum_stages(watch.seconds)}
            )
        return True

    def run_all(self) -> int:
        """Run waiting Jobs without a broker until none is left, or this process is spent; returns how many ran."""
        count = 0
        while not self._is_spent and (job_id := self._shop.ledger.next_scheduled(self._shop.clock())) is not None:
            count += self.run_job(job_id)
        return count

    def _run_claimed(self, job: Job, watch: Stopwatch) -> str:
        try:
            return self._try_job(job, watch)
        except LeaseLost:
            return LeaseLost.code
        except LedgerBusy:
            # Nothing can be told of this attempt: its lease runs out.
            raise
        except Exception:
            # The outer edge of the process: a fault of ours costs this attempt, never the worker.
            logger.exception("broken job")
            return self._fail(job, (Broken.code, "radnode failed on this Job; the traceback is in the worker's log"))

    def _try_job(self, job: Job, watch: Stopwatch) -> str:
        shop = self._shop
        try:
            limit_s = shop.time_limit_s(job.order.pipeline)
            heart = Heartbeat(shop.ledger, job, terms=shop.terms, time_limit_s=limit_s, clock=shop.clock)
            with heart, named_faults():
                outcome = self._work(job, watch, heart)
            now = shop.clock()

            def shelve(order: JobOrder) -> None:
                shelve_card(shop.store, replace(job, order=order), outcome, now=now)

            shop.ledger.finish_job(job, outcome, now=now, shelve=shelve)
        except Rejected as exc:
            logger.warning("job refused", extra={"reason_code": exc.code})
            shop.ledger.refuse_job(job, reason_code=exc.code, reason_text=str(exc), now=shop.clock())
            return exc.code
        except LeaseLost:
            raise
        except ModelChanged as exc:
            logger.warning("job given back", extra={"reason_code": exc.code})
            shop.ledger.give_back(job, reason=(exc.code, str(exc)), now=shop.clock(), pause_s=MODEL_PAUSE_S)
            return exc.code
        except NodeError as exc:
            # A fresh process begins with a device that works, and without what this one's memory is littered with.
            self._is_spent = isinstance(exc, (DeviceFailed, OutOfMemory))
            logger.warning("job attempt failed", extra={"reason_code": exc.code})
            return self._fail(job, (exc.code, str(exc)))
        return "completed"

    def _fail(self, job: Job, reason: tuple[str, str]) -> str:
        try:
            self._shop.ledger.fail_attempt(job, self._shop.terms.retry, reason=reason, now=self._shop.clock())
        except LeaseLost:
            return LeaseLost.code
        return reason[0]

    def _work(self, job: Job, watch: Stopwatch, heart: Heartbeat) -> JobOutcome:
        shop = self._shop
        warm = shop.warm(job.order.pipeline)
        _require_model(job, warm.card)
        with stage("prepare"):
            with stage("fetch"):
                inputs = fetch_inputs(job, shop.ledger.input_instances(job), shop.store, shop.decoders)
            prepared = warm.pipeline.read(inputs)
        heart.require_lease()
        with stage("infer"), self._turns_of(job.order, heart):
            analysis = warm.pipeline.analyze(prepared)
            analysis = replace(analysis, notes=(*analysis.notes, *warm.notes))
        heart.require_lease()
        with stage("encode"):
            provenance = self._provenance(job, warm, inputs)
            with stage("write"):
                encoded = encode(analysis, provenance, inputs, shop.wishes(job.order))
            with stage("prove"):
                check_results(encoded, analysis, inputs)
            with stage("store"):
                results = tuple(shelve_result(shop.store, job, one) for one in encoded)
        return JobOutcome(
            findings=[finding.as_json() for finding in analysis.findings],
            seconds=watch.seconds,
            model_sha256=warm.card.weights_sha256,
            results=results,
            notes=analysis.notes,
            threshold=analysis.threshold,
            rejects_predecessor=shop.rejects_superseded,
            layout=warm.layout,
        )

    def _turns_of(self, order: JobOrder, heart: Heartbeat) -> AbstractContextManager[None]:
        turns = self._shop.turns
        return nullcontext() if turns is None else turns.of(order.pipeline, order.priority, waiting=heart.paused)

    def _provenance(self, job: Job, warm: WarmPipeline, inputs: Mapping[str, Sequence[Dataset]]) -> Provenance:
        moment = newest_moment(chain(*inputs.values())) if self._shop.dates_by_inputs else job.accepted_at
        return Provenance(
            node_aet=self._shop.node_aet,
            pipeline=job.order.pipeline,
            model=warm.card,
            accepted_at=moment,
            content=job.order.content,
            software_version=self._shop.software_version,
            predecessor=self._predecessor(job),
            layout=warm.layout,
        )

    def _predecessor(self, job: Job) -> Dataset | None:
        if job.supersedes is None:
            return None
        earlier: Sequence[Result] = self._shop.ledger.results_of(job.supersedes)
        reports = [result for result in earlier if result.kind is ResultKind.SR]
        if not reports:
            return None
        # A corrected report comes after the one that was taken back.
        newest = reports[-1]
        return _refer_to(newest) if newest.purged_at is not None else dcmread(self._shop.store.path(newest.path))


def _refer_to(result: Result) -> Dataset:
    """Return what a reference needs of a Result whose file is no longer kept."""
    ds = Dataset()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = result.study_instance_uid, result.series_instance_uid
    ds.SOPClassUID, ds.SOPInstanceUID = result.sop_class_uid, result.sop_instance_uid
    return ds


def _require_model(job: Job, card: ModelCard) -> None:
    ordered = ModelVersion(name=job.order.model, version=job.order.model_version)
    here = ModelVersion(name=card.name, version=card.version)
    if ordered != here:
        raise ModelChanged(
            f"job {job.job_id} was ordered on {ordered}, and this worker has {here}; restart the node, or install on "
            "both the same"
        )
