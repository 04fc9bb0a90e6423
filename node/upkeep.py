"""What keeps store and ledger in order over the years: built here for the node and for the command line."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from node.audit.inspection import read_records
from node.audit.witness import Witness
from node.clock import Clock, utc_now
from node.errors import LedgerDamaged, WrongState
from node.intake.adoption import Adoption
from node.journals import adopt_journals
from node.ledger.engine import Engine, find_damage, migrate, open_engine, schema_of
from node.ledger.file import ledger_file, set_ledger_aside
from node.ledger.instances import InstanceLedger
from node.ledger.restoration import RestorationLedger
from node.ledger.retention import RetentionLedger
from node.lock import FolderLock
from node.restoration import Remains, Restored, is_marked, prepare, restore
from node.retention import Premises, Retention, Teller
from node.settings.whole import Settings
from node.site import retention_terms
from node.store.trash import Trash
from node.volumes import audit_folder, open_store, open_trail


def build_retention(settings: Settings, engine: Engine, *, adoption: Adoption, teller: Teller) -> Retention:
    """Return the station that gives up what may go, or takes a person's order to."""
    premises = Premises(
        ledger=RetentionLedger(engine), trash=Trash(settings.store_root), teller=teller, adopt=adoption.adopt
    )
    return Retention(premises, retention_terms(settings))


class LedgerRestorer:
    """Makes a ledger that is lost anew.

    Parameters
    ----------
    destinations
        Name of each Destination to what the audit trail calls it.
    """

    def __init__(self, settings: Settings, engine: Engine, *, destinations: Mapping[str, str], clock: Clock) -> None:
        self._settings = settings
        self._ledger = RestorationLedger(engine)
        self._destinations = destinations
        self._clock = clock

    def prepare(self) -> bool:
        """Return whether the ledger knows nothing yet, or not all that it could; called before it is written to."""
        return prepare(self._ledger, self._settings.node.data_dir)

    def restore(self, adoption: Adoption) -> Restored:
        """Return after the ledger knows what store and audit trail say; nobody else may be at work."""
        remains = Remains(
            store=open_store(self._settings),
            trash=Trash(self._settings.store_root),
            records=read_records(audit_folder(self._settings)),
            destinations=self._destinations,
            adopt=lambda: adoption.scan().adopted,
        )
        return restore(self._ledger, remains, self._settings.node.data_dir, now=self._clock())


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found in a ledger.

    Attributes
    ----------
    damages
        In SQLite's words.
    missing
        Files that rows name and the store has not, relative to the store.
    """

    schema: str
    instances: int
    results: int
    damages: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.damages and not self.missing


def survey_ledger(settings: Settings, engine: Engine) -> Survey:
    """Return after everything in the ledger was read, and every file was looked for.

    Raises
    ------
    LedgerDamaged
        If it cannot be read.
    """
    damages = tuple(find_damage(engine))
    if damages:
        return Survey(schema=schema_of(engine), instances=0, results=0, damages=damages, missing=())
    retention, store = RetentionLedger(engine), open_store(settings)
    instances, results = tuple(InstanceLedger(engine).known_paths()), retention.result_paths()
    missing = tuple(path for path in (*instances, *results) if not store.exists(path))
    return Survey(schema=schema_of(engine), instances=len(instances), results=len(results), damages=(), missing=missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A ledger that was made anew.

    Attributes
    ----------
    aside
        Where the old one lies now; None where there was none.
    """

    aside: Path | None
    restored: Restored


def rebuild_ledger(settings: Settings, *, destinations: Mapping[str, str], is_forced: bool) -> Rebuilt:
    """Return after a new ledger stands in the place of the old one.

    Raises
    ------
    DataDirInUse
        If the node runs.
    WrongState
        If nothing is wrong with the ledger, or it is no file and not empty.
    """
    settings.node.data_dir.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(settings.node.data_dir)
    lock.hold()
    try:
        path = ledger_file(settings.ledger_url)
        aside = None if path is None else _set_aside(settings, path, is_forced=is_forced)
        engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
        try:
            migrate(engine)
            return Rebuilt(aside=aside, restored=_restore(settings, engine, destinations))
        finally:
            engine.dispose()
    finally:
        lock.let_go()


def _restore(settings: Settings, engine: Engine, destinations: Mapping[str, str]) -> Restored:
    restorer = LedgerRestorer(settings, engine, destinations=destinations, clock=utc_now)
    if not restorer.prepare():
        raise WrongState("the database of ledger.url holds Studies; name an empty one there, and repeat this")
    instances = InstanceLedger(engine)
    with closing(open_trail(settings)) as trail:
        witness = Witness(trail=trail, ledger=instances, clock=utc_now)
        adoption = Adoption(store=open_store(settings), ledger=instances, clock=utc_now, teller=witness)
        # Returns when no receiver is left of a node that was killed.
        adopt_journals(settings, adoption)
        restored = restorer.restore(adoption)
        witness.stop()
    return restored


def _set_aside(settings: Settings, path: Path, *, is_forced: bool) -> Path | None:
    if path.exists() and not is_forced and not _is_unusable(settings):
        raise WrongState(f"nothing is wrong with {path}; start the node, or say --anyway, which forgets its Events")
    return set_ledger_aside(path, utc_now())


def _is_unusable(settings: Settings) -> bool:
    """Return whether a ledger cannot be opened as one, or is damaged, or was not finished."""
    if is_marked(settings.node.data_dir):
        return True
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    try:
        migrate(engine)
        return bool(find_damage(engine))
    except LedgerDamaged:
        return True
    finally:
        engine.dispose()
