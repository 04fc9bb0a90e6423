"""A ledger that is lost is made anew, and one that is older than the store is told what it does not know.

Instances come from their files, answers from their cards, Deliveries from the audit trail.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from node.audit.record import Record
from node.errors import NotDicom, Transient
from node.ledger.cards import Card, CardName, read_card, read_name
from node.ledger.restoration import Evidence, RestorationLedger, Tally
from node.store.paths import CARD_SUFFIX, RESULTS
from node.store.port import Store
from node.store.trash import Trash

logger = logging.getLogger(__name__)

# Beside the ledger while one is made anew: whoever finds it begins again.
MARK = "ledger.restoring"
# They lie in the folder of their Study; those of Series have far more files, and a start need not look into them.
CARD_DEPTH = 1
# Kinds of records that say that Instances of a Study arrived somewhere.
SENDINGS = frozenset({"study-sent", "study-exported"})
SOP_CLASS = re.compile(r'<SOPClass UID="(?P<uid>[0-9.]+)" NumberOfInstances="(?P<count>[0-9]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of a node whose ledger was lost.

    Attributes
    ----------
    records
        The audit trail, oldest first.
    destinations
        Name of each Destination in the settings to what the audit trail calls it.
    adopt
        Makes the rows of all Instances in the store, and returns how many.
    """

    store: Store
    trash: Trash
    records: Iterable[Record]
    destinations: Mapping[str, str]
    adopt: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a new ledger has of the old one's knowledge."""

    instances: int
    answers: Tally


def prepare(ledger: RestorationLedger, data_dir: Path) -> bool:
    """Return whether the ledger is new, or its restoration was not finished; a mark stays until it is.

    Called before anything else is written to the ledger.
    """
    if ledger.is_blank():
        (data_dir / MARK).touch()
    return is_marked(data_dir)


def is_marked(data_dir: Path) -> bool:
    """Return whether a restoration was begun and not finished."""
    return (data_dir / MARK).exists()


def unmark(data_dir: Path) -> None:
    """Note that no restoration is under way any more."""
    (data_dir / MARK).unlink(missing_ok=True)


def restore(ledger: RestorationLedger, remains: Remains, data_dir: Path, *, now: datetime) -> Restored:
    """Return after the ledger knows what is left; each step may be repeated after a kill.

    No receiver, station or worker may be at work.
    """
    evidence = Evidence(_count_sent(remains))
    for batch in remains.trash.batches():
        # Nobody knows any more whether it may go.
        remains.trash.restore(batch)
        remains.trash.empty(batch)
    tally = _restore_answers(ledger, remains, _read_cards(remains.store, _list_cards(remains.store)), evidence, now=now)
    adopted = remains.adopt()
    tally.forwarded = ledger.restore_forwards(remains.destinations, evidence, now=now)
    unmark(data_dir)
    logger.info("ledger restored", extra={"adopted": adopted, "count": tally.jobs})
    return Restored(instances=adopted, answers=tally)


def catch_up(ledger: RestorationLedger, remains: Remains, *, now: datetime) -> Restored:
    """Return after a ledger that is not lost knows of every answer and retraction that the store has a card of.

    A copy that was put back does not know what came after it: that must not be asked again, nor stand again.
    No receiver or station of this node may be at work; others may.
    """
    cards = find_unknown(ledger, remains.store)
    if not cards:
        return Restored(instances=remains.adopt(), answers=Tally())
    evidence = Evidence(_count_sent(remains))
    tally = _restore_answers(ledger, remains, cards, evidence, is_lost=False, now=now)
    adopted = remains.adopt()
    if tally.is_older:
        tally.forwarded = ledger.restore_forwards(remains.destinations, evidence, now=now)
        logger.warning("ledger was older", extra={"adopted": adopted, "count": tally.jobs + tally.retractions})
    return Restored(instances=adopted, answers=tally)


def find_unknown(ledger: RestorationLedger, store: Store) -> tuple[Card, ...]:
    """Return the cards of answers and retractions that the ledger does not know; only those are read."""
    named = _list_cards(store)
    unknown = ledger.find_unknown([name for name in named.values() if name is not None])
    return _read_cards(store, {path: name for path, name in named.items() if name is None or name in unknown})


def _restore_answers(
    ledger: RestorationLedger,
    remains: Remains,
    cards: tuple[Card, ...],
    evidence: Evidence,
    *,
    is_lost: bool = True,
    now: datetime,
) -> Tally:
    tally = ledger.restore_answers(cards, evidence, is_lost=is_lost, now=now)
    for path, name in _list_cards(remains.store).items() if tally.set_aside else ():
        if name is not None and name.job_id in tally.set_aside:
            remains.store.set_aside(path)
    return tally


def _list_cards(store: Store) -> dict[str, CardName | None]:
    """Return the path of every card, with what its name says."""
    paths = (path for path in sorted(store.list_paths(RESULTS, depth=CARD_DEPTH)) if path.endswith(CARD_SUFFIX))
    return {path: read_name(path.rpartition("/")[2].removesuffix(CARD_SUFFIX)) for path in paths}


def _read_cards(store: Store, paths: Iterable[str]) -> tuple[Card, ...]:
    """Return every card whose Results are all there; of a Job that was answered twice, the later one."""
    latest: dict[str, Card] = {}
    others: list[Card] = []
    for path in paths:
        card = _read_card(store, path)
        if card is None or not all(store.exists(str(row["path"])) for row in card.results):
            continue
        if card.retraction:
            others.append(card)
            continue
        rival = latest.get(str(card.job["job_id"]))
        if rival is None or rival.job["fence"] < card.job["fence"]:
            latest[str(card.job["job_id"])] = card
    return (*latest.values(), *others)


def _read_card(store: Store, path: str) -> Card | None:
    try:
        return read_card(store.read(path))
    except (NotDicom, Transient) as exc:
        # Its Results stay; a start that is refused would keep the others from the node.
        logger.warning("card unreadable", extra={"reason_code": exc.code})
        return None


def _count_sent(remains: Remains) -> Counter[tuple[str, str, str]]:
    """Return how many objects went where, by Destination, Study and SOP Class."""
    names = {called: name for name, called in remains.destinations.items()}
    counted: Counter[tuple[str, str, str]] = Counter()
    for record in remains.records:
        name = names.get(str(record.facts.get("to")))
        if record.kind in SENDINGS and name is not None:
            for found in SOP_CLASS.finditer(record.message):
                key = name, str(record.facts["study_instance_uid"]), found["uid"]
                counted[key] += int(found["count"])
    return counted
