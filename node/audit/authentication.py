"""What the trail tells of people who come and go, and of who may (PS3.15 A.5.3.11, A.5.3.12)."""

from node.audit.events import Notice
from node.audit.message import Action, AuditedObject, AuditEvent, ObjectKind, Outcome, Participant, this_process
from node.domain.codes import (
    APPLICATION,
    LOGIN,
    LOGOUT,
    NODE_ID,
    SECURITY_ALERT,
    USER_AUTHENTICATION,
    USER_SECURITY_ATTRIBUTES_CHANGED,
)

ALERT_DETAIL = "Alert Description"  # PS3.15 A.5.3.11
ACCOUNTS_CHANGED = "accounts-changed"
LOGIN_FAILED = "login-failed"
# Of several, or of nobody who is known.
UNKNOWN = "unknown"


def logged_in(name: str, *, address: str) -> AuditEvent:
    """Return that somebody has logged in (PS3.15 A.5.3.12)."""
    return _authentication(name, address, kind="logged-in", text=f"{name} logged in")


def login_failed(name: str, *, address: str, why: str) -> AuditEvent:
    """Return that somebody could not log in (PS3.15 A.5.3.12).

    Parameters
    ----------
    name
        A user's, or ``unknown``: what was typed may be a password.
    why
        In words that quote nothing of what was typed.
    """
    text = f"{name} could not log in: {why}"
    return _authentication(name, address, kind=LOGIN_FAILED, text=text, outcome=Outcome.MINOR_FAILURE)


def failure_of(event: AuditEvent) -> Notice | None:
    """Return of which flood a record is one; None: it is no failed login. Those of one address are alike."""
    if event.kind != LOGIN_FAILED:
        return None
    return Notice(kind=event.kind, code=event.kind, text=event.text, peer=str(event.facts["peer"]))


def logins_failed(flood: Notice) -> AuditEvent:
    """Return that so many could not log in from one address (PS3.15 A.5.3.12)."""
    return _authentication(UNKNOWN, flood.peer, kind=flood.kind, text=flood.text, outcome=Outcome.MINOR_FAILURE)


def logged_out(name: str, *, address: str) -> AuditEvent:
    """Return that somebody has logged out (PS3.15 A.5.3.12)."""
    return _authentication(name, address, kind="logged-out", text=f"{name} logged out")


def accounts_changed(what: str, *, account: str, subject: str, address: str = "") -> AuditEvent:
    """Return that somebody changed who may do what (PS3.15 A.5.3.11).

    Parameters
    ----------
    what
        One sentence.
    account
        Who did it.
    subject
        The user or the token that it is about.
    """
    resource = AuditedObject(
        kind=ObjectKind.SECURITY_RESOURCE, id_type=NODE_ID, object_id=subject, detail=(ALERT_DETAIL, what)
    )
    return AuditEvent(
        kind=ACCOUNTS_CHANGED,
        event_id=SECURITY_ALERT,
        type_code=USER_SECURITY_ATTRIBUTES_CHANGED,
        action=Action.EXECUTE,
        text=what,
        participants=(Participant(user_id=account, address=address, is_requestor=True), this_process(APPLICATION)),
        objects=(resource,),
        facts={"account": account, "subject": subject},
    )


def _authentication(name: str, address: str, *, kind: str, text: str, outcome: Outcome = Outcome.SUCCESS) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        event_id=USER_AUTHENTICATION,
        type_code=LOGOUT if kind == "logged-out" else LOGIN,
        action=Action.EXECUTE,
        outcome=outcome,
        text=text,
        participants=(Participant(user_id=name, address=address, is_requestor=True), this_process(APPLICATION)),
        facts={"user": name, "peer": address},
    )
