"""Before its first Job a process has loaded its Pipelines and asked each about a drawn Study, as a Job would."""

import logging
from collections.abc import Callable, Iterable

from node.clock import utc_now
from node.domain.job import digest_inputs
from node.domain.result import ResultWishes
from node.domain.uids import InstanceUID
from node.errors import NodeError
from node.version import product_version
from workers.encoding.encoder import encode
from workers.inference.faults import named_faults
from workers.memory import give_memory_back
from workers.provenance import Provenance
from workers.proving.check import check_results
from workers.runner import WarmPipeline
from workers.samples import SMALL, Inputs, draw_inputs

logger = logging.getLogger(__name__)

SEED = 3


def warm_up(shelf: Callable[[str], WarmPipeline], names: Iterable[str], *, node_aet: str) -> None:
    """Load Pipelines and try each; one that cannot is told in the log, and fails only the Jobs that ask for it.

    Parameters
    ----------
    shelf
        From the name of a Pipeline to the loaded one.
    """
    for name in names:
        try:
            with named_faults():
                try_pipeline(shelf(name), name, node_aet=node_aet)
            logger.info("pipeline warm", extra={"pipeline": name})
        except NodeError as exc:
            logger.warning("pipeline not warm", extra={"pipeline": name, "reason_code": exc.code})
    give_memory_back()


def try_pipeline(warm: WarmPipeline, name: str, *, node_aet: str) -> None:
    """Ask a Pipeline about a drawn Study, and write and prove what it answers; nothing of it is kept.

    Raises
    ------
    NotEligible, ModelOutputInvalid, ResultCheckFailed
        If the Pipeline does not read it, or answers nonsense.
    """
    inputs = draw_inputs(warm.card, seed=SEED, healthy=False, size=SMALL)
    if inputs is not None:
        answer_inputs(warm, inputs, name=name, node_aet=node_aet)


def answer_inputs(warm: WarmPipeline, inputs: Inputs, *, name: str, node_aet: str) -> None:
    """Do all of a Job but what is of the ledger and the store.

    Raises
    ------
    NotEligible, PixelsUndecodable, ModelOutputInvalid, ResultCheckFailed
        As the Job would end.
    """
    analysis = warm.pipeline.analyze(warm.pipeline.read(inputs))
    uids = {role: [InstanceUID(str(ds.SOPInstanceUID)) for ds in series] for role, series in inputs.items()}
    provenance = Provenance(
        node_aet=node_aet,
        pipeline=name,
        model=warm.card,
        accepted_at=utc_now(),
        content=digest_inputs(uids),
        software_version=product_version(),
        layout=warm.layout,
    )
    check_results(encode(analysis, provenance, inputs, ResultWishes()), analysis, inputs)
