"""Subscribers of workitems that listen over a WebSocket (PS3.18 8.10.4, 8.10.5 and 11.13).

What is told lies in the ledger; a channel reads on from where its subscriber was, whichever process serves it.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Response, WebSocket, WebSocketDisconnect

from node.destinations import event_peers, workitem_premises
from node.domain import workitem as ups
from node.domain.workitem import element
from node.errors import NodeError
from node.ledger.changes import ChangeLedger
from node.ledger.subscriptions import SubscriptionLedger, WorkitemEvent
from node.web.audience import Listener
from node.web.places import DICOM_WEB, Reader
from node.web.problems import RETRY_AFTER_S
from node.web.services import Services
from node.web.workitems import check_aet

logger = logging.getLogger(__name__)

# Then the subscriber comes anew, and must still be allowed to; nothing is lost between.
MAX_LIFE_S = 600.0
READ_AT_ONCE = 100
# Threads that read the ledger for channels.
MAX_READERS = 2
# Close codes (RFC 6455 7.4.1).
GOING_AWAY, INTERNAL_ERROR = 1001, 1011
# N-EVENT-REPORT-RQ (PS3.7 table 10.3-1).
AFFECTED_CLASS, COMMAND_FIELD, MESSAGE_ID, AFFECTED_INSTANCE, EVENT_TYPE = (
    "00000002", "00000100", "00000110", "00001000", "00001002",
)  # fmt: skip
N_EVENT_REPORT_RQ = 0x0100
MAX_MESSAGE_ID = 0xFFFF


def router(services: Services) -> APIRouter:
    """Return ``/dicom-web/subscribers/{aet}``."""
    routes, switchboard = APIRouter(prefix=DICOM_WEB), Switchboard(services)

    @routes.websocket("/subscribers/{aet}")
    async def listen(websocket: WebSocket, visitor: Reader, aet: str) -> None:
        await switchboard.serve(websocket, check_aet(aet), visitor.name)

    return routes


class Switchboard:
    """Serves channels; several of one subscriber hear the same."""

    def __init__(self, services: Services) -> None:
        self._subscriptions = SubscriptionLedger(services.engine, workitem_premises(services.settings))
        self._sign = ChangeLedger(services.engine).sign
        # These are told over DIMSE; whether they were is not for us to say.
        self._peers = frozenset(event_peers(services.settings))
        self._audience = services.audience
        self._clock = services.clock
        self._limiter = CapacityLimiter(MAX_READERS)

    async def serve(self, websocket: WebSocket, aet: str, visitor: str) -> None:
        """Tell a subscriber what it has not heard, and then what is new, until it goes, or its time is up."""
        listener = self._audience.join(self._sign, visitor=visitor)
        if listener is None:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            await websocket.send_denial_response(Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers))
            return
        count = 0
        try:
            await websocket.accept()
            logger.info("subscriber came", extra={"destination": aet})
            count = await self._tell(websocket, aet, listener)
        finally:
            self._audience.leave(listener)
            logger.info("subscriber left", extra={"destination": aet, "count": count})

    async def _tell(self, websocket: WebSocket, aet: str, listener: Listener) -> int:
        """Return how many events were sent."""
        gone, count = asyncio.create_task(_wait_until_gone(websocket)), 0
        ends_at = listener.loop.time() + MAX_LIFE_S
        try:
            newest = await run_sync(self._find_begin, aet, limiter=self._limiter)
            while not gone.done() and (left_s := ends_at - listener.loop.time()) > 0:
                listener.woken.clear()
                events = await run_sync(self._read, aet, newest, limiter=self._limiter)
                for event in events:
                    # Waits for a client that is slow; the server ends the connection of one that takes nothing.
                    await websocket.send_text(report_of(event))
                if events:
                    newest, count = events[-1].event_id, count + len(events)
                    await run_sync(self._mark, aet, events, limiter=self._limiter)
                else:
                    await _wait_for_either(gone, listener, limit_s=left_s)
            if not gone.done():
                await websocket.close(GOING_AWAY)
        except WebSocketDisconnect:
            # It went while it was told.
            return count
        except NodeError as exc:
            logger.warning("subscriber dismissed", extra={"destination": aet, "reason_code": exc.code})
            with suppress(WebSocketDisconnect):
                await websocket.close(INTERNAL_ERROR)
        finally:
            gone.cancel()
        return count

    def _find_begin(self, aet: str) -> int:
        """Return the number behind which a subscriber goes on: that of the last event that it has heard."""
        unheard = () if aet in self._peers else self._subscriptions.due_events([aet], now=self._clock(), limit=1)
        return unheard[0].event_id - 1 if unheard else self._subscriptions.newest_event()

    def _read(self, aet: str, newest: int) -> Sequence[WorkitemEvent]:
        return self._subscriptions.events_after(newest, aet=aet, limit=READ_AT_ONCE)

    def _mark(self, aet: str, events: Sequence[WorkitemEvent]) -> None:
        if aet not in self._peers:
            self._subscriptions.record_sent([event.event_id for event in events])


def report_of(event: WorkitemEvent) -> str:
    """Return an event report in the DICOM JSON Model.

    References
    ----------
    DICOM PS3.18 8.10.5 and 11.13, PS3.4 table CC.2.4-1
    """
    told = {
        AFFECTED_CLASS: element("UI", ups.PUSH),
        COMMAND_FIELD: element("US", N_EVENT_REPORT_RQ),
        MESSAGE_ID: element("US", event.event_id % MAX_MESSAGE_ID + 1),
        AFFECTED_INSTANCE: element("UI", event.sop_instance_uid),
        EVENT_TYPE: element("US", event.event_type),
        **event.information,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


async def _wait_until_gone(websocket: WebSocket) -> None:
    """Return when the other side has closed; what it says is passed over."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _wait_for_either(gone: "asyncio.Task[None]", listener: Listener, *, limit_s: float) -> None:
    """Return when there may be news, when the other side is gone, or when the time is up."""
    woken = asyncio.create_task(listener.woken.wait())
    try:
        await asyncio.wait((gone, woken), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        woken.cancel()
