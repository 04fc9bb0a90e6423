"""UPS-RS: workitems are created, looked at, performed, canceled and searched over HTTP (PS3.18 11.4 to 11.12)."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response

from node.destinations import workitem_premises
from node.domain import workitem as ups
from node.domain.uids import check_uid
from node.domain.workitem import DataSet, text_of
from node.errors import (
    AttributeInvalid,
    NodeError,
    NotFound,
    PerformerUnreachable,
    RequestMalformed,
    TransactionWrong,
    WorkitemCompleted,
    WorkitemFinal,
    WorkitemRefused,
)
from node.ledger.subscriptions import Subscription, SubscriptionLedger
from node.ledger.workitems import CancelRequest, Draft, WorkitemLedger
from node.web.native import to_xml
from node.web.negotiation import DICOM_JSON, DICOM_XML, Offer, accepted_by, choose
from node.web.payload import Part, multipart_response
from node.web.places import DICOM_WEB, Reader, base_url
from node.web.problems import problem_of
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services
from node.web.workitem_payload import PayloadReader, workitem_response
from node.web.workitem_query import WorkitemQuery, read_filter, read_flag, read_query

WORKITEMS = f"{DICOM_WEB}/workitems"
ONE = "/{workitem}"
SUBSCRIBER = f"{ONE}/subscribers/{{aet}}"
MATCHES = (Offer(name=DICOM_JSON), Offer(name="application/json"), Offer(name=DICOM_XML, is_multipart=True))
# As many requests are worked on at a time.
MAX_WRITERS = 8
# Told by the URL, or by the SOP Class.
NAMED = frozenset({ups.SOP_CLASS_UID, ups.SOP_INSTANCE_UID})
# AE (PS3.5 6.2).
MAX_AET = 16
# Of whoever creates one; the ledger keeps no more.
MAX_NAME = 64
MORE = "there are more; ask for the next page by offset"
# What is told of a refusal beside its problem (PS3.18 11.7.3.2, 11.8.3.2).
ALREADY = {
    ups.ALREADY_CANCELED: "The UPS is already in the requested state of CANCELED.",
    ups.ALREADY_COMPLETED: "The UPS is already in the requested state of COMPLETED.",
    ups.LOCK_NOT_GRANTED: "Deletion Lock not granted.",
}
INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
UID_MISSING, UID_INCORRECT = "The Transaction UID is missing.", "The Transaction UID is incorrect."
COMPLETED_ALREADY, NO_CONTACT = "The UPS is already COMPLETED.", "The performer cannot be contacted."

Writer = Annotated[Visitor, Depends(authorize(Right.STORE))]
# What is asked to end may be a Job of ours.
Operator = Annotated[Visitor, Depends(authorize(Right.OPERATE))]


def router(services: Services) -> APIRouter:
    """Return the routes of workitems; those of subscribers that listen are elsewhere."""
    routes, clerk = APIRouter(prefix=WORKITEMS), Clerk(services)

    @routes.post("")
    async def create(request: Request, visitor: Writer) -> Response:
        return await clerk.create(request, visitor)

    @routes.get("")
    def search(request: Request, visitor: Reader) -> Response:
        return clerk.search(request, visitor)

    @routes.get(ONE)
    def retrieve(request: Request, visitor: Reader, workitem: str) -> Response:
        return clerk.retrieve(request, visitor, workitem)

    @routes.post(ONE)
    async def change(request: Request, _: Writer, workitem: str) -> Response:
        return await clerk.change(request, workitem)

    @routes.put(f"{ONE}/state")
    async def change_state(request: Request, _: Writer, workitem: str) -> Response:
        return await clerk.change_state(request, workitem)

    @routes.post(f"{ONE}/cancelrequest")
    async def request_cancel(request: Request, visitor: Operator, workitem: str) -> Response:
        return await clerk.request_cancel(request, visitor, workitem)

    _add_subscribers(routes, clerk)
    return routes


def _add_subscribers(routes: APIRouter, clerk: "Clerk") -> None:
    @routes.post(SUBSCRIBER)
    def subscribe(request: Request, _: Writer, workitem: str, aet: str) -> Response:
        return clerk.subscribe(request, workitem, check_aet(aet))

    @routes.delete(SUBSCRIBER)
    def unsubscribe(_: Writer, workitem: str, aet: str) -> Response:
        return clerk.unsubscribe(workitem, check_aet(aet))

    @routes.post(f"{SUBSCRIBER}/suspend")
    def suspend(_: Writer, workitem: str, aet: str) -> Response:
        return clerk.suspend(workitem, check_aet(aet))


class Clerk:
    """Serves requests about workitems; what it answers is committed."""

    def __init__(self, services: Services) -> None:
        premises = workitem_premises(services.settings)
        self._services = services
        self._workitems = WorkitemLedger(services.engine, premises)
        self._subscriptions = SubscriptionLedger(services.engine, premises)
        self._limiter = CapacityLimiter(MAX_WRITERS)
        self._payloads = PayloadReader(silence_s=services.settings.node.dimse_timeout_s, limiter=self._limiter)

    async def create(self, request: Request, visitor: Visitor) -> Response:
        """Return the answer to a workitem that somebody creates."""
        model = await self._payloads.read(request)
        asked = _uid_in_query(request, "workitem")

        def keep() -> Response:
            uid = _uid_of_new(asked, model)
            draft = Draft(
                sop_instance_uid=uid,
                attributes={tag: value for tag, value in model.items() if tag not in NAMED},
                created_by=visitor.name[:MAX_NAME],
                pipelines=frozenset(self._services.settings.pipelines),
            )
            self._workitems.create(draft, now=self._services.clock())
            url = _url_of(request, uid)
            return Response(status_code=HTTPStatus.CREATED, headers={"Location": url, "Content-Location": url})

        return await self._commit(keep)

    def retrieve(self, request: Request, visitor: Visitor, workitem: str) -> Response:
        """Return a workitem."""
        found = self._workitems.find(_check_workitem(workitem))
        self._services.witnessing.searched_workitems(request, visitor, (ups.SOP_INSTANCE_UID,))
        return workitem_response(request, found.attributes, headers={"Content-Location": _url_of(request, workitem)})

    async def change(self, request: Request, workitem: str) -> Response:
        """Return the answer to attributes that change."""
        model = await self._payloads.read(request)
        given = _uid_in_query(request, "transaction-uid") or text_of(model, ups.TRANSACTION_UID)

        def keep() -> Response:
            try:
                uid = _check_workitem(workitem)
                self._workitems.change(uid, model, transaction_uid=given, now=self._services.clock())
            except WorkitemFinal as exc:
                # What is over is no conflict here, but a request that cannot be (PS3.18 table 11.6.3-1).
                return _refuse(exc, INCONSISTENT, status=HTTPStatus.BAD_REQUEST)
            except TransactionWrong as exc:
                return _refuse(exc, UID_INCORRECT if given else UID_MISSING)
            return Response(status_code=HTTPStatus.OK, headers={"Content-Location": _url_of(request, workitem)})

        return await self._commit(keep)

    async def change_state(self, request: Request, workitem: str) -> Response:
        """Return the answer to a state that somebody claims for a workitem."""
        model = await self._payloads.read(request)
        given = text_of(model, ups.TRANSACTION_UID)

        def keep() -> Response:
            try:
                wanted = ups.require_text(model, ups.PROCEDURE_STEP_STATE)
                uid, now = _check_workitem(workitem), self._services.clock()
                status = self._workitems.change_state(uid, wanted=wanted, transaction_uid=given, now=now)
            except TransactionWrong as exc:
                return _refuse(exc, UID_INCORRECT if given else UID_MISSING)
            except WorkitemRefused as exc:
                return _refuse(exc, INCONSISTENT)
            headers = {"Content-Location": _url_of(request, workitem), **_warn_of(status)}
            return Response(status_code=HTTPStatus.OK, headers=headers)

        return await self._commit(keep)

    async def request_cancel(self, request: Request, visitor: Visitor, workitem: str) -> Response:
        """Return the answer to somebody who wants a workitem to end."""
        model = await self._payloads.read(request, is_optional=True)

        def keep() -> Response:
            wanted = CancelRequest(asked_by=visitor.name, information=model)
            try:
                status = self._workitems.request_cancel(_check_workitem(workitem), wanted, now=self._services.clock())
            except WorkitemCompleted as exc:
                return _refuse(exc, COMPLETED_ALREADY)
            except PerformerUnreachable as exc:
                return _refuse(exc, NO_CONTACT)
            return Response(status_code=HTTPStatus.ACCEPTED, headers=_warn_of(status))

        return await self._commit(keep)

    def search(self, request: Request, visitor: Visitor) -> Response:
        """Return a page of what matches."""
        offer = choose(accepted_by(request), MATCHES)
        query = read_query(request.query_params.multi_items())
        self._services.witnessing.searched_workitems(request, visitor, query.attributes)
        # One more tells whether there is another page.
        found = self._workitems.search(query.keys, offset=query.offset, limit=query.limit + 1)
        told = [query.told_of(one) for one in found[: query.limit]]
        return self._page(told, offer, query, has_more=len(found) > query.limit)

    def subscribe(self, request: Request, workitem: str, aet: str) -> Response:
        """Return the answer to a subscription: where its events can be heard."""
        uid, parameters = _check_workitem(workitem), request.query_params
        wanted = Subscription(
            aet=aet,
            sop_instance_uid=uid,
            is_locked=read_flag("deletionlock", parameters.get("deletionlock", "false")),
            keys=read_filter(parameters.multi_items()) if uid == ups.FILTERED_GLOBAL else {},
        )
        status = self._subscriptions.subscribe(wanted, now=self._services.clock())
        self._services.told()
        # https becomes wss, too.
        url = f"ws{base_url(request).removeprefix('http')}/subscribers/{aet}"
        return Response(status_code=HTTPStatus.CREATED, headers={"Content-Location": url, **_warn_of(status)})

    def unsubscribe(self, workitem: str, aet: str) -> Response:
        """Return the answer to whoever wants to hear no more."""
        if not self._subscriptions.unsubscribe(aet, _check_workitem(workitem)):
            raise NotFound("there is no such subscription")
        return Response(status_code=HTTPStatus.OK)

    def suspend(self, workitem: str, aet: str) -> Response:
        """Return the answer to whoever wants to hear of no new ones."""
        if not self._subscriptions.suspend(aet, _check_workitem(workitem)):
            raise NotFound("there is no such subscription")
        return Response(status_code=HTTPStatus.OK)

    async def _commit(self, keep: Callable[[], Response]) -> Response:
        response = await run_sync(keep, limiter=self._limiter)
        self._services.told()
        return response

    def _page(self, told: Sequence[DataSet], offer: Offer, query: WorkitemQuery, *, has_more: bool) -> Response:
        warnings = (*query.warnings, *((MORE,) if has_more else ()))
        headers = {"Warning": ", ".join(map(_warning, warnings))} if warnings else {}
        if not told:
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
        status = HTTPStatus.PARTIAL_CONTENT if has_more else HTTPStatus.OK
        if offer.name == DICOM_XML:
            parts = [Part(media_type=DICOM_XML, content=[to_xml(model)]) for model in told]
            streamers = self._services.pixels.streamers
            return multipart_response(parts, kind=DICOM_XML, streamers=streamers, headers=headers, status=status)
        content = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return Response(content, status_code=status, media_type=offer.name, headers=headers)


def check_aet(text: str) -> str:
    """Return an AE title of a URL.

    Raises
    ------
    RequestMalformed
        If it is none.
    """
    aet = text.strip()
    if not aet or len(aet) > MAX_AET or not (aet.isascii() and aet.isprintable()) or "\\" in aet:
        raise RequestMalformed(f"an AE title is 1 to {MAX_AET} characters of ASCII, without backslash")
    return aet


def _uid_of_new(asked: str, model: DataSet) -> str:
    """Return the SOP Instance UID of a workitem: that of the URL, else of the data set, else a new one."""
    named, kind = text_of(model, ups.SOP_INSTANCE_UID), text_of(model, ups.SOP_CLASS_UID)
    if kind not in ("", ups.PUSH):
        raise AttributeInvalid("(0008,0016) is another SOP Class than UPS Push", int(ups.SOP_CLASS_UID, 16))
    if asked and named and asked != named:
        raise AttributeInvalid("(0008,0018) is another one than that of the URL", int(ups.SOP_INSTANCE_UID, 16))
    return check_uid(asked or named or f"2.25.{uuid4().int}", keyword="SOPInstanceUID")


def _uid_in_query(request: Request, name: str) -> str:
    """Return a UID of the query: by its name, or alone as the URI templates of PS3.18 11.4.1 and 11.6.1 have it."""
    items = request.query_params.multi_items()
    named = [value for key, value in items if key == name]
    alone = [key for key, value in items if not value and key[:1].isdigit()]
    return next(iter((*named, *alone)), "").strip()


def _check_workitem(workitem: str) -> str:
    return check_uid(workitem, keyword="workitem")


def _url_of(request: Request, sop_instance_uid: str) -> str:
    return f"{base_url(request)}/workitems/{sop_instance_uid}"


def _warn_of(status: int) -> Mapping[str, str]:
    return {"Warning": _warning(ALREADY[status])} if status in ALREADY else {}


def _warning(text: str) -> str:
    return f'299 radnode: "{text}"'


def _refuse(exc: NodeError, text: str, *, status: int | None = None) -> Response:
    problem = problem_of(exc, status=status)
    problem.headers["Warning"] = _warning(text)
    return problem
