"""Before its first Job a process has loaded its Pipelines and asked each about a drawn Study, as a Job would."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from node.clock import utc_now
from node.domain.job import digest_inputs
from node.domain.result import ResultWishes
from node.domain.uids import InstanceUID
from node.errors import Broken, NodeError
from node.version import product_version
from workers.encoding.encoder import encode
from workers.inference.faults import named_faults
from workers.memory import give_memory_back
from workers.provenance import Provenance
from workers.proving.check import check_results
from workers.runner import WarmPipeline
from workers.samples import SMALL, Inputs, draw_inputs
from workers.trials import Trials

logger = logging.getLogger(__name__)

SEED = 3
# Until it is done a process is not up, and one that is not up within `node.bell.CHILD_START_S` is ended. The last one
# that is begun may take as long again.
WARM_BUDGET_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How a process tries Pipelines before its first Job.

    Attributes
    ----------
    notes
        Of all processes of the worker.
    turns
        From the name of a Pipeline to what surrounds its turns on a device that others use, too.
    alarm
        Ends this process after so many seconds; 0 takes that back.
    watch
        Seconds that only grow.
    """

    notes: Trials
    node_aet: str
    turns: Callable[[str], AbstractContextManager[None]]
    alarm: Callable[[float], object]
    watch: Callable[[], float] = time.monotonic


def warm_up(shelf: Callable[[str], WarmPipeline], names: Iterable[str], tries: Tries) -> None:
    """Load Pipelines and try each; one that cannot is told in the log, and fails only the Jobs that ask for it.

    After `WARM_BUDGET_S` no other is begun: what is left is loaded at its first Job. One that takes as long by itself
    ends the process, and is left so by those that come after.

    Parameters
    ----------
    shelf
        From the name of a Pipeline to the loaded one.
    """
    begun = tries.watch()
    for name in names:
        if tries.watch() - begun >= WARM_BUDGET_S or tries.notes.has_ended_one(name):
            logger.warning("pipeline left for its first job", extra={"pipeline": name})
            continue
        with tries.notes.trying(name):
            tries.alarm(WARM_BUDGET_S)
            _try_and_tell(shelf, name, tries)
            tries.alarm(0.0)
    give_memory_back()


def _try_and_tell(shelf: Callable[[str], WarmPipeline], name: str, tries: Tries) -> None:
    try:
        with named_faults(), tries.turns(name):
            try_pipeline(shelf(name), name, node_aet=tries.node_aet)
        logger.info("pipeline warm", extra={"pipeline": name})
    except NodeError as exc:
        logger.warning("pipeline not warm", extra={"pipeline": name, "reason_code": exc.code})
    except Exception:
        # The outer edge of a start: a fault in the code of one model costs its own Jobs, never the worker.
        logger.exception("pipeline not warm", extra={"pipeline": name, "reason_code": Broken.code})


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
