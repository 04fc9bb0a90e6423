"""The main job, shown: simulated modality → node → worker → simulated PACS, in one process tree."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread

from node.app import NodeApp
from node.domain.job import JobState
from node.domain.result import OptionalResult, ResultKind
from node.domain.uids import StudyUID
from node.errors import DestinationDown, NotFound
from node.ledger.views import StudyStory
from node.peers.peer import Peer
from node.peers.sender import find_files
from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from node.rehearsal.record import PacsRecord
from node.rehearsal.truth import Verdict, judge_label, judge_lesion, judge_nodules
from node.settings.peers import DestinationSettings
from node.settings.whole import Settings
from node.web.host import url_of

STUDY_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.1
QUIET_SECONDS = 1.0
PACS_AET = "PACS"
# The order of the time line, and what each stage is called.
STAGES = (
    ("receive and settle", "study-opened", "study-settled"),
    ("route and wait", "study-settled", "job-started"),
    ("run", "job-started", "job-completed"),
    ("deliver", "job-completed", "delivery-sent"),
)

Judge = Callable[[StudyStory, Mapping[ResultKind, Path]], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One Study to send.

    Attributes
    ----------
    name
        Used for file names, and shown.
    make
        Returns what to send, and the judge that knows the truth; None where nobody does.
    """

    name: str
    make: Callable[[], tuple[Sequence[Path | Dataset], Judge | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one Study.

    Attributes
    ----------
    seconds
        By stage, s.
    verdict
        Against the phantom's truth; None without one.
    picture
        PNG of what was found; None when the PACS received no picture.
    """

    name: str
    story: StudyStory
    seconds: Mapping[str, float]
    verdict: Verdict | None
    picture: Path | None

    @property
    def is_right(self) -> bool:
        """True when every Job completed, every Result arrived, and the findings are true."""
        jobs_done = bool(self.story.jobs) and all(job.state is JobState.COMPLETED for job in self.story.jobs)
        arrived = bool(self.story.deliveries) and all(d.state.has_arrived for d in self.story.deliveries)
        return jobs_done and arrived and (self.verdict is None or self.verdict.is_true)


class Demonstration:
    """A node between a simulated modality and a simulated PACS; a context manager.

    Parameters
    ----------
    settings
        The node's; ports, Destination and quiet time are replaced.
    out
        Folder for what the PACS receives, and one picture a Study.
    with_web
        Whether people can look at it in the console.
    """

    def __init__(self, settings: Settings, out: Path, *, with_web: bool = False) -> None:
        self._out = out
        self._pacs = SimulatedPacs(out, aet=PACS_AET)
        self._pacs.start()
        self._settings = demonstration_settings(settings, self._pacs.peer, with_web=with_web)
        self._app = NodeApp(self._settings)
        self._peer: Peer | None = None

    def __enter__(self) -> "Demonstration":
        host, port = self._app.start()
        self._peer = Peer(aet=self._settings.node.aet, host=host, port=port)
        return self

    def __exit__(self, *_: object) -> None:
        self._app.stop()
        self._pacs.stop()

    @property
    def peer(self) -> Peer:
        """Where the node receives DICOM."""
        if self._peer is None:
            raise NotFound("the demonstration is not running; enter it first")
        return self._peer

    def open_console(self) -> str:
        """Return the one-time link by which a person makes an account and sees the console."""
        return f"{url_of(self._settings.web)}/welcome/{self._app.first_link()}"

    def play(self, case: Case) -> list[Outcome]:
        """Send one case and wait until the PACS has its Results; one outcome a Study.

        Raises
        ------
        DestinationDown
            If the node does not take an Instance, or a Study does not finish in time.
        """
        sources, judge = case.make()
        lost = send(sources, self.peer).failed
        if lost:
            raise DestinationDown(f"{case.name}: the node refused {len(lost)} Instances ({lost[0].outcome.code})")
        uids = sorted({_study_uid(source) for source in sources})
        return [self._await_study(case.name, uid, judge) for uid in uids]

    def _await_study(self, name: str, uid: StudyUID, judge: Judge | None) -> Outcome:
        if not wait_until(lambda: self._is_finished(uid), timeout_s=STUDY_TIMEOUT_S):
            raise DestinationDown(f"{name}: not finished within {STUDY_TIMEOUT_S:.0f} s; see node.log")
        story = self._app.view.study_story(uid)
        files = received_results(self._pacs.record, story)
        picture = self._draw(name, files)
        verdict = judge(story, files) if judge is not None else None
        return Outcome(name=name, story=story, seconds=stage_seconds(story), verdict=verdict, picture=picture)

    def _is_finished(self, uid: StudyUID) -> bool:
        try:
            return self._app.view.study_story(uid).is_finished
        except NotFound:
            # The row follows the answer to the sender by a moment.
            return False

    def _draw(self, name: str, files: Mapping[ResultKind, Path]) -> Path | None:
        if ResultKind.SC not in files:
            return None
        target = self._out / f"{name}.png"
        Image.fromarray(dcmread(files[ResultKind.SC]).pixel_array).save(target)
        return target


def demonstration_settings(settings: Settings, pacs: Peer, *, with_web: bool = False) -> Settings:
    """Return `settings` with a free port for DICOM, the simulated PACS as only Destination, every picture drawn."""
    destination = DestinationSettings(transport="cstore", aet=pacs.aet, host=pacs.host, port=pacs.port)
    changes: dict[str, Any] = {
        "node": settings.node.model_copy(update={"port": 0}),
        "web": settings.web if with_web else settings.web.model_copy(update={"port": 0}),
        "assembly": settings.assembly.model_copy(update={"quiet_seconds": QUIET_SECONDS}),
        "destinations": {"pacs": destination},
        "pipelines": {
            name: entry.model_copy(update={"optional_results": (OptionalResult.PICTURE,)})
            for name, entry in settings.pipelines.items()
        },
    }
    return settings.model_copy(update=changes)


def phantom_cases() -> tuple[Case, ...]:
    """Return one Study for each shipped Pipeline, with its truth."""
    return (
        Case(name="ct-chest", make=_make_ct),
        Case(name="mr-brain", make=_make_mr),
        Case(name="chest-xray", make=_make_xray),
    )


def folder_case(folder: Path) -> Case:
    """Return a case that sends every DICOM file of `folder`; nobody knows its truth."""
    return Case(name=folder.name, make=lambda: (find_files([folder]), None))


def wait_until(holds: Callable[[], bool], *, timeout_s: float) -> bool:
    """Return True as soon as `holds()`, False when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def received_results(record: PacsRecord, story: StudyStory) -> dict[ResultKind, Path]:
    """Return the files in which the PACS keeps the Results of one Study."""
    paths = {instance.sop_instance_uid: instance.path for instance in record.received}
    return {r.kind: paths[r.sop_instance_uid] for r in story.results if r.sop_instance_uid in paths}


def stage_seconds(story: StudyStory) -> dict[str, float]:
    """Return seconds by stage, from the time line of the ledger."""
    last: dict[str, datetime] = {event.kind: event.at for event in story.events}
    return {
        stage: (last[end] - last[begin]).total_seconds()
        for stage, begin, end in STAGES
        if begin in last and end in last
    }


def _study_uid(source: Path | Dataset) -> StudyUID:
    ds = dcmread(source, specific_tags=["StudyInstanceUID"]) if isinstance(source, Path) else source
    return StudyUID(ds.StudyInstanceUID)


def _findings(story: StudyStory) -> list[Mapping[str, Any]]:
    return [finding for job in story.jobs for finding in job.findings]


def _make_ct() -> tuple[Sequence[Dataset], Judge]:
    phantom = chest_ct()
    centers = [nodule.center_mm for nodule in phantom.nodules]
    return phantom.datasets, lambda story, _files: judge_nodules(_findings(story), centers)


def _make_mr() -> tuple[Sequence[Dataset], Judge]:
    phantom = brain_mr()
    lesion = None if phantom.lesion is None else phantom.lesion.mask.astype(np.bool_)
    return phantom.datasets, lambda _story, files: judge_lesion(files.get(ResultKind.SEG), phantom.flair, lesion)


def _make_xray() -> tuple[Sequence[Dataset], Judge]:
    phantom = chest_xray()
    abnormal = phantom.has_opacity
    return [phantom.dataset], lambda story, _files: judge_label(_findings(story), is_abnormal=abnormal)
