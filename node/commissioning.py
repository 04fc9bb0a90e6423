"""What a rehearsal needs around it: the simulated PACS, and a node of its own where no other is named."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.app import NodeApp
from node.errors import SettingsInvalid
from node.ledger.opening import open_view
from node.peers.peer import Peer
from node.rehearsal.identity import identify
from node.rehearsal.insight import ledger_insight
from node.rehearsal.pacs import LOOPBACK, SimulatedPacs
from node.rehearsal.repertoire import Repertoire
from node.rehearsal.scenario import NodeIdentity
from node.rehearsal.stage import Expects, Insight, Pace, Stage
from node.settings.peers import DestinationSettings
from node.settings.receiving import TlsSettings
from node.settings.whole import Settings
from node.version import product_version

PACS_AET = "REHEARSAL"
# Where a running node has to find the simulated PACS, unless told otherwise.
PACS_PORT = 11113
# A node of its own waits for nobody: short times make a short rehearsal, and prove the same.
OWN_PACE = Pace(patience_s=120.0, watch_s=1.5, outage_s=6.0, pause_s=4.0, delay_s=1.0, question_s=20.0)
OWN_QUIET_S = 1.0
OWN_TIMEOUT_S = 5.0
OWN_FIRST_RETRY_S = 1.0
OWN_CONFIRM_AFTER_S = 1.0
OWN_CONFIRM_MINUTES = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays.

    Attributes
    ----------
    calling_aet
        AE title of the simulated modality.
    expects
        What the node is for.
    out
        Folder for what the PACS receives.
    """

    repertoire: Repertoire
    calling_aet: str
    expects: Expects
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Everything stands.

    Attributes
    ----------
    facts
        Circumstances for the report, a name and a value each.
    """

    stage: Stage
    identity: NodeIdentity
    facts: tuple[tuple[str, str], ...]


@contextmanager
def running_node(node: Peer, cast: Cast, *, pacs: Peer, pace: Pace, settings: Settings | None) -> Iterator[Venue]:
    """Start the simulated PACS beside a node that runs.

    Parameters
    ----------
    pacs
        Under which AE title, and at which address of this machine, the node is to find it.
    settings
        Of a node of ours, whose ledger is asked too; None for one of which only DICOM is known.

    Raises
    ------
    PortInUse
        If the port of the simulated PACS is taken.
    SettingsInvalid
        If the settings know no such PACS.
    """
    names = frozenset[str]() if settings is None else _names_of(pacs, settings)
    insight = None if settings is None else ledger_insight(open_view(settings), names)
    with SimulatedPacs(cast.out / "pacs", aet=pacs.aet, host=pacs.host, port=pacs.port) as simulated:
        stage = _stage(node, simulated, cast, pace=pace, insight=insight)
        facts = _facts(stage, origin="ran before the rehearsal began")
        yield Venue(stage=stage, identity=identify(stage.node), facts=facts)


@contextmanager
def own_node(settings: Settings, cast: Cast) -> Iterator[Venue]:
    """Start the simulated PACS and a node that lives in a temporary folder; end both afterwards.

    Raises
    ------
    Misconfigured
        If it cannot start.
    """
    with (
        SimulatedPacs(cast.out / "pacs", aet=PACS_AET) as simulated,
        tempfile.TemporaryDirectory(prefix="radnode-rehearsal-") as folder,
    ):
        own = own_settings(settings, Path(folder), simulated.peer)
        app = NodeApp(own)
        try:
            host, port = app.start()
            node = Peer(aet=own.node.aet, host=host, port=port)
            insight = ledger_insight(app.view, {PACS_AET})
            stage = _stage(node, simulated, cast, pace=OWN_PACE, insight=insight)
            yield Venue(
                stage=stage,
                identity=identify(stage.node, product=f"radnode {product_version()}"),
                facts=_facts(stage, origin="started for this rehearsal alone; its data are gone"),
            )
        finally:
            app.stop()


def own_settings(settings: Settings, folder: Path, pacs: Peer) -> Settings:
    """Return `settings` for a node that lives in `folder`, is reached on this machine alone, and knows one PACS.

    Rules, Pipelines and models are the site's; ledger, store, broker, peers and waiting times are not.
    """
    rules = tuple({key: rule[key] for key in rule if key not in {"forward", "deliver_to"}} for rule in settings.rules)
    alone = settings.offline(folder, rules=tuple(rule for rule in rules if "run" in rule)).with_broker("")
    waits = {
        "timeout_s": OWN_TIMEOUT_S,
        "first_retry_seconds": OWN_FIRST_RETRY_S,
        "confirm_after_seconds": OWN_CONFIRM_AFTER_S,
        "confirm_minutes": OWN_CONFIRM_MINUTES,
    }
    open_to_all = {
        "calling_aets": (),
        "allowed_networks": (),
        "tls": TlsSettings(certificate="", key="", ca=""),
    }
    changes: dict[str, Any] = {
        "node": alone.node.model_copy(update={"port": 0, "bind": LOOPBACK}),
        "log": settings.log,
        "dispatch": settings.dispatch,
        "assembly": settings.assembly.model_copy(update={"quiet_seconds": OWN_QUIET_S}),
        "delivery": settings.delivery.model_copy(update=waits),
        "security": settings.security.model_copy(update=open_to_all),
        "destinations": {
            PACS_AET: DestinationSettings(transport="cstore", aet=pacs.aet, host=pacs.host, port=pacs.port)
        },
    }
    return alone.model_copy(update=changes)


def _stage(node: Peer, pacs: SimulatedPacs, cast: Cast, *, pace: Pace, insight: Insight | None) -> Stage:
    node = replace(node, calling_aet=cast.calling_aet)
    pacs.offer_commitment(node)
    return Stage(node=node, pacs=pacs, repertoire=cast.repertoire, pace=pace, expects=cast.expects, insight=insight)


def _facts(stage: Stage, *, origin: str) -> tuple[tuple[str, str], ...]:
    expected = "the originals, forwarded" if stage.expects is Expects.ORIGINALS else "Results of the AI"
    return (
        ("The node", origin),
        ("Simulated modality", stage.node.calling_aet),
        ("Simulated PACS", str(stage.pacs.peer)),
        ("Due at the PACS", expected),
        ("Allowed for a Study", f"{stage.pace.patience_s:.0f} s"),
        ("The node's ledger", "judged from outside alone" if stage.insight is None else "asked too"),
        ("Patient ID", stage.repertoire.patient_id),
        ("Rehearsed with", f"radnode {product_version()}"),
    )


def _names_of(pacs: Peer, settings: Settings) -> frozenset[str]:
    """Return under which names a node knows the simulated PACS; the address under which it does is its own affair."""
    names = frozenset(
        name
        for name, entry in settings.destinations.items()
        if entry.transport == "cstore" and (entry.aet, entry.port) == (pacs.aet, pacs.port)
    )
    if not names:
        raise SettingsInvalid(
            f"no C-STORE Destination of the settings has aet {pacs.aet!r} and port {pacs.port}: the node would send "
            "nothing to the simulated PACS; add one, or name another PACS"
        )
    return names
