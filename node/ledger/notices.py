"""What modalities and archives tell by themselves: Performed Procedure Steps, and which Instances are available."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from node.domain.completeness import WHOLE_STUDY, Told
from node.domain.uids import SeriesUID, StudyUID
from node.errors import NoticeFinal, NoticeKnown, NoticeUnknown
from node.ledger.engine import Desk
from node.ledger.expectations import Saying, forget_strangers, say
from node.ledger.schema import expectations, notices

# What was told of Studies that never came is kept so long.
STRANGERS_KEPT = timedelta(days=90)
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
FINAL = frozenset({COMPLETED, DISCONTINUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a notification says that is kept: how many Instances of which Series there are, and nothing of the patient.

    Attributes
    ----------
    source
        AE title that tells it.
    state
        Performed Procedure Step Status (0040,0252); for an Instance Availability Notification COMPLETED where it is
        about a Procedure Step, else empty.
    counts
        Instances by Series; None where the notification has no list of them.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: StudyUID
    told: Told
    source: str
    state: str
    counts: Mapping[SeriesUID, int] | None


class NoticeLedger(Desk):
    """Notifications, and what follows from them for their Studies."""

    def create(self, notice: Notice, *, now: datetime) -> None:
        """Commit a notification that comes for the first time.

        Raises
        ------
        NoticeKnown
            If there is one of this SOP Instance UID.
        """
        with self.writing() as connection:
            uid = notice.sop_instance_uid
            known = select(notices.c.sop_instance_uid).where(notices.c.sop_instance_uid == uid)
            if connection.execute(known).first() is not None:
                raise NoticeKnown(f"{uid} was created before; create each Procedure Step or notification once")
            connection.execute(
                insert(notices).values(
                    sop_instance_uid=uid,
                    sop_class_uid=notice.sop_class_uid,
                    study_instance_uid=notice.study_instance_uid,
                    source=notice.source,
                    state=notice.state,
                    changed_at=now,
                )
            )
            _follow(connection, notice, now=now)
            forget_strangers(connection, before=now - STRANGERS_KEPT)

    def change(
        self, sop_instance_uid: str, *, state: str | None, counts: Mapping[SeriesUID, int] | None, now: datetime
    ) -> None:
        """Commit that a Procedure Step goes on or ends.

        Parameters
        ----------
        state
            None: it is not said, and stays.

        Raises
        ------
        NoticeUnknown
            If there is none of this SOP Instance UID.
        NoticeFinal
            If it is over, and may not change any more (PS3.4 F.7.2.2.2).
        """
        uid = sop_instance_uid
        with self.writing() as connection:
            statement = select(notices).where(notices.c.sop_instance_uid == uid)
            row = connection.execute(statement).mappings().one_or_none()
            if row is None:
                raise NoticeUnknown(f"{uid} was never created here; send its N-CREATE first")
            if row["state"] in FINAL:
                raise NoticeFinal(f"{uid} is {row['state']}, and may no longer be updated")
            notice = Notice(
                sop_instance_uid=uid,
                sop_class_uid=row["sop_class_uid"],
                study_instance_uid=StudyUID(row["study_instance_uid"]),
                told=Told.PROCEDURE_STEP,
                source=row["source"],
                state=state or row["state"],
                counts=counts,
            )
            values = {"state": notice.state, "changed_at": now}
            connection.execute(update(notices).where(notices.c.sop_instance_uid == uid).values(**values))
            _follow(connection, notice, now=now)


def _follow(connection: Connection, notice: Notice, *, now: datetime) -> None:
    """Write what a notification says of its Study and of each Series."""
    is_final = notice.state in FINAL
    counts = notice.counts
    if counts is None and is_final:
        counts = _counted(connection, notice)
    is_step = notice.told is Told.PROCEDURE_STEP
    # Of the whole Study nobody but the one step is spoken; others may have other Series.
    whole = {WHOLE_STUDY: None} if is_step else {}
    for series_uid, count in {**whole, **(counts or {})}.items():
        saying = Saying(
            study_instance_uid=notice.study_instance_uid,
            series_instance_uid=series_uid,
            told=notice.told,
            source=notice.source,
            notice_uid=notice.sop_instance_uid,
            expected=count,
            is_final=is_final,
        )
        say(connection, saying, now=now)


def _counted(connection: Connection, notice: Notice) -> dict[SeriesUID, int]:
    """Return what a Procedure Step listed while it was in progress."""
    rows = connection.execute(
        select(expectations.c.series_instance_uid, expectations.c.expected).where(
            expectations.c.study_instance_uid == notice.study_instance_uid,
            expectations.c.notice_uid == notice.sop_instance_uid,
            expectations.c.series_instance_uid != WHOLE_STUDY,
        )
    )
    return {SeriesUID(uid): count for uid, count in rows}
