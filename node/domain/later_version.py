"""An Instance that came again with other content, after somebody had read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from node.domain.job import JobID
from node.domain.uids import InstanceUID, SeriesUID, StudyUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterVersion:
    """The version of an Instance that counts now, beside the one that was read.

    Attributes
    ----------
    version_id
        Counts up in the order in which they came.
    earlier_path, path
        Where the store keeps them; the earlier one may be gone.
    came_at
        When it came.
    readers
        The Jobs that may have read the earlier version, each with its fence at that time.
    """

    version_id: int
    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID
    earlier_path: str
    path: str
    came_at: datetime
    readers: Mapping[JobID, int]
