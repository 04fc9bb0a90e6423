"""The Unified Procedure Step service: UPS Push, Pull, Watch and Query as SCP (PS3.4 CC)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from node.audit.access import workitems_searched
from node.audit.message import AuditEvent
from node.dimse.attribute_list import AttributeList
from node.dimse.command import C_FIND_RQ, N_ACTION_RQ, N_CREATE_RQ, N_GET_RQ, Reply
from node.dimse.services import Asked, Services
from node.domain import workitem as ups
from node.domain.uids import check_uid
from node.domain.workitem import DataSet, Workitem, text_of
from node.errors import ActionUnknown, SubscriberUnknown
from node.header.json_model import read_model, write_model
from node.ledger.subscriptions import Subscription, SubscriptionLedger
from node.ledger.workitems import CancelRequest, Draft, WorkitemLedger

# Action Type ID (PS3.4 tables CC.2.1-1 to CC.2.3-1).
CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5
ACTIONS = {
    ups.PUSH: frozenset({REQUEST_CANCEL}),
    ups.PULL: frozenset({CHANGE_STATE}),
    ups.WATCH: frozenset({REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND}),
}
RECEIVING_AE, DELETION_LOCK = "00741234", "00741230"
# Part of an action, and no key of a filter.
ABOUT_SUBSCRIPTION = frozenset({RECEIVING_AE, DELETION_LOCK})
# More is no answer for people, and would have to be in memory at once.
MAX_MATCHES = 1000
# What a search returns though nobody asked for it.
ALWAYS_RETURNED = (ups.SOP_CLASS_UID, ups.SOP_INSTANCE_UID)
# Takes one record for the audit trail.
Record = Callable[[AuditEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """What the service needs to know of the settings.

    Attributes
    ----------
    pipelines
        Names of our Pipelines: a workitem whose code is one of them is an order.
    subscribers
        AE titles to which events can be sent.
    """

    pipelines: frozenset[str]
    subscribers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the service is given by the process it lives in.

    Attributes
    ----------
    clock
        The time now (UTC).
    record
        Keeps in the audit trail who looked at which.
    told
        Called after each commit; must not block.
    """

    clock: Callable[[], datetime]
    record: Record
    told: Callable[[], None]


