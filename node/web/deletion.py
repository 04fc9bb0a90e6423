"""DELETE of a Study: the same order as `radnode studies purge`, by those who may."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from node.domain.retention import PurgeOrder
from node.domain.uids import StudyUID, check_uid
from node.site import build_gatekeeper
from node.web.places import DICOM_WEB, STUDY
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

REASON = "deleted by DICOMweb"
Deleter = Annotated[Visitor, Depends(authorize(Right.DELETE))]


def router(services: Services) -> APIRouter:
    """Return the route that deletes Studies; for Series and Instances there is none, and 405 is the answer."""
    routes, gate = APIRouter(prefix=DICOM_WEB), build_gatekeeper(services.settings, services.engine)

    @routes.delete(STUDY, status_code=HTTPStatus.NO_CONTENT)
    def delete(visitor: Deleter, study: str) -> Response:
        check_uid(study, keyword="StudyInstanceUID")
        order = PurgeOrder(study_instance_uid=StudyUID(study), ordered_by=visitor.name, reason=REASON)
        # Nothing of it can be found from then on; the node takes the files away, and tells the audit trail.
        gate.order(order, services.clock())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return routes
