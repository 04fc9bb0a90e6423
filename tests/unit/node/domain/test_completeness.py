"""The judgement on completeness, as a table: what is known, from when on a Series counts as complete, and why."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from node.domain.completeness import (
    WHOLE_STUDY,
    Doubt,
    Evidence,
    OpenSeries,
    OpenStudy,
    Source,
    Statement,
    Terms,
    Told,
    Verdict,
    judge_study,
)
from node.domain.uids import SeriesUID
from tests.ledgers import STUDY, at

A, B = SeriesUID("1.2.3.1"), SeriesUID("1.2.3.2")
TERMS = Terms(
    heeded=frozenset(Evidence),
    after_association_s=3.0,
    while_open_s=60.0,
    belief_s=0.5,
    doubt_s=120.0,
    max_age_s=3600.0,
    sources={"CT1": Source(asked="pacs")},
)
ALONE = replace(TERMS, sources={})
NAMES = {"pacs": Told.FIND, "web": Told.QIDO, "CT1": Told.PROCEDURE_STEP, "MANAGER": Told.AVAILABILITY}


def series(uid: SeriesUID = A, *, held: int = 120, last: float = 10.0, **changes: Any) -> OpenSeries:
    """Return a Series whose last Instance came at 10 s and whose Association ended at 10 s."""
    values = {"source": "CT1", "open_associations": 0, "last_association_end": at(last), **changes}
    return OpenSeries(study_instance_uid=STUDY, series_instance_uid=uid, held=held, last_instance_at=at(last), **values)


def study(*found: OpenSeries, said: tuple[Statement, ...] = (), more: dict[SeriesUID, int] | None = None) -> OpenStudy:
    held = {one.series_instance_uid: one.held for one in found} | (more or {})
    return OpenStudy(study_instance_uid=STUDY, opened_at=at(0), series=found, held=held, statements=said)


def says(expected: int | None, uid: SeriesUID = WHOLE_STUDY, *, seen: float = 11, **changes: Any) -> Statement:
    """Return what the PACS says at 11 s, and since 1 s, when as many were here, unless told otherwise."""
    values: dict[str, Any] = {"source": "pacs", "since": at(1), "seen_at": at(seen), "held": 0, **changes}
    values.setdefault("held_first", expected or 0)
    return Statement(series_instance_uid=uid, told=NAMES[values["source"]], expected=expected, **values)


def counts(number: int, **changes: Any) -> tuple[Statement, ...]:
    """Return an answer on the Study and on its one Series."""
    return says(number, **changes), says(number, A, **changes)


def step(expected: int | None = None, *, is_final: bool = False, **changes: Any) -> tuple[Statement, ...]:
    """Return what a Performed Procedure Step says of the Study and of its one Series."""
    told = {"source": "CT1", "notice_uid": "1.9", "is_final": is_final, **changes}
    return says(None, **told), *((says(expected, A, **told),) if expected is not None else ())


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is known, and what follows for Series A."""

    what: str
    known: OpenStudy
    due: float
    evidence: Evidence
    reason: str
    terms: Terms = TERMS
    doubts: dict[SeriesUID, Doubt] = field(default_factory=dict)


