"""What became of a soak, judged from outside: the modalities' books against the store, Orthanc against both."""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydicom import Dataset, dcmread

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.header.part10 import read_part10
from node.ledger.views import StudyStory
from tests.peers import Orthanc
from tests.soak.census import Role
from tests.soak.deeds import FULL_DISK, End
from tests.soak.sender import Plan
from tests.soak.studies import ANSWERS
from tests.soak.watch import Life, Sample
from tests.testimony import Testimony, rows, stored

# After this one a service manager starts a node no more (deploy/systemd): the settings are wrong.
USAGE = 2
SENT = frozenset({DeliveryState.SENT, DeliveryState.COMMITTED})
# What the calm part of a soak may add to a process: arenas of Python's and of the C library that fill up late.
GROWTH_LIMIT_BYTES = 12 << 20
# Connections of SQLAlchemy's pool, and threads that serve an Association at that moment.
DESCRIPTOR_SLACK, THREAD_SLACK = 24, 12
# Before that, a process of the last part is not yet warm.
SHORTEST_LIFE_S = 30.0
# A promise that is broken a hundred times is told so often.
TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One promise.

    Attributes
    ----------
    figure
        What it was judged by, in words.
    wrongs
        Each case in which it was broken.
    """

    promise: str
    figure: str
    wrongs: tuple[str, ...]

    @property
    def is_held(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.wrongs


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One Instance that the PACS has.

    Attributes
    ----------
    digest
        SHA-256 of the data set.
    sources
        SOP Instance UIDs of what a report is about, without what the node wrote.
    segmentations
        Those that a report refers to.
    predecessors
        Those of the reports that it replaces.
    """

    study_instance_uid: str
    sop_instance_uid: str
    modality: str
    digest: str
    sources: frozenset[str]
    segmentations: frozenset[str]
    predecessors: frozenset[str]


def judge_kept(testimony: Testimony, data_dir: Path) -> Verdict:
    """Return whether everything that was acknowledged lies in the store, byte for byte, and nothing that is torn."""
    told, files, counting = testimony.instances, dict(stored(data_dir / "store")), rows(data_dir)
    wrongs = [f"{path} holds other bytes than were sent" for path in _torn(files, testimony)]
    acknowledged = [uid for uid, one in told.items() if one.is_acknowledged]
    for uid in acknowledged:
        if uid not in counting:
            wrongs.append(f"{uid} was acknowledged and has no row")
        elif counting[uid] not in files:
            wrongs.append(f"{uid} was acknowledged and has no file")
        elif files[counting[uid]][0] != uid or files[counting[uid]][1] not in told[uid].may_count:
            wrongs.append(f"{uid} counts with another content than was acknowledged")
    wrongs += [f"{uid} was never sent" for uid in counting.keys() - told.keys()]
    return Verdict(
        promise="no acknowledged Instance lost",
        figure=f"{testimony.kept:,} times Success for {len(acknowledged):,} Instances, all bytes compared",
        wrongs=tuple(wrongs),
    )


def _torn(files: Mapping[str, tuple[str, str]], testimony: Testimony) -> Iterator[str]:
    for path, (uid, digest) in files.items():
        told = testimony.instances.get(uid)
        if told is None or digest not in told.sent:
            yield path


def judge_terminal(stories: Mapping[str, StudyStory], plans: Mapping[str, Plan]) -> Verdict:
    """Return whether every Study that was begun has come to an end, with a reason in words."""
    wrongs: list[str] = []
    for uid, plan in plans.items():
        story = stories.get(uid)
        if story is None:
            wrongs.append(f"{uid} ({plan.kind}) is not in the ledger")
        elif not plan.is_whole:
            wrongs.append(f"{uid} ({plan.kind}) was never acknowledged as a whole")
        elif not story.is_finished:
            wrongs.append(f"{uid} ({plan.kind}) has not come to an end: {story.state}")
        else:
            wrongs += (f"{uid} ({plan.kind}) has no reason for {what}" for what in _unreasoned(story))
    jobs = [job for story in stories.values() for job in story.jobs]
    again = sum(job.attempts > 1 for job in jobs)
    ends = Counter(job.reason_code if job.state is JobState.CANCELED else "answered" for job in jobs)
    told = ", ".join(f"{count:,} {end}" for end, count in ends.most_common())
    return Verdict(
        promise="every Study terminal, with a reason in words",
        figure=f"{len(plans):,} Studies; Jobs: {told}; {again:,} were begun more than once",
        wrongs=tuple(wrongs),
    )


