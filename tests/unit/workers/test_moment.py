"""The newest time stamp of Instances, whatever their headers hold."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom import Dataset

from tests.analyses import put
from workers.moment import UNKNOWN, newest_moment, read_zone


def instance(**elements: Any) -> Dataset:
    ds = Dataset()
    put(ds, elements)
    return ds


@pytest.mark.parametrize(
    ("elements", "moment"),
    [
        ({"StudyDate": "20250114", "StudyTime": "093000"}, datetime(2025, 1, 14, 9, 30, tzinfo=UTC)),
        ({"StudyDate": "20250114", "StudyTime": "0930"}, datetime(2025, 1, 14, 9, 30, tzinfo=UTC)),
        ({"StudyDate": "20250114"}, datetime(2025, 1, 14, tzinfo=UTC)),
        (
            {"StudyDate": "20250114", "StudyTime": "093000.5", "TimezoneOffsetFromUTC": "+0130"},
            datetime(2025, 1, 14, 8, 0, tzinfo=UTC),
        ),
        (
            {"StudyDate": "20250114", "StudyTime": "093000", "ContentDate": "20250114", "ContentTime": "100000"},
            datetime(2025, 1, 14, 10, tzinfo=UTC),
        ),
        ({"StudyDate": "14.01.2025", "StudyTime": "093000"}, UNKNOWN),
        ({"StudyTime": "093000"}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_one_instance(elements: dict[str, str], moment: datetime) -> None:
    assert newest_moment([instance(**elements)]) == moment


def test_the_newest_of_many_whatever_their_order() -> None:
    days = [instance(StudyDate=f"202501{day}") for day in (14, 16, 15)]
    assert newest_moment(days) == newest_moment(days[::-1]) == datetime(2025, 1, 16, tzinfo=UTC)


@pytest.mark.parametrize("offset", ["", "+9999", "x0100", "+01:0", "+0160", "-2400"])
def test_an_offset_that_is_none_counts_as_utc(offset: str) -> None:
    assert read_zone(offset) is UTC
