"""The household: the programs of a node that come from its nursery, and which of them it needs."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from node.children import end_with_parent
from node.errors import NodeError
from node.ledger.opening import open_ledger
from node.nurse import Program, fork_into
from node.nursery import Nursery
from node.receiver import VERB as RECEIVER
from node.receiver import main as receive
from node.settings.whole import Settings
from node.web.host import VERB as WEB


def open_nursery(settings: Settings) -> Nursery:
    """Return the nursery of a node with these settings; nothing runs before it is asked, or forked."""
    programs = (RECEIVER, WEB) if settings.web.port else (RECEIVER,)
    return Nursery(programs, log_level=settings.log.level)


def load_programs(names: Sequence[str]) -> Mapping[str, Program]:
    """Return the programs of these names, with everything that they need."""
    programs: dict[str, Program] = {RECEIVER: receive}
    if WEB in names:
        # Its libraries are large, and a node without it is spared them.
        from node.website import main as serve_web

        programs[WEB] = serve_web
    return programs


def prepare_ledger(settings: Settings) -> None:
    """Bring the ledger to this version's schema in a process that keeps the memory for it, some 18 MB, to itself.

    What goes wrong there goes wrong again where the ledger is opened, and is told there.
    """
    parent = os.getpid()
    pid = fork_into(lambda: _bring_ledger_up(settings, parent))
    # Whoever started us may have left no ends of children to be waited for; they are waited for all the same.
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _bring_ledger_up(settings: Settings, parent: int) -> None:
    end_with_parent(parent)
    with suppress(NodeError, OSError):
        open_ledger(settings).dispose()
