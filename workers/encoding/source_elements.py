"""One element of a source header, as a Result may hold it: transcoded, and nothing that its VR forbids."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.config import IGNORE, RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName, validate_value

from node.domain.uids import check_uid
from node.errors import BadIdentifier
from workers.encoding.character_sets import REPLACEMENT, clean_text, decode_text

# Text in the Specific Character Set (PS3.5 6.1.2.3): on one line, and on several.
LINE_VRS = frozenset(("LO", "PN", "SH", "UC"))
TEXT_VRS = LINE_VRS | {"LT", "ST", "UT"}
# A malformed value of these breaks the object it is copied into.
STRICT_VRS = frozenset(("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"))
MAX_LENGTHS = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}  # characters, PS3.5 6.2
# Words for people may be cut. Identifiers and codes may not: shortened, they name somebody or something else.
WORDS = ("Description", "Meaning", "InstitutionName", "PatientComments", "AdditionalPatientHistory")
CUT = "..."
IDENTIFIERS = ("ID", "IDs", "AccessionNumber")
CODES = ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion")
NAME_PARTS = 5  # family name, given name, middle name, prefix, suffix

Text = str | PersonName


def read_terms(ds: Dataset, inherited: Sequence[str] = ()) -> Sequence[str]:
    """Return the values of Specific Character Set (0008,0005).

    Parameters
    ----------
    inherited
        Those of the Dataset that holds `ds` as an Item (PS3.5 7.5.3).
    """
    if "SpecificCharacterSet" not in ds:
        return inherited
    value = ds["SpecificCharacterSet"].value
    return [str(term) for term in ([value] if isinstance(value, str) else value or [])]


def read_text(ds: Dataset, keyword: str) -> str:
    """Return what a text element says, component groups and several values included; empty where it is absent."""
    element = read_element(ds, Tag(keyword), read_terms(ds))
    if element is None or element.value is None:
        return ""
    values = element.value if isinstance(element.value, list | MultiValue) else [element.value]
    return "\\".join(str(value) for value in values).strip()


def read_element(ds: Dataset, tag: BaseTag, terms: Sequence[str]) -> DataElement | None:
    """Return a copy of an element, or None where it is absent or its value is malformed.

    Names of persons and identifiers are never shortened. Where one value is due, several names, as of a text that a
    wrong character set splits, become one with U+FFFD between them, several words one with a slash; several
    identifiers stay several.

    Parameters
    ----------
    terms
        From `read_terms`.

    References
    ----------
    DICOM PS3.5 6.2
    """
    if tag not in ds:
        return None
    found = ds.get_item(tag)
    vr = _tell_vr(found)
    if vr in TEXT_VRS:
        return _copy_text(tag, vr, _list_texts(found, vr, terms))
    try:
        element = ds[tag]
    except (ValueError, TypeError, OverflowError, NotImplementedError):
        # Letters in a DS, three bytes in a US.
        return None
    if element.VR in STRICT_VRS and not _is_valid(element):
        return None
    return DataElement(tag, element.VR, element.value, already_converted=True)


def _tell_vr(found: DataElement | RawDataElement) -> str:
    if found.VR in (None, "UN"):
        try:
            return dictionary_VR(found.tag)
        except KeyError:
            return "UN"
    return str(found.VR)


def _list_texts(found: DataElement | RawDataElement, vr: str, terms: Sequence[str]) -> list[str]:
    """Return the values of a text element, from its bytes unless pydicom has decoded them already."""
    value = found.value
    if isinstance(value, bytes):
        decoded = decode_text(value, terms, is_name=vr == "PN")
        texts = decoded.split("\\") if vr in LINE_VRS else [decoded]
    else:
        values = value if isinstance(value, list | MultiValue) else [value]
        texts = [str(one) for one in values if one is not None]
    return [clean_text(text.rstrip(" \0"), is_one_line=vr in LINE_VRS) for text in texts]


def _copy_text(tag: BaseTag, vr: str, texts: list[str]) -> DataElement | None:
    keyword = keyword_for_tag(tag)
    if keyword in CODES and any(len(text) > MAX_LENGTHS["SH"] for text in texts):
        return None
    if len(texts) > 1 and dictionary_VM(tag) == "1" and not keyword.endswith(IDENTIFIERS):
        texts = [(REPLACEMENT if vr == "PN" else "/").join(texts)]
    if vr == "PN":
        values: list[Text] = [PersonName(_join_parts(text), validation_mode=IGNORE) for text in texts]
    else:
        values = [_cut(text, MAX_LENGTHS.get(vr)) if keyword.endswith(WORDS) else text for text in texts]
    value = values[0] if len(values) == 1 else MultiValue(lambda text: text, values) if values else ""
    return DataElement(tag, vr, value, already_converted=True)


def _join_parts(name: str) -> str:
    """Return a name with no more than five parts in each component group, the surplus in the last (PS3.5 6.2.1)."""
    if name.count("^") < NAME_PARTS:
        return name
    groups = (group.split("^", NAME_PARTS - 1) for group in name.split("="))
    return "=".join("^".join((*parts[:-1], parts[-1].replace("^", " "))) for parts in groups)


def _cut(text: str, length: int | None) -> str:
    return text if length is None or len(text) <= length else text[: length - len(CUT)] + CUT


def _is_valid(element: DataElement) -> bool:
    """Return whether a value is what its VR and the dictionary's VM say; an empty one is."""
    value = element.value
    values = value if isinstance(value, list | MultiValue) else [value]
    try:
        for one in values:
            if one is None or one == "":
                continue
            if element.VR == "UI":
                check_uid(str(one), keyword=element.keyword)
            else:
                validate_value(element.VR, str(one), RAISE)
        expected = dictionary_VM(element.tag)
    except (ValueError, BadIdentifier, KeyError):
        return False
    is_empty = value is None or len(values) == 0 or value == ""
    return is_empty or not expected.isdigit() or len(values) == int(expected)
