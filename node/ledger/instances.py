"""What intake asks of the ledger: record an Instance, end an Association, tell what is known."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from node.domain.recording import Recording
from node.domain.study import FRAME_POSITIONS, Attributes, InstanceFacts, KnownInstance, Place, SeriesState
from node.domain.uids import StudyUID
from node.errors import IdentifierClash
from node.ledger.catalogue import correct_entries, enter_series
from node.ledger.engine import Desk, Engine, Question
from node.ledger.outdated import SAYS, mark_outdated
from node.ledger.placement import touch
from node.ledger.rows import add_event
from node.ledger.schema import instances, receptions, series, studies
from node.ledger.tallies import TallyName, add_tallies

OWNERS = select(
    instances.c.sop_instance_uid,
    instances.c.study_instance_uid,
    instances.c.series_instance_uid,
    instances.c.digest,
    instances.c.path,
    instances.c.attributes,
)
KNOWN = select(
    instances.c.study_instance_uid, instances.c.series_instance_uid, instances.c.digest, SAYS, instances.c.path
).where(instances.c.sop_instance_uid == bindparam("uid"))


# Between the name of the node that has an Association and the Association's own.
OF = "."
# Reason of a Study of which, after a loss of the ledger, nothing but its answers is known; see `restoration`.
RESTORED = "restored"
PURGED_BEFORE = "it was purged, and came again"
ANSWERED_BEFORE = "it was answered before the ledger was lost, and its Instances are known again"


def association_prefix(node: str) -> str:
    """Return how the ids of all Associations of a node begin."""
    return f"{node}{OF}"


class InstanceLedger(Desk):
    """Instances with the Series and Study they open.

    Parameters
    ----------
    patience_s
        How long `owner` waits for a server that is away.
    """

    def __init__(self, engine: Engine, *, patience_s: float = 0.0) -> None:
        super().__init__(engine)
        self._known = Question(engine, KNOWN, patience_s=patience_s)

    def record_instance(self, facts: InstanceFacts) -> Recording:
        """Commit one Instance whose bytes are already durable, and open its Series and Study.

        A known SOP Instance UID with the same bytes changes nothing, unless an earlier version did not read
        where its Frames lie: then its attributes are renewed, and its Study is asked again. With other bytes its row is
        replaced, and where it says something else, the Jobs that have read the earlier ones are marked.

        Raises
        ------
        IdentifierClash
            If the UID belongs to an Instance of another Study or Series, which must not be lost to this one.
        """
        with self.writing() as connection:
            batch = _Batch(connection, (facts,))
            recording = batch.take(facts)
            batch.write()
            return recording

    def record_arrivals(
        self, arrived: Sequence[InstanceFacts], ended: Sequence[tuple[str, datetime]]
    ) -> Sequence[InstanceFacts]:
        """Commit Instances and the ends of Associations in one transaction, in this order.

        Parameters
        ----------
        ended
            Association id and the time of its end.

        Returns
        -------
        clashing
            Instances that were left out, because their UID belongs to another Study or Series.
        """
        clashing = []
        with self.writing() as connection:
            batch = _Batch(connection, arrived)
            for facts in arrived:
                try:
                    batch.take(facts)
                except IdentifierClash:
                    clashing.append(facts)
            batch.write()
            for association_id, at in ended:
                _end_association(connection, association_id, at)
        return clashing

    def known(self, sop_instance_uid: str) -> KnownInstance | None:
        """Return the version of the Instance that counts, or None when it is unknown."""
        row = self._known.ask(uid=sop_instance_uid)
        return None if row is None else KnownInstance(*row)

    def find_known(self, place: Place) -> KnownInstance | None:
        """Return the version of an Instance that counts, or None when it is unknown.

        Raises
        ------
        IdentifierClash
            When the SOP Instance UID belongs to another Study or Series.
        """
        known = self.known(place.sop_instance_uid)
        if known is not None:
            require_same_series(place, known[:2])
        return known

    def known_digest(self, sop_instance_uid: str) -> str | None:
        """Return the digest of the Instance that counts, or None when it is unknown."""
        with self.reading() as connection:
            statement = select(instances.c.digest).where(instances.c.sop_instance_uid == sop_instance_uid)
            return connection.execute(statement).scalar_one_or_none()

    def known_paths(self) -> Mapping[str, int]:
        """Return the path of every Instance that counts, with the size of its file in bytes."""
        with self.reading() as connection:
            rows = connection.execute(select(instances.c.path, instances.c.size_bytes))
            return {path: size_bytes for path, size_bytes in rows}  # noqa: C416 a Row is no tuple to the type checker

    def end_association(self, association_id: str, now: datetime) -> None:
        """Note that nothing more comes over this Association."""
        with self.writing() as connection:
            _end_association(connection, association_id, now)

    def end_associations_of(self, node: str, now: datetime) -> None:
        """Note at the start of a node that the Associations of its earlier life are over; others' may go on.

        Those that bear no node's name are of an earlier version, or of no sender.
        """
        name = receptions.c.association_id
        concerned = or_(name.startswith(association_prefix(node), autoescape=True), ~name.contains(OF, autoescape=True))
        with self.writing() as connection:
            connection.execute(
                update(receptions).where(receptions.c.ended_at.is_(None), concerned).values(ended_at=now)
            )

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line of the time line, such as what a person may look for."""
        with self.writing() as connection:
            add_event(connection, at=at, kind=kind, text=text, study_instance_uid=study_instance_uid)

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        """Commit one line of the time line for so many refusals alike, and count them."""
        with self.writing() as connection:
            add_event(connection, at=at, kind=kind, text=text, study_instance_uid=study_instance_uid)
            add_tallies(connection, {(kind, code): count}, at=at)


