"""The Native DICOM Model: data sets in XML, to and from the DICOM JSON Model (PS3.19 A.1, PS3.18 F)."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from fastapi import Response
from pydicom.datadict import keyword_for_tag

from node.errors import NotDicom, RequestMalformed, TooComplex
from node.web.negotiation import DICOM_JSON, DICOM_XML

Model = Mapping[str, Mapping[str, Any]]

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
ROOT = "NativeDicomModel"
WHOLE_NUMBERS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
FRACTIONS = frozenset({"DS", "FD", "FL"})
NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
NAME_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# Deeper than any IOD nests, and far from Python's own limit.
MAX_DEPTH = 32
MAX_NUMBER_DIGITS = 9


class _SafeBuilder(ET.TreeBuilder):
    """Refuses what no data set needs: a document type, and the entities that it could define."""

    def doctype(self, _name: str, _pubid: str | None, _system: str | None) -> None:
        """Refuse a document type."""
        raise RequestMalformed("XML with a document type is not read; send the metadata without DOCTYPE")


def dataset_response(module: Model, *, media_type: str, status: int, headers: Mapping[str, str]) -> Response:
    """Return the response whose payload is one data set, in XML where `media_type` says so, else in JSON."""
    if media_type == DICOM_XML:
        return Response(to_xml(module), status_code=status, media_type=DICOM_XML, headers=dict(headers))
    content = json.dumps(module, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status_code=status, media_type=media_type or DICOM_JSON, headers=dict(headers))


def to_xml(model: Model) -> bytes:
    """Return a data set of the DICOM JSON Model as a Native DICOM Model.

    References
    ----------
    DICOM PS3.19 A.1.5
    """
    root = ET.Element(ROOT, {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _add_attributes(root, model)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def from_xml(content: bytes) -> Model:
    """Return the data set of a Native DICOM Model, in the DICOM JSON Model.

    Raises
    ------
    RequestMalformed
        If it is no XML, or has a document type.
    NotDicom
        If it is no Native DICOM Model, or nests too deep.
    """
    parser = ET.XMLParser(target=_SafeBuilder())  # noqa: S314 without a document type there are no entities
    try:
        parser.feed(content)
        root = parser.close()
    except (ET.ParseError, ValueError) as exc:
        raise RequestMalformed(f"a part of metadata is no XML ({type(exc).__name__}); correct the client") from exc
    if _local(root) != ROOT:
        raise NotDicom(f"a part of metadata is no {ROOT}; correct the client")
    return _attributes_of(root, depth=0)


def _add_attributes(parent: ET.Element, model: Model) -> None:
    for tag, element in sorted(model.items()):
        told = {"tag": tag, "vr": str(element["vr"])}
        if keyword := keyword_for_tag(int(tag, 16)):
            told["keyword"] = keyword
        attribute = ET.SubElement(parent, "DicomAttribute", told)
        if "BulkDataURI" in element:
            ET.SubElement(attribute, "BulkData", {"uri": str(element["BulkDataURI"])})
        elif "InlineBinary" in element:
            ET.SubElement(attribute, "InlineBinary").text = str(element["InlineBinary"])
        else:
            _add_values(attribute, str(element["vr"]), element.get("Value", ()))


def _add_values(attribute: ET.Element, vr: str, values: Sequence[Any]) -> None:
    for number, value in enumerate(values, start=1):
        place = {"number": str(number)}
        if vr == "SQ":
            _add_attributes(ET.SubElement(attribute, "Item", place), value or {})
        elif vr == "PN":
            _add_name(ET.SubElement(attribute, "PersonName", place), value or {})
        else:
            ET.SubElement(attribute, "Value", place).text = "" if value is None else str(value)


def _add_name(person: ET.Element, groups: Mapping[str, str]) -> None:
    for group in NAME_GROUPS:
        if not groups.get(group):
            continue
        shown = ET.SubElement(person, group)
        for component, text in zip(NAME_COMPONENTS, groups[group].split("^"), strict=False):
            if text:
                ET.SubElement(shown, component).text = text


def _attributes_of(parent: ET.Element, *, depth: int) -> Model:
    if depth > MAX_DEPTH:
        raise TooComplex(f"sequences of the metadata nest deeper than {MAX_DEPTH}; correct the sender")
    model: dict[str, Mapping[str, Any]] = {}
    for attribute in parent:
        tag, vr = attribute.get("tag", ""), attribute.get("vr", "")
        if _local(attribute) != "DicomAttribute" or not tag or not vr:
            raise NotDicom("the metadata holds something else than attributes with tag and vr; correct the client")
        model[tag.upper()] = {"vr": vr, **_content_of(attribute, vr, depth=depth)}
    return model


def _content_of(attribute: ET.Element, vr: str, *, depth: int) -> Mapping[str, Any]:
    children = sorted(attribute, key=_number_of)
    if not children:
        return {}
    match _local(children[0]):
        case "BulkData":
            return {"BulkDataURI": children[0].get("uri") or children[0].get("uuid") or ""}
        case "InlineBinary":
            return {"InlineBinary": "".join((children[0].text or "").split())}
        case "Item":
            return {"Value": [_attributes_of(child, depth=depth + 1) for child in children]}
        case "PersonName":
            return {"Value": [_name_of(child) for child in children]}
        case _:
            read = _reader_of(vr)
            return {"Value": [read(child.text) if child.text else None for child in children]}


def _number_of(child: ET.Element) -> int:
    text = child.get("number", "1")
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_NUMBER_DIGITS:
        raise NotDicom(f"the metadata number a value by something else than 1 to {MAX_NUMBER_DIGITS} digits")
    return int(text)


def _reader_of(vr: str) -> Callable[[str], str | int | float]:
    def read(text: str) -> str | int | float:
        try:
            if vr in WHOLE_NUMBERS:
                return int(text)
            return float(text) if vr in FRACTIONS else text
        except ValueError as exc:
            raise NotDicom(f"the metadata holds a value of {vr} that is no number; correct the sender") from exc

    return read


def _name_of(person: ET.Element) -> Mapping[str, str]:
    groups = {}
    for group in person:
        texts = {_local(component): component.text or "" for component in group}
        groups[_local(group)] = "^".join(texts.get(name, "") for name in NAME_COMPONENTS).rstrip("^")
    return groups


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
