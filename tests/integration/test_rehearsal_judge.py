"""The judge of a rehearsal tells a good router from a bad one, by what modality and PACS see."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.rehearsal.pacs import SimulatedPacs
from node.rehearsal.repertoire import Piece, Repertoire
from node.rehearsal.scenario import Outcome, Verdict
from node.rehearsal.script import perform, write_script
from node.rehearsal.stage import Expects, Pace, Stage
from tests.phantoms import small_brain_mr, small_chest_xray
from tests.routers import Manner, router

PACE = Pace(patience_s=8.0, watch_s=0.4, outage_s=0.4, pause_s=0.5, delay_s=0.3, question_s=0.4)
PIECES = (
    Piece(name="film", words="a film", is_series=False, draw=lambda: [small_chest_xray(with_opacity=False).dataset]),
    Piece(name="head", words="a head", is_series=True, draw=lambda: small_brain_mr().flair[:6]),
)

# What is not asked of a router: it looks into nothing that it sends on, and asks nobody what became of it.
ROUTED = (
    *("shuffled", "late", "cut", "pacs-busy", "pacs-no-status"),
    *("pacs-aborts", "pacs-down", "pacs-refuses"),
)


def outcomes(
    folder: Path, manner: Manner, *only: str, patience_s: float = 8.0, watch_s: float = 0.4
) -> dict[str, Outcome]:
    """Rehearse a router and return what came of each scenario; be patient where all of it must come."""
    with SimulatedPacs(folder / "pacs") as pacs:
        peer = replace(pacs.peer, timeout_s=1.0)
        with router(folder / "inbox", peer, manner) as node:
            stage = Stage(
                node=replace(node, calling_aet="MODALITY"),
                pacs=pacs,
                repertoire=Repertoire("test", PIECES),
                pace=replace(PACE, patience_s=patience_s, watch_s=watch_s),
                expects=Expects.ORIGINALS,
            )
            script = write_script(PIECES, with_faults=bool(only), only=only)
            return {scenario.name: perform(stage, scenario) for scenario in script}


def complaints(outcome: Outcome) -> str:
    return "; ".join(f"{check.expected}: {check.seen}" for check in outcome.checks if not check.holds) + outcome.remark


def test_a_router_that_loses_nothing_passes(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Manner(), *ROUTED, patience_s=30.0)
    assert len(found) == len(ROUTED) + 4
    for name, outcome in found.items():
        assert outcome.verdict is Verdict.PASSED, f"{name}: {complaints(outcome)}"


@pytest.mark.thorough
def test_a_router_that_gives_up_after_one_failure_fails(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Manner(tries=1), "pacs-busy", patience_s=5.0)
    assert found["film"].verdict is Verdict.PASSED
    assert found["pacs-busy"].verdict is Verdict.FAILED
    assert "The PACS gets 1 Digital X-Ray Image Storage - For Presentation" in complaints(found["pacs-busy"])


@pytest.mark.thorough
def test_a_router_that_sends_everything_twice_fails(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Manner(times=2), watch_s=4.0)
    assert found["film"].verdict is Verdict.FAILED
    assert "taken 2 times" in complaints(found["film"])


@pytest.mark.thorough
def test_a_router_that_forgets_an_instance_fails(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Manner(forgets_every=3), patience_s=5.0)
    assert found["film"].verdict is Verdict.PASSED
    assert found["head"].verdict is Verdict.FAILED
    assert "every Instance" in complaints(found["head"])


@pytest.mark.thorough
def test_a_node_that_looks_into_nothing_is_found_by_objects_that_nobody_should_take(tmp_path: Path) -> None:
    outcome = outcomes(tmp_path, Manner(), "hostile", patience_s=1.5)["hostile"]
    assert outcome.verdict is Verdict.FAILED
    failed = {check.expected for check in outcome.checks if not check.holds}
    assert "Refused: a command that names another Instance than its data set" in failed
    assert "Refused: a Study Instance UID that climbs out of a folder" not in failed


@pytest.mark.thorough
def test_a_router_that_never_asks_what_the_pacs_holds_has_a_limitation(tmp_path: Path) -> None:
    outcome = outcomes(tmp_path, Manner(), "pacs-loses")["pacs-loses"]
    assert outcome.verdict is Verdict.LIMITED
    assert "it never asks" in complaints(outcome)


def test_a_node_that_is_not_there_fails_and_its_faults_are_not_played(tmp_path: Path) -> None:
    with SimulatedPacs(tmp_path / "pacs") as pacs, SimulatedPacs(tmp_path / "gone") as gone:
        nobody = gone.peer
        gone.stop()
        stage = Stage(node=nobody, pacs=pacs, repertoire=Repertoire("test", PIECES), pace=replace(PACE, patience_s=0.2))
        found = {s.name: perform(stage, s) for s in write_script(PIECES, with_faults=True)}
    verdicts = {outcome.verdict for outcome in found.values()}
    assert found["echo"].verdict is found["film"].verdict is found["at-the-end"].verdict is Verdict.FAILED
    assert found["doubled"].verdict is Verdict.NOT_PLAYED
    assert verdicts == {Verdict.FAILED, Verdict.NOT_PLAYED}
