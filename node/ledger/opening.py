"""The ledger that settings name, opened for each who asks something of it."""

from node.ledger.capabilities import CapabilityLedger
from node.ledger.commitments import CommitmentLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import Engine, migrate, open_engine
from node.ledger.fetches import FetchLedger
from node.ledger.imaging_orders import OrderLedger
from node.ledger.interventions import Interventions
from node.ledger.retractions import RetractionLedger
from node.ledger.switches import SwitchLedger
from node.ledger.views import LedgerView
from node.settings.whole import Settings


def open_ledger(settings: Settings) -> Engine:
    """Return the ledger, its schema brought to this version.

    Raises
    ------
    LedgerUnusable
        If it cannot be opened, or was written by a newer radnode.
    """
    settings.node.data_dir.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    migrate(engine)
    return engine


def open_view(settings: Settings) -> LedgerView:
    """Return the ledger for reading."""
    return LedgerView(open_ledger(settings))


def open_interventions(settings: Settings) -> Interventions:
    """Return the Jobs of the ledger, for a person's orders."""
    return Interventions(open_ledger(settings))


def open_deliveries(settings: Settings) -> DeliveryLedger:
    """Return the Deliveries of the ledger, for a person's orders."""
    return DeliveryLedger(open_ledger(settings))


def open_commitments(settings: Settings) -> CommitmentLedger:
    """Return what the ledger knows of objects that Destinations are still to prove."""
    return CommitmentLedger(open_ledger(settings))


def open_capabilities(settings: Settings) -> CapabilityLedger:
    """Return what the ledger knows of each Destination."""
    return CapabilityLedger(open_ledger(settings))


def open_retractions(settings: Settings) -> RetractionLedger:
    """Return the retractions of the ledger, for a person's orders."""
    return RetractionLedger(open_ledger(settings))


def open_orders(settings: Settings) -> OrderLedger:
    """Return what RIS and HIS asked for."""
    return OrderLedger(open_ledger(settings))


def open_fetches(settings: Settings) -> FetchLedger:
    """Return what is fetched from others, for a person's orders."""
    return FetchLedger(open_ledger(settings))


def open_switches(settings: Settings) -> SwitchLedger:
    """Return the switches of Pipelines, for a person's orders."""
    return SwitchLedger(open_ledger(settings))
