"""What keeps store and ledger in order over the years: built here for the node and for the command line."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from node.audit.inspection import read_records
from node.audit.witness import Witness
from node.clock import Clock, utc_now
from node.data_folder import make_data_folder
from node.errors import LedgerDamaged, WrongState
from node.intake.adoption import Adoption
from node.journals import adopt_journals
from node.ledger.engine import Engine, find_damage, migrate, open_engine, schema_of
from node.ledger.file import ledger_file, move_ledger, set_ledger_aside, url_at
from node.ledger.instances import InstanceLedger
from node.ledger.restoration import RestorationLedger
from node.ledger.retention import RetentionLedger
from node.lock import FolderLock
from node.restoration import Remains, Restored, catch_up, find_unknown, is_marked, prepare, restore, unmark
from node.retention import Premises, Retention, Teller
from node.settings.whole import Settings
from node.site import retention_terms
from node.store.paths import INSTANCES
from node.store.trash import Trash
from node.volumes import audit_folder, open_store, open_trail

# Beside the ledger, while a new one is made to take its place.
WORKSHOP = "ledger.rebuilding"


def build_retention(settings: Settings, engine: Engine, *, adoption: Adoption, teller: Teller) -> Retention:
    """Return the station that gives up what may go, or takes a person's order to."""
    premises = Premises(
        ledger=RetentionLedger(engine), trash=Trash(settings.store_root), teller=teller, adopt=adoption.adopt
    )
    return Retention(premises, retention_terms(settings))


class LedgerRestorer:
    """Makes a ledger that is lost anew, and brings one that is older than the store up to it.

    Parameters
    ----------
    destinations
        Name of each Destination to what the audit trail calls it.
    folder
        Where it is noted that a restoration was begun; None: in the data folder.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        destinations: Mapping[str, str],
        clock: Clock,
        folder: Path | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = RestorationLedger(engine)
        self._destinations = destinations
        self._clock = clock
        self._folder = folder or settings.node.data_dir

    def prepare(self) -> bool:
        """Return whether the ledger knows nothing yet, or not all that it could; called before it is written to."""
        return prepare(self._ledger, self._folder)

    def restore(self, adoption: Adoption) -> Restored:
        """Return after the ledger knows what store and audit trail say; nobody else may be at work."""
        return restore(self._ledger, self._remains(adoption), self._folder, now=self._clock())

    def catch_up(self, adoption: Adoption) -> Restored:
        """Return after the ledger knows of every Instance, and of every answer and retraction that the store holds."""
        return catch_up(self._ledger, self._remains(adoption), now=self._clock())

    def _remains(self, adoption: Adoption) -> Remains:
        return Remains(
            store=open_store(self._settings),
            trash=Trash(self._settings.store_root),
            records=read_records(audit_folder(self._settings)),
            destinations=self._destinations,
            adopt=lambda: adoption.scan().adopted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found in a ledger.

    Attributes
    ----------
    damages
        In SQLite's words.
    missing
        Files that rows name and the store has not, relative to the store.
    unknown
        Jobs of which the store has an answer or a retraction, and the ledger has not.
    is_unfinished
        Whether it is to be made anew, and was not to the end.
    """

    schema: str = ""
    instances: int = 0
    results: int = 0
    damages: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    is_unfinished: bool = False

    @property
    def is_right(self) -> bool:
        """Whether nothing is damaged, missing or unknown."""
        return not (self.damages or self.missing or self.unknown or self.is_unfinished)


def survey_ledger(settings: Settings, engine: Engine) -> Survey:
    """Return after everything in the ledger was read, and every file was looked for.

    Raises
    ------
    LedgerDamaged
        If it cannot be read.
    """
    damages = tuple(find_damage(engine))
    if damages:
        return Survey(damages=damages)
    retention, store, answers = RetentionLedger(engine), open_store(settings), RestorationLedger(engine)
    instances, results = tuple(InstanceLedger(engine).known_paths()), retention.result_paths()
    is_forgetful = not instances and any(store.list_paths(INSTANCES))
    return Survey(
        schema=schema_of(engine),
        instances=len(instances),
        results=len(results),
        missing=tuple(path for path in (*instances, *results) if not store.exists(path)),
        unknown=tuple(sorted({card.job_id for card in find_unknown(answers, store)})),
        is_unfinished=is_forgetful or is_marked(settings.node.data_dir),
    )


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
    SettingsInvalid
        If the data folder is not open to this user.
    DataDirInUse
        If the node runs.
    WrongState
        If nothing is wrong with the ledger, or it is no file and not empty.
    """
    make_data_folder(settings.node.data_dir)
    lock = FolderLock(settings.node.data_dir)
    lock.hold()
    try:
        path = ledger_file(settings.ledger_url)
        if path is None:
            restored = _restore(settings, settings.ledger_url, destinations, settings.node.data_dir)
            return Rebuilt(aside=None, restored=restored)
        if path.exists() and not is_forced and not _is_unusable(settings):
            raise WrongState(f"nothing is wrong with {path}; start the node, or say --anyway, which forgets its Events")
        return _rebuild_file(settings, path, destinations)
    finally:
        lock.let_go()


def _rebuild_file(settings: Settings, path: Path, destinations: Mapping[str, str]) -> Rebuilt:
    """Return after a new file, made beside the old one, took its place; what fails before leaves the old one there."""
    workshop = path.with_name(WORKSHOP)
    _clear(workshop)
    workshop.mkdir()
    try:
        made = workshop / path.name
        restored = _restore(settings, url_at(settings.ledger_url, made), destinations, workshop)
        aside = set_ledger_aside(path, utc_now())
        move_ledger(made, path)
        unmark(settings.node.data_dir)
    finally:
        _clear(workshop)
    return Rebuilt(aside=aside, restored=restored)


def _clear(workshop: Path) -> None:
    if workshop.exists():
        shutil.rmtree(workshop)


def _restore(settings: Settings, url: str, destinations: Mapping[str, str], folder: Path) -> Restored:
    """Return after the ledger of `url`, which is empty, knows what is left."""
    engine = open_engine(url, busy_timeout_s=settings.ledger.busy_timeout_s)
    try:
        migrate(engine)
        return _fill(settings, engine, destinations, folder)
    finally:
        engine.dispose()


def _fill(settings: Settings, engine: Engine, destinations: Mapping[str, str], folder: Path) -> Restored:
    restorer = LedgerRestorer(settings, engine, destinations=destinations, clock=utc_now, folder=folder)
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
