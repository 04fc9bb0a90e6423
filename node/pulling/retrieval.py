"""One Study is fetched from a peer: what is here already is left out, the rest comes by whatever way the peer has."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from node.domain.fetch import Fetched, FetchOrder, FoundSeries, Retrieve
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import DestinationBusy, Misconfigured, NodeError, RetrieveFailed
from node.peers.command import SubOperations
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec, peer_of
from node.pulling.carrier import Carrier, Landing, Progress, Want
from node.pulling.get import STUDY_ROOT_GET, GetCarrier
from node.pulling.move import STUDY_ROOT_MOVE, MoveCarrier
from node.pulling.search import DimseSearch, Search, WebSearch, open_find
from node.pulling.wado import WadoCarrier

# What the ledger has of a Study, by Series.
Held = Mapping[SeriesUID, frozenset[InstanceUID]]
# UIDs in one request; each has 64 bytes, and some peers read no long identifier.
MAX_NAMED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be asked for.

    Attributes
    ----------
    held
        Instances of it that are here already.
    listed
        Instances that the peer has of what was ordered; None where it does not say it.
    """

    wants: tuple[Want, ...]
    held: int
    listed: int | None


class Retrieval:
    """A conversation with a peer in which Studies are fetched.

    Parameters
    ----------
    carriers
        Ways in which Instances may come, the best first.
    names_all
        Whether the Instances of a Series are to be named where none of them is here, as C-GET needs it: it must
        propose their SOP Classes.
    """

    def __init__(self, search: Search, carriers: Sequence[Carrier], *, names_all: bool) -> None:
        self._search = search
        self._carriers = list(carriers)
        self._names_all = names_all

    def fetch(self, order: FetchOrder, held: Held, progress: Progress) -> Fetched:
        """Return after what is not here came, or is not wanted any more.

        Raises
        ------
        DestinationDown, DestinationBusy, RetrieveFailed, Misconfigured
            If the peer is lost or refuses; what came until then is here.
        """
        plan = self.plan(order, held)
        for want in plan.wants:
            if not progress.is_wanted:
                break
            progress.add(self._bring(want, progress))
        came = progress.total
        return Fetched(expected=plan.listed, done=came.completed, failed=came.failed, held=plan.held)

    def plan(self, order: FetchOrder, held: Held) -> Plan:
        """Return what is to be asked for."""
        study = order.study_instance_uid
        listed = [
            one
            for one in self._search.find_series(study)
            if one.series_instance_uid in order.series or not order.series
        ]
        if not listed and not order.series and order.instances:
            # It has the Study, and lists no Series: all of it is asked for.
            return Plan(wants=(Want(study_instance_uid=study),), held=0, listed=None)
        parts = [self._plan_series(study, one, held.get(one.series_instance_uid, frozenset())) for one in listed]
        counts = [part.listed for part in parts if part.listed is not None]
        wants = tuple(want for part in parts for want in part.wants)
        return Plan(
            wants=self._join(study, wants, is_whole=not order.series and len(wants) == len(listed)),
            held=sum(part.held for part in parts),
            listed=sum(counts) if len(counts) == len(parts) else None,
        )

    def _plan_series(self, study: StudyUID, series: FoundSeries, held: frozenset[InstanceUID]) -> Plan:
        uid, count = series.series_instance_uid, series.instances
        if count is not None and 0 < count <= len(held):
            return Plan(wants=(), held=len(held), listed=len(held))
        named = self._name(study, uid) if held or self._names_all or count is None else {}
        if not named:
            whole = Want(study_instance_uid=study, series_instance_uid=uid, count=count)
            return Plan(wants=(whole,), held=0, listed=count)
        missing = {instance: sop_class for instance, sop_class in named.items() if instance not in held}
        here = len(named) - len(missing)
        if not here:
            return Plan(wants=(_want(study, uid, named, is_whole=True),), held=0, listed=len(named))
        uids = sorted(missing)
        groups = [uids[at : at + MAX_NAMED] for at in range(0, len(uids), MAX_NAMED)]
        wants = tuple(_want(study, uid, {one: missing[one] for one in group}) for group in groups)
        return Plan(wants=wants, held=here, listed=len(named))

    def _name(self, study: StudyUID, series: SeriesUID) -> Mapping[InstanceUID, str]:
        """Return the Instances of a Series; none where the peer does not name them."""
        try:
            return self._search.find_instances(study, series)
        except DestinationBusy:
            return {}

    def _join(self, study: StudyUID, wants: tuple[Want, ...], *, is_whole: bool) -> tuple[Want, ...]:
        """Return one want for many where everything of a Study is wanted, and nothing of it needs to be named."""
        if not is_whole or len(wants) < 2 or any(want.instances or want.sop_classes for want in wants):
            return wants
        counts = [want.count for want in wants if want.count is not None]
        return (Want(study_instance_uid=study, count=sum(counts) if len(counts) == len(wants) else None),)

    def _bring(self, want: Want, progress: Progress) -> SubOperations:
        """Return what came of a want; a way that is refused before anything came by it gives place to the next one."""
        refusal: NodeError | None = None
        while True:
            try:
                return self._carriers[0].bring(want, progress)
            except (Misconfigured, RetrieveFailed) as exc:
                # What the best way lacks is what a person should be told.
                refusal = refusal or exc
                if len(self._carriers) == 1 or progress.total.completed:
                    raise refusal from exc
                self._carriers.pop(0)


@contextmanager
def open_retrieval(spec: DestinationSpec, landing: Landing, *, retrieve: Retrieve) -> Iterator[Retrieval]:
    """Give a conversation with a peer in which Studies are fetched.

    Parameters
    ----------
    landing
        Where they enter, but for those that come by C-MOVE.

    Raises
    ------
    DestinationDown
        If the peer does not answer, now or later.
    Misconfigured
        If a person must change something first, such as a peer that has not the way that is set.
    """
    if spec.transport != "cstore":
        yield Retrieval(WebSearch(DicomwebService(spec)), [WadoCarrier(spec, landing)], names_all=False)
        return
    peer = peer_of(spec)
    with open_find(spec, STUDY_ROOT_MOVE, STUDY_ROOT_GET) as dialog:
        carriers: list[Carrier] = []
        if retrieve in {Retrieve.AUTO, Retrieve.MOVE} and STUDY_ROOT_MOVE in dialog.accepted:
            carriers.append(MoveCarrier(dialog, peer=str(peer), aet=peer.calling_aet))
        if retrieve in {Retrieve.AUTO, Retrieve.GET} and STUDY_ROOT_GET in dialog.accepted:
            carriers.append(GetCarrier(peer, landing))
        if not carriers:
            wanted = "C-MOVE and no C-GET" if retrieve is Retrieve.AUTO else f"C-{retrieve.value.upper()}"
            raise Misconfigured(f"{spec.name} answers no {wanted}; allow {spec.calling_aet} there")
        yield Retrieval(DimseSearch(dialog), carriers, names_all=isinstance(carriers[0], GetCarrier))


def _want(study: StudyUID, series: SeriesUID, named: Mapping[InstanceUID, str], *, is_whole: bool = False) -> Want:
    return Want(
        study_instance_uid=study,
        series_instance_uid=series,
        instances=() if is_whole else tuple(named),
        sop_classes=frozenset(filter(None, named.values())),
        count=len(named),
    )