def _unreasoned(story: StudyStory) -> Iterator[str]:
    if not story.reason:
        yield f"its state {story.state}"
    if not story.decisions:
        yield "running nothing"
    for job in story.jobs:
        if job.state is JobState.CANCELED and not job.reason_text:
            yield f"the end of Job {job.job_id}"
    for delivery in story.deliveries:
        if delivery.state is DeliveryState.REFUSED and not delivery.reason_text:
            yield f"the end of Delivery {delivery.delivery_id}"


def read_pacs(pacs: Orthanc) -> list[Arrived]:
    """Return every Instance that Orthanc has."""
    return [_arrived(pacs.request("GET", f"/instances/{key}/file")) for key in pacs.get("/instances")]


def _arrived(content: bytes) -> Arrived:
    ds = dcmread(io.BytesIO(content), stop_before_pixels=True)
    evidence = list(_references(ds, "CurrentRequestedProcedureEvidenceSequence"))
    replaced = _references(ds, "PredecessorDocumentsSequence")
    segmentations = frozenset(one.ReferencedSOPInstanceUID for one in evidence if _is_segmentation(one))
    return Arrived(
        study_instance_uid=ds.StudyInstanceUID,
        sop_instance_uid=ds.SOPInstanceUID,
        modality=ds.Modality,
        digest=sha256(memoryview(content)[read_part10(content).data_set_offset :]).hexdigest(),
        sources=frozenset(one.ReferencedSOPInstanceUID for one in evidence) - segmentations,
        segmentations=segmentations,
        predecessors=frozenset(one.ReferencedSOPInstanceUID for one in replaced),
    )


def _references(ds: Dataset, keyword: str) -> Iterator[Dataset]:
    for study in ds.get(keyword, ()):
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def _is_segmentation(reference: Dataset) -> bool:
    return bool(reference.ReferencedSOPClassUID.name == "Segmentation Storage")


def judge_answers(arrived: Sequence[Arrived], plans: Mapping[str, Plan]) -> Verdict:
    """Return whether the PACS has one set of Results for each Study, and one for each question asked of it."""
    by_study: dict[str, list[Arrived]] = defaultdict(list)
    for one in arrived:
        by_study[one.study_instance_uid].append(one)
    wrongs = [f"{uid} came from nowhere" for uid in by_study.keys() - plans.keys()]
    counts = Counter(one.sop_instance_uid for one in arrived)
    wrongs += [f"{uid} is in the PACS {count} times" for uid, count in counts.items() if count > 1]
    for uid, plan in plans.items():
        wrongs += (f"{uid} ({plan.kind}): {wrong}" for wrong in _wrong_answers(by_study[uid], plan))
    replaced = sum(bool(one.predecessors) for one in arrived)
    return Verdict(
        promise="exactly one set of Results for each Study in the PACS",
        figure=f"{len(arrived):,} Results of {len(by_study):,} Studies; {replaced:,} reports name one they replace",
        wrongs=tuple(wrongs),
    )


def _wrong_answers(arrived: Sequence[Arrived], plan: Plan) -> Iterator[str]:
    reports = [one for one in arrived if one.modality == "SR"]
    segmentations = [one for one in arrived if one.modality == "SEG"]
    others = Counter(one.modality for one in arrived if one.modality not in ANSWERS[plan.kind])
    if others:
        yield f"Results that nobody asked for: {dict(others)}"
    questions = Counter(report.sources for report in reports)
    yield from (f"{count} reports on the same Instances" for count in questions.values() if count > 1)
    replaced = frozenset[str]().union(*(report.predecessors for report in reports))
    standing = [report for report in reports if report.sop_instance_uid not in replaced]
    if len(standing) != ANSWERS[plan.kind].count("SR"):
        yield f"{len(standing)} reports stand"
    elif standing and not plan.instances <= standing[0].sources:
        yield f"its report speaks of {len(standing[0].sources)} of {len(plan.instances)} Instances"
    meant = [uid for report in reports for uid in report.segmentations]
    if sorted(meant) != sorted(one.sop_instance_uid for one in segmentations):
        yield f"{len(segmentations)} SEG, and reports that refer to {len(meant)}"
    if "SEG" in ANSWERS[plan.kind] and standing and not standing[-1].segmentations:
        yield "its report has no SEG"