NEVER = 3600.0
OPEN: dict[str, Any] = {"open_associations": 1, "last_association_end": None}
CASES = [
    Case(what="nobody says anything", known=study(series()), terms=ALONE, due=13, evidence=Evidence.ASSOCIATION_END,
         reason="every Association ended, then quiet for 3 s"),
    Case(what="one is open", known=study(series(**OPEN)), terms=ALONE, due=70, evidence=Evidence.QUIET_TIME,
         reason="quiet for 60 s while 1 Associations were open"),
    Case(what="an Instance after the end", known=study(series(last=20.0, last_association_end=at(12))), terms=ALONE,
         due=23, evidence=Evidence.ASSOCIATION_END, reason="every Association ended, then quiet for 3 s"),
    Case(what="ends are not heeded", known=study(series()), due=70, evidence=Evidence.QUIET_TIME,
         terms=replace(ALONE, heeded=frozenset({Evidence.QUIET_TIME})),
         reason="every Association ended, then quiet for 60 s"),
    Case(what="a sender that was seen to pause", known=study(series()), due=22, evidence=Evidence.LEARNED_QUIET,
         terms=replace(ALONE, learned_s={"CT1": 12.0}),
         reason="every Association ended, then quiet for 12 s, as CT1 was seen to need"),
    Case(what="what was learned is bounded", known=study(series()), due=70, evidence=Evidence.LEARNED_QUIET,
         terms=replace(ALONE, learned_s={"CT1": 500.0}),
         reason="every Association ended, then quiet for 60 s, as CT1 was seen to need"),
    Case(what="a sender with a time of its own", known=study(series()), due=11, evidence=Evidence.ASSOCIATION_END,
         terms=replace(ALONE, learned_s={"CT1": 9.0}, sources={"CT1": Source(quiet_s=1.0)}),
         reason="every Association ended, then quiet for 1 s"),
    Case(what="the PACS said it all along", known=study(series(), said=counts(120)), due=11, evidence=Evidence.COUNTS,
         reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="the PACS said it twice since", known=study(series(), said=counts(120, since=at(10.2), seen=10.8)),
         due=10.8, evidence=Evidence.COUNTS, reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="the PACS said it once: it may still receive", known=study(series(), said=counts(120, since=at(11))),
         due=130, evidence=Evidence.QUIET_TIME,
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="the PACS knew it when half of it was not here", due=10.1, evidence=Evidence.COUNTS,
         known=study(series(), said=counts(120, since=at(9.9), seen=10.1, held_first=60)),
         reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="when it said so, most was here", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(), said=counts(120, since=at(9.9), seen=10.1, held_first=61)),
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="few came since it said so: it may be just ahead", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(held=9), said=counts(9, since=at(9.9), seen=10.1, held_first=0)),
         reason="held 9 of 9 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="it knew, but had said another number before", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(), said=counts(120, since=at(9.9), seen=10.1, held_first=1, changes=1)),
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="it knew, and the Association stays open", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(**OPEN), said=counts(120, since=at(9.9), seen=10.1, held_first=1)),
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="a number that grew must rest as long as a sender", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(), said=counts(120, since=at(10), seen=11, changes=2)),
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="and has", known=study(series(), said=counts(120, since=at(10), seen=13.1, changes=2)), due=13.1,
         evidence=Evidence.COUNTS, reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="it was said before the last came", known=study(series(), said=counts(120, seen=9)), due=130,
         evidence=Evidence.QUIET_TIME,
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="whole, and the Association stays open", due=13.1, evidence=Evidence.COUNTS,
         known=study(series(**OPEN), said=counts(120, since=at(1), seen=13.1)),
         reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="whole, and just now more could come", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(**OPEN), said=counts(120, since=at(1), seen=12)),
         reason="held 120 of 120 by C-FIND at pacs, which is asked once more; then quiet for 120 s"),
    Case(what="a pause", known=study(series(held=60), said=counts(120)), due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         reason="held 60 of 120 by C-FIND at pacs, at the maximum age of 60 min"),
    Case(what="a pause, and the PACS went away", due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         known=study(series(held=60), said=counts(120, failure="destination-down")),
         reason="held 60 of 120 by C-FIND at pacs, at the maximum age of 60 min"),
    Case(what="the PACS lacks some itself", known=study(series(), said=counts(60)), due=130,
         evidence=Evidence.QUIET_TIME, reason="held 120, and only 60 by C-FIND at pacs; then quiet for 120 s"),
    Case(what="the PACS cannot be asked", due=130, evidence=Evidence.QUIET_TIME,
         known=study(series(), said=(says(None, failure="destination-down"),)),
         reason="pacs gave no answer (destination-down); then quiet for 120 s"),
    Case(what="the PACS was not asked yet", known=study(series()), due=130, evidence=Evidence.QUIET_TIME,
         reason="pacs is asked how many there are; then quiet for 120 s"),
    Case(what="a Series of which nothing came", due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         known=study(series(), said=(says(150), says(120, A), says(30, B))),
         reason="held 120 of 150 by C-FIND at pacs, at the maximum age of 60 min"),
    Case(what="such a Series from a source that chooses", due=11, evidence=Evidence.COUNTS,
         known=study(series(), said=(says(150), says(120, A), says(30, B))),
         terms=replace(TERMS, sources={"CT1": Source(asked="pacs", sends_whole_studies=False)}),
         reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="half of a list", known=study(series(held=60), said=(says(120), says(60, A))), due=NEVER,
         evidence=Evidence.MAXIMUM_AGE, reason="held 60 of 120 by C-FIND at pacs, at the maximum age of 60 min"),
    Case(what="a PACS that counts no Series", known=study(series(), said=(says(120),)), due=11,
         evidence=Evidence.COUNTS, reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="counts are not heeded", known=study(series(held=60), said=counts(120)), due=13,
         terms=replace(TERMS, heeded=frozenset({Evidence.ASSOCIATION_END})), evidence=Evidence.ASSOCIATION_END,
         reason="every Association ended, then quiet for 3 s"),
    Case(what="a step in progress", known=study(series(), said=step()), terms=ALONE, due=NEVER,
         evidence=Evidence.MAXIMUM_AGE,
         reason="the Procedure Step is in progress by MPPS at CT1, at the maximum age of 60 min"),
    Case(what="a step that is over, all here", known=study(series(**OPEN), said=step(120, is_final=True)), terms=ALONE,
         due=11, evidence=Evidence.PROCEDURE_STEP, reason="held 120 of 120 by MPPS at CT1"),
    Case(what="a step that is over before all came", known=study(series(held=60), said=step(120, is_final=True)),
         terms=ALONE, due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         reason=f"held 60 of 120 of series {A} by MPPS at CT1, at the maximum age of 60 min"),
    Case(what="a step that says more than the PACS", due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         known=study(series(held=60), said=(*counts(60), *step(120, is_final=True))),
         reason=f"held 60 of 120 of series {A} by MPPS at CT1, at the maximum age of 60 min"),
    Case(what="a step that lists no images", known=study(series(), said=step(is_final=True)), terms=ALONE, due=13,
         evidence=Evidence.ASSOCIATION_END, reason="every Association ended, then quiet for 3 s"),
    Case(what="available, of a step", terms=ALONE, due=11, evidence=Evidence.AVAILABILITY,
         known=study(series(), said=(says(120, A, source="MANAGER", notice_uid="1.9", is_final=True),)),
         reason="held 120 of 120 by Instance Availability Notification at MANAGER"),
    Case(what="available, of no step: more may be", terms=ALONE, due=14, evidence=Evidence.AVAILABILITY,
         known=study(series(), said=(says(120, A, source="MANAGER", notice_uid="1.9", since=at(11)),)),
         reason="held 120 of 120 by Instance Availability Notification at MANAGER"),
    Case(what="available, and not here", terms=ALONE, due=NEVER, evidence=Evidence.MAXIMUM_AGE,
         known=study(series(held=60), said=(says(120, A, source="MANAGER", notice_uid="1.9"),)),
         reason=f"held 60 of 120 of series {A} by Instance Availability Notification at MANAGER, "
         "at the maximum age of 60 min"),
    Case(what="a hole", known=study(series()), terms=ALONE, due=130, evidence=Evidence.QUIET_TIME,
         doubts={A: Doubt(evidence=Evidence.SLICE_GAPS, text="1 hole")}, reason="1 hole; then quiet for 120 s"),
    Case(what="a hole that the PACS has, too", known=study(series(), said=counts(120)), due=11,
         doubts={A: Doubt(evidence=Evidence.SLICE_GAPS, text="1 hole")}, evidence=Evidence.COUNTS,
         reason="held 120 of 120 by C-FIND at pacs"),
    Case(what="a hole that nobody heeds", known=study(series()), due=13, evidence=Evidence.ASSOCIATION_END,
         terms=replace(ALONE, heeded=TERMS.heeded - {Evidence.SLICE_GAPS}),
         doubts={A: Doubt(evidence=Evidence.SLICE_GAPS, text="1 hole")},
         reason="every Association ended, then quiet for 3 s"),
    Case(what="it never ends", known=study(series(last=3599.0, **OPEN)), terms=ALONE, due=NEVER,
         evidence=Evidence.MAXIMUM_AGE, reason="Instances still came, at the maximum age of 60 min"),
    Case(what="proven after the maximum age", known=study(series(last=4000.0), said=counts(120, seen=4001)),
         due=4001, evidence=Evidence.COUNTS, reason="held 120 of 120 by C-FIND at pacs"),
]  # fmt: skip


