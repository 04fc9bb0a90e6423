"""When the newest of some Instances came to be, by what they say themselves."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

from pydicom import Dataset

# Date and time of creation, content, acquisition, Series and Study; whichever is newest counts.
PAIRS = (
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
DATE_AND_TIME = "%Y%m%d%H%M%S"
TIME_DIGITS = 6
# -1200 to +1400 (PS3.3 C.12.1.1.8), and what else is less than a day.
OFFSET = re.compile(r"[+-]([01][0-9]|2[0-3])[0-5][0-9]")


def newest_moment(datasets: Iterable[Dataset]) -> datetime:
    """Return the newest time stamp of these Instances (UTC); the beginning of 1970 where none has any.

    A stamp without a zone counts as UTC.
    """
    found = [moment for ds in datasets for moment in _moments(ds)]
    return max(found, default=UNKNOWN)


def read_zone(offset: str) -> timezone:
    """Return the zone of a Timezone Offset From UTC (0008,0201) such as ``+0100``; UTC where it is none."""
    if not OFFSET.fullmatch(offset):
        return UTC
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _moments(ds: Dataset) -> Iterable[datetime]:
    zone = read_zone(str(ds.get("TimezoneOffsetFromUTC") or ""))
    for date_keyword, time_keyword in PAIRS:
        date = str(ds.get(date_keyword) or "").strip()
        time = str(ds.get(time_keyword) or "").split(".")[0].strip()
        try:
            yield datetime.strptime(date + time.ljust(TIME_DIGITS, "0"), DATE_AND_TIME).replace(tzinfo=zone)
        except ValueError:
            continue
