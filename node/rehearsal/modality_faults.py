"""Scenarios in which the modality, or somebody who passes for one, does what it should not."""

import threading
import time
from collections.abc import Iterator

from node.errors import DestinationDown
from node.peers.association import echo
from node.peers.sender import SentFile
from node.rehearsal.judge import (
    check_answers,
    check_kinds,
    check_ledger,
    check_once,
    count_of,
    judge_results,
)
from node.rehearsal.rogue import ANSWER_LIMIT_S, break_off, loiterers, offer
from node.rehearsal.scenario import Check, Scenario
from node.rehearsal.stage import Expects, Stage
from node.rehearsal.wrongs import whole, wrongs

ASSOCIATIONS = 3
LOITERERS = 20
SHUFFLE_SEED = 1
# The times at which a late slice's Results are awaited, in those that they took without a fault.
FIRST_ANSWER_TIMES = 3.0


def _double(stage: Stage) -> Iterator[Check]:
    take = stage.take(stage.many)
    twice = [ds for ds in take.datasets for _ in range(2)]
    yield check_answers(stage.send(twice))
    stage.wait_for_kinds(take, stage.references[take.piece].kinds)
    yield check_answers(stage.send(take.datasets))
    yield from judge_results(stage, take)


def _shuffle(stage: Stage) -> Iterator[Check]:
    take = stage.take(stage.many)
    yield check_answers(stage.send(take.datasets, associations=ASSOCIATIONS, shuffle_seed=SHUFFLE_SEED))
    yield from judge_results(stage, take)


def _pause(stage: Stage) -> Iterator[Check]:
    take = stage.take(stage.many)
    middle = len(take.datasets) // 2
    early: list[int] = []
    sent: list[SentFile] = []

    def rest(file: SentFile) -> None:
        sent.append(file)
        if len(sent) == middle:
            stage.note(f"Modality: pauses for {stage.pace.pause_s:g} s, its Association open")
            threading.Event().wait(stage.pace.pause_s)
            early.append(len(stage.requests(take)))

    yield check_answers(stage.send(take.datasets, progress=rest))
    if stage.expects is Expects.RESULTS:
        yield Check(
            expected=f"Nothing leaves the node in the pause of {stage.pace.pause_s:g} s",
            seen=count_of(sum(early), "object"),
            holds=not sum(early),
        )
    yield from judge_results(stage, take)


def _come_late(stage: Stage) -> Iterator[Check]:
    take = stage.take(stage.many)
    reference = stage.references[take.piece]
    yield check_answers(stage.send(take.datasets[:-1]))
    stage.wait_for_kinds(take, reference.kinds, timeout_s=FIRST_ANSWER_TIMES * reference.seconds + stage.pace.watch_s)
    stage.watch(take)
    before = stage.arrived(take)
    stage.note(f"PACS: holds {count_of(len(before), 'object')} of the Study without its last Instance")
    yield check_answers(stage.send(take.datasets[-1:]))
    began = time.monotonic()
    # A router only sends on what came late; an AI answers once more.
    is_answered = stage.expects is Expects.RESULTS
    wanted = stage.kinds(take) + reference.kinds if is_answered else reference.kinds
    stage.wait_for_kinds(take, wanted)
    waited = f"after {time.monotonic() - began:.1f} s"
    stage.watch(take)
    known = {instance.sop_instance_uid for instance in before} if is_answered else set()
    later = [instance for instance in stage.arrived(take) if instance.sop_instance_uid not in known]
    covered = stage.covered(take, later)
    yield check_kinds(stage, take, wanted, waited=waited, why="the answer before and that after it")
    yield Check(
        expected=f"What came later belongs to all {len(reference.covered)} Instances, as without the fault",
        seen=f"{len(covered & reference.covered)} of {len(reference.covered)}",
        holds=covered == reference.covered,
    )
    yield check_once(stage, take)
    yield from check_ledger(stage, take)


def _cut(stage: Stage) -> Iterator[Check]:
    take = stage.take(stage.many)
    middle = len(take.datasets) // 2
    yield check_answers(stage.send(take.datasets[:middle]))
    break_off(stage.node, whole(take.datasets[middle]), after=0.5)
    stage.note("Modality: connection broken in the middle of an Instance")
    yield check_answers(stage.send(take.datasets))
    yield from judge_results(stage, take)


def _attack(stage: Stage) -> Iterator[Check]:
    target = stage.take(stage.single)
    for wrong in wrongs(target.datasets[0]):
        is_taken, answer = offer(stage.node, wrong, limit_s=min(stage.pace.patience_s, ANSWER_LIMIT_S))
        yield Check(expected=f"Refused: {wrong.words}", seen=answer, holds=not is_taken)
    yield _check_presence(stage)
    stage.rest(stage.pace.watch_s)
    count = len(stage.requests(target))
    yield Check(expected="Nothing comes of them", seen=f"{count_of(count, 'object')} at the PACS", holds=not count)
    take = stage.take(stage.single)
    yield check_answers(stage.send(take.datasets))
    yield from judge_results(stage, take)


def _loiter(stage: Stage) -> Iterator[Check]:
    with loiterers(stage.node, count=LOITERERS):
        yield _check_presence(stage)
        take = stage.take(stage.single)
        yield check_answers(stage.send(take.datasets))
        yield from judge_results(stage, take)


def _check_presence(stage: Stage) -> Check:
    """Return whether the node still answers."""
    began = time.monotonic()
    try:
        echo(stage.node)
    except DestinationDown as exc:
        return Check(expected="The node still answers C-ECHO", seen=str(exc), holds=False)
    seen = f"Success after {(time.monotonic() - began) * 1000:.0f} ms"
    return Check(expected="The node still answers C-ECHO", seen=seen, holds=True)


# The gentle first.
MODALITY_SCENARIOS = (
    Scenario(
        name="doubled",
        title="The same Study twice",
        story="The modality sends each Instance twice over one Association, as some do after a timeout of "
        "their own. When the answer is there, a person sends the whole Study again.",
        play=_double,
        needs_series=True,
    ),
    Scenario(
        name="shuffled",
        title="Out of order, over three Associations",
        story="The Instances arrive shuffled, over three Associations at a time, as from a PACS that forwards.",
        play=_shuffle,
        needs_series=True,
    ),
    Scenario(
        name="paused",
        title="A pause in the middle",
        story="In the middle of the Study the modality pauses, and keeps its Association open, as while a "
        "scan goes on. The node must not take the half for the whole.",
        play=_pause,
        needs_series=True,
    ),
    Scenario(
        name="late",
        title="A late Instance",
        story="The last Instance comes after the answer, on an Association of its own, as after a "
        "reconstruction. It may neither be dropped, nor may the answer stay as it is.",
        play=_come_late,
        needs_series=True,
    ),
    Scenario(
        name="cut",
        title="A connection that breaks",
        story="The connection breaks in the middle of an Instance, as when somebody pulls a cable. The "
        "modality sends the whole Study again at once.",
        play=_cut,
        needs_series=True,
    ),
    Scenario(
        name="hostile",
        title="Objects that nobody should take",
        story="Somebody sends objects with UIDs that climb out of folders or hold commands, with a command "
        "that names another Instance, with Pixel Data cut short, with random bytes. Then a right "
        "Study follows.",
        play=_attack,
    ),
    Scenario(
        name="loiterers",
        title="Connections that say nothing",
        story=f"{LOITERERS} connections are held open that are silent, say half a request, or speak HTTP, as "
        "port scanners and broken peers do. A modality must get through beside them.",
        play=_loiter,
    ),
)
