"""Scenarios in which the PACS does what it should not."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from node.domain.capability import name_kind
from node.rehearsal.judge import check_answers, check_ledger, check_once, count_of, judge_results
from node.rehearsal.pacs import Misbehavior
from node.rehearsal.scenario import Check, Scenario
from node.rehearsal.stage import Stage, describe_kinds

OUT_OF_RESOURCES = 0xA700
COERCED = 0xB000
ALL = 1_000_000
SMALLEST_PDU_BYTES = 16
# More for what will not be taken is a siege.
ASSOCIATIONS_AT_MOST = 20
ABORTS_AWAITED = 2
NAMED_AT_MOST = 5
# What goes first where both are there: the SEG is what PACS refuse.
REFUSABLE = (str(SegmentationStorage), str(Comprehensive3DSRStorage))


def _recover_alone(
    stage: Stage, *, behavior: Misbehavior, words: str, faults: int, is_small: bool = False
) -> Iterator[Check]:
    """Send a Study to a PACS that departs from what it should do, and comes to itself."""
    stage.misbehave(behavior, words)
    take = stage.take(stage.smallest if is_small else stage.single)
    yield check_answers(stage.send(take.datasets))
    yield from judge_results(stage, take)
    if faults:
        failed = [request.answer for request in stage.requests(take) if not request.is_taken]
        yield Check(
            expected=f"The fault was met, {_times(faults)}",
            seen=f"{_times(len(failed))}: {', '.join(failed[:NAMED_AT_MOST])}" if failed else "never",
            holds=len(failed) == faults,
        )


def _wait_for_slow(stage: Stage) -> Iterator[Check]:
    delay_s = stage.pace.delay_s
    stage.misbehave(Misbehavior(delay_s=delay_s), f"takes {delay_s:g} s for each object")
    take = stage.take(stage.single)
    yield check_answers(stage.send(take.datasets))
    yield from judge_results(stage, take)


def _restart_aborting(stage: Stage) -> Iterator[Check]:
    """Abort at the last object of the Study, again and again, until the PACS is restarted."""
    kept = stage.references[stage.single].kinds.total() - 1
    stage.misbehave(Misbehavior(abort_after=kept), f"takes {count_of(kept, 'object')}, then aborts every Association")
    take = stage.take(stage.single)
    yield check_answers(stage.send(take.datasets))
    is_met = stage.wait_for_requests(take, kept + ABORTS_AWAITED)
    aborted = len(stage.requests(take)) - kept
    stage.recover()
    yield Check(
        expected=f"The node tries again after an abort: at least {_times(ABORTS_AWAITED)}",
        seen=_times(max(aborted, 0)),
        holds=is_met,
    )
    yield from judge_results(stage, take)


def _be_down(stage: Stage) -> Iterator[Check]:
    # Longer than the answer takes, or the outage would be over before it is felt.
    outage_s = stage.pace.outage_s + stage.references[stage.single].seconds
    stage.misbehave(Misbehavior(is_down=True), f"refuses connections for {outage_s:.0f} s")
    take = stage.take(stage.single)
    yield check_answers(stage.send(take.datasets))
    stage.rest(outage_s)
    stage.recover()
    yield from judge_results(stage, take)


def _lose(stage: Stage) -> Iterator[Check]:
    count = stage.references[stage.single].kinds.total()
    stage.misbehave(Misbehavior(lost_count=count), f"answers Success to {count} requests, and loses what came")
    take = stage.take(stage.single)
    yield check_answers(stage.send(take.datasets))
    stage.wait_for_requests(take, count)
    asked = _wait_for_question(stage)
    yield Check(
        expected="The node asks whether the PACS holds what it took, by Storage Commitment or C-FIND",
        seen=asked or "it never asks",
        holds=bool(asked),
        is_required=False,
    )
    if asked:
        yield from judge_results(stage, take, lost_once=True)
    else:
        yield Check(
            expected="What the PACS lost is sent again",
            seen="never: what this PACS loses after Success stays lost",
            holds=False,
            is_required=False,
        )


def _wait_for_question(stage: Stage) -> str:
    """Return in words how the node asked the PACS; empty when it does not."""
    stage.wait_for(lambda record: record.commitment_requests + record.queries > 0, timeout_s=stage.pace.question_s)
    record = stage.pacs.record
    if not record.commitment_requests + record.queries:
        return ""
    return f"{record.commitment_requests} N-ACTION and {record.queries} C-FIND requests in this rehearsal"


def _refuse_kind(stage: Stage) -> Iterator[Check]:
    piece, refused = _choose_refused(stage)
    reference = stage.references[piece]
    stage.misbehave(
        Misbehavior(refused_sop_classes=frozenset({refused})),
        f"accepts no Presentation Context for {name_kind(refused)}",
    )
    take = stage.take(piece)
    yield check_answers(stage.send(take.datasets))
    # What was refused may come when it is no longer.
    stage.excuse(take)
    others = Counter({uid: count for uid, count in reference.kinds.items() if uid != refused})
    before = stage.pacs.record.associations
    stage.wait_for_kinds(take, others)
    stage.rest(stage.pace.watch_s)
    associations = stage.pacs.record.associations - before
    kinds = stage.kinds(take)
    instead = kinds - others
    yield Check(
        expected=f"All the others arrive, just as without the fault: {describe_kinds(others)}",
        seen=describe_kinds(kinds) + (f"; {describe_kinds(instead)} stands in for what is refused" if instead else ""),
        holds=refused not in kinds and all(kinds[uid] >= count for uid, count in others.items()),
    )
    yield Check(
        expected=f"The PACS is not besieged: at most {ASSOCIATIONS_AT_MOST} Associations",
        seen=count_of(associations, "Association"),
        holds=associations <= ASSOCIATIONS_AT_MOST,
    )
    if others:
        yield check_once(stage, take)
    yield from check_ledger(stage, take)


def _choose_refused(stage: Stage) -> tuple[str, str]:
    """Return the phantom and the SOP Class of which the PACS takes none: the first of `REFUSABLE` that is written."""
    quickest = sorted(stage.references, key=lambda name: stage.references[name].seconds)
    for uid in REFUSABLE:
        for piece in quickest:
            if uid in stage.references[piece].kinds:
                return piece, uid
    return quickest[0], min(stage.references[quickest[0]].kinds)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# The gentle first.
PACS_SCENARIOS = (
    Scenario(
        name="pacs-busy",
        title="The PACS has no room for a moment",
        story="The PACS answers the first three C-STORE with A700, out of resources.",
        play=partial(
            _recover_alone,
            behavior=Misbehavior(status=OUT_OF_RESOURCES, status_count=3),
            words="answers three requests with A700",
            faults=3,
        ),
    ),
    Scenario(
        name="pacs-warns",
        title="The PACS stores with a warning",
        story="The PACS answers every C-STORE with B000, coercion of data elements. It has the object: to "
        "send it again would be wrong.",
        play=partial(
            _recover_alone,
            behavior=Misbehavior(status=COERCED, status_count=ALL),
            words="answers every request with B000",
            faults=0,
        ),
    ),
    Scenario(
        name="pacs-no-status",
        title="A response without Status",
        story="The PACS answers the first two C-STORE without Status (0000,0900), and has not stored them. "
        "No Status is no Success.",
        play=partial(
            _recover_alone,
            behavior=Misbehavior(no_status_count=2),
            words="leaves the Status out of two responses",
            faults=2,
        ),
    ),
    Scenario(
        name="pacs-silent",
        title="The PACS goes silent",
        story="The PACS takes a whole C-STORE and answers nothing; the connection stays. The node must end "
        "it by a timeout of its own, and try again.",
        play=partial(
            _recover_alone,
            behavior=Misbehavior(silent_count=1),
            words="is silent after one request",
            faults=1,
        ),
    ),
    Scenario(
        name="pacs-slow",
        title="A slow PACS",
        story="The PACS takes its time for each object. The node must wait, and not send again what is under way.",
        play=_wait_for_slow,
    ),
    Scenario(
        name="pacs-small-pdus",
        title="The smallest PDUs",
        story=f"The PACS announces a Maximum Length of {SMALLEST_PDU_BYTES} bytes, ten of which are data.",
        play=partial(
            _recover_alone,
            behavior=Misbehavior(max_pdu_bytes=SMALLEST_PDU_BYTES),
            words=f"announces a Maximum Length of {SMALLEST_PDU_BYTES} bytes",
            faults=0,
            is_small=True,
        ),
    ),
    Scenario(
        name="pacs-aborts",
        title="The PACS aborts",
        story="The PACS takes no object but aborts each Association at the first C-STORE, until it is restarted.",
        play=_restart_aborting,
    ),
    Scenario(
        name="pacs-down",
        title="The PACS is down",
        story="The port of the PACS refuses connections while the Study is processed, and for some time "
        "after. When it is back, what waited must come without a hand.",
        play=_be_down,
    ),
    Scenario(
        name="pacs-loses",
        title="The PACS loses what it took",
        story="The PACS answers Success and loses the object, as after a crash. Asked by Storage Commitment "
        "or C-FIND it says that it does not hold it. Who never asks cannot know.",
        play=_lose,
    ),
    Scenario(
        name="pacs-refuses",
        title="The PACS refuses a kind of object",
        story="The PACS accepts no Presentation Context for one kind of object that the node writes, as "
        "PACS without SEG do. All others must arrive, and the PACS may not be besieged.",
        play=_refuse_kind,
    ),
)