def judge_delivered(arrived: Iterable[Arrived], stories: Mapping[str, StudyStory], data_dir: Path) -> Verdict:
    """Return whether the PACS has what the ledger says that it sent, byte for byte as it lies in the store."""
    there = {one.sop_instance_uid: one.digest for one in arrived}
    sent = [one for story in stories.values() for one in story.deliveries if one.state in SENT]
    wrongs = []
    for delivery in sent:
        content = (data_dir / "store" / delivery.path).read_bytes()
        digest = sha256(memoryview(content)[read_part10(content).data_set_offset :]).hexdigest()
        if there.get(delivery.sop_instance_uid) != digest:
            found = "other bytes there" if delivery.sop_instance_uid in there else "absent there"
            wrongs.append(f"{delivery.sop_instance_uid} is {delivery.state}, and {found}")
    wrongs += [f"{uid} is there and was not sent" for uid in there.keys() - {one.sop_instance_uid for one in sent}]
    states = Counter(delivery.state for story in stories.values() for delivery in story.deliveries)
    told = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    return Verdict(
        promise="what the ledger calls sent is there, byte for byte", figure=f"Deliveries: {told}", wrongs=tuple(wrongs)
    )


def judge_ends(ends: Sequence[End]) -> Verdict:
    """Return whether the node ended by itself on a full disk only, and so that a service manager starts it again."""
    found = Counter(f"exit code {end.exit_code} beside {end.beside}" for end in ends)
    told = "; ".join(f"{count:,} times {what}" for what, count in found.most_common())
    wrongs = [
        f"ended with exit code {end.exit_code} beside {end.beside}"
        for end in ends
        if end.exit_code == USAGE or FULL_DISK not in end.beside
    ]
    return Verdict(
        promise="no hand needed to start the node", figure=told or "it never ended by itself", wrongs=tuple(wrongs)
    )


def judge_footprint(lives: Iterable[Life], begin_s: float, end_s: float) -> Verdict:
    """Return whether memory, descriptors and threads of each process stay as they are while nobody does deeds.

    Parameters
    ----------
    begin_s, end_s
        The span of the watch in which that was so; the most of its first half is held against the most of its last
        quarter: what a worker holds goes up and down with what it reads.
    """
    quarter_s = (end_s - begin_s) / 4
    wrongs: list[str] = []
    growths: dict[Role, list[int]] = {}
    for life in lives:
        before = life.between(begin_s, begin_s + 2 * quarter_s)
        after = life.between(end_s - quarter_s, end_s)
        if not before or not after or before[-1].at_s - life.samples[0].at_s < SHORTEST_LIFE_S:
            continue
        grown = max(s.pss_bytes for s in after) - max(s.pss_bytes for s in before)
        growths.setdefault(life.role, []).append(grown)
        wrongs += (f"{life.role}: {text}" for text in _grown(before, after, grown))
    told = ", ".join(f"{role} {max(grown) >> 10:+,} KiB" for role, grown in sorted(growths.items()))
    if not growths:
        wrongs.append("no process lived long enough to be judged")
    return Verdict(
        promise="memory, descriptors and threads flat",
        figure=f"over {end_s - begin_s:.0f} s of load without deeds: {told}",
        wrongs=tuple(wrongs),
    )


def _grown(before: Sequence[Sample], after: Sequence[Sample], grown_bytes: int) -> Iterator[str]:
    if grown_bytes > GROWTH_LIMIT_BYTES:
        yield f"memory grew by {grown_bytes / 2**20:.1f} MiB"
    descriptors = max(s.descriptors for s in after) - max(s.descriptors for s in before)
    if descriptors > DESCRIPTOR_SLACK:
        yield f"{descriptors} descriptors more"
    threads = max(s.threads for s in after) - max(s.threads for s in before)
    if threads > THREAD_SLACK:
        yield f"{threads} threads more"