class _Batch:
    """What one transaction records: each Instance is judged in turn, each Series opened once, rows written together."""

    def __init__(self, connection: Connection, arrived: Sequence[InstanceFacts]) -> None:
        self._connection = connection
        uids = [facts.sop_instance_uid for facts in arrived]
        rows = connection.execute(OWNERS.where(instances.c.sop_instance_uid.in_(uids))).all()
        self._known = {
            row.sop_instance_uid: (row.study_instance_uid, row.series_instance_uid, row.digest, row.path)
            for row in rows
        }
        self._told: dict[str, Attributes] = {row.sop_instance_uid: row.attributes for row in rows}
        self._renewed: list[InstanceFacts] = []
        self._new: dict[str, InstanceFacts] = {}
        self._changed: list[InstanceFacts] = []
        # The last Instance of each Series and Association.
        self._opened: dict[tuple[str, str, str], InstanceFacts] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._latest_at: datetime | None = None

    def take(self, facts: InstanceFacts) -> Recording:
        """Return what recording `facts` does; `write` does it."""
        uid = facts.sop_instance_uid
        known = self._known.get(uid)
        if known is not None:
            require_same_series(facts.place, known[:2])
        self._count(facts)
        if known is not None and known[2:] == (facts.digest, facts.path):
            self._take_more(facts)
            return Recording.SAME
        self._told[uid] = facts.attributes
        self._known[uid] = (facts.study_instance_uid, facts.series_instance_uid, facts.digest, facts.path)
        self._open(facts)
        if known is None:
            self._new[uid] = facts
            return Recording.NEW
        self._changed.append(facts)
        return Recording.CHANGED

    def write(self) -> None:
        """Write everything that was taken."""
        for facts in self._opened.values():
            _open_series(self._connection, facts)
        if self._new:
            self._connection.execute(insert(instances), [_values(facts) for facts in self._new.values()])
        for facts in self._renewed:
            self._renew(facts)
        for facts in self._changed:
            self._replace(facts)
        if self._latest_at is not None:
            add_tallies(self._connection, self._counts, at=self._latest_at)

    def _take_more(self, facts: InstanceFacts) -> None:
        """Renew what is told of Frames of which an older version kept no places; it never takes them away again."""
        if FRAME_POSITIONS in facts.attributes and FRAME_POSITIONS not in self._told[facts.sop_instance_uid]:
            self._told[facts.sop_instance_uid] = facts.attributes
            self._renewed.append(facts)
            self._open(facts)

    def _open(self, facts: InstanceFacts) -> None:
        self._opened[facts.study_instance_uid, facts.series_instance_uid, facts.association_id] = facts

    def _count(self, facts: InstanceFacts) -> None:
        """Count what its sender brought, known or not: by that it is also told when one fell silent."""
        self._counts[TallyName.INSTANCES, facts.calling_aet] += 1
        self._counts[TallyName.BYTES, facts.calling_aet] += facts.size_bytes
        self._latest_at = facts.received_at if self._latest_at is None else max(self._latest_at, facts.received_at)

    def _renew(self, facts: InstanceFacts) -> None:
        is_it = (instances.c.sop_instance_uid == facts.sop_instance_uid, instances.c.digest == facts.digest)
        self._connection.execute(update(instances).where(*is_it).values(attributes=dict(facts.attributes)))
        add_event(
            self._connection,
            at=facts.received_at,
            kind="instance-changed",
            text=f"{facts.sop_instance_uid} came again unchanged; now it is known where its Frames lie",
            study_instance_uid=facts.study_instance_uid,
        )

    def _replace(self, facts: InstanceFacts) -> None:
        is_it = instances.c.sop_instance_uid == facts.sop_instance_uid
        columns = instances.c.attributes, instances.c.digest, SAYS
        before, digest, said = self._connection.execute(select(*columns).where(is_it)).one()
        values = _values(facts)
        if digest == facts.digest:
            # The same bytes, in another place of the store.
            values["says"] = said
        self._connection.execute(update(instances).where(is_it).values(**values))
        correct_entries(self._connection, before, facts)
        is_other = said != (values["says"] or facts.digest)
        if is_other:
            mark_outdated(self._connection, facts)
        add_event(
            self._connection,
            at=facts.received_at,
            kind="instance-changed",
            text=(
                f"Instance {facts.sop_instance_uid} of Series {facts.series_instance_uid} came again "
                f"{'with other content' if is_other else 'and says the same in other bytes'}; the later version counts"
            ),
            study_instance_uid=facts.study_instance_uid,
        )


