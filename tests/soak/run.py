"""One soak: deeds under load, load without deeds, calm, judgment."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from sqlalchemy import func, select

from node.ledger.opening import open_ledger
from node.ledger.schema import deliveries, jobs, series, studies
from node.settings.loading import load_settings
from tests.soak.deeds import Mischief, Say
from tests.soak.hospital import Hospital
from tests.soak.judgment import (
    Verdict,
    judge_answers,
    judge_delivered,
    judge_ends,
    judge_footprint,
    judge_kept,
    judge_terminal,
    read_pacs,
)
from tests.soak.sender import read_plans
from tests.soak.watch import Life, Watch
from tests.testimony import read_testimony

# Load without deeds lasts this share of the deeds; long enough for a process to be warm and then be looked at.
UNDISTURBED_SHARE, SHORTEST_UNDISTURBED_S = 0.2, 120.0
# Until the backlog is worked off.
CALM_LIMIT_S = 900.0
CALM_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a soak was, and what became of it.

    Attributes
    ----------
    seconds
        Of deeds, of load without deeds, and until everything was at its end.
    deeds
        How often each was done.
    statuses
        How often each Status other than Success was answered.
    faults
        How often the node's log has a traceback, by its last line.
    """

    seed: int
    seconds: tuple[float, float, float]
    deeds: Mapping[str, int]
    statuses: Mapping[str, int]
    faults: Mapping[str, int]
    lives: tuple[Life, ...]
    verdicts: tuple[Verdict, ...]
    has_disk: bool

    @property
    def is_held(self) -> bool:
        """Whether every promise was kept."""
        return all(verdict.is_held for verdict in self.verdicts)


def soak(folder: Path, *, seed: int, minutes: float, say: Say) -> Outcome:
    """Return what became of a node in `folder` to which deeds were done for so long."""
    with Hospital(folder, seed=seed) as hospital:
        if hospital.disk is None:
            say("no volume can be mounted here: the disk is not filled")
        watch = Watch(hospital.node)
        watch.start()
        mischief = Mischief(hospital, seed=seed, say=say)
        mischief.go_on(minutes * 60)
        mischief.make_peace()
        peace_s = watch.now_s
        undisturbed_s = max(minutes * 60 * UNDISTURBED_SHARE, SHORTEST_UNDISTURBED_S)
        say(f"load without deeds for {undisturbed_s:.0f} s")
        mischief.rest(undisturbed_s)
        end_s = watch.now_s
        calm_s = _come_to_an_end(hospital, mischief, say)
        watch.end()
        verdicts = (
            *_judge(hospital),
            judge_ends(mischief.ends),
            judge_footprint(watch.lives, peace_s, end_s),
        )
        if not all(verdict.is_held for verdict in verdicts):
            # The volume goes.
            shutil.copytree(hospital.data_dir, folder / "evidence")
        return Outcome(
            seed=seed,
            seconds=(peace_s, end_s - peace_s, calm_s),
            deeds=dict(mischief.done),
            statuses=dict(Counter(read_testimony(hospital.books).refused)),
            faults=read_faults(hospital.log),
            lives=tuple(watch.lives),
            verdicts=verdicts,
            has_disk=hospital.disk is not None,
        )


def _come_to_an_end(hospital: Hospital, mischief: Mischief, say: Say) -> float:
    """Return the seconds until the modalities had nothing more to send and the node nothing more to do."""
    begun = monotonic()
    if not hospital.end_modalities():
        say("a modality has not come to its end")
    say("the modalities are done")
    engine = open_ledger(load_settings(hospital.node.file))
    waits = [
        select(func.count()).select_from(studies).where(studies.c.state.not_in(("ROUTED", "PURGED"))),
        select(func.count()).select_from(series).where(series.c.state == "OPEN"),
        select(func.count()).select_from(jobs).where(jobs.c.state.in_(("SCHEDULED", "IN PROGRESS"))),
        select(func.count()).select_from(deliveries).where(deliveries.c.state == "PENDING"),
    ]
    quiet = 0
    while quiet < 3 and monotonic() - begun < CALM_LIMIT_S:
        mischief.rest(CALM_POLL_S)
        with engine.connect() as connection:
            open_ends = sum(connection.execute(wait).scalar_one() for wait in waits)
        missing = read_testimony(hospital.books).without_row(hospital.data_dir)
        quiet = 0 if open_ends or missing else quiet + 1
    engine.dispose()
    return monotonic() - begun


def _judge(hospital: Hospital) -> tuple[Verdict, ...]:
    plans = read_plans(hospital.books)
    arrived = read_pacs(hospital.pacs)
    stories = {str(s.study_instance_uid): s for s in hospital.node.view.list_studies(limit=10**6)}
    hospital.node.stop()
    return (
        judge_kept(read_testimony(hospital.books), hospital.data_dir),
        judge_answers(arrived, plans),
        judge_delivered(arrived, stories, hospital.data_dir),
        judge_terminal(stories, plans),
    )


def read_faults(log: Path) -> dict[str, int]:
    """Return how often a log has a traceback, by event and last line."""
    found: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if '"traceback"' in line:
            entry = json.loads(line)
            trace = entry["traceback"]
            last = trace if isinstance(trace, str) else "\n".join(map(str, trace))
            found[f"{entry['event']}: {last.strip().splitlines()[-1]}"] += 1
    return dict(found)
