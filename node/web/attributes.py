"""What searches found, in the DICOM JSON Model (PS3.18 F.2)."""

from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from node.domain.study import Attributes

Model = dict[str, dict[str, Any]]

NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
WHOLE_NUMBERS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})


def model_of(attributes: Attributes) -> Model:
    """Return attributes by keyword in the DICOM JSON Model, in the order of their tags; None is an empty value."""
    ordered = sorted((tag_for_keyword(keyword) or 0, keyword) for keyword in attributes)
    return {f"{tag:08X}": _element(keyword, attributes[keyword]) for tag, keyword in ordered}


def _element(keyword: str, value: Any) -> dict[str, Any]:
    vr = dictionary_VR(keyword)
    if value is None or value == "" or value == []:
        return {"vr": vr}
    values = value if isinstance(value, list | tuple) else [value]
    return {"vr": vr, "Value": [_value(vr, one) for one in values]}


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = zip(NAME_GROUPS, str(value).split("="), strict=False)
        return {group: text for group, text in groups if text}
    if vr in WHOLE_NUMBERS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
