"""Instances that came again with other content after Jobs had read them, until somebody has compared both versions."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from node.domain.later_version import LaterVersion
from node.domain.study import InstanceFacts
from node.ledger.engine import Desk
from node.ledger.outdated import find_readers, mark_outdated
from node.ledger.rows import add_event
from node.ledger.schema import jobs, later_versions


def note_later_version(connection: Connection, facts: InstanceFacts, *, earlier_path: str) -> None:
    """Note what is to be compared, in the caller's transaction; nothing where nobody has read the earlier version."""
    readers = find_readers(connection, facts)
    if not readers:
        return
    connection.execute(
        insert(later_versions).values(
            study_instance_uid=facts.study_instance_uid,
            series_instance_uid=facts.series_instance_uid,
            sop_instance_uid=facts.sop_instance_uid,
            earlier_path=earlier_path,
            path=facts.path,
            came_at=facts.received_at,
            readers=readers,
        )
    )


class LaterVersionLedger(Desk):
    """What the comparison asks, and finds."""

    def pending(self, *, limit: int) -> Sequence[LaterVersion]:
        """Return later versions that nobody has compared, the oldest first."""
        with self.reading() as connection:
            oldest = select(later_versions).order_by(later_versions.c.version_id).limit(limit)
            return [LaterVersion(**row) for row in connection.execute(oldest).mappings()]

    def let_stand(self, version: LaterVersion, *, now: datetime) -> None:
        """Commit that a later version says what was read."""
        with self.writing() as connection:
            if _take(connection, version):
                add_event(
                    connection,
                    at=now,
                    kind="instance-compared",
                    text=(
                        f"Instance {version.sop_instance_uid} of Series {version.series_instance_uid} says what it "
                        "said before; its answers stand"
                    ),
                    study_instance_uid=version.study_instance_uid,
                )

    def outdate(self, version: LaterVersion, difference: str, *, now: datetime) -> None:
        """Commit that the answers of who read the earlier version are of that one alone.

        What else came again and was read by nobody else needs no comparison any more.

        Parameters
        ----------
        difference
            What the later version does, in words: "differs from it in PatientID".
        """
        with self.writing() as connection:
            if _take(connection, version):
                mark_outdated(connection, version, difference, now=now)
                _forget_marked(connection, version)


def _take(connection: Connection, version: LaterVersion) -> bool:
    """Return whether it was still to be compared; from now on it is not."""
    taken = connection.execute(delete(later_versions).where(later_versions.c.version_id == version.version_id))
    return bool(taken.rowcount)


def _forget_marked(connection: Connection, version: LaterVersion) -> None:
    of_study = later_versions.c.study_instance_uid == version.study_instance_uid
    waiting = connection.execute(select(later_versions.c.version_id, later_versions.c.readers).where(of_study)).all()
    uids = {uid for _, readers in waiting for uid in readers}
    unmarked = select(jobs.c.job_id).where(jobs.c.job_id.in_(uids), jobs.c.outdated_at.is_(None))
    in_doubt = set(connection.execute(unmarked).scalars())
    settled = [version_id for version_id, readers in waiting if in_doubt.isdisjoint(readers)]
    connection.execute(delete(later_versions).where(later_versions.c.version_id.in_(settled)))