def of_a(case: Case) -> Verdict:
    verdicts = judge_study(case.known, case.terms, case.doubts)
    return next(one for one in verdicts if one.series.series_instance_uid == A)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_series_is_judged(case: Case) -> None:
    verdict = of_a(case)
    assert (verdict.due, verdict.evidence, verdict.reason) == (at(case.due), case.evidence, case.reason)


def test_what_is_known_of_one_series_is_no_reason_to_wait_with_another() -> None:
    known = study(series(), series(B, held=5, last=20.0), said=step(120, is_final=True))
    verdicts = {one.series.series_instance_uid: one for one in judge_study(known, ALONE)}
    assert verdicts[A].due == at(11)
    assert (verdicts[B].due, verdicts[B].evidence) == (at(23), Evidence.ASSOCIATION_END)


def test_that_more_is_to_come_holds_every_series_of_the_study() -> None:
    known = study(series(held=60), series(B, held=5), said=step(120, is_final=True))
    assert {one.due for one in judge_study(known, ALONE)} == {at(NEVER)}


def test_series_that_have_settled_count_as_held() -> None:
    known = study(series(), said=(says(150), says(120, A), says(30, B)), more={B: 30})
    (verdict,) = judge_study(known, TERMS)
    assert verdict.reason == "held 120 of 120 by C-FIND at pacs"


def test_everybody_without_a_table_may_have_one() -> None:
    terms = replace(TERMS, sources={"*": Source(asked="pacs"), "CT2": Source()})
    assert terms.asked_about(study(series())) == {"pacs"}
    assert terms.asked_about(study(series(source="CT2"))) == frozenset()


def test_a_study_that_ends_incomplete_is_told_apart_from_one_that_never_ends() -> None:
    (lacking,) = judge_study(study(series(held=60), said=counts(120)), TERMS)
    (restless,) = judge_study(study(series(last=3599.0)), ALONE)
    assert (lacking.is_incomplete, restless.is_incomplete) == (True, False)
