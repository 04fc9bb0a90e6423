"""Retraction: Destinations learn which Results were taken back, and get the corrected ones."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import Dataset, dcmread

from node.clock import Clock
from node.domain.job import Job, JobOrder
from node.domain.result import ResultKind, ResultWishes
from node.domain.retraction import Retraction
from node.errors import Broken, ModelInvalid, NodeError
from node.ledger.jobs import JobLedger
from node.ledger.retractions import RetractionLedger
from node.models import ModelCard
from node.store.port import Store
from workers.decoding.pool import DecoderPool
from workers.encoding.encoder import EncodedResult, encode
from workers.encoding.recall import recall_analysis, strike_entries, strike_findings
from workers.encoding.rejection import encode_rejection
from workers.fetch import fetch_inputs
from workers.provenance import Provenance
from workers.proving.check import check_results
from workers.proving.rejection import check_rejection
from workers.shelving import shelve_result, shelve_retraction

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What retraction works with.

    Attributes
    ----------
    card
        Name of a Pipeline to the model that it runs now.
    wishes
        The Results that a Job is to write.
    decoders
        For slices that are compressed.
    """

    retractions: RetractionLedger
    jobs: JobLedger
    store: Store
    card: Callable[[str], ModelCard]
    wishes: Callable[[JobOrder], ResultWishes]
    node_aet: str
    software_version: str
    clock: Clock
    decoders: DecoderPool = field(default_factory=DecoderPool)


def carry_out_retractions(registry: Registry) -> tuple[NodeError, ...]:
    """Write what each pending retraction asks for; returns why some could not be, these stay pending.

    The same retraction written twice, by two workers or after a crash, gives the same bytes, and enters the ledger
    once. It fails with Transient when a Result is gone from the store. A corrected report fails with ModelInvalid when
    it would name another model than the one that answered, with InputMissing or StudyChanged when the Instances that
    the answer rests on are no longer there.
    """
    failures: list[NodeError] = []
    for retraction in registry.retractions.pending_retractions():
        try:
            _carry_out(registry, retraction)
        except NodeError as exc:
            logger.warning("retraction failed", extra={"job_id": retraction.job_id, "reason_code": exc.code})
            failures.append(_note_failure(registry, retraction, exc))
        except Exception:
            # An outer edge, as `run_job` is: an order that breaks must neither hinder the others nor cost the worker.
            logger.exception("broken retraction")
            broken = Broken(f"radnode failed on the retraction of job {retraction.job_id}; its log has the traceback")
            failures.append(_note_failure(registry, retraction, broken))
    return tuple(failures)


def _carry_out(registry: Registry, retraction: Retraction) -> None:
    job = registry.retractions.find_job(retraction)
    rejected = registry.retractions.retracted_results(retraction)
    objects = {result.kind: dcmread(BytesIO(registry.store.read(result.path))) for result in rejected}
    struck_before = registry.retractions.labels_struck_before(retraction)
    provenance = _provenance(registry, job, retraction, report=objects.get(ResultKind.SR), struck_before=struck_before)
    # First of all: that a Result is taken back must be told whether or not another can take its place.
    note = encode_rejection(list(objects.values()), retraction, provenance)
    check_rejection(note, list(objects.values()))
    shelved_note = shelve_result(registry.store, job, note)
    registry.retractions.record_note(retraction, shelved_note, now=registry.clock())
    told = strike_entries(job, struck_before)
    corrected: tuple[EncodedResult, ...] = ()
    # A report without any of its findings would say that the model saw none.
    if retraction.order.struck and strike_entries(told, retraction.order.struck).findings:
        corrected = _correct(registry, told, provenance, objects)
    results = [shelve_result(registry.store, job, one) for one in corrected]
    shelve_retraction(registry.store, job, retraction, (shelved_note, *results), now=registry.clock())
    registry.retractions.finish_retraction(retraction, results, now=registry.clock())
    logger.info("results retracted", extra={"job_id": job.job_id, "count": len(rejected)})


def _note_failure(registry: Registry, retraction: Retraction, error: NodeError) -> NodeError:
    registry.retractions.record_failure(retraction, reason=(error.code, str(error)), now=registry.clock())
    return error


def _correct(
    registry: Registry, job: Job, provenance: Provenance, objects: Mapping[ResultKind, Dataset]
) -> tuple[EncodedResult, ...]:
    _require_same_model(job, provenance.model)
    inputs = fetch_inputs(job, registry.jobs.input_instances(job), registry.store, registry.decoders)
    told = recall_analysis(job, inputs, report=objects[ResultKind.SR], segmentation=objects.get(ResultKind.SEG))
    analysis = strike_findings(told, provenance.correction)
    corrected = encode(analysis, provenance, inputs, registry.wishes(job.order))
    check_results(corrected, analysis, inputs)
    return corrected


def _provenance(
    registry: Registry, job: Job, retraction: Retraction, *, report: Dataset | None, struck_before: tuple[str, ...]
) -> Provenance:
    return Provenance(
        node_aet=registry.node_aet,
        pipeline=job.order.pipeline,
        model=registry.card(job.order.pipeline),
        accepted_at=retraction.ordered_at,
        content=job.order.content,
        software_version=registry.software_version,
        predecessor=report,
        correction=(*struck_before, *retraction.order.struck),
    )


def _require_same_model(job: Job, card: ModelCard) -> None:
    answered = (job.order.model, job.order.model_version, job.model_sha256)
    if (card.name, card.version, card.weights_sha256) != answered:
        raise ModelInvalid(
            f"job {job.job_id} was answered by {job.order.model} {job.order.model_version}, but {job.order.pipeline} "
            f"runs {card.name} {card.version} now; put that model back: a corrected report must name who answered"
        )
