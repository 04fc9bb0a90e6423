"""What modalities and archives tell by themselves: Modality Performed Procedure Steps, Instance Availability.

Of a Procedure Step only its state is kept, and how many Instances of which Series it lists; of a notification the
latter. Nothing of the patient is.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from node.dimse.attribute_list import AttributeList, show
from node.dimse.command import N_CREATE_RQ, Reply
from node.dimse.contexts import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP
from node.dimse.services import Asked, Services
from node.domain.completeness import Told
from node.domain.uids import SeriesUID, StudyUID, check_uid
from node.errors import AttributeInvalid
from node.ledger.notices import COMPLETED, FINAL, IN_PROGRESS, Notice, NoticeLedger

SUCCESS = 0x0000
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
PERFORMED_PROCEDURE_STEP_STATUS = 0x00400252
SCHEDULED_STEP_ATTRIBUTES, PERFORMED_SERIES = 0x00400270, 0x00400340
REFERENCED_IMAGES, REFERENCED_OTHERS = 0x00081140, 0x00400220
REFERENCED_STEPS, REFERENCED_SERIES, REFERENCED_SOPS = 0x00081111, 0x00081115, 0x00081199
REFERENCED_INSTANCE, INSTANCE_AVAILABILITY = 0x00081155, 0x00080056
AVAILABILITIES = frozenset({"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"})
# Such an Instance will not come.
UNAVAILABLE = "UNAVAILABLE"


class NoticeTaker:
    """Takes Procedure Steps and notifications.

    Parameters
    ----------
    clock
        The time now (UTC).
    told
        Called after each commit; must not block.
    """

    def __init__(self, ledger: NoticeLedger, clock: Callable[[], datetime], told: Callable[[], None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._told = told

    def services(self) -> Services:
        """Return who serves which SOP Class."""
        return {
            MODALITY_PERFORMED_PROCEDURE_STEP: self.take_step,
            INSTANCE_AVAILABILITY_NOTIFICATION: self.take_availability,
        }

    def take_step(self, asked: Asked, attributes: AttributeList) -> Reply:
        """Return the answer to an N-CREATE or N-SET of a Modality Performed Procedure Step.

        Raises
        ------
        AttributeMissing, AttributeEmpty, AttributeInvalid, BadIdentifier, NoticeKnown, NoticeUnknown, NoticeFinal
            If it is refused.
        LedgerBusy
            If it could not be committed.

        References
        ----------
        DICOM PS3.4 F.7.2
        """
        if asked.request.command_field == N_CREATE_RQ:
            return self._create_step(asked, attributes)
        uid = check_uid(asked.request.sop_instance_uid, keyword="RequestedSOPInstanceUID")
        state = attributes.text(PERFORMED_PROCEDURE_STEP_STATUS) or None
        if state is not None and state not in {IN_PROGRESS, *FINAL}:
            _refuse_value(PERFORMED_PROCEDURE_STEP_STATUS, "IN PROGRESS, COMPLETED or DISCONTINUED")
        series = attributes.items(PERFORMED_SERIES)
        if state == COMPLETED and PERFORMED_SERIES in attributes:
            # Type 1 in the final state (PS3.4 table F.7.2-1); one that leaves it out has told it before.
            series = attributes.required_items(PERFORMED_SERIES)
        counts = _count_performed(series) if series else None
        self._ledger.change(uid, state=state, counts=counts, now=self._clock())
        self._told()
        return Reply(status=SUCCESS)

    def take_availability(self, asked: Asked, attributes: AttributeList) -> Reply:
        """Return the answer to an N-CREATE of an Instance Availability Notification.

        Raises
        ------
        AttributeMissing, AttributeEmpty, AttributeInvalid, BadIdentifier, NoticeKnown
            If it is refused.
        LedgerBusy
            If it could not be committed.

        References
        ----------
        DICOM PS3.4 R.3.2
        """
        study_uid = StudyUID(attributes.required_uid(STUDY_INSTANCE_UID))
        counts = {
            SeriesUID(one.required_uid(SERIES_INSTANCE_UID)): _count_available(one.required_items(REFERENCED_SOPS))
            for one in attributes.required_items(REFERENCED_SERIES)
        }
        is_of_step = bool(attributes.items(REFERENCED_STEPS))
        notice = Notice(
            sop_instance_uid=_own_uid(asked),
            sop_class_uid=asked.sop_class_uid,
            study_instance_uid=study_uid,
            told=Told.AVAILABILITY,
            source=asked.calling_aet,
            state=COMPLETED if is_of_step else "",
            counts=counts,
        )
        return self._create(notice)

    def _create_step(self, asked: Asked, attributes: AttributeList) -> Reply:
        if attributes.required_text(PERFORMED_PROCEDURE_STEP_STATUS) != IN_PROGRESS:
            _refuse_value(PERFORMED_PROCEDURE_STEP_STATUS, "IN PROGRESS when it is created (PS3.4 F.7.2.1.2)")
        scheduled = attributes.required_items(SCHEDULED_STEP_ATTRIBUTES)
        # In the group case every one names the Study that the images are of.
        study_uid = StudyUID(scheduled[0].required_uid(STUDY_INSTANCE_UID))
        series = attributes.items(PERFORMED_SERIES)
        notice = Notice(
            sop_instance_uid=_own_uid(asked),
            sop_class_uid=asked.sop_class_uid,
            study_instance_uid=study_uid,
            told=Told.PROCEDURE_STEP,
            source=asked.calling_aet,
            state=IN_PROGRESS,
            counts=_count_performed(series) if series else None,
        )
        return self._create(notice)

    def _create(self, notice: Notice) -> Reply:
        self._ledger.create(notice, now=self._clock())
        self._told()
        return Reply(status=SUCCESS, sop_instance_uid=notice.sop_instance_uid)


def _own_uid(asked: Asked) -> str:
    """Return the SOP Instance UID that a request names; where it names none, one is made for it (PS3.7 10.1.5.1.4)."""
    uid = asked.request.sop_instance_uid
    return check_uid(uid, keyword="AffectedSOPInstanceUID") if uid else f"2.25.{uuid4().int}"


def _count_performed(series: Sequence[AttributeList]) -> Mapping[SeriesUID, int]:
    """Return how many Instances a Procedure Step lists of each Series, images and others."""
    return {
        SeriesUID(one.required_uid(SERIES_INSTANCE_UID)): _count_distinct(
            [*one.items(REFERENCED_IMAGES), *one.items(REFERENCED_OTHERS)]
        )
        for one in series
    }


def _count_available(references: Sequence[AttributeList]) -> int:
    there = []
    for one in references:
        availability = one.required_text(INSTANCE_AVAILABILITY)
        if availability not in AVAILABILITIES:
            _refuse_value(INSTANCE_AVAILABILITY, ", ".join(sorted(AVAILABILITIES)))
        if availability != UNAVAILABLE:
            there.append(one)
    return _count_distinct(there)


def _count_distinct(references: Sequence[AttributeList]) -> int:
    return len({one.required_uid(REFERENCED_INSTANCE) for one in references})


def _refuse_value(tag: int, expected: str) -> None:
    raise AttributeInvalid(f"{show(tag)} must be {expected}", tag)
