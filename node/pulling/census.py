"""How many Instances of a Study a peer holds, Series by Series: asked by C-FIND or QIDO-RS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from node.domain.completeness import Census, Told
from node.domain.uids import SeriesUID, StudyUID
from node.errors import DestinationBusy
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec
from node.peers.query import SeriesCount, count_series, count_study
from node.pulling.search import open_find

# What people and programs add to a Study after it was acquired, and no modality sends to be read (PS3.3 C.7.3.1.1.1).
ADDED = frozenset({"ANN", "AU", "DOC", "FID", "KO", "PLAN", "PR", "REG", "RWV", "SEG", "SR"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Enquiry:
    """One conversation with a peer about what it holds.

    Attributes
    ----------
    told
        How it is asked.
    count
        Returns what the peer holds of a Study; raises DestinationDown, or DestinationBusy where it does not say it.
    """

    told: Told
    count: Callable[[StudyUID], Census]


def way_to_ask(spec: DestinationSpec) -> Told:
    """Return how a peer is asked."""
    return Told.FIND if spec.transport == "cstore" else Told.QIDO


@contextmanager
def open_enquiry(spec: DestinationSpec) -> Iterator[Enquiry]:
    """Give a conversation with a peer.

    Raises
    ------
    DestinationDown
        If it does not answer, now or later.
    Misconfigured
        If a person must change something first, such as a peer that answers no queries.
    """
    if spec.transport != "cstore":
        service = DicomwebService(spec)
        yield Enquiry(
            told=Told.QIDO,
            count=lambda uid: take_census(lambda: service.count_series(uid), lambda: service.count_study(uid)),
        )
        return
    with open_find(spec) as dialog:
        yield Enquiry(
            told=Told.FIND,
            count=lambda uid: take_census(lambda: count_series(dialog, uid), lambda: count_study(dialog, uid)),
        )


def take_census(ask_series: Callable[[], Sequence[SeriesCount]], ask_study: Callable[[], int | None]) -> Census:
    """Return what a peer holds by both levels; the higher number counts, since half of a list is no list.

    What is added to Studies later, such as reports and presentation states, is no part of what is sent.

    Raises
    ------
    DestinationBusy
        If it counts neither Series nor Studies.
    """
    found, total = ask_series(), ask_study()
    is_counted = all(one.instances is not None for one in found)
    by_series = {
        SeriesUID(one.series_instance_uid): one.instances
        for one in found
        if one.instances is not None and one.modality not in ADDED
    }
    if total is None:
        if not is_counted:
            raise DestinationBusy("the peer counts the Instances of neither Series nor Study")
        return Census(total=sum(by_series.values()), by_series=by_series)
    added = sum(one.instances or 0 for one in found if one.modality in ADDED)
    listed = sum(by_series.values())
    return Census(total=max(total - added, listed), by_series=by_series if is_counted else {})
