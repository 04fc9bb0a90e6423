"""What the routes of the web are handed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from node.clock import Clock
from node.intake.station import Intake
from node.ledger.engine import Engine
from node.ledger.views import LedgerView
from node.settings import Settings
from node.store.files import FileStore
from node.web.pixels import PixelPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a route may need; whoever starts the server builds it.

    Attributes
    ----------
    engine
        For operations of the ledger that `view` does not have.
    clock
        Returns the time, in UTC.
    name_association
        Returns a new id for what stands for an Association: one request that stores.
    are_receivers_ready
        Returns whether DICOM can be received, too.
    wait_committed
        Returns whether everything that intake recorded is committed, after so many seconds at most.
    pixels
        Processes that read what is inside of files; whoever builds the services closes it.
    """

    settings: Settings
    engine: Engine
    view: LedgerView
    store: FileStore
    intake: Intake
    clock: Clock
    name_association: Callable[[], str]
    are_receivers_ready: Callable[[], bool]
    wait_committed: Callable[[float], bool]
    pixels: PixelPool = field(default_factory=PixelPool)
