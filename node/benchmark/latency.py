"""How long it takes from the last slice of a Study to its SEG and SR in the PACS: radnode beside a rival."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic

from node.benchmark.archive import Watch
from node.benchmark.contenders import NAMES, OURS, RIVAL, Contender, Ring, open_ring
from node.benchmark.invented_study import InventedStudy, StudyPress
from node.benchmark.report import Target, quantile, to_markdown
from node.benchmark.rounds import order_of
from node.clock import utc_now
from node.domain.uids import StudyUID
from node.errors import Broken
from node.ledger.opening import open_ledger
from node.ledger.views import LedgerView, StudyStory
from node.peers.sender import SentFile, send_files
from node.settings.loading import load_settings

RESULTS = frozenset({"SEG", "SR"})
P50_S, P95_S, TIMES_RIVAL = 2.0, 5.0, 0.5
# After so long somebody has failed.
LIMIT_S = 300.0
# The first two are the sender's and the PACS's; between them stand kinds of Events.
LAST_SLICE, IN_PACS = "last slice sent", "SEG and SR in the PACS"
EVENTS = {
    "study-settled": "Study complete",
    "job-scheduled": "Job ordered",
    "job-started": "Job begun",
    "job-completed": "Job done",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is sent, and how often.

    Attributes
    ----------
    slices, matrix
        Instances of each Study, and their rows and columns.
    runs
        Of each contender, in turn, after one that does not count.
    pause_s
        How long the sender of one more Study pauses in its middle; seconds; 0: there is none.
    """

    runs: int
    slices: int = 120
    matrix: int = 512
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """When the last slice of a Study was acknowledged, on the clock of this process and on that of everybody."""

    at_s: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one turn gave.

    Attributes
    ----------
    seconds
        From the response to the last C-STORE until SEG and SR were seen in the PACS.
    spans_s
        The same in parts, by what ended each; empty where nobody tells.
    work_s
        What the worker tells of its Job, by stage.
    """

    seconds: float
    spans_s: Mapping[str, float] = field(default_factory=dict)
    work_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All runs of one contender."""

    name: str
    runs: Sequence[Run]

    def quantile(self, share: float) -> float:
        """Return the seconds that `share` of all runs did not exceed."""
        return quantile(sorted(run.seconds for run in self.runs), share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What came of a Study whose sender paused in its middle.

    Attributes
    ----------
    early
        Results in the PACS before the rest was sent.
    late
        Results afterwards.
    """

    name: str
    seconds: float
    early: int
    late: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured; the pauses are empty where there were none."""

    rows: Sequence[Row]
    pauses: Sequence[Pause] = ()


def compare(contest: Contest, *, folder: Path, note: Callable[[str], None]) -> Outcome:
    """Return what each contender did, in runs in which they took turns, and then in a pause.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    Broken
        If no Results come.
    """
    note("Drawing a phantom")
    press = StudyPress(slices=contest.slices, matrix=contest.matrix)
    note("Starting everything")
    with open_ring(folder / "ring") as ring:
        rows = _take_turns(contest, ring, press, folder=folder / "study", note=note)
        pauses = []
        for contender in ring.contenders if contest.pause_s else ():
            note(f"A pause of {contest.pause_s:g} s: {contender.name}")
            pauses.append(_pause(contender, ring, press.write(folder / contender.name), contest.pause_s))
    return Outcome(rows=rows, pauses=pauses)


def describe(outcome: Outcome) -> str:
    """Return what all took, where the time of ours went, and what came of pauses, as Markdown tables."""
    rows = outcome.rows
    base_s = next(row for row in rows if row.name == RIVAL).quantile(0.5)
    header = ("SEG and SR in the PACS by", "runs", "p50 s", "p95 s", "max s", f"times {RIVAL}, p50")
    cells = [
        (
            row.name,
            str(len(row.runs)),
            *(f"{row.quantile(share):.2f}" for share in (0.5, 0.95, 1.0)),
            f"{row.quantile(0.5) / base_s:.2f}",
        )
        for row in rows
    ]
    ours = next(row for row in rows if row.name == OURS).runs
    spans = [
        *(_describe(f"… {name}", [run.spans_s[name] for run in ours]) for name in ours[0].spans_s),
        *(_describe(f"in the worker: {name}", [run.work_s[name] for run in ours]) for name in ours[0].work_s),
    ]
    where = to_markdown((f"{OURS}: from the step before until", "p50 s", "p95 s"), spans)
    tables = (to_markdown(header, cells), where, *_describe_pauses(outcome.pauses))
    return "\n\n".join(tables)


def targets(outcome: Outcome) -> Sequence[Target]:
    """Return what was promised of these figures."""
    by_name = {row.name: row for row in outcome.rows}
    ours, rival = by_name[OURS], by_name[RIVAL]
    return (
        Target(what=f"{OURS}, p50 s", measured=ours.quantile(0.5), at_most=P50_S),
        Target(what=f"{OURS}, p95 s", measured=ours.quantile(0.95), at_most=P95_S),
        Target(
            what=f"{OURS}, times {RIVAL}, p50",
            measured=ours.quantile(0.5) / rival.quantile(0.5),
            at_most=TIMES_RIVAL,
        ),
        *(
            Target(what=f"{OURS}, Results in the pause", measured=one.early, at_most=0)
            for one in outcome.pauses
            if one.name == OURS
        ),
    )


def spans_of(story: StudyStory, sent: Sent, in_pacs: datetime) -> Mapping[str, float]:
    """Return the seconds between what follows each other from the last slice to the PACS, by what ended each."""
    at = {event.kind: event.at for event in story.events if event.kind in EVENTS}
    steps = [(LAST_SLICE, sent.at), *((name, at[kind]) for kind, name in EVENTS.items()), (IN_PACS, in_pacs)]
    return {name: (ended - begun).total_seconds() for (_, begun), (name, ended) in pairwise(steps)}


def _describe(name: str, seconds: Sequence[float]) -> tuple[str, str, str]:
    ordered = sorted(seconds)
    return name, f"{quantile(ordered, 0.5):.2f}", f"{quantile(ordered, 0.95):.2f}"


def _describe_pauses(pauses: Sequence[Pause]) -> Iterator[str]:
    header = ("a pause in mid-Series", "seconds", "Results before the rest was sent", "Results after")
    if pauses:
        cells = [(one.name, f"{one.seconds:g}", str(one.early), str(one.late)) for one in pauses]
        yield to_markdown(header, cells)


def _take_turns(
    contest: Contest, ring: Ring, press: StudyPress, *, folder: Path, note: Callable[[str], None]
) -> Sequence[Row]:
    runs: dict[str, list[Run]] = {name: [] for name in NAMES}
    for number in range(contest.runs + 1):
        for contender in order_of(ring.contenders, number):
            note(f"Run {number} of {contest.runs}: {contender.name}")
            run = _run(contender, ring, press.write(folder))
            shutil.rmtree(folder)
            # The first makes everything warm.
            runs[contender.name].extend([run] if number else [])
    return [Row(name=name, runs=done) for name, done in runs.items()]


def _run(contender: Contender, ring: Ring, study: InventedStudy) -> Run:
    watch = _announce(ring, study)
    sent = _send(study.files, contender)
    _wait_for_results(watch, study, contender)
    seen = {one.modality: one.at_s for one in reversed(watch.of(study.study_instance_uid))}
    seconds = max(seen[modality] for modality in RESULTS) - sent.at_s
    contender.forget(study.study_instance_uid)
    ring.source.remove(study.study_instance_uid)
    if contender.name != OURS:
        return Run(seconds=seconds)
    story = _read_story(ring, study)
    return Run(
        seconds=seconds,
        spans_s=spans_of(story, sent, sent.at + timedelta(seconds=seconds)),
        work_s=story.jobs[0].seconds,
    )


def _pause(contender: Contender, ring: Ring, study: InventedStudy, pause_s: float) -> Pause:
    watch = _announce(ring, study)
    middle = len(study.files) // 2
    _send(study.files[:middle], contender)
    watch.wait_for(lambda: False, limit_s=pause_s)
    early = len(watch.of(study.study_instance_uid))
    _send(study.files[middle:], contender)
    watch.seen.clear()
    _wait_for_results(watch, study, contender)
    return Pause(name=contender.name, seconds=pause_s, early=early, late=len(watch.of(study.study_instance_uid)))


def _announce(ring: Ring, study: InventedStudy) -> Watch:
    """Let the source hold a Study; return a watch on the PACS from now on."""
    for header in study.headers:
        ring.source.add(header)
    return Watch(archive=ring.pacs, change=ring.pacs.newest())


def _send(files: Sequence[Path], contender: Contender) -> Sent:
    last = Sent(at_s=0.0, at=utc_now())

    def note(_file: SentFile) -> None:
        nonlocal last
        last = Sent(at_s=monotonic(), at=utc_now())

    report = send_files(files, contender.peer, progress=note)
    if report.failed:
        raise Broken(f"{contender.name} did not take {len(report.failed)} of {len(files)} slices")
    return last


def _wait_for_results(watch: Watch, study: InventedStudy, contender: Contender) -> None:
    uid = study.study_instance_uid
    if not watch.wait_for(lambda: {one.modality for one in watch.of(uid)} >= RESULTS, limit_s=LIMIT_S):
        raise Broken(f"{contender.name} did not bring SEG and SR within {LIMIT_S:g} s")


def _read_story(ring: Ring, study: InventedStudy) -> StudyStory:
    engine = open_ledger(load_settings(ring.settings))
    try:
        return LedgerView(engine).study_story(StudyUID(study.study_instance_uid))
    finally:
        engine.dispose()