def _values(facts: InstanceFacts) -> dict[str, Any]:
    values = {field.name: getattr(facts, field.name) for field in fields(facts) if field.name != "comparison"}
    values["says"] = None if facts.comparison is None else facts.comparison.says
    # JSON takes a dict, not any Mapping.
    values["attributes"] = dict(facts.attributes)
    return values


def _end_association(connection: Connection, association_id: str, at: datetime) -> None:
    connection.execute(
        update(receptions)
        .where(receptions.c.association_id == association_id, receptions.c.ended_at.is_(None))
        .values(ended_at=at)
    )


def require_same_series(place: Place, owner: tuple[str, str]) -> None:
    """Raise IdentifierClash when the SOP Instance UID of `place` belongs to the Study and Series of an `owner` else."""
    if (place.study_instance_uid, place.series_instance_uid) != owner:
        raise IdentifierClash(
            f"SOP Instance UID {place.sop_instance_uid} of series {place.series_instance_uid} already names an "
            f"Instance of series {owner[1]}; give this one a UID of its own at the sender",
            place.study_instance_uid,
        )


def _open_series(connection: Connection, facts: InstanceFacts) -> None:
    _open_study(connection, facts)
    key = {"study_instance_uid": facts.study_instance_uid, "series_instance_uid": facts.series_instance_uid}
    opened = {"state": SeriesState.OPEN.value, "reason": "", "last_instance_at": facts.received_at}
    changed = connection.execute(
        update(series)
        .where(
            series.c.study_instance_uid == facts.study_instance_uid,
            series.c.series_instance_uid == facts.series_instance_uid,
        )
        .values(**opened)
    )
    if changed.rowcount == 0:
        connection.execute(insert(series).values(**key, **opened))
        enter_series(connection, facts)
        touch(connection, facts.study_instance_uid)
    seen = connection.execute(
        update(receptions)
        .where(
            receptions.c.association_id == facts.association_id,
            receptions.c.study_instance_uid == facts.study_instance_uid,
            receptions.c.series_instance_uid == facts.series_instance_uid,
        )
        .values(ended_at=None)
    )
    if seen.rowcount == 0:
        connection.execute(insert(receptions).values(association_id=facts.association_id, **key))


def _open_study(connection: Connection, facts: InstanceFacts) -> None:
    uid = facts.study_instance_uid
    asked = select(studies.c.state, studies.c.reason).where(studies.c.study_instance_uid == uid)
    known = connection.execute(asked).one_or_none()
    if known is None:
        connection.execute(
            insert(studies).values(
                study_instance_uid=uid,
                state=SeriesState.OPEN.value,
                reason="",
                revision=1,
                first_instance_at=facts.received_at,
                changed_at=facts.received_at,
            )
        )
        add_event(
            connection, at=facts.received_at, kind="study-opened", text="first Instance stored", study_instance_uid=uid
        )
    elif known.state != SeriesState.OPEN:
        gone = ANSWERED_BEFORE if known.reason == RESTORED else PURGED_BEFORE
        _reopen_study(connection, facts, gone if known.state == SeriesState.PURGED else None)


def _reopen_study(connection: Connection, facts: InstanceFacts, gone: str | None) -> None:
    """Open a Study again; `gone` says why nothing was here of it, None that something was."""
    uid, at = facts.study_instance_uid, facts.received_at
    values = {"state": SeriesState.OPEN.value, "revision": studies.c.revision + 1, "changed_at": at, "reason": ""}
    if gone is not None:
        # It begins anew; nothing is kept of what came earlier.
        values["first_instance_at"] = at
    connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(**values))
    kind, text = ("study-reopened", "a late Instance came") if gone is None else ("study-opened", gone)
    add_event(connection, at=at, kind=kind, text=text, study_instance_uid=uid)
