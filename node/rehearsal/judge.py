"""What must come out of every scenario, judged by what the PACS was asked and what the modality was answered."""

import time
from collections import Counter
from collections.abc import Iterator

from node.domain.capability import name_kind
from node.peers.sender import SendReport
from node.rehearsal.repertoire import Take
from node.rehearsal.scenario import Check
from node.rehearsal.stage import Expects, Kinds, Stage, describe_kinds, patient_id_of

# A node commits a Delivery after the answer to it, and its ledger is another process.
LEDGER_LIMIT_S = 20.0
LOOK_EVERY_S = 0.2
NAMED_AT_MOST = 3


def check_answers(report: SendReport) -> Check:
    """Return whether every Instance was answered with Success."""
    taken = f"{report.sent} of {len(report.files)}"
    reasons = Counter(file.outcome.text or "no answer" for file in report.failed)
    why = "".join(f"; {count} times {text}" for text, count in reasons.most_common(NAMED_AT_MOST))
    return Check(
        expected="The node answers every Instance with Success",
        seen=f"{taken} in {report.seconds:.1f} s{why}",
        holds=not report.failed,
    )


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 object``, ``2 objects``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def judge_results(stage: Stage, take: Take, *, lost_once: bool = False) -> Iterator[Check]:
    """Wait for what comes without a fault, watch that nothing more comes, and yield what is to be said of it.

    Parameters
    ----------
    lost_once
        The PACS lost each object once after Success: it must be sent a second time.
    """
    reference = stage.references[take.piece]
    began = time.monotonic()
    came = stage.wait_for_kinds(take, reference.kinds)
    waited = f"after {time.monotonic() - began:.1f} s" if came else f"within {stage.pace.patience_s:.0f} s"
    stage.watch(take)
    yield check_kinds(stage, take, reference.kinds, waited=waited)
    yield check_cover(stage, take)
    yield check_once(stage, take, times=2 if lost_once else 1)
    yield from check_ledger(stage, take)


def check_kinds(stage: Stage, take: Take, wanted: Kinds, *, waited: str, why: str = "as without the fault") -> Check:
    """Return whether just these objects arrived, each as one SOP Instance."""
    found = stage.kinds(take)
    return Check(
        expected=f"The PACS gets {describe_kinds(wanted)}, {why}: nothing missing, nothing twice",
        seen=f"{describe_kinds(found)} {waited}",
        holds=found == wanted,
    )


def check_cover(stage: Stage, take: Take) -> Check:
    """Return whether what arrived refers to the same Instances as without the fault."""
    wanted = stage.references[take.piece].covered
    found = stage.covered(take, stage.arrived(take))
    verb = "are" if stage.expects is Expects.ORIGINALS else "refer to"
    others = f", and {len(found - wanted)} others" if found - wanted else ""
    return Check(
        expected=f"They {verb} the same {count_of(len(wanted), 'Instance')} as without the fault",
        seen=f"{len(found & wanted)} of {len(wanted)}{others}",
        holds=found == wanted,
    )


def check_once(stage: Stage, take: Take, *, times: int = 1) -> Check:
    """Return whether each object was sent until it was taken, and not again."""
    requests = stage.requests(take)
    taken = Counter(request.sop_instance_uid for request in requests if request.is_taken)
    kinds = {request.sop_instance_uid: request.sop_class_uid for request in requests}
    wrong = [f"{name_kind(kinds[uid])} taken {count} times" for uid, count in taken.items() if count != times]
    expected = "Each object is taken once, and not sent again after that"
    if times > 1:
        expected = "What the PACS lost after Success is sent a second time, and not again after that"
    return Check(
        expected=expected,
        seen=f"{count_of(len(requests), 'C-STORE request')}, {taken.total()} taken"
        + "".join(f"; {words}" for words in wrong[:NAMED_AT_MOST]),
        holds=bool(taken) and not wrong,
    )


def check_ledger(stage: Stage, take: Take) -> Iterator[Check]:
    """Yield what the ledger of a node of ours says of the Study; nothing for a node of which only DICOM is known."""
    if stage.insight is None:
        return
    deadline = time.monotonic() + LEDGER_LIMIT_S
    is_right, seen = stage.insight(take.study_instance_uid)
    while not is_right and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        is_right, seen = stage.insight(take.study_instance_uid)
    yield Check(expected="The node's own ledger says so too: nothing waits, nothing failed", seen=seen, holds=is_right)


def judge_at_the_end(stage: Stage) -> Iterator[Check]:
    """Watch the PACS once more, and yield what is to be said of all Studies together."""
    stage.rest(stage.pace.watch_s)
    late = [take for take, count in stage.seen_before() if len(stage.requests(take)) != count]
    yield Check(
        expected="Nothing more comes for any Study after its scenario",
        seen="nothing" if not late else f"something for {len(late)} of them",
        holds=not late,
    )
    known = {take.study_instance_uid for take in stage.all_takes}
    strange = [instance for instance in stage.pacs.record.received if instance.study_instance_uid not in known]
    # A node in use may send Results of its own patients here too.
    ours = [instance for instance in strange if patient_id_of(instance.path) == stage.repertoire.patient_id]
    yield Check(
        expected="Nothing came for a Study that was not sent",
        seen=f"{count_of(len(ours), 'object')}; {len(strange) - len(ours)} of other patients",
        holds=not ours,
    )
    seen = [len(stage.arrived(take)) for take in stage.all_takes]
    yield Check(
        expected="The PACS got objects at all",
        seen=f"{sum(seen)} objects for {sum(count > 0 for count in seen)} Studies",
        holds=sum(seen) > 0,
    )
