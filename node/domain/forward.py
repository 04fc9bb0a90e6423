"""Forward: Series that a rule passes on to a Destination as they were received."""

from dataclasses import dataclass

from node.domain.uids import SeriesUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """The Series of one Study that go to one Destination, unchanged.

    Attributes
    ----------
    destination
        Name of the Destination in the settings.
    """

    destination: str
    series_instance_uids: tuple[SeriesUID, ...]
