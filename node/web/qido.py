"""QIDO-RS: searching for Studies, Series and Instances (PS3.18 10.6)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response

from node.domain.study import FOR_RULES, Attributes
from node.ledger.search import InstanceFound, SearchLedger, SeriesFound, StudyFound
from node.web.attributes import Model, model_of
from node.web.native import to_xml
from node.web.negotiation import DICOM_JSON, DICOM_XML, Offer, accepted_by, choose
from node.web.payload import Part, multipart_response
from node.web.places import DICOM_WEB, Reader, base_url
from node.web.query import INSTANCE_UID, SERIES_UID, STUDY_UID, Level, Query, read_query
from node.web.rights import Visitor
from node.web.services import Services
from node.web.witnessing import Witnessing

OFFERS = (Offer(name=DICOM_JSON), Offer(name="application/json"), Offer(name=DICOM_XML, is_multipart=True))
# What every answer has; empty where the Instances say nothing (PS3.18 tables 10.6.3-3 to 10.6.3-5).
STUDY_ANSWERS = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "StudyDescription",
)  # fmt: skip
SERIES_ANSWERS = (
    "Modality", "SeriesDescription", "SeriesNumber", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
)  # fmt: skip
INSTANCE_ANSWERS = ("InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames")
# Only where there are pixels.
OPTIONAL_ANSWERS = frozenset({"Rows", "Columns", "BitsAllocated", "NumberOfFrames"})
CHARACTER_SET = {"SpecificCharacterSet": "ISO_IR 192"}
MORE = "there are more; ask for the next page by offset"
BOUNDED = "the search ended before it had looked at everything; narrow it by date or Patient ID"


def router(services: Services) -> APIRouter:
    """Return the routes that search."""
    routes = APIRouter(prefix=DICOM_WEB)
    searcher = _Searcher(SearchLedger(services.engine), services.witnessing, services.pixels.streamers)

    @routes.get("/studies")
    def studies(request: Request, visitor: Reader) -> Response:
        return searcher.answer(request, visitor, Level.STUDY, {})

    @routes.get("/series")
    def series(request: Request, visitor: Reader) -> Response:
        return searcher.answer(request, visitor, Level.SERIES, {})

    @routes.get("/studies/{study}/series")
    def series_of_study(request: Request, visitor: Reader, study: str) -> Response:
        return searcher.answer(request, visitor, Level.SERIES, {STUDY_UID: study})

    @routes.get("/instances")
    def instances(request: Request, visitor: Reader) -> Response:
        return searcher.answer(request, visitor, Level.INSTANCE, {})

    @routes.get("/studies/{study}/instances")
    def instances_of_study(request: Request, visitor: Reader, study: str) -> Response:
        return searcher.answer(request, visitor, Level.INSTANCE, {STUDY_UID: study})

    @routes.get("/studies/{study}/series/{series}/instances")
    def instances_of_series(request: Request, visitor: Reader, study: str, series: str) -> Response:
        return searcher.answer(request, visitor, Level.INSTANCE, {STUDY_UID: study, SERIES_UID: series})

    return routes


class _Searcher:
    def __init__(self, ledger: SearchLedger, witnessing: Witnessing, streamers: CapacityLimiter) -> None:
        self._ledger = ledger
        self._witnessing = witnessing
        self._streamers = streamers

    def answer(self, request: Request, visitor: Visitor, level: Level, scope: Mapping[str, str]) -> Response:
        """Return what a request searches for."""
        offer = choose(accepted_by(request), OFFERS)
        query = read_query(level, request.query_params.multi_items(), scope)
        if STUDY_UID in scope:
            self._witnessing.saw(request, visitor, scope[STUDY_UID])
        else:
            self._witnessing.searched(request, visitor, query.attributes)
        models, warnings = self._find(query, _Teller(query, scope, base_url(request)))
        headers = {"Warning": ", ".join(f'299 radnode: "{text}"' for text in warnings)} if warnings else {}
        if offer.name == DICOM_XML:
            parts = [Part(media_type=DICOM_XML, content=[to_xml(model)]) for model in models]
            return multipart_response(parts, kind=DICOM_XML, streamers=self._streamers, headers=headers)
        content = json.dumps(models, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return Response(content, media_type=offer.name, headers=headers)

    def _find(self, query: Query, teller: "_Teller") -> tuple[list[Model], Sequence[str]]:
        match query.level:
            case Level.STUDY:
                studies = self._ledger.find_studies(query.search)
                return _told(teller.study, studies.found), _warnings(query, studies.has_more, studies.is_bounded)
            case Level.SERIES:
                series = self._ledger.find_series(query.search)
                return _told(teller.series, series.found), _warnings(query, series.has_more, series.is_bounded)
            case Level.INSTANCE:
                found = self._ledger.find_instances(query.search)
                return _told(teller.instance, found.found), _warnings(query, found.has_more, found.is_bounded)


def _told(tell: Callable[[Any], Model], found: Iterable[Any]) -> list[Model]:
    return [tell(one) for one in found]


def _warnings(query: Query, has_more: bool, is_bounded: bool) -> Sequence[str]:
    added = [text for text, holds in ((MORE, has_more), (BOUNDED, is_bounded)) if holds]
    if query.is_capped:
        added.append(f"a page holds at most {query.level.most}")
    return (*query.warnings, *added)


class _Teller:
    """Makes answers of what was found."""

    def __init__(self, query: Query, scope: Mapping[str, str], url: str) -> None:
        self._query = query
        self._scope = scope
        self._url = url

    def study(self, found: StudyFound) -> Model:
        """Return the answer for a Study."""
        return model_of(
            {**CHARACTER_SET, **self._of(found.attributes, STUDY_ANSWERS), **_study_counts(found)}
            | {"RetrieveURL": f"{self._url}/studies/{found.study_instance_uid}", "InstanceAvailability": "ONLINE"}
        )

    def series(self, found: SeriesFound) -> Model:
        """Return the answer for a Series, with what is said of its Study where the path does not name it."""
        return model_of(
            CHARACTER_SET
            | self._outer(found.study_attributes, STUDY_ANSWERS, STUDY_UID)
            | self._of(found.attributes, SERIES_ANSWERS)
            | {
                STUDY_UID: found.study_instance_uid,
                "NumberOfSeriesRelatedInstances": found.instances,
                "RetrieveURL": f"{self._url}/studies/{found.study_instance_uid}/series/{found.series_instance_uid}",
            }
        )

    def instance(self, found: InstanceFound) -> Model:
        """Return the answer for an Instance, with what is said of what is around it and the path does not name."""
        told = self._of(found.attributes, INSTANCE_ANSWERS)
        told = {
            keyword: value for keyword, value in told.items() if value is not None or keyword not in OPTIONAL_ANSWERS
        }
        place = f"studies/{found.study_instance_uid}/series/{found.series_instance_uid}"
        return model_of(
            CHARACTER_SET
            | self._outer(found.study_attributes, STUDY_ANSWERS, STUDY_UID)
            | self._outer(found.attributes, SERIES_ANSWERS, SERIES_UID)
            | told
            | {
                STUDY_UID: found.study_instance_uid,
                SERIES_UID: found.series_instance_uid,
                INSTANCE_UID: found.sop_instance_uid,
                "SOPClassUID": found.sop_class_uid,
                "InstanceAvailability": "ONLINE",
                "RetrieveURL": f"{self._url}/{place}/instances/{found.sop_instance_uid}",
            }
        )

    def _of(self, attributes: Attributes, always: Iterable[str]) -> dict[str, Any]:
        """Return what is always told, and what was asked for as far as it is known."""
        told = {keyword: attributes.get(keyword) for keyword in always}
        for keyword, value in attributes.items():
            if keyword in FOR_RULES:
                continue
            if (
                keyword in told
                or self._query.includes_all
                or keyword in self._query.included
                or keyword.endswith("UID")
            ):
                told[keyword] = value
        return told

    def _outer(self, attributes: Attributes, always: Iterable[str], scope: str) -> dict[str, Any]:
        if scope in self._scope and not self._query.includes_all:
            return {keyword: attributes[keyword] for keyword in self._query.included if keyword in attributes}
        return self._of(attributes, always)


def _study_counts(found: StudyFound) -> Attributes:
    return {
        "ModalitiesInStudy": list(found.modalities),
        "NumberOfStudyRelatedSeries": found.series,
        "NumberOfStudyRelatedInstances": found.instances,
    }
