"""Studies that are here only because another one wanted them as prior: nothing is to start on them."""

from sqlalchemy import Column, ColumnElement, and_, exists, or_

from node.domain.fetch import LIVE_STATES, FetchReason
from node.ledger.schema import events, fetches

# A person wants the rules to be asked again; also of a prior, which then is a Study like others.
REPROCESSED = "study-reprocessed"


def is_prior(study_instance_uid: Column[str]) -> ColumnElement[bool]:
    """Return the condition that a Study came by a fetch for another one, and that nobody wanted it for itself."""
    of_study = fetches.c.study_instance_uid == study_instance_uid
    # As a bare column, SQLite would look through every line of that kind.
    told = events.c.study_instance_uid == study_instance_uid, events.c.kind.concat("") == REPROCESSED
    as_prior = fetches.c.reason == FetchReason.PRIOR.value
    # What was ordered and never begun brought nothing: whoever sends it meanwhile sends a Study of its own.
    came = and_(fetches.c.attempts > 0, or_(fetches.c.done > 0, fetches.c.state.in_(LIVE_STATES)))
    return and_(exists().where(of_study, as_prior, came), ~exists().where(of_study, ~as_prior), ~exists().where(*told))
