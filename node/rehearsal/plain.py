"""Scenarios in which nothing is wrong: the connection, and three phantoms whose Results must reach the PACS."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from node.errors import DestinationDown
from node.peers.association import echo
from node.rehearsal.judge import check_answers, check_ledger, check_once
from node.rehearsal.repertoire import Piece
from node.rehearsal.scenario import Check, Scenario
from node.rehearsal.stage import Expects, Reference, Stage, describe_kinds


def plain_scenarios(pieces: tuple[Piece, ...]) -> tuple[Scenario, ...]:
    """Return what is played always, first of all."""
    return (
        Scenario(
            name="echo",
            title="The node answers",
            story="The modality asks by C-ECHO whether the node is there, under the AE titles of this rehearsal.",
            play=_ask,
            is_fault=False,
        ),
        *(
            Scenario(
                name=piece.name,
                title=f"{piece.words[0].upper()}{piece.words[1:]}",
                story=f"The modality sends {piece.words} over one Association. Nothing is wrong. What comes out "
                "is what every fault is judged by.",
                play=partial(_show, piece=piece.name),
                is_fault=False,
            )
            for piece in pieces
        ),
    )


def _ask(stage: Stage) -> Iterator[Check]:
    began = time.monotonic()
    try:
        echo(stage.node)
        holds, seen = True, f"Success after {(time.monotonic() - began) * 1000:.0f} ms"
    except DestinationDown as exc:
        holds, seen = False, str(exc)
    yield Check(expected="C-ECHO is answered with Success", seen=seen, holds=holds)


def _show(stage: Stage, *, piece: str) -> Iterator[Check]:
    """Send one phantom, and keep what comes of it as the reference."""
    take = stage.take(piece)
    yield check_answers(stage.send(take.datasets))
    began = time.monotonic()
    if stage.expects is Expects.ORIGINALS:
        is_there = stage.wait_for_kinds(take, Counter(str(ds.SOPClassUID) for ds in take.datasets))
    else:
        is_there = stage.wait_for_requests(take, 1)
    while is_there and not stage.watch(take):
        # Something more came; the last is what counts.
        pass
    seconds = time.monotonic() - began - stage.pace.watch_s
    kinds, arrived = stage.kinds(take), stage.arrived(take)
    covered = stage.covered(take, arrived)
    wanted = "every Instance" if stage.expects is Expects.ORIGINALS else "at least one Result"
    holds = len(covered) == len(take.datasets) if stage.expects is Expects.ORIGINALS else bool(kinds)
    within = f"within {stage.pace.patience_s:.0f} s"
    came = f"{describe_kinds(kinds)}, the last {seconds:.1f} s after the last Instance"
    yield Check(expected=f"The PACS gets {wanted} {within}", seen=came if kinds else f"nothing {within}", holds=holds)
    if not kinds:
        return
    yield Check(
        expected="It belongs to the Instances that were sent",
        seen=f"to {len(covered)} of {len(take.datasets)}",
        holds=bool(covered),
    )
    yield check_once(stage, take)
    yield from check_ledger(stage, take)
    stage.references[piece] = Reference(
        kinds=kinds,
        covered=covered,
        size_bytes=sum(path.stat().st_size for path in {instance.path for instance in arrived}),
        seconds=seconds,
    )
