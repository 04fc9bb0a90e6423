"""What measurements and presences of Findings are called elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from node.domain import codes
from node.domain.codes import Code
from node.domain.finding import Presence

PRESENCE_VALUES: Mapping[Presence, Code] = MappingProxyType(
    {
        Presence.PRESENT: codes.PRESENT,
        Presence.ABSENT: codes.ABSENT,
        Presence.UNDETERMINED: codes.UNDETERMINED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a key of Finding.measurements is called elsewhere; unit as UCUM writes it."""

    code: Code
    unit: str
    shown: str


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "long_axis_mm": Measure(code=codes.LONG_AXIS, unit=codes.MILLIMETER.value, shown="mm"),
        "short_axis_mm": Measure(code=codes.SHORT_AXIS, unit=codes.MILLIMETER.value, shown="mm"),
        "volume_mm3": Measure(code=codes.VOLUME, unit=codes.CUBIC_MILLIMETER.value, shown="mm³"),
        "mean_hu": Measure(code=codes.ATTENUATION, unit=codes.HOUNSFIELD.value, shown="HU"),
    }
)
