"""The ledger that settings name, opened for each who asks something of it."""

from node.data_folder import has_data_folder, make_data_folder
from node.errors import NotFound
from node.ledger.capabilities import CapabilityLedger
from node.ledger.commitments import CommitmentLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import Engine, has_schema, migrate, open_engine
from node.ledger.fetches import FetchLedger
from node.ledger.imaging_orders import OrderLedger
from node.ledger.interventions import Interventions
from node.ledger.retractions import RetractionLedger
from node.ledger.switches import SwitchLedger
from node.ledger.views import LedgerView
from node.settings.whole import Settings


def open_ledger(settings: Settings) -> Engine:
    """Return the ledger, made where there is none, its schema brought to this version.

    Raises
    ------
    SettingsInvalid
        If the data folder cannot be made, or is not open to this user.
    LedgerUnusable
        If it cannot be opened, or was written by a newer radnode.
    """
    make_data_folder(settings.node.data_dir)
    engine = _open_engine(settings)
    migrate(engine)
    return engine


def has_ledger(settings: Settings) -> bool:
    """Return whether a node has begun a ledger; none is made.

    Raises
    ------
    SettingsInvalid
        If the data folder is not open to this user.
    LedgerUnusable
        If it cannot be opened.
    """
    has_data_folder(settings.node.data_dir)
    engine = _open_engine(settings)
    try:
        return has_schema(engine)
    finally:
        engine.dispose()


def find_ledger(settings: Settings) -> Engine:
    """Return the ledger that a node has begun, its schema brought to this version; none is made.

    Raises
    ------
    NotFound
        If there is none: who asks has perhaps named no settings, and would take silence for calm.
    SettingsInvalid, LedgerUnusable
        As `open_ledger`.
    """
    require_ledger(settings)
    engine = _open_engine(settings)
    migrate(engine)
    return engine


def require_ledger(settings: Settings) -> None:
    """Return where a node has begun a ledger; raise as `find_ledger` else."""
    if not has_ledger(settings):
        raise NotFound(
            f"no ledger {place_of(settings)}; name the settings of the node by --settings, or its data folder by "
            "RADNODE__NODE__DATA_DIR; `radnode up` makes the ledger of a new node"
        )


def place_of(settings: Settings) -> str:
    """Return in words where the ledger is looked for; ``ledger.url`` may hold a password, and is not quoted."""
    if settings.ledger.url.get_secret_value():
        return "in the database of ledger.url"
    return f"in data folder {settings.node.data_dir.absolute()}"


def open_view(settings: Settings) -> LedgerView:
    """Return the ledger for reading."""
    return LedgerView(find_ledger(settings))


def open_interventions(settings: Settings) -> Interventions:
    """Return the Jobs of the ledger, for a person's orders."""
    return Interventions(find_ledger(settings))


def open_deliveries(settings: Settings) -> DeliveryLedger:
    """Return the Deliveries of the ledger, for a person's orders."""
    return DeliveryLedger(find_ledger(settings))


def open_commitments(settings: Settings) -> CommitmentLedger:
    """Return what the ledger knows of objects that Destinations are still to prove."""
    return CommitmentLedger(find_ledger(settings))


def open_capabilities(settings: Settings) -> CapabilityLedger:
    """Return what the ledger knows of each Destination."""
    return CapabilityLedger(find_ledger(settings))


def open_retractions(settings: Settings) -> RetractionLedger:
    """Return the retractions of the ledger, for a person's orders."""
    return RetractionLedger(find_ledger(settings))


def open_orders(settings: Settings) -> OrderLedger:
    """Return what RIS and HIS asked for."""
    return OrderLedger(find_ledger(settings))


def open_fetches(settings: Settings) -> FetchLedger:
    """Return what is fetched from others, for a person's orders."""
    return FetchLedger(find_ledger(settings))


def open_switches(settings: Settings) -> SwitchLedger:
    """Return the switches of Pipelines, for a person's orders."""
    return SwitchLedger(find_ledger(settings))


def _open_engine(settings: Settings) -> Engine:
    return open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
