"""What the routes of the web are handed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from node.accounts.doorkeeper import Doorkeeper
from node.accounts.registry import Registry
from node.audit.message import AuditEvent
from node.clock import Clock
from node.intake.station import Intake
from node.ledger.engine import Engine
from node.ledger.views import LedgerView
from node.settings.whole import Settings
from node.store.files import FileStore
from node.web.audience import Audience
from node.web.pixels import PixelPool
from node.web.retraction import Retractor
from node.web.tester import Tester
from node.web.witnessing import Witnessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a route may need; whoever starts the server builds it.

    Attributes
    ----------
    engine
        For operations of the ledger that `view` does not have.
    doorkeeper
        Knows who asks.
    registry
        Changes who may.
    witnessing
        Tells the audit trail who looks at whose data; whoever builds the services starts and stops it.
    record
        Adds one record to the audit trail; raises nothing.
    clock
        Returns the time, in UTC.
    name_association
        Returns a new id for what stands for an Association: one request that stores.
    are_receivers_ready
        Returns whether DICOM can be received, too.
    wait_committed
        Returns whether everything that intake recorded is committed, after so many seconds at most.
    tester
        Tests Destinations.
    retractor
        Takes Results back.
    pixels
        Processes that read what is inside of files; whoever builds the services closes it.
    audience
        Everybody who is told of changes; whoever ends the server closes it first.
    told
        Called when something is committed that the stations do not know of yet; must not block.
    """

    settings: Settings
    engine: Engine
    view: LedgerView
    store: FileStore
    intake: Intake
    doorkeeper: Doorkeeper
    registry: Registry
    witnessing: Witnessing
    record: Callable[[AuditEvent], None]
    clock: Clock
    name_association: Callable[[], str]
    are_receivers_ready: Callable[[], bool]
    wait_committed: Callable[[float], bool]
    tester: Tester
    retractor: Retractor
    pixels: PixelPool = field(default_factory=PixelPool)
    audience: Audience = field(default_factory=Audience)
    told: Callable[[], None] = lambda: None
