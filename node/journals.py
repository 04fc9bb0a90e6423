"""What receivers that died had acknowledged: their journals, and how whoever comes after them makes it good."""

import logging
from contextlib import closing
from pathlib import Path

from node.intake.adoption import Adoption
from node.ledger.journal import FOLDER, Journal, journals_of
from node.settings.whole import Settings

logger = logging.getLogger(__name__)

# How long a receiver that outlives its node may go on to commit what it has stored.
FAREWELL_S = 5.0
# How long it is waited for; its Associations are broken before that.
WAIT_S = FAREWELL_S + 7.0


def open_journal(settings: Settings, number: int) -> Journal:
    """Return the journal of a receiver; it waits for an earlier life of the same one.

    Raises
    ------
    DataDirInUse
        If that one does not end.
    """
    return Journal(_folder(settings), number, wait_s=WAIT_S)


def adopt_journals(settings: Settings, adoption: Adoption) -> None:
    """Record what the receivers of a node that died had acknowledged; wait for those that have outlived it.

    Raises
    ------
    DataDirInUse
        If one of them does not end.
    """
    for journal in journals_of(_folder(settings), wait_s=WAIT_S):
        with closing(journal):
            adopt_journal(journal, adoption)


def adopt_journal(journal: Journal, adoption: Adoption) -> None:
    """Record what an earlier life of this process had acknowledged."""
    adopted = adoption.adopt(journal.pending())
    journal.clear()
    if adopted:
        logger.info("journal adopted", extra={"adopted": adopted})


def _folder(settings: Settings) -> Path:
    return settings.node.data_dir / FOLDER
