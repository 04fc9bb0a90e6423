"""How fast Instances are stored by STOW-RS: radnode beside Orthanc, in interleaved rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.accounts.secret import digest_of
from node.benchmark.crew import Crew, TimedCrew, shares_of
from node.benchmark.load import Load, Sent
from node.benchmark.receivers import (
    KEPT_BY_RADNODE,
    Receiver,
    count_of_orthanc,
    count_of_radnode,
    free_port,
    orthanc_command,
    radnode_command,
)
from node.benchmark.report import Target, to_markdown
from node.benchmark.rounds import Entry, Figures, heads, summarize, take_turns
from node.benchmark.timed_poster import TOKEN
from node.clock import utc_now
from node.domain.account import Right, Token
from node.errors import NotFound
from node.ledger.logins import LoginLedger
from node.ledger.opening import open_ledger
from node.settings.loading import load_settings

# Where Debian and the Orthanc packages put it.
PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
BASE = "Orthanc"
OURS = ("radnode fsync", "radnode group", "radnode none")
NAMES = (BASE, *OURS)
# How many times as fast as Orthanc what is durable must be.
DURABLE = ("radnode fsync", "radnode group")
FASTER = 2.0
# As many as there are receivers, as shipped; Orthanc has threads on all cores.
PROCESSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who stores what, and how often.

    Attributes
    ----------
    connections
        Parallel senders, each with its share of the load.
    parts
        Instances in each request.
    names
        In the order in which they take turns.
    """

    load: Load
    connections: int
    parts: int
    rounds: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one of them did; the latencies are those of whole requests."""

    receiver: Receiver
    figures: Figures


def compare(contest: Contest, *, folder: Path, note: Callable[[str], None]) -> Sequence[Row]:
    """Return a row for each, after rounds in which they took turns.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    """
    known = web_receivers()
    entries = {
        name: Entry(receiver=known[name], instances=contest.load.instances, open_crew=_crew_opener(contest))
        for name in contest.names
    }
    sent = Sent(folder / "load", contest.load)
    measured = take_turns(entries, rounds=contest.rounds, sent=sent, folder=folder, note=note)
    bases = {BASE: measured[BASE]} if BASE in measured else {}
    return [
        Row(receiver=entry.receiver, figures=summarize(entry, measured[name], bases)) for name, entry in entries.items()
    ]


def web_receivers() -> Mapping[str, Receiver]:
    """Return who can be compared, by name; each listens for HTTP on the port that it is given."""
    known = [_orthanc(), *(_radnode(durability) for durability in ("fsync", "group", "none"))]
    return {receiver.name: receiver for receiver in known}


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("receiver", "durable", *heads(list(rows[0].figures.ratios)))
    cells = [(row.receiver.name, "yes" if row.receiver.is_durable else "no", *row.figures.cells) for row in rows]
    return to_markdown(header, cells)


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [
        Target(what=f"{row.receiver.name}, times {BASE}", at_least=FASTER, measured=row.figures.ratios[BASE])
        for row in rows
        if row.receiver.name in DURABLE and BASE in row.figures.ratios
    ]


def _crew_opener(contest: Contest) -> Callable[[int, Sequence[Path]], Crew]:
    def open_crew(port: int, files: Sequence[Path]) -> Crew:
        shares = shares_of(files, contest.connections)
        return TimedCrew([("timed_poster", str(port), str(contest.parts), *map(str, share)) for share in shares])

    return open_crew


def _orthanc() -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        told = {
            "HttpPort": port,
            "DicomServerEnabled": False,
            "TcpNoDelay": True,
            "KeepAlive": True,
            # Each file, but not its index.
            "SyncStorageArea": True,
            "Plugins": [str(_find_plugin())],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        return orthanc_command(folder, {**told, "DicomPort": free_port()})

    return Receiver(
        name=BASE, is_durable=True, command=command, count=lambda port, _folder: count_of_orthanc(port), kept="db"
    )


def _radnode(durability: str) -> Receiver:
    return Receiver(
        name=f"radnode {durability}",
        is_durable=durability != "none",
        command=lambda port, folder: _let_in(
            folder,
            radnode_command(folder, durability, f"port = {free_port()}", web_port=port, web_processes=PROCESSES),
        ),
        count=lambda _port, folder: count_of_radnode(folder),
        kept=KEPT_BY_RADNODE,
    )


def _let_in(folder: Path, command: Sequence[str]) -> Sequence[str]:
    """Return `command` after the node in `folder` knows the token that the load shows."""
    settings = load_settings(folder / "settings.toml")
    settings.node.data_dir.mkdir(parents=True, exist_ok=True)
    engine = open_ledger(settings)
    token = Token(name="bench", scopes=frozenset({Right.STORE}), created_at=utc_now(), created_by="bench")
    LoginLedger(engine).add_token(token, digest_of(TOKEN))
    engine.dispose()
    return command


def _find_plugin() -> Path:
    found = next((path for path in PLUGINS if path.exists()), None)
    if found is None:
        raise NotFound("the DICOMweb plugin of Orthanc is not installed; install orthanc-dicomweb")
    return found