class WorkitemService:
    """Serves requests about workitems."""

    def __init__(
        self,
        workitems: WorkitemLedger,
        subscriptions: SubscriptionLedger,
        known: Acquaintance,
        surroundings: Surroundings,
    ) -> None:
        self._workitems = workitems
        self._subscriptions = subscriptions
        self._known = known
        self._clock = surroundings.clock
        self._record = surroundings.record
        self._told = surroundings.told

    def services(self) -> Services:
        """Return who serves which SOP Class."""
        return dict.fromkeys((ups.PUSH, ups.PULL, ups.WATCH, ups.QUERY), self.serve)

    def serve(self, asked: Asked, attributes: AttributeList) -> Reply:
        """Return the answer to a request.

        Raises
        ------
        NodeError
            If it is refused; with the status of PS3.4 CC.2.
        """
        model = read_model(attributes.encoded, is_implicit=asked.is_implicit)
        match asked.request.command_field:
            case command if command == C_FIND_RQ:
                return self._search(asked, model)
            case command if command == N_GET_RQ:
                return self._get(asked)
            case command if command == N_CREATE_RQ:
                reply = self._create(asked, model)
            case command if command == N_ACTION_RQ:
                reply = self._act(asked, model)
            case _:
                reply = self._set(asked, model)
        self._told()
        return reply

    def _create(self, asked: Asked, model: DataSet) -> Reply:
        named = asked.request.sop_instance_uid or f"2.25.{uuid4().int}"
        uid = check_uid(named, keyword="AffectedSOPInstanceUID")
        draft = Draft(
            sop_instance_uid=uid, attributes=model, created_by=asked.calling_aet, pipelines=self._known.pipelines
        )
        self._workitems.create(draft, now=self._clock())
        return Reply(status=ups.SUCCESS, sop_instance_uid=uid)

    def _get(self, asked: Asked) -> Reply:
        found = self._workitems.find(_uid_of(asked))
        tags = {f"{tag:08X}" for tag in asked.request.attributes} or found.attributes.keys()
        told = {tag: value for tag, value in found.attributes.items() if tag in tags}
        self._note(asked, (ups.SOP_INSTANCE_UID,))
        return Reply(status=ups.SUCCESS, data_set=write_model(told, is_implicit=asked.is_implicit))

    def _set(self, asked: Asked, model: DataSet) -> Reply:
        given = text_of(model, ups.TRANSACTION_UID)
        self._workitems.change(_uid_of(asked), model, transaction_uid=given, now=self._clock())
        return Reply(status=ups.SUCCESS)

    def _search(self, asked: Asked, model: DataSet) -> Reply:
        found = self._workitems.search(model, limit=MAX_MATCHES)
        self._note(asked, tuple(model))
        matches = tuple(write_model(_returned(one, model), is_implicit=asked.is_implicit) for one in found)
        return Reply(status=ups.SUCCESS, matches=matches)

    def _act(self, asked: Asked, model: DataSet) -> Reply:
        action, uid, now = asked.request.action_type, _uid_of(asked), self._clock()
        if action is None or action not in ACTIONS.get(asked.sop_class_uid, frozenset()):
            raise ActionUnknown(f"there is no Action Type ID {action} of this SOP Class")
        if action == CHANGE_STATE:
            wanted, given = ups.require_text(model, ups.PROCEDURE_STEP_STATE), text_of(model, ups.TRANSACTION_UID)
            return Reply(status=self._workitems.change_state(uid, wanted=wanted, transaction_uid=given, now=now))
        if action == REQUEST_CANCEL:
            request = CancelRequest(asked_by=asked.calling_aet, information=model)
            return Reply(status=self._workitems.request_cancel(uid, request, now=now))
        return self._follow(action, uid, model, now=now)

    def _follow(self, action: int, uid: str, model: DataSet, *, now: datetime) -> Reply:
        aet = ups.require_text(model, RECEIVING_AE)
        if action == UNSUBSCRIBE:
            self._subscriptions.unsubscribe(aet, uid)
            return Reply(status=ups.SUCCESS)
        if action == SUSPEND:
            self._subscriptions.suspend(aet, uid)
            return Reply(status=ups.SUCCESS)
        if aet not in self._known.subscribers:
            raise SubscriberUnknown("the Receiving AE (0074,1234) has no address here; add it to [sources.*]")
        keys: Mapping[str, object] = {}
        if uid == ups.FILTERED_GLOBAL:
            keys = {tag: value for tag, value in model.items() if tag not in ABOUT_SUBSCRIPTION}
        is_locked = text_of(model, DELETION_LOCK) == "TRUE"
        wanted = Subscription(aet=aet, sop_instance_uid=uid, is_locked=is_locked, keys=keys)
        return Reply(status=self._subscriptions.subscribe(wanted, now=now))

    def _note(self, asked: Asked, tags: tuple[str, ...]) -> None:
        self._record(workitems_searched(tags, name=asked.calling_aet, address=asked.calling_aet))


def _uid_of(asked: Asked) -> str:
    return check_uid(asked.request.sop_instance_uid, keyword="RequestedSOPInstanceUID")


def _returned(found: Workitem, keys: DataSet) -> DataSet:
    """Return of a match what was asked for; what it has not, without a value (PS3.4 C.2.2.1.3)."""
    empty = {tag: {"vr": key["vr"]} for tag, key in keys.items() if isinstance(key, Mapping) and "vr" in key}
    told = {**empty, **{tag: found.attributes[tag] for tag in keys if tag in found.attributes}}
    always = {tag: found.attributes[tag] for tag in ALWAYS_RETURNED}
    return dict(sorted({**told, **always}.items()))
