"""Which Studies a peer holds, and what is in them: asked by C-FIND (PS3.4 C.4.1) or QIDO-RS (PS3.18 10.6)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from node.domain.fetch import FoundSeries, FoundStudy, fits
from node.domain.uids import UID_PATTERN, InstanceUID, SeriesUID, StudyUID
from node.errors import DestinationBusy, DestinationDown, Misconfigured, NotDicom
from node.peers.data_set import decode_data_set
from node.peers.dialog import Dialog
from node.peers.dicomweb import PAGE, DicomwebService
from node.peers.peer import DestinationSpec, peer_of
from node.peers.query import STUDY_ROOT_FIND, find_data_sets, read_count

# What is asked of each level, beside the UIDs above it.
STUDY_KEYS = (
    "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime",
    "AccessionNumber", "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)  # fmt: skip
SERIES_KEYS = (
    "SeriesInstanceUID", "Modality", "BodyPartExamined", "SeriesDescription", "NumberOfSeriesRelatedInstances",
)  # fmt: skip
INSTANCE_KEYS = ("SOPInstanceUID", "SOPClassUID")
UTF_8 = "ISO_IR 192"

# The values of one match by keyword; what is absent is empty.
Match = Mapping[str, tuple[str, ...]]


class Search(Protocol):
    """One conversation with a peer about what it holds.

    Each operation raises DestinationDown where the peer is lost, and DestinationBusy where it does not answer that.
    """

    def find_studies(self, query: Mapping[str, str]) -> tuple[FoundStudy, ...]:
        """Return the Studies that match; `query` has values by keyword."""

    def find_series(self, study_instance_uid: StudyUID) -> tuple[FoundSeries, ...]:
        """Return the Series of a Study."""

    def find_instances(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> Mapping[InstanceUID, str]:
        """Return the Instances of a Series, each with its SOP Class UID, which is empty where it is not told."""


@contextmanager
def open_search(spec: DestinationSpec) -> Iterator[Search]:
    """Give a conversation with a peer.

    Raises
    ------
    DestinationDown
        If it does not answer, now or later.
    Misconfigured
        If a person must change something first, such as a peer that answers no queries.
    """
    if spec.transport != "cstore":
        yield WebSearch(DicomwebService(spec))
        return
    with open_find(spec) as dialog:
        yield DimseSearch(dialog)


@contextmanager
def open_find(spec: DestinationSpec, *more: str) -> Iterator[Dialog]:
    """Give an Association in which a peer answers C-FIND; it is offered `more` beside that, by SOP Class UID.

    Raises
    ------
    DestinationDown
        If it does not answer.
    Misconfigured
        If it answers no C-FIND, at least not ours.
    """
    with Dialog(peer_of(spec), [STUDY_ROOT_FIND, *more]) as dialog:
        if STUDY_ROOT_FIND not in dialog.accepted:
            raise Misconfigured(f"{spec.name} answers no C-FIND; allow {spec.calling_aet} there, or ask another one")
        yield dialog


class DimseSearch:
    """A conversation in one Association."""

    def __init__(self, dialog: Dialog) -> None:
        self._dialog = dialog

    def find_studies(self, query: Mapping[str, str]) -> tuple[FoundStudy, ...]:
        """Return the Studies that match; see `Search.find_studies`."""
        return _to_studies(self._find("STUDY", query, STUDY_KEYS), query)

    def find_series(self, study_instance_uid: StudyUID) -> tuple[FoundSeries, ...]:
        """Return the Series of a Study; see `Search.find_series`."""
        return _to_series(self._find("SERIES", {"StudyInstanceUID": study_instance_uid}, SERIES_KEYS))

    def find_instances(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> Mapping[InstanceUID, str]:
        """Return the Instances of a Series; see `Search.find_instances`."""
        above = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid}
        return _to_instances(self._find("IMAGE", above, INSTANCE_KEYS))

    def _find(self, level: str, query: Mapping[str, str], keys: Sequence[str]) -> list[Match]:
        identifier = make_identifier({"QueryRetrieveLevel": level, **dict.fromkeys(keys, ""), **query})
        return [_read(encoded) for encoded in find_data_sets(self._dialog, STUDY_ROOT_FIND, identifier)]


class WebSearch:
    """A conversation by QIDO-RS."""

    def __init__(self, service: DicomwebService) -> None:
        self._service = service

    def find_studies(self, query: Mapping[str, str]) -> tuple[FoundStudy, ...]:
        """Return the Studies that match; see `Search.find_studies`."""
        tags = [_tag(keyword) for keyword in STUDY_KEYS]
        found: list[Match] = []
        # A list of values is none in QIDO-RS, but of UIDs.
        for modality in query.get("ModalitiesInStudy", "").split("\\"):
            asked = {keyword: value for keyword, value in {**query, "ModalitiesInStudy": modality}.items() if value}
            found += self._service.search(partial(_ask_studies, asked, tags), key=_tag("StudyInstanceUID"))
        return _to_studies([_by_keyword(match, STUDY_KEYS) for match in found], query)

    def find_series(self, study_instance_uid: StudyUID) -> tuple[FoundSeries, ...]:
        """Return the Series of a Study; see `Search.find_series`."""
        tags = [_tag(keyword) for keyword in SERIES_KEYS]
        found = self._service.search(
            lambda client, at: client.search_for_series(study_instance_uid, fields=tags, limit=PAGE, offset=at),
            key=_tag("SeriesInstanceUID"),
        )
        return _to_series([_by_keyword(match, SERIES_KEYS) for match in found])

    def find_instances(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> Mapping[InstanceUID, str]:
        """Return the Instances of a Series; see `Search.find_instances`."""
        found = self._service.search(
            lambda client, at: client.search_for_instances(
                study_instance_uid, series_instance_uid, limit=PAGE, offset=at
            ),
            key=_tag("SOPInstanceUID"),
        )
        return _to_instances([_by_keyword(match, INSTANCE_KEYS) for match in found])


def make_identifier(values: Mapping[str, str]) -> Dataset:
    """Return what a peer is asked; values by keyword, several of one between backslashes, empty ones are told only.

    A range is no date and a wildcard no UID, so nothing is checked here.
    """
    ds = Dataset()
    for keyword, value in {"SpecificCharacterSet": UTF_8, **values}.items():
        tag = tag_for_keyword(keyword)
        if tag is not None:
            ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    return ds


def _ask_studies(asked: Mapping[str, str], tags: Sequence[str], client: Any, at: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.search_for_studies(
        search_filters=dict(asked), fields=list(tags), limit=PAGE, offset=at
    )
    return found


def _read(encoded: bytes) -> Match:
    try:
        ds = decode_data_set(encoded)
        return {element.keyword: _texts(element.value) for element in ds if element.VR != "SQ"}
    except (NotDicom, ValueError, LookupError) as exc:
        raise DestinationDown("a match of a C-FIND cannot be read") from exc


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, MultiValue) else [value]
    return tuple(str(one).strip("\0 ") for one in values if one is not None)


def _by_keyword(match: Mapping[str, tuple[str, ...]], keywords: Sequence[str]) -> Match:
    return {keyword: match.get(_tag(keyword), ()) for keyword in keywords}


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"


def _first(match: Match, keyword: str) -> str:
    return next(iter(match.get(keyword, ())), "")


def _to_studies(matches: Sequence[Match], query: Mapping[str, str]) -> tuple[FoundStudy, ...]:
    found = [
        FoundStudy(
            study_instance_uid=StudyUID(_first(match, "StudyInstanceUID")),
            patient_id=_first(match, "PatientID"),
            issuer=_first(match, "IssuerOfPatientID"),
            birth_date=_first(match, "PatientBirthDate"),
            study_date=_first(match, "StudyDate"),
            study_time=_first(match, "StudyTime"),
            accession_number=_first(match, "AccessionNumber"),
            description=_first(match, "StudyDescription"),
            modalities=tuple(filter(None, match.get("ModalitiesInStudy", ()))),
            series=read_count(_first(match, "NumberOfStudyRelatedSeries")),
            instances=read_count(_first(match, "NumberOfStudyRelatedInstances")),
        )
        for match in matches
    ]
    # A UID that is none could be asked for, and never come.
    known = {study.study_instance_uid: study for study in found if UID_PATTERN.match(study.study_instance_uid)}
    return tuple(study for study in known.values() if fits(study, query))


def _to_series(matches: Sequence[Match]) -> tuple[FoundSeries, ...]:
    found = [
        FoundSeries(
            series_instance_uid=SeriesUID(_first(match, "SeriesInstanceUID")),
            modality=_first(match, "Modality"),
            body_part=_first(match, "BodyPartExamined"),
            description=_first(match, "SeriesDescription"),
            instances=read_count(_first(match, "NumberOfSeriesRelatedInstances")),
        )
        for match in matches
    ]
    return tuple({one.series_instance_uid: one for one in found if one.series_instance_uid}.values())


def _to_instances(matches: Sequence[Match]) -> Mapping[InstanceUID, str]:
    pairs = {InstanceUID(_first(match, "SOPInstanceUID")): _first(match, "SOPClassUID") for match in matches}
    if matches and not any(pairs):
        raise DestinationBusy("the peer does not name the Instances of a Series")
    return {uid: sop_class for uid, sop_class in pairs.items() if uid}
